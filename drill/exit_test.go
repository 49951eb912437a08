package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
)

func TestExitStatusOfRuns(t *testing.T) {
	for want, verdicts := range map[int][]plan.Verdict{
		exitPassed:      {plan.VerdictPassed, plan.VerdictPassed},
		exitSkipped:     {plan.VerdictPassed, plan.VerdictSkipped},
		exitFailed:      {plan.VerdictSkipped, plan.VerdictFailed, plan.VerdictPassed},
		exitBroken:      {plan.VerdictFailed, plan.VerdictBroken},
		exitInterrupted: {plan.VerdictBroken, plan.VerdictFailed, plan.VerdictInterrupted},
	} {
		var runs []report.Run
		for _, v := range verdicts {
			runs = append(runs, report.Run{Verdict: v})
		}
		if got := exitStatus(worst(runs)); got != want {
			t.Errorf("%v: %d, want %d", verdicts, got, want)
		}
	}
	if got := exitStatus("from another planet"); got != exitBroken {
		t.Errorf("an unknown verdict: %d", got)
	}
}

func TestIsUsage(t *testing.T) {
	for err, want := range map[error]bool{
		usagef("no"):                               true,
		fmt.Errorf("so: %w", usagef("no")):         true,
		fmt.Errorf("x: %w", cluster.ErrNoEngine):   true,
		fmt.Errorf("x: %w", cluster.ErrNotKubeadm): true,
		errors.New("disk full"):                    false,
		context.DeadlineExceeded:                   false,
	} {
		if got := isUsage(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// controlPlanes is a cluster of so many of them.
type controlPlanes int

func (controlPlanes) Name() string                               { return "lab" }
func (controlPlanes) Provider() string                           { return "none" }
func (controlPlanes) Kubeconfig(context.Context) ([]byte, error) { return nil, errors.New("none") }
func (n controlPlanes) Nodes() []cluster.Node {
	out := []cluster.Node{}
	for range int(n) {
		out = append(out, controlPlane{})
	}
	return out
}

type controlPlane struct{ cluster.Node }

func (controlPlane) Role() cluster.Role { return cluster.ControlPlane }

func TestSuits(t *testing.T) {
	for _, c := range []struct {
		procedure procedure.Procedure
		literal   bool
		nodes     controlPlanes
		want      string
	}{
		{procedure.KubeletStop(), false, 3, ""},
		{procedure.KubeletStop(), true, 1, ""},
		{procedure.ManifestEdit(), true, 1, ""},
		{procedure.ManifestEdit(), false, 3, ""},
		{procedure.KubeletStop(), true, 3, "--literal types on one control plane only, and cluster lab has 3"},
	} {
		err := runOptions{procedure: c.procedure, literal: c.literal}.suits(c.nodes)
		if (err == nil) != (c.want == "") || err != nil && (err.Error() != c.want || !isUsage(err)) {
			t.Errorf("%s on %d, literal %v: %v, want %q", c.procedure.Name, c.nodes, c.literal, err, c.want)
		}
	}
}

func TestStateDir(t *testing.T) {
	for _, c := range []struct{ xdg, home, want string }{
		{"/state", "/home/me", "/state/drill"},
		{"", "/home/me", "/home/me/.local/state/drill"},
		{"relative", "/home/me", "/home/me/.local/state/drill"}, // the specification has relative ones ignored
		{"", "relative", ""},
	} {
		env := map[string]string{"XDG_STATE_HOME": c.xdg, "HOME": c.home}
		if got := stateDir(func(k string) string { return env[k] }); got != c.want {
			t.Errorf("%v: %q, want %q", env, got, c.want)
		}
	}
	if got := stateDir(func(string) string { return "" }); strings.HasPrefix(got, "/tmp") {
		t.Errorf("without any variable: %q, where others may write", got)
	}
	if _, err := (&App{}).provider(t.Context(), nil); !isUsage(err) {
		t.Errorf("no state directory: %v", err)
	}
}
