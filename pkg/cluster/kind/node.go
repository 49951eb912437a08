package kind

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// outputTail is how much of a failed command's output its error carries, in bytes.
const outputTail = 4 << 10

// kindCluster is a cluster that kind made.
type kindCluster struct {
	provider *Provider
	name     string
	nodes    []cluster.Node
}

func (c *kindCluster) Name() string          { return c.name }
func (c *kindCluster) Provider() string      { return Name }
func (c *kindCluster) Nodes() []cluster.Node { return append([]cluster.Node(nil), c.nodes...) }

func (c *kindCluster) Kubeconfig(ctx context.Context) ([]byte, error) {
	return c.provider.kubeconfig(ctx, c.name)
}

// node is one of kind's node containers. It is addressed by its ID: when a container goes and another takes its name, no
// command meant for the first reaches the second.
type node struct {
	engine  *engine
	id      string
	name    string
	role    cluster.Role
	address string
	// shells are for commands that read little, and whose output is to be held anyway.
	shells sessions
}

func (n *node) Name() string       { return n.name }
func (n *node) Role() cluster.Role { return n.role }
func (n *node) Address() string    { return n.address }

func (n *node) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	if len(cmd.Argv) == 0 || cmd.Argv[0] == "" {
		return cluster.Result{}, fmt.Errorf("on node %s: there is no command to run", n.name)
	}
	if err := ctx.Err(); err != nil {
		return cluster.Result{}, n.failed(cmd, err)
	}
	for _, env := range cmd.Env {
		if !strings.Contains(env, "=") {
			// The engine's command line would take it for the name of a variable of this process to pass on.
			return cluster.Result{}, fmt.Errorf("on node %s: %s: %q is not NAME=value", n.name, cmd, env)
		}
	}
	if !n.shells.fits(cmd) {
		return n.start(ctx, cmd)
	}
	input, err := heldInput(cmd)
	if err != nil {
		return cluster.Result{}, n.failed(cmd, err)
	}
	a, err := n.shells.run(ctx, cmd, input, n.openSession)
	switch {
	case err == nil:
		if why := n.gone(ctx, a.code); why != nil {
			return cluster.Result{Stdout: a.stdout, Stderr: a.stderr}, n.failed(cmd, why)
		}
		return n.result(cmd, a)
	case !errors.Is(err, errNoSession):
		return cluster.Result{}, n.failed(cmd, err)
	}
	if cmd.Stdin != nil {
		cmd.Stdin = bytes.NewReader(input)
	}
	res, err := n.start(ctx, cmd)
	if exit := (*cluster.ExitError)(nil); err == nil || errors.As(err, &exit) {
		n.shells.refuse()
	}
	return res, err
}

