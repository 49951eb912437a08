//go:build e2e

package e2e

import (
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/scenarios"
)

// soakRuns is how often the plain scenario is run on one cluster, one run after the other.
const soakRuns = 10

var _ = Describe("one cluster, drilled again and again", Ordered, Label("soak"), func() {
	var c cluster.Cluster
	BeforeAll(func(ctx SpecContext) { c = shared.oneNode(ctx) }, NodeTimeout(10*time.Minute))
	var slowest report.Check
	for i := range soakRuns {
		It(fmt.Sprintf("passes, time %d of %d", i+1, soakRuns), func(ctx SpecContext) {
			r := start(runner.Job{Scenario: scenarios.DeploymentLoss(), Procedure: procedure.KubeletStop(), Cluster: c}).run(ctx)
			for _, check := range r.Checks {
				GinkgoWriter.Printf("%s %s %.3f s\n", check.Status, check.Name, check.Seconds)
				if check.Seconds > slowest.Seconds {
					slowest = check
				}
			}
			Expect(r.Verdict).To(Equal(plan.VerdictPassed), "%s", r.Reason)
			for _, check := range r.Checks {
				Expect(check.Status).To(Equal(plan.StatusPassed), check.Name)
			}
		}, SpecTimeout(5*time.Minute))
	}
	AfterAll(func() {
		AddReportEntry("the slowest check of all", fmt.Sprintf("%s, %.1f s", slowest.Name, slowest.Seconds), ReportEntryVisibilityAlways)
	})
})
