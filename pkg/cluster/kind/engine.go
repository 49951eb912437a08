package kind

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	kindcluster "sigs.k8s.io/kind/pkg/cluster"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// ProviderVariable is the environment variable with which kind's users choose the container engine. kind's own
// command honours docker, podman, nerdctl, finch and nerdctl.lima there.
const ProviderVariable = "KIND_EXPERIMENTAL_PROVIDER"

// How long the engine's command line may take. They are bounds against a daemon that hangs, not expectations.
const (
	askTimeout    = 15 * time.Second // reading: info, ps, inspect
	removeTimeout = 60 * time.Second // removing the containers of a cluster
	startTimeout  = 60 * time.Second // starting the containers of a cluster
	killDelay     = 2 * time.Second  // from the end of a context until Exec returns, whatever the command line does
)

// Engine describes the container engine that answered.
type Engine struct {
	// Name is the command that reaches it: docker, podman, nerdctl, finch or nerdctl.lima.
	Name string `json:"name"`
	// Version is the daemon's version.
	Version string `json:"version"`
	// ID tells one Docker daemon from another; empty where the engine has no such thing.
	ID string `json:"id,omitempty"`
	// CgroupVersion is 1 or 2: that of the machine the containers run on, which need not be this one.
	CgroupVersion int `json:"cgroupVersion"`
	// MemoryBytes is the memory of that machine; 0 when it isn't told.
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// RootDir is where the engine stores images and containers, on that machine; empty when it isn't told.
	RootDir string `json:"rootDir,omitempty"`
	// Hostname is that machine's name; empty when it isn't told.
	Hostname string `json:"hostname,omitempty"`
	// Now is that machine's clock when it was asked; this machine's where the engine doesn't tell.
	Now time.Time `json:"-"`
}

// engine runs the command line of a container engine.
type engine struct {
	Engine
}

// command is the engine's command line with args, ready to be run: it is killed when ctx ends, and Wait returns at most
// killDelay later even if something it started still holds its pipes.
func (e *engine) command(ctx context.Context, args ...string) *exec.Cmd {
	return engineCommand(ctx, e.Name, args...)
}

func engineCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = killDelay
	ownGroup(cmd)
	return cmd
}

// commandError says that the engine's command line did not succeed.
type commandError struct {
	argv   []string
	stderr string
	err    error
}

func (e *commandError) Error() string {
	s := fmt.Sprintf("%s: %v", cluster.Cmd{Argv: e.argv}, e.err)
	if e.stderr != "" {
		s += ": " + e.stderr
	}
	return s
}

func (e *commandError) Unwrap() error { return e.err }

// output runs the engine's command line for at most limit and returns what it printed.
func (e *engine) output(ctx context.Context, limit time.Duration, args ...string) ([]byte, error) {
	return engineOutput(ctx, limit, e.Name, args...)
}

func engineOutput(ctx context.Context, limit time.Duration, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s: %w", limit, context.DeadlineExceeded))
	defer cancel()
	cmd := engineCommand(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, &commandError{argv: append([]string{name}, args...), stderr: tail(stderr.String(), 5), err: err}
	}
	return stdout.Bytes(), nil
}

// lines splits what a command printed into its non-empty lines.
func lines(out []byte) []string {
	var all []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// tail is the last n lines of s.
func tail(s string, n int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	if len(all) > n {
		all = all[len(all)-n:]
	}
	return strings.Join(all, "\n")
}

// detect finds the engine to use: the one that the environment asks for, or else the first that answers, in kind's
// order. kind itself takes docker as soon as the command exists; asking each for an answer also finds a working
// podman beside a docker command without a daemon.
func detect(ctx context.Context) (*engine, error) {
	names := []string{"docker", "nerdctl", "finch", "podman"}
	switch wish := os.Getenv(ProviderVariable); wish {
	case "":
	case "docker", "podman", "nerdctl", "finch", "nerdctl.lima":
		names = []string{wish}
	default:
		return nil, fmt.Errorf("%w: %s=%q is none of docker, podman, nerdctl, finch, nerdctl.lima",
			cluster.ErrNoEngine, ProviderVariable, wish)
	}
	var tried []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			tried = append(tried, name+" is not installed")
			continue
		}
		info, err := askInfo(ctx, name)
		if err == nil {
			return &engine{Engine: info}, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("looking for a container engine: %w", ctx.Err())
		}
		tried = append(tried, err.Error())
	}
	return nil, fmt.Errorf("%w (%s); hint: `hack/engine/up` starts one, `drill doctor` says what this host lacks",
		cluster.ErrNoEngine, strings.Join(tried, "; "))
}

