//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// moment is when a drill is killed.
type moment string

// The two moments of a step between which lies all that it does: the journal says that it begins, and nothing was done yet; and all was done, and the journal doesn't say so. That
// it has ended and the next one begins is the first moment of that one.
const (
	before moment = "before"
	after  moment = "after"
)

// doomed is a run in a process of its own, which kills itself.
type doomed struct {
	ID, Cluster, StateDir, Procedure string
	Worker                           []string
	Step                             string
	Moment                           moment
}

// doomedVariable holds a doomed in JSON, for the process that is to play it.
const doomedVariable = "DRILL_E2E_DOOMED"

// TestMain makes the test binary the process that is killed, when it is called as such.
func TestMain(m *testing.M) {
	if text := os.Getenv(doomedVariable); text != "" {
		fmt.Fprintln(os.Stderr, "a run that was to be killed came to its end:", playDoomed(context.Background(), text))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func playDoomed(ctx context.Context, text string) error {
	var d doomed
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return err
	}
	provider, err := kind.New(ctx, kind.Options{StateDir: d.StateDir})
	if err != nil {
		return err
	}
	c, err := provider.Attach(ctx, d.Cluster)
	if err != nil {
		return err
	}
	die := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	job := runner.Job{
		ID: d.ID, Scenario: scenarios.DeploymentLoss(), Procedure: procedureOf(d.Procedure), Cluster: c, StateDir: d.StateDir,
		Worker: etcd.Worker{Command: d.Worker}, OutageLimit: patience,
		Observers: []plan.Observer{plan.ObserverFunc(func(e plan.Event) {
			switch e := e.(type) {
			case plan.StepStarted:
				if e.Step.Name == d.Step && d.Moment == before {
					die()
				}
			case plan.StepFinished:
				if e.Step.Name == d.Step && d.Moment == after {
					die()
				}
			}
		})},
	}
	r, err := job.Run(ctx)
	return fmt.Errorf("%s: %s, %w", r.Verdict, r.Reason, err)
}

func procedureOf(name string) procedure.Procedure {
	i := slices.IndexFunc(procedure.All(), func(p procedure.Procedure) bool { return p.Name == name })
	return procedure.All()[i]
}

// kill begins a run and waits until it has killed itself.
func kill(ctx SpecContext, d doomed) {
	GinkgoHelper()
	text, err := json.Marshal(d)
	Expect(err).NotTo(HaveOccurred())
	self, err := os.Executable()
	Expect(err).NotTo(HaveOccurred())
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), doomedVariable+"="+string(text))
	s, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	Eventually(ctx, s).Should(gexec.Exit())
	status, ok := s.Command.ProcessState.Sys().(syscall.WaitStatus)
	Expect(ok && status.Signaled() && status.Signal() == syscall.SIGKILL).To(BeTrue(), "it ended with %v", s.Command.ProcessState)
}

// died is one case of the suite.
type died struct {
	step   string
	moment moment
	// sample says that it is played with all the other specs, and not only in the suite of its own.
	sample bool
}

// deaths are both moments of every step of the procedure's plan.
func deaths(p procedure.Procedure, sample ...died) []died {
	var out []died
	for _, s := range scenarios.Plan(scenarios.DeploymentLoss(), p, stage.Textbook("any", p, "")).Steps {
		for _, m := range []moment{before, after} {
			d := died{step: s.Name, moment: m}
			d.sample = slices.Contains(sample, d)
			out = append(out, d)
		}
	}
	return out
}

func doomedOn(c cluster.Cluster, p procedure.Procedure, d died) doomed {
	return doomed{
		ID: runner.NewID(time.Now()), Cluster: c.Name(), StateDir: shared.stateDir, Procedure: p.Name, Worker: shared.worker().Command, Step: d.step, Moment: d.moment,
	}
}

