package procedure

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// freezer keeps each node's kubelet from acting without ending it, so that it goes on with all that it remembers. A rollback may find it frozen: systemd ends such a
// process all the same, since it lets go on what it has told to end (systemd.kill(5)).
type freezer struct {
	target Target
	mu     sync.Mutex
	// frozen are the processes by the names of their nodes, to tell whether the same ones go on.
	frozen map[string]string
}

func newFreezer(t Target) *freezer { return &freezer{target: t, frozen: map[string]string{}} }

// unit is what systemd says of kubelet.
func unit(ctx context.Context, n cluster.Node, properties ...string) (map[string]string, error) {
	out, err := cluster.Run(ctx, n, "systemctl", "show", "kubelet", "--property="+strings.Join(properties, ","))
	if err != nil {
		return nil, fmt.Errorf("ask systemd about kubelet: %w", err)
	}
	said := map[string]string{}
	for line := range strings.Lines(out) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			said[k] = v
		}
	}
	return said, nil
}

// allowedStep makes sure, before anything is touched, that systemd lets a frozen kubelet be.
func (f *freezer) allowedStep() plan.Step {
	return plan.Step{
		Name:  "check-watchdog",
		Phase: plan.Recover,
		Title: "Make sure that nothing ends a kubelet that is silent for a while",
		Why: "kubelet is to live on, so it will be frozen instead of stopped. Where its unit has a watchdog (WatchdogSec), systemd ends and restarts a kubelet that " +
			"doesn't report for that long, and its memory would be gone.",
		Commands: f.target.on(func(controlplane.Member) plan.Command {
			return plan.Command{Argv: []string{"systemctl", "show", "kubelet", "--property=WatchdogUSec"}, PipeTo: []string{"grep", "-E", "=(0|infinity)$"}}
		}),
		Expect: "`WatchdogUSec=0` or `WatchdogUSec=infinity`: there is no watchdog.",
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, f.target.Members, func(ctx context.Context, m controlplane.Member) error {
				said, err := unit(ctx, m.Node, "WatchdogUSec")
				if w := said["WatchdogUSec"]; err == nil && w != "0" && w != "infinity" {
					err = fmt.Errorf("kubelet's unit has a watchdog of %s, so systemd would restart a frozen kubelet; renew kubelet instead of keeping it", w)
				}
				return err
			})
		},
	}
}

func (f *freezer) freezeStep() plan.Step {
	return plan.Step{
		Name:  "freeze-kubelet",
		Phase: plan.Recover,
		Title: "Freeze kubelet",
		Why: "A kubelet that runs restarts whatever is stopped, and would act on half a change. Here it is to keep its watches and its memory of pods, so it isn't stopped: the signal STOP " +
			"freezes its process, which later goes on as if nothing had been. Containers go on running without it.",
		Commands: f.target.on(func(controlplane.Member) plan.Command {
			return plan.Command{Argv: []string{"systemctl", "kill", "--signal=SIGSTOP", "kubelet"}}
		}),
		Expect: "`ps -C kubelet -o stat=` shows a state that begins with `T`, for stopped; `systemctl is-active kubelet` says `active` all the same.",
		Outage: true,
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, f.target.Members, f.freeze)
		},
	}
}

func (f *freezer) freeze(ctx context.Context, m controlplane.Member) error {
	said, err := unit(ctx, m.Node, "MainPID", "ActiveState")
	if err != nil {
		return err
	}
	pid := said["MainPID"]
	if said["ActiveState"] != "active" || pid == "" || pid == "0" {
		return fmt.Errorf("freeze kubelet: it is not running: systemd says %s", said["ActiveState"])
	}
	if err := signal(ctx, m.Node, pid, "SIGSTOP", true); err != nil {
		return fmt.Errorf("freeze kubelet: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen[m.Name] = pid
	return nil
}

func (f *freezer) thawStep() plan.Step {
	finds := "its pods are gone and that a manifest has changed"
	if f.target.swaps() {
		finds = "its pods are gone"
	}
	return plan.Step{
		Name:  "continue-kubelet",
		Phase: plan.Recover,
		Title: "Let kubelet go on",
		Why: "The signal CONT ends what STOP began. kubelet finds that " + finds + ", and goes on with all that it remembers: its watches, and what " +
			"it has seen and reported of each pod." + whyInTurn(f.target.Members),
		Commands: inTurnCommands(f.target.Members, func(m controlplane.Member) []plan.Command {
			return []plan.Command{{On: m.Name, Argv: []string{"systemctl", "kill", "--signal=SIGCONT", "kubelet"}}}
		}),
		Expect: "`ps -C kubelet -o stat=` shows a state that begins with `S` or `R`.",
		Do: func(ctx context.Context) error {
			return inTurn(ctx, f.target.Members, f.thaw)
		},
	}
}

func (f *freezer) thaw(ctx context.Context, m controlplane.Member) error {
	said, err := unit(ctx, m.Node, "MainPID", "ActiveState")
	if err != nil {
		return err
	}
	f.mu.Lock()
	pid := f.frozen[m.Name]
	f.mu.Unlock()
	if now := said["MainPID"]; now != pid {
		return fmt.Errorf("continue kubelet: process %s was frozen, and process %s is there (systemd says %s): it was restarted and has lost its memory; see `journalctl -u kubelet` there",
			pid, now, said["ActiveState"])
	}
	if err := signal(ctx, m.Node, pid, "SIGCONT", false); err != nil {
		return fmt.Errorf("continue kubelet: %w", err)
	}
	return nil
}

// signal sends a signal to kubelet and waits until its process is stopped, or isn't any more. A process takes its time to get there.
func signal(ctx context.Context, n cluster.Node, pid, name string, stopped bool) error {
	if _, err := cluster.Run(ctx, n, "systemctl", "kill", "--signal="+name, "kubelet"); err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := "nothing"
	for {
		state, err := cluster.Run(ctx, n, "ps", "-o", "stat=", "-p", pid)
		switch {
		case err == nil && strings.HasPrefix(state, "T") == stopped:
			return nil
		case ctx.Err() != nil: // a look that was cut short tells less than the one before
		case err != nil:
			return fmt.Errorf("process %s: %w", pid, err) // it has ended
		default:
			last = "state " + state
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until process %s has taken %s: %w; last seen: %s", pid, name, context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}
