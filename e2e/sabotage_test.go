//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/sabotage"
	"github.com/etcd-drill/drill/scenarios"
)

// Checks of sabotaged runs get less time than others at first: what is broken on purpose doesn't mend itself, and each run waits for that.
const (
	sabotageSettle   = 15 * time.Second
	sabotagePatience = 15 * time.Second
)

// oneFaultOf is of how many faults it is one's turn: all of them take a machine with two slow processors an hour.
const oneFaultOf = 6

// sabotaged is a drill with a fault.
func sabotaged(f sabotage.Fault, c cluster.Cluster) runner.Job {
	return runner.Job{
		Scenario: scenarios.DeploymentLoss(), Procedure: f.Sabotaged(), Cluster: c,
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

// unrelated are the checks of a run that failed though the fault has nothing to do with them.
func unrelated(f sabotage.Fault, r report.Run) []string {
	return slices.DeleteFunc(failed(r), func(name string) bool { return slices.Contains(slices.Concat(f.Breaks, f.Also), name) })
}

// lacks says whether one of the components ended by itself, so that what depends on its living on was not tried.
func lacks(r report.Run, components []string) bool {
	return slices.ContainsFunc(components, func(c string) bool { return slices.Contains(r.EndedByThemselves, c) })
}

// told is what every check of a run said.
func told(r report.Run) string {
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%s %s: %s\n", c.Status, c.Name, c.Detail)
	}
	for _, c := range r.RollbackChecks {
		fmt.Fprintf(&b, "after the rollback %s %s: %s\n", c.Status, c.Name, c.Detail)
	}
	fmt.Fprintf(&b, "ended by themselves: %v", r.EndedByThemselves)
	return b.String()
}

var _ = Describe("a sabotaged drill", Ordered, ContinueOnFailure, Label("sabotage"), func() {
	var c cluster.Cluster
	BeforeAll(func(ctx SpecContext) { c = shared.oneNode(ctx) }, NodeTimeout(10*time.Minute))

	for i, f := range sabotage.All() {
		labels := []string{}
		for _, check := range f.Breaks {
			labels = append(labels, "breaks-"+check)
		}
		It(f.Name+": "+f.Summary, Label(labels...), turn(i, oneFaultOf), func(ctx SpecContext) {
			job := sabotaged(f, c)
			var r report.Run
			for range 3 {
				r = start(job).run(ctx)
				GinkgoWriter.Println(told(r))
				for _, trouble := range []string{"cleaning up", "put back", "panicked"} {
					Expect(r.Warnings).NotTo(ContainElement(ContainSubstring(trouble)))
				}
				switch {
				case lacks(r, f.Needs):
					continue
				case len(unrelated(f, r)) > 0 && job.Patience > 0:
					// On a busy machine the outage is longer, and clients have backed off for longer than this: they get the time that they have in other runs.
					job.Settle, job.Patience = 0, 0
					continue
				}
				break
			}
			Expect(lacks(r, f.Needs)).To(BeFalse(), "what the fault needs ended by itself: %v", r.EndedByThemselves)
			for _, check := range r.Checks {
				AddReportEntry("check "+check.Name, check.Detail, ReportEntryVisibilityNever)
			}
			Expect(r.Verdict).To(Equal(plan.VerdictFailed), "%s", r.Reason)
			for _, name := range f.Breaks {
				Expect(failed(r)).To(ContainElement(name), "the fault must be caught by this check\n%s", told(r))
				Expect(r.Reason).To(ContainSubstring(name))
			}
			Expect(unrelated(f, r)).To(BeEmpty(), "unrelated checks failed\n%s", told(r))
			for _, check := range r.Checks {
				if check.Status == plan.StatusFailed {
					Expect(check.Remedy).NotTo(BeEmpty())
				}
			}
		}, SpecTimeout(10*time.Minute))
	}

	It("is what failed: without a fault the same cluster passes", Label("sound"), func(ctx SpecContext) {
		job := sabotaged(sabotage.Fault{}, c)
		job.Alter, job.Settle, job.Patience = nil, 0, 0
		r := start(job).run(ctx)
		Expect(r.Verdict).To(Equal(plan.VerdictPassed), "%s", r.Reason)
	}, SpecTimeout(5*time.Minute))
})