// killed makes specs of what is done about runs that were killed, for each of the cases.
func killed(p procedure.Procedure, on func() cluster.Cluster, cases []died, command string, as func(SpecContext, report.Run)) {
	for _, d := range cases {
		labels := Label("crash")
		if d.sample {
			labels = Label("crash", "sample")
		}
		It(fmt.Sprintf("%s: killed %s %s", command, d.moment, d.step), labels, func(ctx SpecContext) {
			doom := doomedOn(on(), p, d)
			kill(ctx, doom)
			refused := drill("run", "deployment-loss", "--cluster", on().Name(), "-o", "json")
			Eventually(ctx, refused).Should(gexec.Exit(1))
			Expect(document(refused).Runs[0].Reason).To(ContainSubstring("run " + doom.ID + ": process "))

			s := drill(command, doom.ID, "-o", "json")
			Eventually(ctx, s).Should(gexec.Exit(0))
			as(ctx, document(s).Runs[0])
			Expect(filepath.Join(runner.Dir(shared.stateDir, doom.ID), "report.json")).To(BeAnExistingFile())

			again := drill(command, doom.ID)
			Eventually(ctx, again).Should(gexec.Exit(0))
			Expect(string(again.Out.Contents())).To(ContainSubstring("there is nothing to do"))
		}, SpecTimeout(20*time.Minute))
	}
}

// carriedOn is what a run must be that was carried on: proven, but for what only the process could know that was killed.
func carriedOn(_ SpecContext, r report.Run) {
	GinkgoHelper()
	Expect(r.Verdict).To(Equal(plan.VerdictPassed), r.Reason)
	Expect(r.Resumed).To(Equal(1))
	for _, c := range r.Checks {
		if c.Status == plan.StatusSkipped {
			Expect(c.Name).To(Equal("watches-honest"), c.Detail)
		}
	}
}

// undone is what a run must be that was put back: proven to be, if it had changed anything.
func undone(_ SpecContext, r report.Run) {
	GinkgoHelper()
	Expect(r.Verdict).To(Equal(plan.VerdictInterrupted))
	Expect(r.Rollback).To(BeElementOf(plan.StatusPassed, plan.Status("")))
	if r.Rollback == plan.StatusPassed {
		Expect(r.RollbackChecks).NotTo(BeEmpty())
	}
	for _, c := range r.RollbackChecks {
		Expect(c.Status).To(Equal(plan.StatusPassed), "%s: %s", c.Name, c.Detail)
	}
}

var _ = Describe("a drill that is killed", Label("crashes"), func() {
	for _, where := range []struct {
		label         string
		controlPlanes int
		resumed, back []died
	}{
		{"single", 1,
			[]died{{step: "save-snapshot", moment: after}, {step: "swap-manifest", moment: after}},
			[]died{{step: "start-kubelet", moment: after}}},
		{"ha", 3, nil, nil},
	} {
		p := procedure.KubeletStop()
		Context(fmt.Sprintf("on %d control planes", where.controlPlanes), Ordered, ContinueOnFailure, Label(where.label), func() {
			var c cluster.Cluster
			BeforeAll(func(ctx SpecContext) {
				if where.controlPlanes == 1 {
					c = shared.oneNode(ctx)
				} else {
					c = shared.newCluster(ctx, where.controlPlanes)
				}
			}, NodeTimeout(15*time.Minute))
			killed(p, func() cluster.Cluster { return c }, deaths(p, where.resumed...), "resume", carriedOn)
			killed(p, func() cluster.Cluster { return c }, deaths(p, where.back...), "rollback", undone)

			It("rollback: from another machine, with nothing but the cluster", Label("crash"), func(ctx SpecContext) {
				doom := doomedOn(c, p, died{step: "stop-control-plane", moment: after})
				kill(ctx, doom)
				elsewhere := GinkgoT().TempDir()
				s := drillIn(elsewhere, "rollback", doom.ID, "--cluster", c.Name(), "-o", "json")
				Eventually(ctx, s).Should(gexec.Exit(0))
				undone(ctx, document(s).Runs[0])
			}, SpecTimeout(20*time.Minute))
		})
	}
})
