package procedure

import (
	"context"
	"time"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// ManifestEdit is the way of most tutorials: edit the manifest of the running etcd and wait until kubelet has replaced
// the pod. It restores without a raised revision and restarts nothing but etcd. On today's Kubernetes it does not bring the
// cluster back, which is why it is here.
func ManifestEdit() Procedure {
	return Procedure{
		Entry: plan.Entry{
			Name:    "manifest-edit",
			Summary: "the tutorials' way: edit the running etcd's manifest and wait; restores without raising the revision",
		},
		MaxMembers: 1, // with several members the edited one would be a stranger to the others, which still run the old cluster
		Steps: func(t Target) []plan.Step {
			files := patched{}
			steps := []plan.Step{restoreStep(t), patchStep(t, files), editStep(t, files), waitReplacedStep(t)}
			return append(steps, waitSteps(t)...)
		},
	}
}

func editStep(t Target, files patched) plan.Step {
	s := swapStep(t, files)
	s.Name = "edit-manifest"
	s.Title = "Change the manifest of the running etcd"
	s.Why = "kubelet notices that the file has changed and replaces the etcd pod. Nothing else is stopped or restarted."
	s.Outage = true
	return s
}

// waitReplacedStep waits until etcd runs on the new directory. kubelet takes its time: it ends the old pod with a grace
// period and starts the new one only when the old one is gone.
func waitReplacedStep(t Target) plan.Step {
	return plan.Step{
		Name:  "wait-etcd-replaced",
		Phase: plan.Recover,
		Title: "Wait until kubelet has replaced the etcd container",
		Why: "Until then the old etcd still answers, and everything looks as it did. The API can't be asked for a while, so the container runtime is: " +
			"which directory does the running etcd have mounted?",
		Commands: t.on(func(controlplane.Member) plan.Command {
			return plan.Command{
				Argv:   []string{"crictl", "inspect", "--name", "^etcd$", "--state", "Running"},
				PipeTo: []string{"grep", "-F", t.DataDir},
				Until:  true,
			}
		}),
		Expect:  "After a while, often more than a minute, a line with the new directory.",
		Timeout: 5 * time.Minute,
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				return controlplane.WaitEtcdOn(ctx, m.Node, t.DataDir)
			})
		},
	}
}
