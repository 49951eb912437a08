//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// way is one way to restore, and what must come of it.
type way struct {
	name      string
	procedure func() procedure.Procedure
	renew     []string
	bump      *uint64
	// fails is a check that can't pass, after which the old state must be proven to be back; "" where the recovery must be proven.
	fails string
	// open are checks that may pass or not; see play.
	open []string
}

func ways() []way {
	bump := uint64(1_000_000_000)
	swapped := func(p func() procedure.Procedure) func() procedure.Procedure {
		return func() procedure.Procedure { return swapping(p()) }
	}
	slow := []string{"service-answers", "new-work-runs"} // clients are left as they are; see the scenario's own specs
	return []way{
		{name: "kubelet-stop", procedure: procedure.KubeletStop},
		{name: "kubelet-stop, swapped", procedure: swapped(procedure.KubeletStop)},
		{name: "manifest-move", procedure: procedure.ManifestMove, open: slow},
		{name: "manifest-move, swapped", procedure: swapped(procedure.ManifestMove), open: slow},
		{name: "manifest-edit", procedure: procedure.ManifestEdit, fails: "revision-forward"},
		{name: "manifest-edit with the revision raised and everything begun anew", procedure: procedure.ManifestEdit, renew: procedure.Components(), bump: &bump},
	}
}

// Every procedure in every mode, with a snapshot of the run's own and with one that another tool has made, on one and on three control planes.
var _ = Describe("every way to restore", Label("matrix"), func() {
	for _, controlPlanes := range []int{1, 3} {
		Context(fmt.Sprintf("on %d control planes", controlPlanes), Ordered, ContinueOnFailure, func() {
			var c cluster.Cluster
			BeforeAll(func(ctx SpecContext) {
				if controlPlanes == 1 {
					c = shared.oneNode(ctx)
				} else {
					c = shared.newCluster(ctx, controlPlanes)
				}
			}, NodeTimeout(15*time.Minute))
			for _, w := range ways() {
				It(w.name+", from a snapshot that the run takes", func(ctx SpecContext) { w.restores(ctx, c, nil) }, SpecTimeout(20*time.Minute))
				It(w.name+", from a snapshot made with etcdctl", func(ctx SpecContext) {
					w.restores(ctx, c, &stage.Snapshot{Path: backUp(ctx, cluster.ControlPlanes(c)[0])})
				}, SpecTimeout(20*time.Minute))
			}
		})
	}
})

// restores drills the cluster in that way.
func (w way) restores(ctx SpecContext, c cluster.Cluster, given *stage.Snapshot) {
	GinkgoHelper()
	r := start(runner.Job{Scenario: scenarios.DeploymentLoss(), Procedure: w.procedure(), Cluster: c, Renew: w.renew, BumpRevision: w.bump, Snapshot: given}).run(ctx)
	if w.fails != "" {
		Expect(r.Verdict).To(Equal(plan.VerdictFailed), "%s", r.Reason)
		Expect(failed(r)).To(ContainElement(w.fails))
	} else {
		unproven := slices.DeleteFunc(failed(r), func(check string) bool { return slices.Contains(w.open, check) })
		Expect(unproven).To(BeEmpty(), "%s", r.Reason)
	}
	if r.Verdict == plan.VerdictPassed {
		return
	}
	Expect(r.Verdict).To(Equal(plan.VerdictFailed), "%s", r.Reason)
	Expect(r.Rollback).To(Equal(plan.StatusPassed), "%s", r.Warnings)
	Expect(r.RollbackChecks).NotTo(BeEmpty())
}
