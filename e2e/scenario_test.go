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
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// play is one way to run a scenario, which must pass but for the checks that are open.
type play struct {
	scenario  scenarios.Scenario
	procedure procedure.Procedure
	literal   bool
	// controlPlanes is how many the cluster has; 0 is one.
	controlPlanes int
	// open are checks that may pass or not within their time: the procedure leaves clients as they are, and those take as long as they take to come back.
	open []string
}

// follow makes a spec of each step and each check of the play, in order.
func follow(p play, on func() cluster.Cluster) {
	var l *live
	BeforeAll(func() {
		l = start(runner.Job{Scenario: p.scenario, Procedure: p.procedure, Literal: p.literal, Cluster: on()})
	})
	outline := scenarios.Plan(p.scenario, p.procedure, textbook(p.procedure, max(1, p.controlPlanes)))
	for _, s := range outline.Steps {
		It(string(s.Phase)+": "+s.Title, func(ctx SpecContext) {
			e := l.step(ctx, s.Name)
			Expect(e.Err).NotTo(HaveOccurred())
			Expect(e.Status).To(Equal(plan.StatusPassed))
		}, SpecTimeout(15*time.Minute)) // the first of them includes the making of the cluster
	}
	for _, c := range outline.Checks {
		It("check "+c.Name+" passes", func(ctx SpecContext) {
			e := l.check(ctx, c.Name)
			GinkgoWriter.Println(e.Finding.Status, e.Finding.Detail)
			if !slices.Contains(p.open, c.Name) {
				Expect(e.Finding.Status).To(Equal(plan.StatusPassed), "%+v", e.Finding)
			}
		}, SpecTimeout(3*time.Minute))
	}
	It("ends passed", func(ctx SpecContext) {
		r := l.run(ctx)
		if r.Verdict == plan.VerdictFailed && len(failed(r)) > 0 && !slices.ContainsFunc(failed(r), func(c string) bool { return !slices.Contains(p.open, c) }) {
			return
		}
		Expect(r.Verdict).To(Equal(plan.VerdictPassed), "%s", r.Reason)
		measured(r)
	}, SpecTimeout(5*time.Minute))
}

// textbook is a stage of so many control planes that is never played.
func textbook(p procedure.Procedure, controlPlanes int) *stage.Stage {
	return stage.TextbookOf([]string{"first", "second", "third"}[:controlPlanes], p, "")
}

// otherWays is how many ways there are beside the usual one on one control plane; they take turns.
const otherWays = 2

// measured makes sure that the numbers of a run fit together.
func measured(r report.Run) {
	GinkgoHelper()
	Expect(r.Snapshot).NotTo(BeNil())
	Expect(r.Snapshot.Revision).To(BeNumerically(">", 0))
	Expect(r.Loss.Revisions).NotTo(BeNil())
	for kind, seconds := range map[string]*float64{
		"etcd": r.Outage.EtcdSeconds, "read": r.Outage.ReadSeconds, "write": r.Outage.WriteSeconds,
		"work": r.Outage.WorkSeconds, "service": r.Outage.ServiceSeconds, "floor": r.Outage.FloorSeconds,
	} {
		Expect(seconds).NotTo(BeNil(), kind)
		Expect(*seconds).To(BeNumerically(">", 0), kind)
	}
	Expect(r.Loss.Objects).To(BeEmpty(), "nothing was made between the snapshot and the break")
	Expect(r.Loss.Reverted).To(BeEmpty(), "nothing was changed between the snapshot and the break")
	Expect(r.Probe).NotTo(BeNil())
	Expect(r.Probe.Series).NotTo(BeEmpty())
}

var _ = Describe("deployment-loss", func() {
	Context("on one control plane", Ordered, Label("single"), func() {
		var c cluster.Cluster
		BeforeAll(func(ctx SpecContext) { c = shared.oneNode(ctx) }, NodeTimeout(10*time.Minute))

		Context("with kubelet-stop", Ordered, Label("kubelet-stop"), func() {
			follow(play{scenario: scenarios.DeploymentLoss(), procedure: procedure.KubeletStop()},
				func() cluster.Cluster { return c })
		})
		Context("with manifest-move", Ordered, Label("manifest-move"), turn(0, otherWays), func() {
			follow(play{scenario: scenarios.DeploymentLoss(), procedure: procedure.ManifestMove(), open: []string{"service-answers", "new-work-runs"}},
				func() cluster.Cluster { return c })
		})
		It("names what was made after the snapshot, each object and nothing else", Label("loss"), func(ctx SpecContext) {
			const made = 50
			r := start(runner.Job{Scenario: scenarios.DeploymentLoss(), Procedure: procedure.KubeletStop(), LateWrites: made, Cluster: c}).run(ctx)
			Expect(r.Verdict).To(Equal(plan.VerdictPassed), "%s", r.Reason)
			var want []plan.Object
			for i := range made {
				want = append(want, plan.Object{APIVersion: "v1", Kind: "ConfigMap", Namespace: "default", Name: fmt.Sprintf("drill-late-%04d", i+1)})
			}
			Expect(r.Loss.Objects).To(Equal(want))
			Expect(r.Loss.Reverted).To(BeEmpty())
			Expect(r.Loss.Revived).To(ContainElement(plan.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: "nginx"}))
			Expect(*r.Loss.Revisions).To(BeNumerically(">=", made))
			Expect(*r.Loss.Seconds).To(BeNumerically(">", 0))
		}, SpecTimeout(5*time.Minute))
		Context("with kubelet-stop, typed by hand", Ordered, Label("literal"), turn(1, otherWays), func() {
			follow(play{scenario: scenarios.DeploymentLoss(), procedure: procedure.KubeletStop(), literal: true},
				func() cluster.Cluster { return c })
		})
	})

	Context("on three control planes", Ordered, Label("ha"), func() {
		var c cluster.Cluster
		BeforeAll(func(ctx SpecContext) { c = shared.newCluster(ctx, 3) }, NodeTimeout(15*time.Minute))
		follow(play{scenario: scenarios.DeploymentLoss(), procedure: procedure.KubeletStop(), controlPlanes: 3},
			func() cluster.Cluster { return c })
		killed(procedure.KubeletStop(), func() cluster.Cluster { return c }, []died{{step: "join-etcd", moment: after, down: true, turn: 4}}, resume())
	})
})
