package procedure_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
)

// freezing is a node with a kubelet that systemd knows about and that takes signals, each after so many looks.
type freezing struct {
	recorder
	watchdog, state, pid string
	// lag is how many looks show the state from before a signal; deaf says that signals have no effect.
	lag  int
	deaf bool
	// before and looks are the state before the last signal, and how often it was looked at since.
	before string
	looks  int
}

func (f *freezing) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	if err := ctx.Err(); err != nil {
		return cluster.Result{}, err
	}
	line := strings.Join(cmd.Argv, " ")
	set := func(state string) {
		f.before, f.looks = f.state, 0
		if !f.deaf {
			f.state = state
		}
	}
	switch {
	case line == "systemctl kill --signal=SIGSTOP kubelet":
		set("Tsl")
	case line == "systemctl kill --signal=SIGCONT kubelet":
		set("Ssl")
	case strings.HasPrefix(line, "systemctl show kubelet"):
		return cluster.Result{Stdout: fmt.Appendf(nil, "MainPID=%s\nActiveState=active\nWatchdogUSec=%s\n", f.pid, f.watchdog)}, nil
	case line == "ps -o stat= -p "+f.pid:
		if f.looks++; f.looks <= f.lag {
			return cluster.Result{Stdout: []byte(f.before + "\n")}, nil
		}
		return cluster.Result{Stdout: []byte(f.state + "\n")}, nil
	case strings.HasPrefix(line, "ps "):
		return cluster.Result{}, &cluster.ExitError{Node: f.name, Cmd: cmd, Code: 1}
	default:
		return cluster.Result{}, fmt.Errorf("unexpected: %s", line)
	}
	return cluster.Result{}, nil
}

// frozen returns the steps that freeze the kubelet of node f, by name.
func frozen(f *freezing) map[string]plan.Step {
	target := three()
	target.Members = target.Members[:1]
	target.Members[0].Node = f
	target.KeepRunning = []string{procedure.Kubelet}
	out := map[string]plan.Step{}
	for _, s := range procedure.KubeletStop().Build(target).Steps {
		out[s.Name] = s
	}
	return out
}

func TestFreezeKubelet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &freezing{recorder: recorder{name: "cp-a"}, watchdog: "0", state: "Ssl", pid: "632", lag: 3}
		steps := frozen(f)
		for _, want := range []struct{ step, state string }{{"check-watchdog", "Ssl"}, {"freeze-kubelet", "Tsl"}, {"continue-kubelet", "Ssl"}} {
			if err := steps[want.step].Do(t.Context()); err != nil || f.state != want.state {
				t.Fatalf("%s: %v; the state is %s, want %s", want.step, err, f.state, want.state)
			}
			if want.step != "check-watchdog" && f.looks <= f.lag {
				t.Errorf("%s did not wait until the signal was taken", want.step)
			}
		}
		for _, name := range []string{"stop-kubelet", "start-kubelet"} {
			if _, there := steps[name]; there {
				t.Errorf("%s is there all the same", name)
			}
		}
	})
}

// TestFrozenKubeletIsNotTheSame: what can go wrong is told, and a kubelet that was restarted does not pass for one that was kept.
func TestFrozenKubeletIsNotTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*freezing)
		// later is what happens after the freezing.
		later func(*freezing)
		step  string
		want  string
	}{
		"a watchdog":          {func(f *freezing) { f.watchdog = "30s" }, nil, "check-watchdog", "node cp-a: kubelet's unit has a watchdog of 30s"},
		"not running":         {func(f *freezing) { f.pid = "0" }, nil, "freeze-kubelet", "it is not running"},
		"it takes no signal":  {func(f *freezing) { f.deaf = true }, nil, "freeze-kubelet", "waiting until process 632 has taken SIGSTOP: patience is over; last seen: state Ssl"},
		"restarted meanwhile": {nil, func(f *freezing) { f.pid = "777" }, "continue-kubelet", "process 632 was frozen, and process 777 is there"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &freezing{recorder: recorder{name: "cp-a"}, watchdog: "infinity", state: "Ssl", pid: "632"}
				if c.change != nil {
					c.change(f)
				}
				steps := frozen(f)
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, fmt.Errorf("patience is over"))
				defer cancel()
				for _, step := range []string{"check-watchdog", "freeze-kubelet", "continue-kubelet"} {
					err := steps[step].Do(ctx)
					if step == c.step {
						if err == nil || !strings.Contains(err.Error(), c.want) {
							t.Errorf("%v, want %q", err, c.want)
						}
						return
					}
					if err != nil {
						t.Fatalf("%s: %v", step, err)
					}
					if c.later != nil && step == "freeze-kubelet" {
						c.later(f)
					}
				}
			})
		})
	}
}

// TestFrozenKubeletMayStartTheOldEtcd: it remembers it, so it is waited until the new one runs.
func TestFrozenKubeletMayStartTheOldEtcd(t *testing.T) {
	target := three()
	names := func() (out []string) {
		for _, s := range procedure.KubeletStop().Build(target).Steps {
			out = append(out, s.Name)
		}
		return out
	}
	if slices.Contains(names(), "wait-etcd-replaced") {
		t.Error("a kubelet that begins anew knows no other etcd")
	}
	target.KeepRunning = []string{procedure.Kubelet}
	got := names()
	if i, j := slices.Index(got, "continue-kubelet"), slices.Index(got, "wait-etcd-replaced"); i < 0 || j != i+1 {
		t.Errorf("got %q", got)
	}
}
