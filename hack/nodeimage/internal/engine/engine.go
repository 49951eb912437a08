// Package engine drives a container engine by its command line, which docker, nerdctl and podman have in common.
package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/run"
)

// answerTimeout bounds the question whether an engine is there; a client may wait for ever for a daemon that hangs.
const answerTimeout = 10 * time.Second

// Engine is one container engine.
type Engine struct{ name string }

// Find returns the engine that kind would use, if it answers.
func Find(ctx context.Context) (*Engine, error) {
	names := []string{"docker", "nerdctl", "podman"} // the order in which kind looks for them
	if wish := os.Getenv("KIND_EXPERIMENTAL_PROVIDER"); wish != "" {
		names = []string{wish}
	}
	var failures error
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, answerTimeout)
		err := run.Run(ctx, run.Cmd{Argv: []string{name, "info"}})
		cancel()
		if err == nil {
			return &Engine{name: name}, nil
		}
		failures = errors.Join(failures, err)
	}
	return nil, fmt.Errorf("no container engine answers (looked for %s); hack/engine/up sets one up: %w",
		strings.Join(names, ", "), errors.Join(failures, exec.ErrNotFound))
}

// Name is the engine's command.
func (e *Engine) Name() string { return e.name }

// Image is what is known of a local image.
type Image struct {
	ID     string
	Size   int64
	Labels map[string]string
}

// Inspect returns the local image called ref, or nil when there is none.
func (e *Engine) Inspect(ctx context.Context, ref string) (*Image, error) {
	out, err := run.Output(ctx, e.cmd("image", "inspect", ref))
	if run.Exited(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the image %s: %w", ref, err)
	}
	var found []struct {
		ID     string `json:"Id"`
		Size   int64
		Config struct{ Labels map[string]string }
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found) == 0 {
		return nil, fmt.Errorf("looking for the image %s: %s gives no readable answer: %w", ref, e.name, err)
	}
	return &Image{ID: found[0].ID, Size: found[0].Size, Labels: found[0].Config.Labels}, nil
}

// ImagesWithLabel lists the local images that carry the label, by name, and by ID those that have lost their name to a
// newer image.
func (e *Engine) ImagesWithLabel(ctx context.Context, label string) (named, nameless []string, err error) {
	out, err := run.Output(ctx, e.cmd("images", "--filter", "label="+label, "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"))
	if err != nil {
		return nil, nil, fmt.Errorf("listing images: %w", err)
	}
	for line := range strings.Lines(out) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.Contains(name, "<none>") {
			nameless = append(nameless, id)
		} else {
			named = append(named, name)
		}
	}
	return named, nameless, nil
}

// Pull fetches ref and shows the engine's own progress on progress.
func (e *Engine) Pull(ctx context.Context, ref string, progress io.Writer) error {
	c := e.cmd("pull", ref)
	c.Follow = progress
	if err := run.Run(ctx, c); err != nil {
		return fmt.Errorf("pulling %s: %w", ref, err)
	}
	return nil
}

// Load reads an image archive, which write writes.
func (e *Engine) Load(ctx context.Context, write func(io.Writer) error) error {
	if err := stream(ctx, e.cmd("load"), write); err != nil {
		return fmt.Errorf("loading an image into %s: %w", e.name, err)
	}
	return nil
}

// Remove removes images by name; one that is not there is fine.
func (e *Engine) Remove(ctx context.Context, refs ...string) error {
	for _, ref := range refs {
		if found, err := e.Inspect(ctx, ref); err != nil || found == nil {
			if err != nil {
				return err
			}
			continue
		}
		if err := run.Run(ctx, e.cmd("image", "rm", ref)); err != nil {
			return fmt.Errorf("removing the image %s: %w", ref, err)
		}
	}
	return nil
}

// Start starts a container and returns a handle to it. args are those of the engine's run command.
func (e *Engine) Start(ctx context.Context, name string, args ...string) (*Container, error) {
	argv := append([]string{"run", "--detach", "--name", name}, args...)
	if err := run.Run(ctx, e.cmd(argv...)); err != nil {
		return nil, fmt.Errorf("starting the container %s: %w", name, err)
	}
	return &Container{engine: e, name: name}, nil
}

// Container returns a handle to the container called name, whether it exists or not.
func (e *Engine) Container(name string) *Container { return &Container{engine: e, name: name} }

func (e *Engine) cmd(args ...string) run.Cmd {
	return run.Cmd{Argv: append([]string{e.name}, args...)}
}

// Container is one container.
type Container struct {
	engine *Engine
	name   string
}

// Exec runs argv in the container and returns what it printed.
func (c *Container) Exec(ctx context.Context, argv ...string) (string, error) {
	return run.Output(ctx, c.engine.cmd(append([]string{"exec", c.name}, argv...)...))
}

// ExecStream runs argv in the container and gives it what write writes.
func (c *Container) ExecStream(ctx context.Context, write func(io.Writer) error, argv ...string) error {
	return stream(ctx, c.engine.cmd(append([]string{"exec", "--interactive", c.name}, argv...)...), write)
}

// Logs returns the last lines that the container's main process wrote.
func (c *Container) Logs(ctx context.Context) string {
	var out bytes.Buffer
	cmd := c.engine.cmd("logs", "--tail", "20", c.name)
	cmd.Output, cmd.Follow = &out, &out
	if err := run.Run(ctx, cmd); err != nil {
		return err.Error()
	}
	return out.String()
}

// Stop asks the main process to end and waits for it.
func (c *Container) Stop(ctx context.Context) error {
	if err := run.Run(ctx, c.engine.cmd("stop", "--time", "60", c.name)); err != nil {
		return fmt.Errorf("stopping the container %s: %w", c.name, err)
	}
	return nil
}

// Commit makes an image of the container's file system. changes are Dockerfile lines.
func (c *Container) Commit(ctx context.Context, ref string, changes ...string) error {
	args := []string{"commit"}
	for _, change := range changes {
		args = append(args, "--change", change)
	}
	if err := run.Run(ctx, c.engine.cmd(append(args, c.name, ref)...)); err != nil {
		return fmt.Errorf("making the image %s: %w", ref, err)
	}
	return nil
}

// Remove removes the container and its volumes; one that is not there is fine.
func (c *Container) Remove(ctx context.Context) error {
	err := run.Run(ctx, c.engine.cmd("rm", "--force", "--volumes", c.name))
	if err != nil && !strings.Contains(strings.ToLower(err.Error()), "no such container") {
		return fmt.Errorf("removing the container %s: %w", c.name, err)
	}
	return nil
}

// stream runs cmd with what write writes as its standard input.
func stream(ctx context.Context, cmd run.Cmd, write func(io.Writer) error) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		written <- err
	}()
	cmd.Stdin = r
	err := run.Run(ctx, cmd)
	// A program that ends early leaves the writer stuck; this frees it.
	r.CloseWithError(io.ErrClosedPipe)
	if werr := <-written; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		return errors.Join(werr, err)
	}
	return err
}