// provider is kind's option for the engine.
func (e *engine) provider() kindcluster.ProviderOption {
	switch e.Name {
	case "podman":
		return kindcluster.ProviderWithPodman()
	case "docker":
		return kindcluster.ProviderWithDocker()
	default:
		return kindcluster.ProviderWithNerdctl(e.Name)
	}
}

// askInfo asks the engine that the command name reaches what it is.
func askInfo(ctx context.Context, name string) (Engine, error) {
	if name == "docker" {
		// A package of Podman installs itself as docker. kind drives the two differently, and tells them apart by this.
		out, err := engineOutput(ctx, askTimeout, name, "-v")
		if err != nil {
			return Engine{}, err
		}
		if !strings.HasPrefix(string(out), "Docker version") {
			return Engine{}, fmt.Errorf("docker is %s and not Docker", strings.TrimSpace(string(out)))
		}
	}
	format := "{{json .}}"
	if name == "podman" {
		format = "json"
	}
	out, err := engineOutput(ctx, askTimeout, name, "info", "--format", format)
	if err != nil {
		return Engine{}, err
	}
	if name == "podman" {
		return parsePodmanInfo(out)
	}
	return parseDockerInfo(name, out)
}

// parseDockerInfo reads what `docker info` and, in its image, `nerdctl info` print.
func parseDockerInfo(name string, out []byte) (Engine, error) {
	var info struct {
		ID, ServerVersion, CgroupVersion, DockerRootDir, Name, SystemTime string
		MemTotal                                                          int64
		ServerErrors                                                      []string
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return Engine{}, fmt.Errorf("reading what `%s info` printed: %w", name, err)
	}
	// Some versions of the command line exit with 0 though no daemon answered.
	if len(info.ServerErrors) > 0 {
		return Engine{}, errors.New(name + ": " + strings.Join(info.ServerErrors, "; "))
	}
	if info.ServerVersion == "" {
		return Engine{}, fmt.Errorf("`%s info` tells of no server", name)
	}
	e := Engine{
		Name: name, Version: info.ServerVersion, ID: info.ID, CgroupVersion: 1, MemoryBytes: info.MemTotal,
		RootDir: info.DockerRootDir, Hostname: info.Name, Now: time.Now(),
	}
	if info.CgroupVersion == "2" {
		e.CgroupVersion = 2
	}
	if t, err := time.Parse(time.RFC3339Nano, info.SystemTime); err == nil {
		e.Now = t
	}
	return e, nil
}

// parsePodmanInfo reads what `podman info --format json` prints.
func parsePodmanInfo(out []byte) (Engine, error) {
	var info struct {
		Host struct {
			CgroupVersion string `json:"cgroupVersion"`
			MemTotal      int64  `json:"memTotal"`
			Hostname      string `json:"hostname"`
		} `json:"host"`
		Store struct {
			GraphRoot string `json:"graphRoot"`
		} `json:"store"`
		Version struct {
			Version string `json:"Version"`
		} `json:"version"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return Engine{}, fmt.Errorf("reading what `podman info` printed: %w", err)
	}
	e := Engine{
		Name: "podman", Version: info.Version.Version, CgroupVersion: 1, MemoryBytes: info.Host.MemTotal,
		RootDir: info.Store.GraphRoot, Hostname: info.Host.Hostname, Now: time.Now(),
	}
	if info.Host.CgroupVersion == "v2" {
		e.CgroupVersion = 2
	}
	return e, nil
}
