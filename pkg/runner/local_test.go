package runner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// local is a node whose root is a folder of this machine: commands are the real ones, with each absolute path led there.
type local struct {
	name, root string

	mu sync.Mutex
	// gone, where set, is what every call fails with.
	gone error
	ran  []string
	// refuse, where set, is a program that can't be run there.
	refuse string
	// containers is what the container runtime says of those that run, as crictl prints it: their list and their state; none where it is empty.
	containers, inspected string
}

func newLocal(t *testing.T, name string) *local {
	t.Helper()
	n := &local{name: name, root: t.TempDir()}
	if err := os.MkdirAll(n.path("/var/lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *local) path(p string) string { return filepath.Join(n.root, p) }

func (n *local) trouble(what string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ran = append(n.ran, what)
	return n.gone
}

func (n *local) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone = err
}

func (n *local) Name() string       { return n.name }
func (n *local) Role() cluster.Role { return cluster.ControlPlane }
func (n *local) Address() string    { return "127.0.0.1" }

func (n *local) Exec(ctx context.Context, c cluster.Cmd) (cluster.Result, error) {
	if err := n.trouble(strings.Join(c.Argv, " ")); err != nil {
		return cluster.Result{}, err
	}
	if c.Argv[0] == n.refuse {
		return cluster.Result{}, errGone
	}
	if c.Argv[0] == "crictl" { // the one command that this machine doesn't have
		out := n.inspected
		if c.Argv[1] == "ps" {
			out = n.containers
		}
		if out == "" {
			out = `{"containers":[]}`
		}
		return cluster.Result{Stdout: []byte(out)}, nil
	}
	argv := append([]string{}, c.Argv...)
	for i, a := range argv {
		if strings.HasPrefix(a, "/") {
			argv[i] = n.path(a)
		}
	}
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &cluster.ExitError{Node: n.name, Cmd: c, Code: exit.ExitCode(), Output: string(exit.Stderr)}
	}
	return cluster.Result{Stdout: out}, err
}

func (n *local) ReadFile(_ context.Context, path string) ([]byte, error) {
	if err := n.trouble("read " + path); err != nil {
		return nil, err
	}
	return os.ReadFile(n.path(path))
}

func (n *local) WriteFile(_ context.Context, path string, mode fs.FileMode, r io.Reader) error {
	if err := n.trouble("write " + path); err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		return err
	}
	part := n.path(path) + ".part"
	if err := os.WriteFile(part, b.Bytes(), mode); err != nil {
		return err
	}
	return os.Rename(part, n.path(path))
}

// lab is a cluster of such nodes.
type lab []*local

func (lab) Name() string                               { return "lab" }
func (lab) Provider() string                           { return "none" }
func (lab) Kubeconfig(context.Context) ([]byte, error) { return nil, errors.New("none") }

func (l lab) Nodes() []cluster.Node {
	var out []cluster.Node
	for _, n := range l {
		out = append(out, n)
	}
	return out
}
