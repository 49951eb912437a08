//go:build e2e

package e2e

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// died is one case of the suite.
type died struct {
	step   string
	moment moment
	// down says that the control plane had been taken down by then, as far as the journal can tell.
	down bool
	// takenUp says that the run had been killed before, in its outage, and that it was taken up with this command when it was killed as said here.
	takenUp string
	// inPlace says that the directory of that rollback was in place by then: etcd may have been written to on it, so what it holds can't be held against the old one any more.
	inPlace bool
	// turn is the number of one that takes turns with others in `make test`, from 1 on, see crashing; 0 is for the suite of its own alone.
	turn int
}

// crashTurns is of how many specs of crashes and of what is given up it is one's turn: each is a drill or two.
const crashTurns = 3

// crashing are the labels of the spec of a crash with a number.
func crashing(number int) Labels {
	if number == 0 {
		return Label("crash")
	}
	return append(Label("crash"), turn(number, crashTurns)...)
}

// again says in the name of a spec what had become of the run before.
func (d died) again() string {
	if d.takenUp == "" {
		return ""
	}
	return " once more, at its " + d.takenUp + ","
}

// takeUp is a way to take up a run that was killed, and what must come of it.
type takeUp struct {
	// command is the command line's, and done the word for what it did.
	command, done string
	// status is what it exits with.
	status int
	as     func(died, report.Run)
}

// deaths are both moments of every step of the procedure's plan, and the midst of those that send what may arrive in part.
func deaths(p procedure.Procedure, controlPlanes int, numbered ...died) []died {
	var out []died
	down := false
	for _, s := range scenarios.Plan(scenarios.DeploymentLoss(), p, textbook(p, controlPlanes)).Steps {
		down = down || s.Outage
		for _, m := range momentsOf(s) {
			d := died{step: s.Name, moment: m, down: down}
			if i := slices.IndexFunc(numbered, func(n died) bool { return n.step == d.step && n.moment == d.moment }); i >= 0 {
				d.turn = numbered[i].turn
			}
			out = append(out, d)
		}
	}
	return out
}

// deathsAtTheEnd come after the last step, when a check is about to make something on the cluster or has; and once more when the run had been killed before.
func deathsAtTheEnd() []died {
	const altering = "new-work-runs"
	return []died{
		{step: altering, moment: before, down: true}, {step: altering, moment: after, down: true},
		{step: "start-kubelet", moment: after, down: true, takenUp: "resume"},
	}
}

// deathsUndoing are those of its rollback.
func deathsUndoing(p procedure.Procedure, controlPlanes int) []died {
	var out []died
	inPlace := false
	for _, s := range scenarios.Plan(scenarios.DeploymentLoss(), p, textbook(p, controlPlanes)).Rollback {
		for _, m := range momentsOf(s) {
			inPlace = inPlace || (s.Name == "rollback-swap-manifest" || s.Name == "rollback-swap-data-dir") && m == after
			out = append(out, died{step: s.Name, moment: m, down: true, takenUp: "rollback", inPlace: inPlace})
		}
	}
	return out
}

func momentsOf(s plan.Step) []moment {
	if slices.Contains([]string{"restore-snapshot", "prepare-manifest", "rollback-restore-old", "rollback-swap-manifest"}, s.Name) {
		return []moment{before, midst, after}
	}
	return []moment{before, after}
}

func (p place) doomedOn(cluster string, by procedure.Procedure, d died) doomed {
	return doomed{
		ID: runner.NewID(time.Now()), Cluster: cluster, StateDir: p.stateDir(), Procedure: by.Name, Mode: by.DataDirMode(), Worker: shared.worker().Command, Step: d.step, Moment: d.moment,
	}
}

// die begins a run that is killed as the case says, and returns its name. Where it was taken up before that, it had been killed in its outage.
func (p place) die(ctx SpecContext, cluster string, by procedure.Procedure, d died) string {
	GinkgoHelper()
	doom := p.doomedOn(cluster, by, d)
	if d.takenUp != "" {
		first := doom
		first.Step, first.Moment = outageOf(by), after
		p.kill(ctx, first)
		doom.TakeUp = d.takenUp
	}
	p.kill(ctx, doom)
	return doom.ID
}

