//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// backUp takes a snapshot on the node as an operator does, with the etcdctl of the running etcd, and fetches it.
func backUp(ctx context.Context, n cluster.Node) string {
	GinkgoHelper()
	const there = "/root/drill-e2e-backup.db"
	cfg, err := controlplane.ReadEtcdConfig(ctx, n)
	Expect(err).NotTo(HaveOccurred())
	save := cfg.Etcdctl("snapshot", "save", there)
	save[0] = "/proc/" + on(ctx, n, "pidof", "-s", controlplane.Etcd) + "/root/usr/local/bin/" + save[0]
	on(ctx, n, save...)
	here := filepath.Join(GinkgoT().TempDir(), "backup.db")
	f, err := os.OpenFile(here, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	Expect(err).NotTo(HaveOccurred())
	_, err = n.Exec(ctx, cluster.Cmd{Argv: []string{"cat", there}, Stdout: f})
	Expect(err).NotTo(HaveOccurred())
	Expect(f.Close()).To(Succeed())
	on(ctx, n, "rm", there)
	return here
}

// stranger is a snapshot of another cluster: of an etcd that has nothing but a namespace kube-system.
func stranger(ctx context.Context) string {
	GinkgoHelper()
	t := GinkgoTB()
	server := etcdtest.Serve(t, t.TempDir(), nil)
	defer server.Stop()
	_, err := server.Client.Put(ctx, "/registry/namespaces/kube-system",
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"kube-system","uid":"0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"}}`)
	Expect(err).NotTo(HaveOccurred())
	path := filepath.Join(t.TempDir(), "vault", "stranger.db")
	_, err = etcd.Save(ctx, server.Endpoint, path)
	Expect(err).NotTo(HaveOccurred())
	return path
}

var _ = Describe("a snapshot that was given", Ordered, Label("given"), func() {
	var (
		c      cluster.Cluster
		n      cluster.Node
		backup string
	)
	BeforeAll(func(ctx SpecContext) {
		c = shared.oneNode(ctx)
		n = c.Nodes()[0]
		backup = backUp(ctx, n)
	}, NodeTimeout(10*time.Minute))

	drill := func(ctx SpecContext, path string) (plan.Verdict, string) {
		r := start(runner.Job{Scenario: scenarios.DeploymentLoss(), Procedure: procedure.KubeletStop(), Cluster: c, Snapshot: &stage.Snapshot{Path: path}}).run(ctx)
		return r.Verdict, r.Reason
	}
	DescribeTable("is refused before anything is touched",
		func(ctx SpecContext, make func(ctx context.Context) string, reasons ...string) {
			path := make(ctx)
			content, err := os.ReadFile(path)
			Expect(err).NotTo(HaveOccurred())
			objects := func() string {
				return on(ctx, n, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--namespace=default", "get", "all,configmaps,secrets", "--output=name")
			}
			node, api := fingerprint(ctx, n), objects()
			verdict, reason := drill(ctx, path)
			Expect(verdict).To(Equal(plan.VerdictBroken), reason)
			for _, want := range append(reasons, "nothing was touched", "; hint: ") {
				Expect(reason).To(ContainSubstring(want))
			}
			Expect(fingerprint(ctx, n)).To(Equal(node), "the node is not as it was")
			Expect(objects()).To(Equal(api))
			Expect(os.ReadFile(path)).To(Equal(content))
		},
		Entry("when it is damaged", func(context.Context) string {
			content, err := os.ReadFile(backup)
			Expect(err).NotTo(HaveOccurred())
			content[len(content)/2] ^= 1
			path := filepath.Join(GinkgoT().TempDir(), "damaged.db")
			Expect(os.WriteFile(path, content, 0o600)).To(Succeed())
			return path
		}, etcd.ErrTrailerMismatch.Error(), SpecTimeout(specLimit)),
		Entry("when it is another cluster's", stranger, "is of another cluster", "UID 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "--other-cluster", SpecTimeout(specLimit)),
		Entry("when a newer etcd made it", func(context.Context) string { return etcdtest.Newer(GinkgoTB(), backup) }, etcd.ErrNewer.Error(), "3.99.0", SpecTimeout(specLimit)),
	)

	It("is restored, and all is proven that it can show", func(ctx SpecContext) {
		content, err := os.ReadFile(backup)
		Expect(err).NotTo(HaveOccurred())
		r := start(runner.Job{Scenario: scenarios.DeploymentLoss(), Procedure: procedure.KubeletStop(), Cluster: c, Snapshot: &stage.Snapshot{Path: backup}}).run(ctx)
		Expect(r.Verdict).To(Equal(plan.VerdictPassed), "%s", r.Reason)
		for _, check := range r.Checks {
			want := plan.StatusPassed
			if slices.Contains([]string{"objects-restored", "service-answers"}, check.Name) {
				want = plan.StatusSkipped
			}
			Expect(check.Status).To(Equal(want), fmt.Sprintf("%+v", check))
		}
		Expect(r.Snapshot.Source).To(Equal(backup))
		Expect(r.Outage.NotAsked).To(Equal([]string{"work", "service"}))
		Expect(r.Outage.ReadSeconds).NotTo(BeNil())
		Expect(r.Outage.ServiceSeconds).To(BeNil())
		Expect(*r.Loss.Seconds).To(BeNumerically(">", 0))
		Expect(r.Loss.Objects).To(ContainElement(plan.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: "nginx"}))
		Expect(os.ReadFile(backup)).To(Equal(content))
	}, SpecTimeout(specLimit))
})
