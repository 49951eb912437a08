//go:build e2e

package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/scenarios"
)

// swapping is the procedure in the mode in which no manifest changes.
func swapping(p procedure.Procedure) procedure.Procedure {
	GinkgoHelper()
	p, err := p.In(procedure.DataDirSwap)
	Expect(err).NotTo(HaveOccurred())
	return p
}

// manifests are what etcd's manifests hold, by node, and where they say that its data is.
func manifests(ctx context.Context, c cluster.Cluster) (texts, dirs map[string]string) {
	GinkgoHelper()
	texts, dirs = map[string]string{}, map[string]string{}
	for _, n := range cluster.ControlPlanes(c) {
		b, err := n.ReadFile(ctx, controlplane.ManifestDir+"/etcd.yaml")
		Expect(err).NotTo(HaveOccurred())
		cfg, err := controlplane.ParseEtcdManifest(b)
		Expect(err).NotTo(HaveOccurred())
		texts[n.Name()], dirs[n.Name()] = string(b), cfg.HostDataDir
	}
	return texts, dirs
}

var _ = Describe("a data directory that is swapped", Ordered, ContinueOnFailure, Label("swap"), func() {
	var c cluster.Cluster
	BeforeAll(func(ctx SpecContext) { c = shared.oneNode(ctx) }, NodeTimeout(10*time.Minute))

	It("is proven to be the one that etcd runs on, though no manifest has changed", Label("single"), func(ctx SpecContext) {
		before, _ := manifests(ctx, c)
		r := start(runner.Job{Scenario: scenarios.DeploymentLoss(), Procedure: swapping(procedure.KubeletStop()), Cluster: c}).run(ctx)
		Expect(r.Verdict).To(Equal(plan.VerdictPassed), "%s", r.Reason)
		Expect(r.Variant.DataDirMode).To(Equal("swap"))
		measured(r)
		for _, check := range r.Checks {
			if check.Name == "no-drift" || check.Name == "control-plane-renewed" {
				Expect(check.Status).To(Equal(plan.StatusPassed), check.Detail)
			}
		}
		after, _ := manifests(ctx, c)
		Expect(after).To(Equal(before))
	}, SpecTimeout(10*time.Minute))

	// between takes a run down to where a power cut between the two renames leaves it: killed when everything has ended, and the old directory moved aside.
	killed := died{step: "stop-control-plane", moment: after, down: true}
	between := func(ctx SpecContext) (id string, unchanged map[string]string) {
		GinkgoHelper()
		before, dirs := manifests(ctx, c)
		id = here().die(ctx, c.Name(), swapping(procedure.KubeletStop()), killed)
		for _, n := range cluster.ControlPlanes(c) {
			dir := "/var/lib/drill/" + id
			_, err := cluster.Run(ctx, n, "mv", "-T", dirs[n.Name()], dir+"/etcd-before")
			Expect(err).NotTo(HaveOccurred())
		}
		return id, before
	}
	It("is put back when the run was killed between the two renames", Label("crashes"), crashing(5), func(ctx SpecContext) {
		id, before := between(ctx)
		here().takes(ctx, rollback(), killed, id)
		after, _ := manifests(ctx, c)
		Expect(after).To(Equal(before))
	}, SpecTimeout(20*time.Minute))

	It("is resumed when the run was killed between the two renames", Label("crashes", "crash"), func(ctx SpecContext) {
		id, before := between(ctx)
		here().takes(ctx, resume(), killed, id)
		after, _ := manifests(ctx, c)
		Expect(after).To(Equal(before))
	}, SpecTimeout(20*time.Minute))

	It("is put back when kubelet has started etcd on nothing between the two renames, as after a restart of the node", Label("crashes", "crash"), func(ctx SpecContext) {
		id, _ := between(ctx)
		_, dirs := manifests(ctx, c)
		for _, n := range cluster.ControlPlanes(c) {
			_, err := cluster.Run(ctx, n, "systemctl", "start", "kubelet")
			Expect(err).NotTo(HaveOccurred())
			Eventually(ctx, func() error {
				_, err := cluster.Run(ctx, n, "test", "-e", dirs[n.Name()]+"/member/snap/db")
				return err
			}).WithTimeout(3 * time.Minute).Should(Succeed())
		}
		here().takes(ctx, rollback(), killed, id)
		for _, n := range cluster.ControlPlanes(c) {
			_, err := cluster.Run(ctx, n, "test", "-d", "/var/lib/drill/"+id+"/etcd-given-up/member")
			Expect(err).NotTo(HaveOccurred(), "what kubelet has made is kept")
		}
	}, SpecTimeout(20*time.Minute))
})
