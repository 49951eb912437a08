//go:build e2e

package e2e

import (
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/sabotage"
	"github.com/etcd-drill/drill/scenarios"
)

// Checks of sabotaged runs get less time than others: what is broken on purpose doesn't mend itself, and each run waits for that.
const (
	sabotageSettle   = 15 * time.Second
	sabotagePatience = 15 * time.Second
)

// sabotaged is a drill with a fault.
func sabotaged(f sabotage.Fault, c cluster.Cluster) runner.Job {
	p := procedure.KubeletStop()
	for _, other := range procedure.All() {
		if other.Name == f.Procedure {
			p = other
		}
	}
	return runner.Job{
		Scenario: scenarios.DeploymentLoss(), Procedure: p, Cluster: c,
		BumpRevision: f.BumpRevision, KeepRunning: f.KeepRunning, Alter: f.Alter,
		Settle: sabotageSettle, Patience: sabotagePatience,
	}
}

// failed are the names of the checks of a run that failed.
func failed(r report.Run) []string {
	var out []string
	for _, c := range r.Checks {
		if c.Status == plan.StatusFailed {
			out = append(out, c.Name)
		}
	}
	return out
}

var _ = Describe("a sabotaged drill", Ordered, ContinueOnFailure, Label("sabotage"), func() {
	var c cluster.Cluster
	BeforeAll(func(ctx SpecContext) { c = shared.newCluster(ctx, 1) }, NodeTimeout(10*time.Minute))

	for _, f := range sabotage.All() {
		labels := []string{}
		for _, check := range f.Breaks {
			labels = append(labels, "breaks-"+check)
		}
		It(f.Name+": "+f.Summary, Label(labels...), func(ctx SpecContext) {
			r := start(sabotaged(f, c)).run(ctx)
			for _, check := range r.Checks {
				GinkgoWriter.Println(check.Status, check.Name, check.Detail)
				AddReportEntry("check "+check.Name, check.Detail, ReportEntryVisibilityNever)
			}
			for _, trouble := range []string{"cleaning up", "put back", "panicked"} {
				Expect(r.Warnings).NotTo(ContainElement(ContainSubstring(trouble)))
			}
			Expect(r.Verdict).To(Equal(plan.VerdictFailed), r.Reason)
			for _, name := range f.Breaks {
				Expect(failed(r)).To(ContainElement(name), "the fault must be caught by this check")
				Expect(r.Reason).To(ContainSubstring(name))
			}
			for _, check := range r.Checks {
				if check.Status != plan.StatusFailed {
					continue
				}
				Expect(slices.Concat(f.Breaks, f.Also)).To(ContainElement(check.Name), "an unrelated check failed: %s", check.Detail)
				Expect(check.Remedy).NotTo(BeEmpty())
			}
		}, SpecTimeout(6*time.Minute))
	}

	It("is what failed: without a fault the same cluster passes", Label("sound"), func(ctx SpecContext) {
		job := sabotaged(sabotage.Fault{}, c)
		job.Alter, job.Settle, job.Patience = nil, 0, 0
		r := start(job).run(ctx)
		Expect(r.Verdict).To(Equal(plan.VerdictPassed), r.Reason)
	}, SpecTimeout(5*time.Minute))
})
