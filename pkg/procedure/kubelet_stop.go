package procedure

import "github.com/etcd-drill/drill/pkg/plan"

// KubeletStop is drill's own way: everything that can be done beforehand is done while the cluster still runs, and the outage
// is only stop, swap, start. kubelet and the four static pods all begin anew, so nothing acts on what it remembers from before.
func KubeletStop() Procedure {
	return Procedure{
		Entry: plan.Entry{
			Name:    "kubelet-stop",
			Summary: "restore beside the running cluster, stop kubelet and the control plane, swap the manifest, start kubelet",
		},
		Bump: true,
		Build: func(t Target) Recovery {
			steps := []plan.Step{
				restoreStep(t),
				patchStep(t),
				noteLastStep(t),
				stopKubeletStep(t),
				stopControlPlaneStep(t),
				swapStep(t),
				startKubeletStep(t),
			}
			waits := waitSteps(t) // etcd, API server, controller manager, scheduler
			steps = append(steps, waits[0], waits[1], releaseStep(t), renewProxyStep(t), waits[2], waits[3])
			return Recovery{Steps: steps, Rollback: rollback(t)}
		},
	}
}
