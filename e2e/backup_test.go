//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/stage"
)

// said is what a session printed as JSON.
func said[T any](s *gexec.Session) (doc T) {
	GinkgoHelper()
	Expect(json.Unmarshal(s.Out.Contents(), &doc)).To(Succeed(), "standard output: %s", s.Out.Contents())
	return doc
}

var _ = Describe("a backup of a cluster", Ordered, Label("backups"), func() {
	const namespace = "drill-e2e-backup"
	var (
		c    cluster.Cluster
		n    cluster.Node
		path string
	)
	kubectl := func(ctx SpecContext, args ...string) {
		GinkgoHelper()
		on(ctx, n, append([]string{"kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"}, args...)...)
	}
	BeforeAll(func(ctx SpecContext) {
		c = shared.oneNode(ctx)
		n = c.Nodes()[0]
		path = filepath.Join(GinkgoT().TempDir(), "backup.db")
		kubectl(ctx, "create", "namespace", namespace)
		DeferCleanup(func(ctx SpecContext) { kubectl(ctx, "delete", "namespace", namespace, "--ignore-not-found") }, NodeTimeout(2*time.Minute))
		// What controllers put into every namespace must not come later.
		kubectl(ctx, "-n", namespace, "wait", "--for=create", "--timeout=60s", "configmap/kube-root-ca.crt", "serviceaccount/default")
		for _, name := range []string{"kept", "changed", "gone"} {
			kubectl(ctx, "-n", namespace, "create", "configmap", name, "--from-literal=a=1")
		}
	}, NodeTimeout(10*time.Minute))

	It("is taken, and says what it is of", func(ctx SpecContext) {
		s := drill("snapshot", "save", path, "--cluster", c.Name(), "-o", "json")
		Eventually(ctx, s).Should(gexec.Exit(0))
		saved := said[struct{ KubeSystemUID, SHA256, Endpoint string }](s)
		Expect(saved.KubeSystemUID).To(Equal(on(ctx, n, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}")))
		s = drill("snapshot", "verify", path, "-o", "json")
		Eventually(ctx, s).Should(gexec.Exit(0))
		verified := said[struct {
			Condition string
			Snapshot  struct{ SHA256 string }
			Sidecar   struct{ Endpoint string }
		}](s)
		Expect(verified.Condition).To(Equal("sound"))
		Expect(verified.Snapshot.SHA256).To(Equal(saved.SHA256))
		Expect(verified.Sidecar.Endpoint).To(Equal(saved.Endpoint))
	}, SpecTimeout(specLimit))

	It("is taken with certificates, as etcdctl is given them", func(ctx SpecContext) {
		dir := GinkgoT().TempDir()
		args := []string{"snapshot", "save", filepath.Join(dir, "other.db")}
		for flag, name := range map[string]string{"cacert": "ca.crt", "cert": "healthcheck-client.crt", "key": "healthcheck-client.key"} {
			file := filepath.Join(dir, name)
			Expect(os.WriteFile(file, []byte(on(ctx, n, "cat", "/etc/kubernetes/pki/etcd/"+name)), 0o600)).To(Succeed())
			args = append(args, "--"+flag, file)
		}
		endpoints, err := stage.Endpoints(ctx, c)
		Expect(err).NotTo(HaveOccurred())
		s := drill(append(args, "--endpoints", endpoints[0].URL)...)
		Eventually(ctx, s).Should(gexec.Exit(0))
		Expect(filepath.Join(dir, "other.db.json")).To(BeAnExistingFile())
		// etcd lets in nobody without a certificate.
		s = drill("snapshot", "save", filepath.Join(dir, "third.db"), "--endpoints", endpoints[0].URL, "--cacert", filepath.Join(dir, "ca.crt"))
		Eventually(ctx, s).Should(gexec.Exit(1))
		Expect(filepath.Join(dir, "third.db")).NotTo(BeAnExistingFile())
	}, SpecTimeout(specLimit))

	It("is compared with what the cluster has become", func(ctx SpecContext) {
		diff := func() (d struct {
			SameCluster             bool
			Added, Removed, Changed []struct {
				Object struct{ Kind, Name string }
				Fields []struct{ Path, A, B string }
			}
		}) {
			GinkgoHelper()
			s := drill("snapshot", "diff", path, "--live", "--cluster", c.Name(), "--namespace", namespace, "-o", "json")
			Eventually(ctx, s).Should(gexec.Exit(0))
			Expect(json.Unmarshal(s.Out.Contents(), &d)).To(Succeed())
			return d
		}
		d := diff()
		Expect(d.SameCluster).To(BeTrue())
		Expect(len(d.Added) + len(d.Removed) + len(d.Changed)).To(BeZero())
		kubectl(ctx, "-n", namespace, "create", "configmap", "new", "--from-literal=a=1")
		kubectl(ctx, "-n", namespace, "delete", "configmap", "gone")
		kubectl(ctx, "-n", namespace, "patch", "configmap", "changed", "--patch", `{"data":{"a":"2"}}`)
		d = diff()
		Expect(d.Added).To(HaveLen(1))
		Expect(d.Added[0].Object.Name).To(Equal("new"))
		Expect(d.Removed).To(HaveLen(1))
		Expect(d.Removed[0].Object.Name).To(Equal("gone"))
		Expect(d.Changed).To(HaveLen(1))
		Expect(d.Changed[0].Object.Name).To(Equal("changed"))
		Expect(d.Changed[0].Fields).To(HaveLen(1))
		Expect(d.Changed[0].Fields[0].Path).To(Equal("data.a"))
	}, SpecTimeout(specLimit))

	It("is rehearsed, with an API server of the same version", func(ctx SpecContext) {
		binary := os.Getenv("DRILL_KUBE_APISERVER")
		Expect(binary).NotTo(BeEmpty(), "`go -C hack/nodeimage run . program kube-apiserver` builds one and says where it is")
		expect := filepath.Join(GinkgoT().TempDir(), "expect.yaml")
		Expect(os.WriteFile(expect, []byte("maxAge: 1h\nobjects: [{apiVersion: v1, kind: ConfigMap, namespace: "+namespace+", name: gone, fields: {data.a: '1'}}]\n"), 0o600)).To(Succeed())
		// Others are told of the folder that run elsewhere.
		here, err := os.Getwd()
		Expect(err).NotTo(HaveOccurred())
		scratch, err := filepath.Rel(here, GinkgoT().TempDir())
		Expect(err).NotTo(HaveOccurred())
		s := drill("rehearse", path, "--apiserver="+binary, "--expect", expect, "--scratch-dir", scratch, "-o", "json")
		Eventually(ctx, s).Should(gexec.Exit(0))
		r := said[struct {
			Verdict string
			Checks  []struct{ Name, Status, Detail string }
		}](s)
		Expect(r.Verdict).To(Equal("passed"))
		for _, check := range r.Checks {
			if check.Name != "objects-decrypted" {
				Expect(check.Status).To(Equal("passed"), "%+v", check)
			}
		}
	}, SpecTimeout(specLimit))
})
