//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// proven runs a drill that passes and returns its name.
func proven(ctx SpecContext, c cluster.Cluster) string {
	GinkgoHelper()
	r := start(runner.Job{Scenario: scenarios.DeploymentLoss(), Procedure: procedure.KubeletStop(), Cluster: c}).run(ctx)
	Expect(r.Verdict).To(Equal(plan.VerdictPassed), "%s", r.Reason)
	return r.ID
}

// beneath returns the run on whose directory etcd runs, if that is settled; else one that is played for it.
func beneath(ctx SpecContext, c cluster.Cluster) string {
	GinkgoHelper()
	cfg, err := controlplane.ReadEtcdConfig(ctx, c.Nodes()[0])
	Expect(err).NotTo(HaveOccurred())
	if id := filepath.Base(filepath.Dir(cfg.HostDataDir)); strings.HasPrefix(cfg.HostDataDir, stage.NodeDirs+"/") {
		if l, err := runner.Find(shared.stateDir, id); err == nil && l.Settled() {
			return id
		}
	}
	return proven(ctx, c)
}

// kept are all files on the node that a cleaning could touch, with size and time, but for those of a running etcd, which change by themselves; and which etcd runs.
func kept(ctx context.Context, n cluster.Node) []string {
	GinkgoHelper()
	files := on(ctx, n, "find", stage.NodeDirs, "/etc/kubernetes", "/var/lib/etcd", "-path", "*/member/*", "-prune", "-o", "-type", "d", "-printf", "%p %m\n", "-o", "-printf", "%p %m %s %T@\n")
	all := append(strings.Split(files, "\n"), on(ctx, n, "crictl", "ps", "--quiet", "--name", "^etcd$"))
	slices.Sort(all)
	return all
}

var _ = Describe("what runs leave", Label("clean"), func() {
	It("is removed when nothing needs it any more, and not before", func(ctx SpecContext) {
		c := shared.oneNode(ctx)
		n := c.Nodes()[0]
		earlier := beneath(ctx, c)
		before := kept(ctx, n)
		s := drill("clean", earlier)
		Eventually(ctx, s).Should(gexec.Exit(1))
		Expect(string(s.Err.Contents())).To(ContainSubstring("what it has left is in use: /var/lib/drill/" + earlier + ": the manifest /etc/kubernetes/manifests/etcd.yaml names it"))
		Expect(string(s.Err.Contents())).To(MatchRegexp("container etcd of pod kube-system/etcd-.* has /var/lib/drill/" + earlier + "/.* mounted"))
		Expect(kept(ctx, n)).To(Equal(before), "the node is not as it was")

		later := proven(ctx, c)
		before = kept(ctx, n)
		s = drill("clean", earlier, later, "-o", "json")
		Eventually(ctx, s).Should(gexec.Exit(1))
		var doc struct {
			Runs []struct {
				ID, Status, Error string
				Items             []runner.Leaving
			}
		}
		Expect(json.Unmarshal(s.Out.Contents(), &doc)).To(Succeed())
		Expect(doc.Runs).To(HaveLen(2))
		Expect(doc.Runs[0].Status).To(Equal("cleaned"), doc.Runs[0].Error)
		Expect(doc.Runs[1].Status).To(Equal("refused"))
		Expect(doc.Runs[1].Items).To(BeEmpty())
		Expect(kept(ctx, n)).To(Equal(slices.DeleteFunc(before, func(line string) bool { return strings.Contains(line, earlier) })), "nothing else")
		for id, is := range map[string]bool{earlier: false, later: true} {
			matcher := BeAnExistingFile()
			if !is {
				matcher = Not(matcher)
			}
			Expect(filepath.Join(runner.Dir(shared.stateDir, id), "snapshot.db")).To(matcher)
			Expect(filepath.Join(runner.Dir(shared.stateDir, id), "report.json")).To(BeAnExistingFile())
		}
		again := drill("clean", earlier, "-o", "json")
		Eventually(ctx, again).Should(gexec.Exit(0))
	}, SpecTimeout(15*time.Minute))
})
