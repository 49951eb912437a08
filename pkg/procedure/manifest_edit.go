package procedure

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// ManifestEdit is the way of most tutorials: edit the manifest of the running etcd and wait until kubelet has replaced
// the pod. It restores without a raised revision and restarts nothing but etcd. On today's Kubernetes it does not bring the
// cluster back, which is why it is here.
//
// What is to begin anew all the same is restarted once the new etcd is ready.
//
// Of several control planes all manifests are edited at the same time, and each kubelet replaces its etcd when it gets to it. Members of before and restored ones then run beside each other at the same
// addresses. They don't mix: the token gives the restored cluster an ID of its own, and etcd answers no peer of another one (server/etcdserver/api/rafthttp/http.go, checkClusterCompatibilityFromHeader). Nor do both
// serve: the one or the other has no majority.
func ManifestEdit() Procedure {
	const bumps = false
	return Procedure{
		Entry: plan.Entry{
			Name:    "manifest-edit",
			Summary: "the tutorials' way: edit the running etcd's manifest and wait; restores without raising the revision",
		},
		Bump:          bumps,
		editsManifest: true,
		build: func(t Target) Recovery {
			sc := t.scope(nil)
			waits := waitSteps(t, sc) // etcd, API server, controller manager, scheduler
			return Recovery{
				Steps: slices.Concat(
					[]plan.Step{restoreStep(t), patchStep(t), noteLastStep(t, sc), editStep(t)},
					[]plan.Step{waitReplacedStep(t, "Until then the old etcd still answers, and everything looks as it did. The API can't be asked for a while, so the container runtime is: "+
						"which directory does the running etcd have mounted?"), waits[0]},
					renewPodsSteps(t, sc.pods()),
					waits[1:],
					restartKubeletSteps(t, sc),
				),
				Rollback: rollback(t),
				Variant:  t.variant(sc, bumps),
			}
		},
	}
}

func editStep(t Target) plan.Step {
	s := swapStep(t)
	s.Name = "edit-manifest"
	s.Title = "Change the manifest of the running etcd"
	s.Why = "kubelet notices that the file has changed and replaces the etcd pod. Nothing else is stopped for it."
	s.Outage = true
	return s
}

// waitReplacedStep waits until etcd runs on the new directory. kubelet takes its time: it ends the old pod with a grace
// period and starts the new one only when the old one is gone.
func waitReplacedStep(t Target, why string) plan.Step {
	return plan.Step{
		Name:  "wait-etcd-replaced",
		Phase: plan.Recover,
		Title: "Wait until kubelet has replaced the etcd container",
		Why:   why,
		Commands: t.on(func(controlplane.Member) plan.Command {
			return plan.Command{
				Argv:   []string{"crictl", "inspect", "--state", "Running"},
				PipeTo: []string{"grep", "-F", t.DataDir},
				Until:  true,
			}
		}),
		Expect:  "After a while, often more than a minute, a line with the new directory.",
		Timeout: 5 * time.Minute,
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				return waitEtcdOn(ctx, m, t.DataDir)
			})
		},
	}
}

// renewPodsSteps end the components' containers, which kubelet then starts anew; nothing where there are no components.
func renewPodsSteps(t Target, components []string) []plan.Step {
	if len(components) == 0 {
		return nil
	}
	return []plan.Step{{
		Name:  "renew-control-plane",
		Phase: plan.Recover,
		Title: "Start " + enumerate(components) + " anew",
		Why: "What runs since before the restore remembers what the old etcd said. " + enumerate(components) + verb(components, " keeps", " keep") +
			" nothing on disk: " + verb(components, "its container is", "their containers are") + " ended at once, and kubelet starts " + verb(components, "it", "them") + " again.",
		Commands: t.on(func(controlplane.Member) plan.Command {
			return plan.Command{Argv: listArgv(components), PipeTo: stopArgv(0)}
		}),
		Expect: "A moment later `crictl ps` shows " + enumerate(components) + " a few seconds old.",
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				return stopContainers(ctx, m.Node, components, 0)
			})
		},
	}}
}

// waitEtcdOn polls the node's container runtime until its running etcd has dataDir mounted.
func waitEtcdOn(ctx context.Context, m controlplane.Member, dataDir string) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	last := "nothing"
	for {
		dir, err := etcdDir(ctx, m)
		switch {
		case err == nil && dir == dataDir:
			return nil
		case ctx.Err() != nil: // a look that was cut short tells less than the one before
		case err != nil:
			last = err.Error()
		case dir == "":
			last = "no running etcd"
		default:
			last = "etcd on " + dir
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until etcd runs on %s: %w; last seen: %s", dataDir, context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// etcdDir is the host path that the running etcd has its data on; "" when no etcd runs.
func etcdDir(ctx context.Context, m controlplane.Member) (string, error) {
	running, err := controlplane.Containers(ctx, m.Node, false)
	if err != nil {
		return "", err
	}
	for _, c := range running {
		if c.Name != controlplane.Etcd || c.PodNamespace != systemNamespace {
			continue
		}
		for _, mount := range c.Mounts {
			if mount.ContainerPath == m.Etcd.DataDir {
				return mount.HostPath, nil
			}
		}
	}
	return "", nil
}