// outageOf is the step of the procedure that exchanges etcd's data: whoever is killed after it leaves the control plane down, or about to be.
func outageOf(p procedure.Procedure) string {
	switch {
	case p.Name == "manifest-edit":
		return "edit-manifest"
	case p.DataDirMode() == procedure.DataDirSwap:
		return "swap-data-dir"
	}
	return "swap-manifest"
}

// takes takes up what was killed, and looks at what comes of it.
func (p place) takes(ctx SpecContext, up takeUp, d died, id string) {
	GinkgoHelper()
	s := p.drill(up.command, id, "-o", "json")
	Eventually(ctx, s).Should(gexec.Exit(up.status))
	r := document(s).Runs[0]
	up.as(d, r)
	AddReportEntry(outcomeEntry, outcome{up.done, r}, ReportEntryVisibilityNever)
	Expect(filepath.Join(runner.Dir(p.stateDir(), id), "report.json")).To(BeAnExistingFile())

	again := p.drill(up.command, id, "-o", "json")
	if up.command == "rollback" && r.Verdict == plan.VerdictPassed {
		Eventually(ctx, again).Should(gexec.Exit(1))
		Expect(string(again.Err.Contents())).To(ContainSubstring("the old state can't be put back: run " + id + " passed"))
		return
	}
	Eventually(ctx, again).Should(gexec.Exit(up.status))
	Expect(string(again.Err.Contents())).To(ContainSubstring("there is nothing to do"))
	Expect(document(again).Runs[0]).To(Equal(r))
}

// killed makes specs of what is done about runs that were killed, for each of the cases.
func killed(p procedure.Procedure, on func() cluster.Cluster, cases []died, up takeUp) {
	for _, d := range cases {
		It(strings.TrimSpace(fmt.Sprintf("%s: killed%s %s %s", up.command, d.again(), d.moment, d.step)), crashing(d.turn), func(ctx SpecContext) {
			manifest := manifestOf(ctx, on())
			id := here().die(ctx, on().Name(), p, d)
			refused := drill("run", "deployment-loss", "--cluster", on().Name(), "-o", "json")
			Eventually(ctx, refused).Should(gexec.Exit(1))
			Expect(document(refused).Runs[0].Reason).To(ContainSubstring("run " + id + ": process "))
			here().takes(ctx, up, d, id)
			keepsNoRoom(ctx, on(), id)
			if up.command == "rollback" && !d.down {
				Expect(manifestOf(ctx, on())).To(Equal(manifest))
			}
		}, SpecTimeout(20*time.Minute))
	}
}

// keepsNoRoom makes sure that a run that has ended has given back on every control plane what it kept for a rollback.
func keepsNoRoom(ctx SpecContext, c cluster.Cluster, id string) {
	GinkgoHelper()
	for _, n := range cluster.ControlPlanes(c) {
		Expect(cluster.Absent(ctx, n, path.Join(stage.NodeDirs, id, stage.ReservedFile))).To(Succeed())
	}
}

// carriedOn is what a run must be that was carried on: proven, but for what only the process could know that was killed.
func carriedOn(d died, r report.Run) {
	GinkgoHelper()
	Expect(r.Verdict).To(Equal(plan.VerdictPassed), "%s", r.Reason)
	resumed := 1
	if d.takenUp != "" {
		resumed = 2
	}
	Expect(r.Resumed).To(Equal(resumed))
	for _, c := range r.Checks {
		if d.down && c.Name == "watches-honest" {
			Expect(c.Status).To(Equal(plan.StatusSkipped))
			continue
		}
		Expect(c.Status).To(Equal(plan.StatusPassed), "%s: %s", c.Name, c.Detail)
	}
}

// cleanedUp is what a run must be that had been proven by the process that was killed: what that one has found and measured is told, and nothing looked at again.
func cleanedUp(_ died, r report.Run) {
	GinkgoHelper()
	Expect(r.Verdict).To(Equal(plan.VerdictPassed), "%s", r.Reason)
	Expect(r.Rollback).To(BeEmpty())
	Expect(r.Outage.EtcdSeconds).NotTo(BeNil())
	Expect(r.Loss.Revisions).NotTo(BeNil())
	for _, c := range r.Checks {
		Expect(c.Status).To(Equal(plan.StatusPassed), "%s: %s", c.Name, c.Detail)
	}
}

// carriedOnAndUndone is what a run must be that was carried on to a recovery that fails: the old state is proven to be back.
func carriedOnAndUndone(d died, r report.Run) {
	GinkgoHelper()
	Expect(r.Verdict).To(Equal(plan.VerdictFailed), "%s", r.Reason)
	Expect(r.Resumed).To(Equal(1))
	putBack(d, r)
}

