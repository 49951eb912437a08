// Package cluster says what drill needs of a cluster and its nodes. Adapters (kind first) live in
// sub-packages, and each passes the suite of package clustertest.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"al.essio.dev/pkg/shellescape"
)

// Sentinel errors of adapters; test for them with errors.Is.
var (
	// ErrNoEngine: no container engine answers.
	ErrNoEngine = errors.New("no container engine answers")
	// ErrNotFound: there is no cluster of that name.
	ErrNotFound = errors.New("no such cluster")
	// ErrExists: a cluster of that name exists already.
	ErrExists = errors.New("cluster exists already")
	// ErrNotOurs: drill did not create the cluster, so it won't delete it.
	ErrNotOurs = errors.New("cluster was not created by drill")
	// ErrBadName: the name can't be a cluster's name.
	ErrBadName = errors.New("bad cluster name")
	// ErrNotKubeadm: the control planes were not set up by kubeadm with etcd as a static pod, so no procedure applies.
	ErrNotKubeadm = errors.New("not a kubeadm cluster with stacked etcd")
	// ErrOccupied: a file or folder is there already where a new one was to go.
	ErrOccupied = errors.New("exists already")
	// ErrNoImage: the node image is neither here nor to be had.
	ErrNoImage = errors.New("no node image")
)

// LockFile is where a run of drill says, on the first control plane, that it has the cluster. As long as it is there, the control plane may be half way through a recovery.
const LockFile = "/var/lib/drill/lock"

// Role is a node's part in the cluster.
type Role string

// The roles.
const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
)

// Cluster is a running Kubernetes cluster whose nodes can be reached.
//
// Methods may be called concurrently.
type Cluster interface {
	// Name is the name by which the provider knows the cluster.
	Name() string
	// Provider names the adapter, for example "kind".
	Provider() string
	// Nodes returns every Kubernetes node, control planes first, each group ordered by name. Never empty; the
	// first is a control plane. Machines that only carry traffic (a load balancer) are not nodes.
	Nodes() []Node
	// Kubeconfig returns an administrator's kubeconfig that works from the machine on which drill runs.
	Kubeconfig(ctx context.Context) ([]byte, error)
}

// Node is one machine of a cluster, on which commands are run as root.
//
// Methods may be called concurrently. Each returns soon after its context ends, with an error that wraps the
// context's; a command that was running on the node by then may go on there.
type Node interface {
	// Name is the node's name in Kubernetes.
	Name() string
	// Role is the node's part in the cluster.
	Role() Role
	// Address is the node's InternalIP, which the machine drill runs on can reach.
	Address() string
	// Exec runs a command and waits for it. A command that ran and exited with another status than 0 yields an
	// *ExitError; any other error means that it is not known whether the command ran.
	Exec(ctx context.Context, cmd Cmd) (Result, error)
	// ReadFile returns what a regular file holds. A missing file yields an error that wraps fs.ErrNotExist.
	ReadFile(ctx context.Context, path string) ([]byte, error)
	// WriteFile makes path hold exactly what r yields, with the permission bits of mode and root as its owner. It writes
	// beside path to a name that begins with a dot, syncs, and renames: whoever reads path sees the old file
	// or the new one, whole. The folder must exist. What is there is replaced, as with rename(2).
	WriteFile(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error
}

// Cmd is a command to be run on a node: no shell is involved.
type Cmd struct {
	// Argv is the program and its arguments.
	Argv []string
	// Env holds additional variables, each as NAME=value.
	Env []string
	// Stdin is fed to the command; nil means nothing to read.
	Stdin io.Reader
	// Stdout, when set, receives standard output as it comes, and Result.Stdout stays empty.
	Stdout io.Writer
}

// String is the command as one would paste it into a shell.
func (c Cmd) String() string { return shellescape.QuoteCommand(c.Argv) }

// Result is what a command printed.
type Result struct {
	Stdout []byte
	Stderr []byte
}

// Text is standard output without white space at either end.
func (r Result) Text() string { return strings.TrimSpace(string(r.Stdout)) }

// ExitError says that a command ran and did not succeed.
type ExitError struct {
	// Node is where it ran.
	Node string
	// Cmd is what ran.
	Cmd Cmd
	// Code is its exit status.
	Code int
	// Output is the end of what it printed: standard error, and standard output unless that was streamed elsewhere.
	Output string
}

// Error names the node, the command, its status, and the end of its output.
func (e *ExitError) Error() string {
	s := fmt.Sprintf("on node %s: %s: exit status %d", e.Node, e.Cmd, e.Code)
	if out := strings.TrimSpace(e.Output); out != "" {
		s += ": " + out
	}
	return s
}

// Run runs a command on a node and returns its trimmed standard output.
func Run(ctx context.Context, n Node, argv ...string) (string, error) {
	res, err := n.Exec(ctx, Cmd{Argv: argv})
	return res.Text(), err
}

// ControlPlanes returns the nodes of c that are control planes.
func ControlPlanes(c Cluster) []Node {
	var out []Node
	for _, n := range c.Nodes() {
		if n.Role() == ControlPlane {
			out = append(out, n)
		}
	}
	return out
}
