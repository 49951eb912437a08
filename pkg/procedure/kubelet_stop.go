package procedure

import (
	"slices"

	"github.com/etcd-drill/drill/pkg/plan"
)

// KubeletStop is drill's own way: everything that can be done beforehand is done while the cluster still runs, and the outage
// is only stop, swap, start. kubelet and the four static pods all begin anew, so nothing acts on what it remembers from before.
//
// A static pod that is to live on is left out of the stop; a kubelet that is to live on is frozen instead. Swapped is the manifest, which names the restored directory, or the directory
// itself; see DataDirMode.
//
// Several control planes are stopped together, and come back one after the other; see staggered.
func KubeletStop() Procedure {
	const bumps = true
	byItself := Components()
	return Procedure{
		Entry: plan.Entry{
			Name:    "kubelet-stop",
			Summary: "restore beside the running cluster, stop kubelet and the control plane, swap the manifest, start kubelet",
		},
		Bump:   bumps,
		Renews: byItself,
		build: func(t Target) Recovery {
			sc := t.scope(byItself)
			prepare, stop, start := kubeletSteps(t, sc)
			r := Recovery{Rollback: rollback(t), Variant: t.variant(sc, bumps)}
			exchange, up := prepareExchangeStep(t), together(t, sc, start)
			if len(t.Members) > 1 && sc.renews(Kubelet) {
				o := t.staggered(sc)
				exchange, up = prepareMoveStep(t), o.steps()
				r.Rollback, r.TakenAway = rollback(t, returnAllStep(t)), o.takenAway()
			}
			r.Steps = slices.Concat(
				[]plan.Step{restoreStep(t), exchange},
				prepare,
				[]plan.Step{noteLastStep(t, sc)},
				until(start[0].Name, append(stop, stopControlPlaneStep(t, sc))),
				up,
			)
			return r
		},
	}
}

// together brings the control plane back, from a stop in which nothing runs on any member, by letting kubelet start everything.
func together(t Target, sc scope, start []plan.Step) []plan.Step {
	waits := waitSteps(t, sc) // etcd, API server, controller manager, scheduler
	return slices.Concat(
		[]plan.Step{exchangeStep(t)},
		start,
		waits[:2],
		releaseStep(t, sc),
		[]plan.Step{renewNetworkStep(t)},
		waits[2:],
	)
}

// kubeletSteps keep kubelet from acting while the control plane is down: by stopping it or, where it is to live on, by freezing it.
func kubeletSteps(t Target, sc scope) (prepare, stop, start []plan.Step) {
	if sc.renews(Kubelet) {
		return nil, []plan.Step{stopKubeletStep(t)}, []plan.Step{startKubeletStep(t, sc)}
	}
	f := newFreezer(t)
	if t.swaps() { // the etcd pod that it knows is the one that it is to start
		return []plan.Step{f.allowedStep()}, []plan.Step{f.freezeStep()}, []plan.Step{f.thawStep()}
	}
	replaced := waitReplacedStep(t, "kubelet goes on with what it remembers: it may start the etcd pod that it knows once more, on the old directory, before it notices that the manifest "+
		"has changed. The container runtime is asked: which directory does the running etcd have mounted?")
	return []plan.Step{f.allowedStep()}, []plan.Step{f.freezeStep()}, []plan.Step{f.thawStep(), replaced}
}