// start runs a command by way of the engine.
func (n *node) start(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	args := []string{"exec", "--privileged"} // as kind itself does: some commands mount
	if cmd.Stdin != nil {
		args = append(args, "-i")
	}
	for _, env := range cmd.Env {
		args = append(args, "-e", env)
	}
	args = append(append(args, n.id), cmd.Argv...)
	run := n.engine.command(ctx, args...)

	var stdout, stderr bytes.Buffer
	sink := io.Writer(&stdout)
	if cmd.Stdout != nil {
		sink = cmd.Stdout
	}
	streams, err := openStreams(run, cmd.Stdin, sink, &stderr)
	if err != nil {
		return cluster.Result{}, n.failed(cmd, err)
	}
	err = run.Start()
	streams.begin(err == nil)
	if err != nil {
		return cluster.Result{}, n.failed(cmd, err)
	}
	err = run.Wait()
	// The ends of the pipes on this side come first: whatever the command made of a truncated input, or said when its
	// output was refused, is not its answer to what it was asked.
	if streamErr := streams.finish(ctx); streamErr != nil {
		return cluster.Result{}, n.failed(cmd, streamErr)
	}
	a := answer{stdout: stdout.Bytes(), stderr: stderr.Bytes()}
	if err == nil {
		return n.result(cmd, a)
	}
	if ctx.Err() != nil {
		return cluster.Result{Stdout: a.stdout, Stderr: a.stderr}, n.failed(cmd, ctx.Err())
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() < 0 {
		return cluster.Result{Stdout: a.stdout, Stderr: a.stderr}, n.failed(cmd, fmt.Errorf("%s: %w: %s", n.engine.Name, err, tail(stderr.String(), 5)))
	}
	if why := n.notTheCommand(ctx, exit.ExitCode(), stderr.String()); why != nil {
		return cluster.Result{Stdout: a.stdout, Stderr: a.stderr}, n.failed(cmd, why)
	}
	a.code = exit.ExitCode()
	return n.result(cmd, a)
}

// result is what Exec returns for a command that ran.
func (n *node) result(cmd cluster.Cmd, a answer) (cluster.Result, error) {
	res := cluster.Result{Stdout: a.stdout, Stderr: a.stderr}
	if a.code == 0 {
		return res, nil
	}
	return res, &cluster.ExitError{
		Node: n.name, Cmd: cmd, Code: a.code,
		Output: lastBytes(strings.TrimSpace(string(a.stdout)+"\n"+string(a.stderr)), outputTail),
	}
}

func (n *node) failed(cmd cluster.Cmd, err error) error {
	return fmt.Errorf("on node %s: %s: %w", n.name, cmd, err)
}

// notTheCommand tells the failure of a command from a failure to reach it, which the engine's command line reports with
// the same exit statuses. What it says on standard error when it fails itself is known; and a command that its dying node
// took along, or could no longer start, shows one of a few statuses, after which another command tells whether the node
// lives.
func (n *node) notTheCommand(ctx context.Context, code int, stderr string) error {
	said := strings.Split(strings.TrimSpace(stderr), "\n")
	for _, line := range []string{said[0], said[len(said)-1]} {
		if n.engine.speaksOfItself(line) {
			return fmt.Errorf("%s can't run commands there: %s", n.engine.Name, line)
		}
	}
	return n.gone(ctx, code)
}

// gone says why a command that ended with the status may not have come to its end by itself: because its node has gone.
func (n *node) gone(ctx context.Context, code int) error {
	switch code {
	case 126, 127, 128, 137, 255:
		// What the engine says of the container's state lags behind: only a command that runs there shows that it lives.
		if _, err := n.engine.output(ctx, askTimeout, "exec", n.id, "true"); err != nil {
			return fmt.Errorf("it ended with status %d, and its node runs no commands any more: %w", code, err)
		}
	}
	return nil
}

// speaksOfItself recognises a line in which the engine's command line, and not the command that it was to run, says what
// went wrong.
func (e *engine) speaksOfItself(line string) bool {
	var own []string
	switch e.Name {
	case "docker":
		own = []string{"Error response from daemon: ", "Error: No such container", "Cannot connect to the Docker daemon", "error during connect: "}
	case "podman":
		own = []string{"Error: no container with ", "Error: can only create exec sessions ", "Error: cannot connect to Podman", "Error: unable to connect to Podman"}
	default:
		return strings.HasPrefix(line, "time=") && strings.Contains(line, "level=fatal")
	}
	return slices.ContainsFunc(own, func(prefix string) bool { return strings.HasPrefix(line, prefix) })
}

func lastBytes(s string, n int) string {
	if len(s) > n {
		s = s[len(s)-n:]
	}
	return strings.ToValidUTF8(s, "")
}

func (n *node) ReadFile(ctx context.Context, name string) ([]byte, error) {
	if err := checkPath(name); err != nil {
		return nil, fmt.Errorf("reading a file on node %s: %w", n.name, err)
	}
	// find opens the file only if it is a regular one: cat alone would wait for ever on a pipe and never end on a device.
	res, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"find", "-L", name, "-maxdepth", "0", "-type", "f", "-exec", "cat", "--", "{}", "+"}})
	if err == nil && len(res.Stdout) > 0 {
		return res.Stdout, nil
	}
	var exit *cluster.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	// Nothing came: an empty file, something else than a file, nothing at all, or a file that can't be read.
	for _, question := range []struct {
		flag   string
		answer error
	}{
		{"-e", fs.ErrNotExist},
		{"-f", errors.New("it is not a regular file")},
	} {
		_, testErr := n.Exec(ctx, cluster.Cmd{Argv: []string{"test", question.flag, name}})
		switch {
		case testErr == nil:
		case errors.As(testErr, &exit):
			return nil, fmt.Errorf("reading %s on node %s: %w", name, n.name, question.answer)
		default:
			return nil, fmt.Errorf("reading %s: %w", name, testErr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return []byte{}, nil
}

// commitFile puts a file in the place of another. Arguments: the new file, its size in bytes, the place, the folder of
// both. The values come as arguments, so the shell never reads them as anything else.
const commitFile = `set -e
size=$(stat -c %s -- "$1")
if [ "$size" != "$2" ]; then echo "$size of $2 bytes arrived" >&2; exit 1; fi
sync -- "$1"
mv -fT -- "$1" "$3"
sync -- "$4"
`

// installFile makes the new file of what is fed to it. Its argument besides those of commitFile is the mode.
const installFile = `install -m "$5" -- /dev/stdin "$1"
`

// WriteFile streams the content through exec: copying into a container by way of the engine doesn't see file systems that
// are mounted inside, such as kind's tmpfs on /tmp.
func (n *node) WriteFile(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error {
	if err := checkPath(name); err != nil {
		return fmt.Errorf("writing a file on node %s: %w", n.name, err)
	}
	dir, base := path.Split(path.Clean(name))
	tmp := path.Join(dir, "."+base+".drill-"+rand.Text()[:8])
	if r == nil {
		r = strings.NewReader("")
	}
	err := n.install(ctx, tmp, path.Join(dir, base), fmt.Sprintf("%04o", mode.Perm()), r)
	if err != nil {
		n.discard(ctx, tmp)
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// install makes tmp hold what r yields, and puts it in the place of name. What fits into a session takes one command.
func (n *node) install(ctx context.Context, tmp, name, mode string, r io.Reader) error {
	if size, ok := held(r); ok {
		_, err := n.Exec(ctx, cluster.Cmd{
			Argv: []string{"sh", "-c", installFile + commitFile, "install", tmp, strconv.Itoa(size), name, path.Dir(name), mode}, Stdin: r,
		})
		return err
	}
	counted := &countingReader{r: r}
	if _, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"install", "-m", mode, "--", "/dev/stdin", tmp}, Stdin: counted}); err != nil {
		return err
	}
	_, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"sh", "-c", commitFile, "commit", tmp, strconv.FormatInt(counted.n, 10), name, path.Dir(name)}})
	return err
}

// discard removes what an unfinished write left behind, if the node still answers, even after the end of ctx.
func (n *node) discard(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_, _ = n.Exec(ctx, cluster.Cmd{Argv: []string{"rm", "-f", "--", name}})
}

// checkPath refuses a path whose meaning would depend on where a command happens to be run.
func checkPath(name string) error {
	if !path.IsAbs(name) {
		return fmt.Errorf("%q is not an absolute path", name)
	}
	if strings.ContainsRune(name, 0) {
		return fmt.Errorf("%q holds a zero byte", name)
	}
	return nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
