package stage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/stage"
)

// here is a node that is this machine, where programs really run; before may answer in its place.
type here struct {
	cluster.Node
	before func(cmd cluster.Cmd) error
	ran    []string
}

func (*here) Name() string { return "cp-a" }

func (h *here) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	h.ran = append(h.ran, cmd.String())
	if h.before != nil {
		if err := h.before(cmd); err != nil {
			return cluster.Result{}, err
		}
	}
	c := exec.CommandContext(ctx, cmd.Argv[0], cmd.Argv[1:]...)
	c.Env, c.Stdin = append(c.Environ(), cmd.Env...), cmd.Stdin
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, io.Discard
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &cluster.ExitError{Node: "cp-a", Cmd: cmd, Code: exit.ExitCode()}
	}
	return cluster.Result{Stdout: out.Bytes()}, err
}

// alone is a cluster of one node.
type alone struct {
	cluster.Cluster
	node cluster.Node
}

func (alone) Name() string            { return "lab" }
func (a alone) Nodes() []cluster.Node { return []cluster.Node{a.node} }

func TestType(t *testing.T) {
	errLost := errors.New("connection lost")
	lost := func(cluster.Cmd) error { return errLost }
	for name, c := range map[string]struct {
		command plan.Command
		before  func(cluster.Cmd) error
		err     string // part of the error; empty if it succeeds
		ran     int
	}{
		"it succeeds":                        {plan.Command{Argv: []string{"true"}}, nil, "", 1},
		"it fails":                           {plan.Command{Argv: []string{"false"}}, nil, "exit status 1", 1},
		"no shell reads it":                  {plan.Command{Argv: []string{"test", "$HOME", "=", "$" + "HOME"}}, nil, "", 1},
		"kubectl finds its way":              {plan.Command{Argv: []string{"printenv", "KUBECONFIG"}, PipeTo: []string{"grep", "-x", "/etc/kubernetes/admin.conf"}}, nil, "", 2},
		"it is to fail and does":             {plan.Command{Argv: []string{"false"}, Fails: true}, nil, "", 1},
		"it is to fail and doesn't":          {plan.Command{Argv: []string{"true"}, Fails: true}, nil, "was to fail and did not", 1},
		"what is piped is read":              {plan.Command{Argv: []string{"echo", "a b"}, PipeTo: []string{"grep", "-qx", "a b"}}, nil, "", 2},
		"the last one's status counts":       {plan.Command{Argv: []string{"false"}, PipeTo: []string{"true"}}, nil, "", 2},
		"and is told":                        {plan.Command{Argv: []string{"true"}, PipeTo: []string{"grep", "x"}}, nil, "exit status 1", 2},
		"what never ran was not piped":       {plan.Command{Argv: []string{"echo"}, PipeTo: []string{"true"}}, lost, "connection lost", 1},
		"a lost connection is not a failure": {plan.Command{Argv: []string{"false"}, Fails: true}, lost, "connection lost", 1},
	} {
		t.Run(name, func(t *testing.T) {
			n := &here{before: c.before}
			c.command.On = "cp-a"
			err := stage.Typist{Cluster: alone{node: n}}.Type(t.Context(), c.command)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
			if len(n.ran) != c.ran {
				t.Errorf("ran %q", n.ran)
			}
		})
	}
	err := stage.Typist{Cluster: alone{node: &here{}}}.Type(t.Context(), plan.Command{On: "cp-z", Argv: []string{"true"}})
	if err == nil || !strings.Contains(err.Error(), `cluster lab has no node "cp-z"`) {
		t.Errorf("another node: %v", err)
	}
}

// scripted is a node that answers with these errors, one after the other; the last one stays.
type scripted struct {
	cluster.Node
	answers []error
	ran     int
}

func (*scripted) Name() string { return "cp-a" }

func (s *scripted) Exec(context.Context, cluster.Cmd) (cluster.Result, error) {
	s.ran++
	err := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	return cluster.Result{}, err
}

func TestTypeUntil(t *testing.T) {
	refused := &cluster.ExitError{Node: "cp-a", Cmd: cluster.Cmd{Argv: []string{"curl"}}, Code: 7, Output: "connection refused"}
	until := plan.Command{On: "cp-a", Argv: []string{"curl"}, Until: true}
	t.Run("it succeeds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := &scripted{answers: []error{refused, refused, nil}}
			if err := (stage.Typist{Cluster: alone{node: n}}).Type(t.Context(), until); err != nil || n.ran != 3 {
				t.Errorf("%v after %d tries", err, n.ran)
			}
		})
	})
	t.Run("it never does", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			patience := errors.New("patience is over")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, patience)
			defer cancel()
			n := &scripted{answers: []error{refused}}
			err := stage.Typist{Cluster: alone{node: n}}.Type(ctx, until)
			if !errors.Is(err, patience) || !strings.Contains(err.Error(), "connection refused") || n.ran < 2 {
				t.Errorf("%v after %d tries", err, n.ran)
			}
		})
	})
}
