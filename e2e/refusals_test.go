//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os/exec"
	"path"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// on runs a command on the node, which must succeed, and returns what it printed.
func on(ctx context.Context, n cluster.Node, argv ...string) string {
	GinkgoHelper()
	out, err := cluster.Run(ctx, n, argv...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// fingerprint is all on the node that a run could change: each file of the control plane, of etcd and of earlier drills, with its size and time, but for those
// of a running etcd, which change by themselves; and which containers and which kubelet run.
func fingerprint(ctx context.Context, n cluster.Node) string {
	GinkgoHelper()
	find := []string{"find", "/etc/kubernetes", "/var/lib", "("} // /var/lib/drill need not exist
	for _, busy := range []string{"/var/lib/kubelet", "/var/lib/containerd", "/var/lib/systemd"} {
		find = append(find, "-path", busy, "-o")
	}
	find = append(find, "-path", "*/member", ")", "-prune", "-printf", "%p\n", "-o", "-printf", "%p %y %m %s %T@\n")
	return strings.Join([]string{
		on(ctx, n, find...),
		on(ctx, n, "crictl", "ps", "--quiet"),
		on(ctx, n, "systemctl", "show", "kubelet", "--property=MainPID,ActiveState"),
		on(ctx, n, "find", "/usr/local/bin", "-printf", "%p %s\n"),
	}, "\n---\n")
}

// outdated is the certificate with its key and its names, but long past its time, and signed by nobody.
func outdated(content []byte) []byte {
	GinkgoHelper()
	block, _ := pem.Decode(content)
	Expect(block).NotTo(BeNil())
	c, err := x509.ParseCertificate(block.Bytes)
	Expect(err).NotTo(HaveOccurred())
	c.NotBefore, c.NotAfter = time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-1, 0, 0)
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	c.SignatureAlgorithm = x509.ECDSAWithSHA256
	der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{Subject: c.Issuer}, c.PublicKey, signer)
	Expect(err).NotTo(HaveOccurred())
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// specLimit is long, since the first spec's time is also that in which the cluster is made.
const specLimit = 10 * time.Minute

var _ = Describe("a run that must not begin", Ordered, ContinueOnFailure, Label("refusals"), func() {
	var (
		c cluster.Cluster
		n cluster.Node
	)
	BeforeAll(func(ctx SpecContext) {
		c = shared.newCluster(ctx, 1)
		n = c.Nodes()[0]
	}, NodeTimeout(10*time.Minute))

	// refused runs a drill and makes sure that it is broken for these reasons, and that nothing happened on the node. What is done around the run, and
	// not between it and the looks at the node, is left to around.
	refused := func(ctx SpecContext, around func(run func()), reasons ...string) {
		GinkgoHelper()
		before := fingerprint(ctx, n)
		around(func() {
			GinkgoHelper()
			r := start(runner.Job{Scenario: scenarios.DeploymentLoss(), Procedure: procedure.KubeletStop(), Cluster: c}).run(ctx)
			GinkgoWriter.Printf("after %.2f s: %s\n", r.Seconds, r.Reason)
			Expect(r.Verdict).To(Equal(plan.VerdictBroken), "%s", r.Reason)
			Expect(r.Steps).To(BeEmpty())
			for _, want := range append(reasons, "nothing was touched", "node "+n.Name()+": ", "; hint: ") {
				Expect(r.Reason).To(ContainSubstring(want))
			}
		})
		Expect(fingerprint(ctx, n)).To(Equal(before), "the node is not as it was")
	}
	alone := func(run func()) { run() }

	It("is told that a certificate has expired", func(ctx SpecContext) {
		const file = "/etc/kubernetes/pki/apiserver-etcd-client.crt"
		good, err := n.ReadFile(ctx, file)
		Expect(err).NotTo(HaveOccurred())
		Expect(n.WriteFile(ctx, file, 0o644, strings.NewReader(string(outdated(good))))).To(Succeed())
		DeferCleanup(func(ctx SpecContext) {
			Expect(n.WriteFile(ctx, file, 0o644, strings.NewReader(string(good)))).To(Succeed())
		})
		refused(ctx, alone, "the API server's certificate towards etcd ("+file+") expired at ", "kubeadm certs renew all")
	}, SpecTimeout(specLimit))

	It("is told that kubelet is stopped", func(ctx SpecContext) {
		on(ctx, n, "systemctl", "stop", "kubelet")
		DeferCleanup(func(ctx SpecContext) { on(ctx, n, "systemctl", "start", "kubelet") })
		refused(ctx, alone, "LoadState=loaded, ActiveState=inactive", "systemctl enable --now kubelet")
	}, SpecTimeout(specLimit))

	It("is told that a copy of etcd's manifest lies beside it", func(ctx SpecContext) {
		const manifest = controlplane.ManifestDir + "/etcd.yaml"
		on(ctx, n, "systemctl", "stop", "kubelet") // it would end etcd
		DeferCleanup(func(ctx SpecContext) { on(ctx, n, "systemctl", "start", "kubelet") })
		on(ctx, n, "cp", manifest, manifest+".bak")
		DeferCleanup(func(ctx SpecContext) { on(ctx, n, "rm", manifest+".bak") })
		refused(ctx, alone, "for 2 reasons", manifest+".bak on "+n.Name()+": expected one manifest of pod kube-system/etcd, "+manifest, "move what doesn't belong there out of ")
	}, SpecTimeout(specLimit))

	It("is told that the disk is too full", func(ctx SpecContext) {
		const dir = "/var/lib/drill"
		cfg, err := controlplane.ReadEtcdConfig(ctx, n)
		Expect(err).NotTo(HaveOccurred())
		Expect(cfg.HostDataDir).NotTo(HavePrefix(dir), "the cluster is a fresh one; the mount would hide etcd's data")
		on(ctx, n, "mkdir", "-p", dir)
		on(ctx, n, "mount", "-t", "tmpfs", "-o", "size=8m", "drill-e2e", dir)
		DeferCleanup(func(ctx SpecContext) { on(ctx, n, "umount", dir) })
		refused(ctx, alone, "its disk is too full: seen: 8 MiB free on "+dir)
	}, SpecTimeout(specLimit))

	It("is told that another etcd runs", func(ctx SpecContext) {
		// What counts is its name; this one can do no harm.
		const unit, dir = "drill-e2e-etcd", "/usr/local/lib/drill-e2e"
		on(ctx, n, "mkdir", "-p", dir)
		on(ctx, n, "cp", "/bin/sleep", dir+"/"+controlplane.Etcd)
		on(ctx, n, "systemd-run", "--unit="+unit, "--property=Type=exec", path.Join(dir, controlplane.Etcd), "300")
		DeferCleanup(func(ctx SpecContext) {
			on(ctx, n, "systemctl", "stop", unit)
			on(ctx, n, "rm", "-r", dir)
		})
		refused(ctx, alone, "an etcd runs there that is no static pod's", unit+".service")
	}, SpecTimeout(specLimit))

	It("is told that the API server stores elsewhere, and of all else that is wrong", func(ctx SpecContext) {
		// Of the manifest only the copy that the drill reads is changed: kubelet would act upon the file.
		elsewhere := edited{Node: n, file: path.Join(controlplane.ManifestDir, controlplane.APIServer+".yaml"), old: "--etcd-servers=https://127.0.0.1:2379", with: "--etcd-servers=https://192.0.2.7:2379"}
		given := c
		c = instead{Cluster: given, node: elsewhere}
		DeferCleanup(func() { c = given })
		on(ctx, n, "systemctl", "stop", "kubelet")
		DeferCleanup(func(ctx SpecContext) { on(ctx, n, "systemctl", "start", "kubelet") })
		refused(ctx, alone, "for 2 reasons", "its API server stores in another etcd: seen: --etcd-servers=https://192.0.2.7:2379", "LoadState=loaded, ActiveState=inactive")
	}, SpecTimeout(specLimit))

	It("is told that the node can't be reached", func(ctx SpecContext) {
		engine := func(verb string) {
			GinkgoHelper()
			out, err := exec.CommandContext(ctx, shared.provider.Engine().Name, verb, n.Name()).CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s", out)
		}
		refused(ctx, func(run func()) {
			engine("pause")
			defer engine("unpause")
			run()
		}, "it can't be reached")
	}, SpecTimeout(specLimit))

	It("has begun soon after on a sound cluster", func(ctx SpecContext) {
		before := fingerprint(ctx, n)
		began := time.Now()
		_, err := stage.Set(ctx, c, procedure.KubeletStop(), stage.Options{RunID: runner.NewID(began), Dir: GinkgoT().TempDir(), Worker: shared.worker()})
		took := time.Since(began)
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("setting the stage", took.String(), ReportEntryVisibilityAlways)
		Expect(fingerprint(ctx, n)).To(Equal(before), "the node is not as it was")
	}, SpecTimeout(specLimit))
})

// instead is a cluster of another node.
type instead struct {
	cluster.Cluster
	node cluster.Node
}

func (i instead) Nodes() []cluster.Node { return []cluster.Node{i.node} }

// edited is a node on which a file reads otherwise than it is.
type edited struct {
	cluster.Node
	file, old, with string
}

func (e edited) ReadFile(ctx context.Context, file string) ([]byte, error) {
	b, err := e.Node.ReadFile(ctx, file)
	if file == e.file {
		b = []byte(strings.ReplaceAll(string(b), e.old, e.with))
	}
	return b, err
}
