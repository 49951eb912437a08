//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/proof"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
)

// drill starts the binary in a process group of its own, as a shell does.
func drill(args ...string) *gexec.Session {
	GinkgoHelper()
	return here().drill(args...)
}

// place is where drill is started.
type place struct {
	// stateHome is where it keeps state, as on a machine of its own.
	stateHome string
	// by is a command that starts it, and env are variables that it is given, where it is to find another container engine than the one that all specs share.
	by, env []string
}

// here is where the specs start it that need no other place.
func here() place { return place{stateHome: shared.stateHome} }

// command is a command as it is started there.
func (p place) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := slices.Concat(p.by, []string{name}, args)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = slices.Concat(os.Environ(), []string{"XDG_STATE_HOME=" + p.stateHome, "KUBECONFIG=" + filepath.Join(p.stateHome, "untouched")}, p.env)
	return cmd
}

func (p place) drill(args ...string) *gexec.Session {
	GinkgoHelper()
	cmd := p.command(context.Background(), shared.binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	return s
}

// stateDir is drill's state directory there.
func (p place) stateDir() string { return filepath.Join(p.stateHome, "drill") }

// document reads what the session printed as a report.
func document(s *gexec.Session) report.Document {
	GinkgoHelper()
	var doc report.Document
	dec := json.NewDecoder(bytes.NewReader(s.Out.Contents()))
	dec.DisallowUnknownFields()
	Expect(dec.Decode(&doc)).To(Succeed(), "standard output: %s", s.Out.Contents())
	Expect(dec.More()).To(BeFalse(), "standard output holds the document alone")
	return doc
}

// clusters are the names of those that drill knows to be its own.
func clusters(ctx SpecContext) []string {
	GinkgoHelper()
	infos, err := shared.provider.List(ctx)
	Expect(err).NotTo(HaveOccurred())
	var names []string
	for _, i := range infos {
		if i.Ours {
			names = append(names, i.Name)
		}
	}
	return names
}

// interruptions is how many specs there are of drills that are interrupted, each with a cluster of its own.
const interruptions = 3

var _ = Describe("the command line", Label("cli"), func() {
	It("runs a drill on a cluster of its own and reports it", func(ctx SpecContext) {
		before := clusters(ctx)
		dir := filepath.Join(GinkgoT().TempDir(), "report")
		s := drill("run", "deployment-loss", "-o", "json", "--report-dir", dir)
		Eventually(ctx, s).Should(gexec.Exit(0))

		doc := document(s)
		Expect(doc.Runs).To(HaveLen(1))
		Expect(doc.Runs[0].Verdict).To(Equal(plan.VerdictPassed), "%s", doc.Runs[0].Reason)
		Expect(doc.Runs[0].Warnings).To(BeEmpty())
		var checks []string
		for _, c := range doc.Runs[0].Checks {
			checks = append(checks, c.Name+" "+string(c.Status))
		}
		var want []string
		for _, c := range proof.Checks(&proof.Subject{}) {
			want = append(want, c.Name+" passed")
		}
		Expect(checks).To(Equal(want))
		for _, name := range []string{"report.json", "junit.xml", "metrics.prom"} {
			Expect(filepath.Join(dir, name)).To(BeAnExistingFile())
		}
		Expect(clusters(ctx)).To(Equal(before), "the cluster of the run is gone")
		Expect(filepath.Join(shared.stateHome, "untouched")).NotTo(BeAnExistingFile(), "the user's kubeconfig")
	}, SpecTimeout(10*time.Minute))

	It("refuses a second drill on a cluster while one is at work there", func(ctx SpecContext) {
		c := shared.oneNode(ctx)
		first := drill("run", "deployment-loss", "--cluster", c.Name())
		Eventually(ctx, first.Out).Should(gbytes.Say("ok .* save-snapshot"))
		second := drill("run", "deployment-loss", "--cluster", c.Name(), "-o", "json")
		Eventually(ctx, second).Should(gexec.Exit(1))
		Expect(first.ExitCode()).To(Equal(-1), "the first one has ended by now")
		r := document(second).Runs[0]
		Expect(r.Verdict).To(Equal(plan.VerdictBroken))
		Expect(r.Steps).To(BeEmpty())
		said := regexp.MustCompile(`^cluster (\S+) is being drilled by run (\S+): process (\d+) on .*; it is at work: `).FindStringSubmatch(r.Reason)
		Expect(said).To(HaveLen(4), "%s", r.Reason)
		Expect(said[1]).To(Equal(c.Name()))
		Expect(said[3]).To(Equal(strconv.Itoa(first.Command.Process.Pid)))

		Eventually(ctx, first).Should(gexec.Exit(0))
		Expect(filepath.Join(runner.Dir(here().stateDir(), said[2]), "report.json")).To(BeAnExistingFile(), "the first one is told by its name")
	}, SpecTimeout(10*time.Minute))

	DescribeTable("deletes its cluster when it is interrupted",
		func(ctx SpecContext, moment string, args ...string) {
			before := clusters(ctx)
			s := drill(args...)
			Eventually(ctx, s.Out).Should(gbytes.Say(moment))
			// As a terminal does it: the whole group gets the signal.
			Expect(syscall.Kill(-s.Command.Process.Pid, syscall.SIGINT)).To(Succeed())
			Eventually(ctx, s).Should(gexec.Exit(130))
			Expect(clusters(ctx)).To(Equal(before))
		},
		Entry("while the workload comes up", turn(0, interruptions), "ok .* create cluster", "run", "deployment-loss", SpecTimeout(8*time.Minute)),
		Entry("while it proves", turn(1, interruptions), "ok .* wait-kube-scheduler", "run", "deployment-loss", SpecTimeout(8*time.Minute)),
		Entry("in the outage of a comparison", turn(2, interruptions), "ok .* wait-.*-gone", "compare", "deployment-loss", "--procedures", "manifest-move", SpecTimeout(8*time.Minute)),
	)

	It("deletes what there is of its cluster when it is interrupted while making it", func(ctx SpecContext) {
		before := clusters(ctx)
		s := drill("run", "deployment-loss", "-o", "json")
		Eventually(ctx, func() []string { return clusters(ctx) }).WithPolling(100 * time.Millisecond).ShouldNot(Equal(before))
		Expect(syscall.Kill(-s.Command.Process.Pid, syscall.SIGINT)).To(Succeed())
		Eventually(ctx, s).Should(gexec.Exit(130))
		Expect(document(s).Runs[0].Verdict).To(Equal(plan.VerdictInterrupted))
		Expect(clusters(ctx)).To(Equal(before))
	}, SpecTimeout(8*time.Minute))
})
