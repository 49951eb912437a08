package report

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Builder makes a Run of the event stream of one run; a new RunStarted begins anew. Its zero value is ready to use.
// Methods may be called concurrently, so that a run that is being interrupted can be reported.
type Builder struct {
	mu       sync.Mutex
	run      Run
	finished bool
	// running is the name of the step that started and has not finished.
	running string
	phases  []span
	last    time.Time
}

type span struct {
	name       plan.Phase
	began, end time.Time
}

var _ plan.Observer = (*Builder)(nil)

// Observe takes the next event in.
func (b *Builder) Observe(e plan.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := e.(type) {
	case plan.RunStarted:
		b.start(e)
		b.last = e.At
	case plan.StepStarted:
		b.running = e.Step.Name
		b.enter(e.Step.Phase, e.At)
		b.step(e.Step)
	case plan.StepFinished:
		b.running = ""
		b.leave(e.Step.Phase, e.At)
		b.finishStep(e)
	case plan.CheckStarted:
		b.enter(e.Check.Phase, e.At)
	case plan.CheckFinished:
		b.leave(e.Check.Phase, e.At)
		b.finishCheck(e)
	case plan.ConfirmStarted:
		b.enter(e.Phase, e.At)
	case plan.ConfirmFinished:
		b.leave(e.Phase, e.At)
	case plan.Measured:
		b.last = e.At
		m := e.Measurement
		b.run.Outage, b.run.Loss, b.run.Snapshot, b.run.Probe = m.Outage, m.Loss, m.Snapshot, m.Probe
		b.run.EndedByThemselves = m.EndedByThemselves
	case plan.EvidenceKept:
		b.last = e.At
		b.run.Artifacts = append(b.run.Artifacts, e.Paths...)
	case plan.Warning:
		b.last = e.At
		b.run.Warnings = append(b.run.Warnings, e.Message)
	case plan.RunFinished:
		b.finished = true
		b.run.Verdict, b.run.Reason, b.run.Rollback, b.run.Seconds = e.Verdict, e.Reason, e.Rollback, seconds(e.Elapsed)
	}
}

// Run returns what is known so far. As long as RunFinished has not come, the verdict is interrupted; a step or check that
// has no result is skipped.
func (b *Builder) Run() Run {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.run
	r.Steps, r.Checks, r.RollbackChecks = slices.Clone(r.Steps), slices.Clone(r.Checks), slices.Clone(r.RollbackChecks)
	r.Artifacts, r.Warnings = slices.Clone(r.Artifacts), slices.Clone(r.Warnings)
	for _, p := range b.phases {
		r.Phases = append(r.Phases, Phase{Name: p.name, Seconds: seconds(p.end.Sub(p.began))})
	}
	if !b.finished {
		r.Verdict, r.Reason = plan.VerdictInterrupted, "the run did not come to its end"
		r.Seconds = seconds(b.last.Sub(r.StartedAt))
	}
	for i, s := range r.Steps {
		if s.Name == b.running && s.Status == plan.StatusSkipped {
			r.Steps[i].Error = "the run ended while this step was being carried out"
		}
	}
	return r.complete()
}

func (b *Builder) start(e plan.RunStarted) {
	b.finished, b.running, b.phases = false, "", nil
	b.run = Run{
		ID:        e.ID,
		Scenario:  e.Plan.Scenario.Name,
		Procedure: e.Plan.Procedure.Name,
		Variant:   e.Plan.Variant,
		Provider:  e.Plan.Cluster.Provider,
		StartedAt: e.At.UTC(),
		Resumed:   e.Resumed,
		Cluster: Cluster{
			Name:       e.Plan.Cluster.Name,
			Nodes:      e.Plan.Cluster.Nodes,
			Kubernetes: e.Plan.Cluster.Kubernetes,
			Etcd:       e.Plan.Cluster.Etcd,
		},
	}
	began := false
	for _, s := range e.Plan.Steps {
		step := stepOf(s)
		step.Outage = s.Outage && !began
		began = began || s.Outage
		b.run.Steps = append(b.run.Steps, step)
	}
	for _, c := range e.Plan.Checks {
		b.run.Checks = append(b.run.Checks, Check{
			Name: c.Name, Status: plan.StatusSkipped, Detail: "not evaluated: the run ended before it came to this check",
		})
	}
}

// step returns the entry of a step. Steps that put the old state back are not among those that the run set out with, so
// they get one when they begin.
func (b *Builder) step(s plan.Step) *Step {
	for i := range b.run.Steps {
		if b.run.Steps[i].Name == s.Name && b.run.Steps[i].Phase == s.Phase {
			return &b.run.Steps[i]
		}
	}
	b.run.Steps = append(b.run.Steps, stepOf(s))
	return &b.run.Steps[len(b.run.Steps)-1]
}

func stepOf(s plan.Step) Step {
	return Step{Name: s.Name, Phase: s.Phase, Title: s.Title, Status: plan.StatusSkipped, Commands: s.Commands}
}

func (b *Builder) finishStep(e plan.StepFinished) {
	s := b.step(e.Step)
	s.Status, s.Seconds = e.Status, seconds(e.Elapsed)
	if e.Err != nil {
		s.Error = e.Err.Error()
	}
}

func (b *Builder) finishCheck(e plan.CheckFinished) {
	c := b.check(e.Check)
	f := e.Finding
	c.Status, c.Detail, c.Remedy, c.Differences, c.Evidence = f.Status, f.Detail, f.Remedy, f.Differences, f.Evidence
	c.Seconds = seconds(e.Elapsed)
}

// check returns the entry of a check. Those of a rollback get one when they are answered.
func (b *Builder) check(c plan.Check) *Check {
	checks := &b.run.Checks
	if c.Phase == plan.Rollback {
		checks = &b.run.RollbackChecks
	}
	for i := range *checks {
		if (*checks)[i].Name == c.Name {
			return &(*checks)[i]
		}
	}
	*checks = append(*checks, Check{Name: c.Name})
	return &(*checks)[len(*checks)-1]
}

// enter and leave keep the phases. The steps that were never reached finish as skipped without having started: they
// don't stretch a phase, and don't begin one.
func (b *Builder) enter(name plan.Phase, at time.Time) {
	b.last = at
	if !slices.ContainsFunc(b.phases, func(s span) bool { return s.name == name }) {
		b.phases = append(b.phases, span{name: name, began: at, end: at})
	}
}

func (b *Builder) leave(name plan.Phase, at time.Time) {
	b.last = at
	for i := range b.phases {
		if b.phases[i].name == name {
			b.phases[i].end = at
		}
	}
}

// seconds rounds to milliseconds: what lies below says nothing about a recovery and makes reports hard to read.
func seconds(d time.Duration) float64 {
	return math.Round(d.Seconds()*1000) / 1000
}