// undone is what a run must be that was put back: proven to be, if it had taken the control plane down, and left as it was otherwise.
func undone(d died, r report.Run) {
	GinkgoHelper()
	Expect(r.Verdict).To(Equal(plan.VerdictInterrupted))
	if !d.down {
		Expect(r.Rollback).To(BeEmpty())
		return
	}
	putBack(d, r)
}

// putBack is what a run must be of which the old state was put back.
func putBack(d died, r report.Run) {
	GinkgoHelper()
	Expect(r.Rollback).To(Equal(plan.StatusPassed), "%s", r.Warnings)
	Expect(r.RollbackChecks).NotTo(BeEmpty())
	for _, c := range r.RollbackChecks {
		if d.inPlace && c.Name == "ledger-exact" {
			Expect(c.Status).To(Equal(plan.StatusSkipped))
			continue
		}
		Expect(c.Status).To(Equal(plan.StatusPassed), "%s: %s", c.Name, c.Detail)
	}
}

// The ways to take up a run.
func resume() takeUp   { return takeUp{"resume", "resumed", 0, carriedOn} }
func rollback() takeUp { return takeUp{"rollback", "rolled back", 0, undone} }

// The recovery, or the rollback, was given up or gone on with: 3 says that no recovery is proven.
func resumeInVain() takeUp   { return takeUp{"resume", "resumed", 3, carriedOnAndUndone} }
func resumeRollback() takeUp { return takeUp{"resume", "resumed", 3, undone} }

var _ = Describe("a drill that is killed", Label("crashes"), func() {
	for _, where := range []struct {
		label         string
		controlPlanes int
		procedure     procedure.Procedure
		resume        takeUp
		resumed, back []died
	}{
		{"single", 1, procedure.KubeletStop(), resume(),
			[]died{{step: "save-snapshot", moment: after, turn: 1}, {step: "swap-manifest", moment: after, turn: 2}},
			[]died{{step: "start-kubelet", moment: after, turn: 3}}},
		{"ha", 3, procedure.KubeletStop(), resume(), nil, nil},
		{"swap", 1, swapping(procedure.KubeletStop()), resume(), nil, nil},
		{"move", 1, procedure.ManifestMove(), resume(), nil, nil},
		{"edit", 1, procedure.ManifestEdit(), resumeInVain(), nil, nil},
	} {
		p := where.procedure
		Context(fmt.Sprintf("on %d control planes, with %s, mode %s", where.controlPlanes, p.Name, p.DataDirMode()), Ordered, ContinueOnFailure, Label(where.label), func() {
			var c cluster.Cluster
			on := func() cluster.Cluster { return c }
			BeforeAll(func(ctx SpecContext) {
				if where.controlPlanes == 1 {
					c = shared.oneNode(ctx)
				} else {
					c = shared.newCluster(ctx, where.controlPlanes)
				}
			}, NodeTimeout(15*time.Minute))
			killed(p, on, deaths(p, where.controlPlanes, where.resumed...), where.resume)
			killed(p, on, deaths(p, where.controlPlanes, where.back...), rollback())
			killed(p, on, deathsUndoing(p, where.controlPlanes), resumeRollback())
			killed(p, on, deathsUndoing(p, where.controlPlanes), rollback())
			if p.Name == "kubelet-stop" {
				killed(p, on, deathsAtTheEnd(), resume())
				killed(p, on, deathsAtTheEnd(), rollback())
				killed(p, on, []died{{moment: during}}, takeUp{"resume", "resumed", 0, cleanedUp})
			}

			It("rollback: from another machine, with nothing but the cluster", Label("crash"), func(ctx SpecContext) {
				d := died{step: outageOf(p), moment: after, down: true}
				id := here().die(ctx, c.Name(), p, d)
				elsewhere := place{stateHome: GinkgoT().TempDir()}
				s := elsewhere.drill("rollback", id, "--cluster", c.Name(), "-o", "json")
				Eventually(ctx, s).Should(gexec.Exit(0))
				r := document(s).Runs[0]
				undone(d, r)
				AddReportEntry(outcomeEntry, outcome{"rolled back", r}, ReportEntryVisibilityNever)
			}, SpecTimeout(20*time.Minute))
		})
	}
})
