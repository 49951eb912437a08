package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/plan"
)

// The tests run in bubbles of testing/synctest: time stands still until everybody waits, so bounds and the time to settle are
// the real ones and take no time.

// script is a plan whose steps and checks write down that they were called.
type script struct {
	plan.Plan
	done []string
}

func (s *script) note(what string) { s.done = append(s.done, what) }

func (s *script) step(name string, phase plan.Phase) plan.Step {
	return plan.Step{Name: name, Phase: phase, Title: "Do " + name, Do: func(context.Context) error {
		s.note(name)
		return nil
	}}
}

func (s *script) check(name string, phase plan.Phase, f plan.Finding) plan.Check {
	return plan.Check{Name: name, Phase: phase, Look: func(context.Context) (plan.Finding, error) {
		s.note(name)
		return f, nil
	}}
}

var yes = plan.Passed("as expected")

// newScript is a plan that passes. Its steps are named after their phases.
func newScript() *script {
	s := &script{}
	s.Scenario.Name = "tiny"
	for _, ph := range []plan.Phase{plan.Arrange, plan.Protect, plan.Break, plan.Recover} {
		s.Steps = append(s.Steps, s.step(string(ph), ph))
	}
	s.Steps[3].Outage = true
	s.Checks = []plan.Check{s.check("proven", plan.Prove, yes), s.check("protected", plan.Protect, yes)}
	s.Rollback = []plan.Step{s.step("undo-1", plan.Rollback), s.step("undo-2", plan.Rollback)}
	s.Measure = func(ctx context.Context, m plan.Marks) (plan.Measurement, error) {
		s.note("measure" + dead(ctx))
		return plan.Measurement{}, nil
	}
	s.Evidence = func(ctx context.Context, dir string) ([]string, error) {
		s.note("evidence" + dead(ctx))
		return []string{dir + "/log"}, nil
	}
	s.Close = func(ctx context.Context, tidy bool) error {
		s.note(fmt.Sprintf("close tidy=%v%s", tidy, dead(ctx)))
		return nil
	}
	return s
}

// dead marks what was called with a context that was over already, or that has no end at all.
func dead(ctx context.Context) string {
	_, bounded := ctx.Deadline()
	if ctx.Err() != nil || !bounded {
		return " WITH A CONTEXT THAT IS OVER OR UNBOUNDED"
	}
	return ""
}

// index of the step of a phase in newScript's plan.
var index = map[plan.Phase]int{plan.Arrange: 0, plan.Protect: 1, plan.Break: 2, plan.Recover: 3}

func (s *script) do(ph plan.Phase, f func(context.Context) error) { s.Steps[index[ph]].Do = f }

func (s *script) look(name string, f func(context.Context) (plan.Finding, error)) {
	for i := range s.Checks {
		if s.Checks[i].Name == name {
			s.Checks[i].Look = f
		}
	}
}

// result is everything that a run let be seen.
type result struct {
	engine.Outcome
	done   []string
	events []plan.Event
}

// walk runs the plan in a bubble; stop ends the run's context with a cause as a signal does.
func walk(t *testing.T, build func(s *script, stop func()), o engine.Options) result {
	t.Helper()
	var p plan.Plan
	r := walkWith(t, engine.Run, func(s *script, stop func()) {
		if build != nil {
			build(s, stop)
		}
		p = s.Plan
	}, o)
	wellFormed(t, p, r)
	return r
}

// walkWith walks it by one of the engine's functions.
func walkWith(t *testing.T, walker func(context.Context, plan.Plan, engine.Options) (engine.Outcome, error), build func(s *script, stop func()), o engine.Options) result {
	t.Helper()
	var r result
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := newScript()
		build(s, cancel)
		o.ID = "a-run"
		o.Observers = append(o.Observers, plan.ObserverFunc(func(e plan.Event) { r.events = append(r.events, e) }))
		var err error
		r.Outcome, err = walker(ctx, s.Plan, o)
		if err != nil {
			t.Fatal(err)
		}
		r.done = s.done
	})
	return r
}

// wellFormed holds the event stream against what its types promise.
func wellFormed(t *testing.T, p plan.Plan, r result) {
	t.Helper()
	if len(r.events) == 0 {
		t.Fatal("no event")
	}
	if first, ok := r.events[0].(plan.RunStarted); !ok || first.ID != "a-run" || first.Plan.Scenario.Name != "tiny" {
		t.Errorf("the first event is %+v", r.events[0])
	}
	last, ok := r.events[len(r.events)-1].(plan.RunFinished)
	if !ok || last.Verdict != r.Verdict || last.Reason != r.Reason {
		t.Errorf("the last event is %+v, the outcome %+v", r.events[len(r.events)-1], r.Outcome)
	}
	if (r.Verdict == plan.VerdictPassed) != (r.Reason == "") || strings.Contains(r.Reason, "\n") {
		t.Errorf("verdict %s with reason %q", r.Verdict, r.Reason)
	}
	open, looking := "", map[string]bool{} // the step that goes on, and the checks
	steps, checks := map[string]int{}, map[string]int{}
	for i, e := range r.events {
		switch e := e.(type) {
		case plan.RunStarted, plan.RunFinished:
			if i != 0 && i != len(r.events)-1 {
				t.Errorf("event %d of %d is %T", i, len(r.events), e)
			}
		case plan.StepStarted:
			if open != "" {
				t.Errorf("step %s starts within %s", e.Step.Name, open)
			}
			open = "step " + e.Step.Name
			if e.Number < 1 || e.Number > e.Of {
				t.Errorf("step %s is number %d of %d", e.Step.Name, e.Number, e.Of)
			}
		case plan.StepFinished:
			steps[e.Step.Name]++
			if started := open == "step "+e.Step.Name; started == (e.Status == plan.StatusSkipped || e.Earlier) {
				t.Errorf("step %s finishes as %s, and what began was %q", e.Step.Name, e.Status, open)
			}
			if (e.Err != nil) != (e.Status == plan.StatusFailed) {
				t.Errorf("step %s is %s with error %v", e.Step.Name, e.Status, e.Err)
			}
			open = ""
		case plan.ConfirmStarted:
			if open != "" || len(looking) > 0 || e.Checks == 0 {
				t.Errorf("%d checks are looked at again within %s and %v", e.Checks, open, looking)
			}
			open = "confirming"
		case plan.ConfirmFinished:
			if open != "confirming" {
				t.Errorf("looking again ends within %q", open)
			}
			open = ""
		case plan.CheckStarted:
			if open != "" || looking[e.Check.Name] || checks[e.Check.Name] > 0 {
				t.Errorf("check %s starts within %s, or again", e.Check.Name, open)
			}
			looking[e.Check.Name] = true
		case plan.CheckFinished:
			if r.finding(e.Check.Name).Status != plan.StatusFailed || e.Finding.Status != plan.StatusPassed {
				checks[e.Check.Name]++
			} // else it was true, and is so no longer
			if open != "" && open != "confirming" {
				t.Errorf("check %s finishes within %s", e.Check.Name, open)
			}
			delete(looking, e.Check.Name)
			if e.Finding.Status != plan.StatusPassed && e.Finding.Detail == "" {
				t.Errorf("check %s is %s and doesn't say why", e.Check.Name, e.Finding.Status)
			}
		}
	}
	if open != "" || len(looking) > 0 {
		t.Errorf("%s and %v never finished", open, looking)
	}
	for _, s := range p.Steps {
		if steps[s.Name] != 1 {
			t.Errorf("step %s finished %d times", s.Name, steps[s.Name])
		}
	}
	for _, c := range p.Checks {
		if checks[c.Name] != 1 {
			t.Errorf("check %s finished %d times", c.Name, checks[c.Name])
		}
	}
}

func (r result) warnings() string {
	var out []string
	for _, e := range r.events {
		if w, ok := e.(plan.Warning); ok {
			out = append(out, w.Message)
		}
	}
	return strings.Join(out, "\n")
}

func (r result) step(name string) plan.StepFinished {
	for _, e := range r.events {
		if f, ok := e.(plan.StepFinished); ok && f.Step.Name == name {
			return f
		}
	}
	return plan.StepFinished{}
}

// finding is the last that the check had.
func (r result) finding(name string) plan.Finding {
	for _, e := range slices.Backward(r.events) {
		if f, ok := e.(plan.CheckFinished); ok && f.Check.Name == name {
			return f.Finding
		}
	}
	return plan.Finding{}
}

// words makes comparing lists of short names readable.
func words(s string) []string { return strings.Split(s, ", ") }

var errNo = errors.New("no luck")

func TestWalk(t *testing.T) {
	fails := func(context.Context) error { return errNo }
	untilEnd := func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("waited for a sign: %w; last seen: nothing", ctx.Err())
	}
	for name, c := range map[string]struct {
		build   func(s *script, stop func())
		options engine.Options
		verdict plan.Verdict
		// reason is the whole reason.
		reason string
		// done is what was called, in order.
		done string
	}{
		"passed": {
			verdict: plan.VerdictPassed,
			done:    "arrange, protect, protected, break, recover, proven, proven, measure, close tidy=true",
		},
		"passed on a cluster that is thrown away": {
			options: engine.Options{Disposable: true},
			verdict: plan.VerdictPassed,
			done:    "arrange, protect, protected, break, recover, proven, proven, measure, close tidy=false",
		},
		"passed and kept": {
			options: engine.Options{KeepState: true},
			verdict: plan.VerdictPassed,
			done:    "arrange, protect, protected, break, recover, proven, proven, measure, close tidy=false",
		},
		"broken while arranging": {
			build:   func(s *script, _ func()) { s.do(plan.Arrange, fails) },
			verdict: plan.VerdictBroken, reason: "step arrange: no luck",
			done: "measure, evidence, close tidy=true",
		},
		"broken while protecting": {
			build:   func(s *script, _ func()) { s.do(plan.Protect, fails) },
			verdict: plan.VerdictBroken, reason: "step protect: no luck",
			done: "arrange, measure, evidence, close tidy=true",
		},
		"broken while breaking": {
			build:   func(s *script, _ func()) { s.do(plan.Break, fails) },
			verdict: plan.VerdictBroken, reason: "step break: no luck",
			done: "arrange, protect, protected, measure, evidence, close tidy=true",
		},
		"failed by a step": {
			build:   func(s *script, _ func()) { s.do(plan.Recover, fails) },
			verdict: plan.VerdictFailed, reason: "step recover: no luck",
			done: "arrange, protect, protected, break, measure, evidence, undo-1, undo-2, close tidy=true",
		},
		"failed by a step before the outage": {
			build: func(s *script, _ func()) {
				s.do(plan.Recover, fails)
				s.Steps[3].Outage = false
			},
			verdict: plan.VerdictFailed, reason: "step recover: no luck",
			done: "arrange, protect, protected, break, measure, evidence, close tidy=true",
		},
		"failed by a step on a cluster that is thrown away": {
			build:   func(s *script, _ func()) { s.do(plan.Recover, fails) },
			options: engine.Options{Disposable: true},
			verdict: plan.VerdictFailed, reason: "step recover: no luck",
			done: "arrange, protect, protected, break, measure, evidence, close tidy=false",
		},
		"failed by a step and kept": {
			build:   func(s *script, _ func()) { s.do(plan.Recover, fails) },
			options: engine.Options{KeepState: true},
			verdict: plan.VerdictFailed, reason: "step recover: no luck",
			done: "arrange, protect, protected, break, measure, evidence, close tidy=false",
		},
		"failed by what a step left behind": {
			build:   func(s *script, _ func()) { s.Steps[3].Learn = fails },
			verdict: plan.VerdictFailed, reason: "step recover: no luck",
			done: "arrange, protect, protected, break, recover, measure, evidence, undo-1, undo-2, close tidy=true",
		},
		"failed by a check": {
			build: func(s *script, _ func()) {
				s.look("proven", s.check("proven", plan.Prove, plan.Failed("expected 2, seen 0", "look")).Look)
			},
			// One interval is longer than the time to settle, so it is looked at once more and no further.
			options: engine.Options{Settle: time.Nanosecond, Patience: time.Nanosecond, Poll: time.Second},
			verdict: plan.VerdictFailed, reason: "check proven: expected 2, seen 0",
			done: "arrange, protect, protected, break, recover, proven, proven, measure, evidence, undo-1, undo-2, close tidy=true",
		},
		"failed before anything was broken": {
			build: func(s *script, _ func()) {
				s.look("protected", s.check("protected", plan.Protect, plan.Failed("expected a sound file, seen none", "")).Look)
			},
			verdict: plan.VerdictFailed, reason: "check protected: expected a sound file, seen none",
			done: "arrange, protect, protected, measure, evidence, close tidy=true",
		},
		"no check could be evaluated": {
			build: func(s *script, _ func()) {
				s.look("proven", s.check("proven", plan.Prove, plan.Skipped("there is nothing to look at")).Look)
			},
			verdict: plan.VerdictFailed, reason: "no check could be evaluated, so nothing is proven",
			done: "arrange, protect, protected, break, recover, proven, measure, evidence, undo-1, undo-2, close tidy=true",
		},
		"interrupted before the first step": {
			build:   func(_ *script, stop func()) { stop() },
			verdict: plan.VerdictInterrupted, reason: "interrupted before step arrange",
			done: "close tidy=true",
		},
		"interrupted between two steps": {
			build: func(s *script, stop func()) {
				s.do(plan.Protect, func(context.Context) error { stop(); return nil })
			},
			// Neither the check nor the break begins, though neither would notice.
			verdict: plan.VerdictInterrupted, reason: "interrupted before check protected",
			done: "arrange, close tidy=true",
		},
		"interrupted in a step": {
			build: func(s *script, stop func()) {
				s.do(plan.Arrange, func(ctx context.Context) error { stop(); return untilEnd(ctx) })
			},
			verdict: plan.VerdictInterrupted, reason: "interrupted in step arrange",
			done: "close tidy=true",
		},
		"interrupted in the outage": {
			build: func(s *script, stop func()) {
				s.do(plan.Recover, func(ctx context.Context) error { stop(); return untilEnd(ctx) })
			},
			verdict: plan.VerdictInterrupted, reason: "interrupted in step recover",
			done: "arrange, protect, protected, break, undo-1, undo-2, close tidy=true",
		},
		"interrupted after the last step": {
			build: func(s *script, stop func()) {
				s.do(plan.Recover, func(context.Context) error { stop(); return nil })
			},
			verdict: plan.VerdictInterrupted, reason: "interrupted before check proven",
			done: "arrange, protect, protected, break, undo-1, undo-2, close tidy=true",
		},
		"interrupted in a check": {
			build: func(s *script, stop func()) {
				s.look("proven", func(ctx context.Context) (plan.Finding, error) { stop(); return plan.Finding{}, untilEnd(ctx) })
				s.Checks = append(s.Checks, s.check("proven-too", plan.Prove, yes))
			},
			verdict: plan.VerdictInterrupted, reason: "interrupted in check proven",
			done: "arrange, protect, protected, break, recover, undo-1, undo-2, close tidy=true",
		},
		"interrupted while a check settles": {
			build: func(s *script, stop func()) {
				time.AfterFunc(5*time.Second, stop)
				s.look("proven", func(context.Context) (plan.Finding, error) { return plan.Failed("not yet", ""), nil })
			},
			verdict: plan.VerdictInterrupted, reason: "interrupted in check proven",
			done: "arrange, protect, protected, break, recover, undo-1, undo-2, close tidy=true",
		},
		"interrupted after a check had failed": {
			build: func(s *script, stop func()) {
				s.look("proven", func(context.Context) (plan.Finding, error) { return plan.Failed("never", "").ForGood(), nil })
				s.Checks = append(s.Checks, s.check("proven-too", plan.Prove, yes))
				second := &s.Checks[len(s.Checks)-1]
				second.Look = func(ctx context.Context) (plan.Finding, error) { stop(); return plan.Finding{}, untilEnd(ctx) }
			},
			// The answer was known by then, and all that explains it is still collected.
			verdict: plan.VerdictFailed, reason: "check proven: never",
			done: "arrange, protect, protected, break, recover, measure, evidence, undo-1, undo-2, close tidy=true",
		},
		"interrupted while a check has yet to become true": {
			build: func(s *script, stop func()) {
				s.look("proven", func(context.Context) (plan.Finding, error) { return plan.Failed("not yet", ""), nil })
				s.Checks = append(s.Checks, s.check("proven-too", plan.Prove, yes))
				second := &s.Checks[len(s.Checks)-1]
				second.Look = func(ctx context.Context) (plan.Finding, error) { stop(); return plan.Finding{}, untilEnd(ctx) }
			},
			verdict: plan.VerdictInterrupted, reason: "interrupted in check proven-too",
			done: "arrange, protect, protected, break, recover, undo-1, undo-2, close tidy=true",
		},
		"several checks fail": {
			build: func(s *script, _ func()) {
				no := plan.Failed("not so", "")
				for _, name := range []string{"second", "third"} {
					c := s.check(name, plan.Prove, no)
					c.Look = func(context.Context) (plan.Finding, error) { return no, nil }
					s.Checks = append(s.Checks, c)
				}
			},
			verdict: plan.VerdictFailed, reason: "2 checks failed: second, third; check second: not so",
			done: "arrange, protect, protected, break, recover, proven, proven, measure, evidence, undo-1, undo-2, close tidy=true",
		},
		"what must be tried is tried although the old state can't be put back": {
			build: func(s *script, _ func()) {
				s.do(plan.Recover, fails)
				s.Rollback[0].Do = fails
				s.Rollback[1].Always = true
			},
			verdict: plan.VerdictFailed, reason: "step recover: no luck",
			done: "arrange, protect, protected, break, measure, evidence, undo-2, close tidy=false",
		},
		"a step of the rollback that can be done without": {
			build: func(s *script, _ func()) {
				s.do(plan.Recover, fails)
				s.Rollback[0].Do = fails
				s.Rollback[0].Fallback = true
			},
			verdict: plan.VerdictFailed, reason: "step recover: no luck",
			done: "arrange, protect, protected, break, measure, evidence, undo-2, close tidy=true",
		},
		"the old state can't be put back": {
			build: func(s *script, _ func()) {
				s.do(plan.Recover, fails)
				s.Rollback[0].Do = fails
			},
			verdict: plan.VerdictFailed, reason: "step recover: no luck",
			// Nothing can be deleted through an API that is away.
			done: "arrange, protect, protected, break, measure, evidence, close tidy=false",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.options.EvidenceDir = "evidence"
			r := walk(t, c.build, c.options)
			if r.Verdict != c.verdict || r.Reason != c.reason {
				t.Errorf("verdict %s: %q, want %s: %q", r.Verdict, r.Reason, c.verdict, c.reason)
			}
			if want := words(c.done); !slices.Equal(r.done, want) {
				t.Errorf("done\n%q, want\n%q", r.done, want)
			}
		})
	}
}

// TestByHand: whoever is left with a control plane that may be down is told what to type, and the report says how it stands.
func TestByHand(t *testing.T) {
	fails := func(context.Context) error { return errNo }
	typed := func(s *script) {
		s.do(plan.Recover, fails)
		s.Rollback[1].Commands = []plan.Command{{On: "cp", Argv: []string{"systemctl", "start", "kubelet"}}}
	}
	rollback := func(r result) plan.Status {
		for _, e := range r.events {
			if end, ok := e.(plan.RunFinished); ok {
				return end.Rollback
			}
		}
		return "never ended"
	}
	const hint = "on cp: systemctl start kubelet"
	for name, c := range map[string]struct {
		build   func(*script, func())
		options engine.Options
		told    bool
		status  plan.Status
	}{
		"put back":   {func(s *script, _ func()) { typed(s) }, engine.Options{}, false, plan.StatusPassed},
		"not to be":  {func(s *script, _ func()) { typed(s) }, engine.Options{KeepState: true}, true, ""},
		"could not":  {func(s *script, _ func()) { typed(s); s.Rollback[0].Do = fails }, engine.Options{}, true, plan.StatusFailed},
		"no need to": {func(*script, func()) {}, engine.Options{}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.options.ID = "a-run"
			r := walk(t, c.build, c.options)
			if told := strings.Contains(r.warnings(), hint) && strings.Contains(r.warnings(), "`drill rollback a-run`"); told != c.told {
				t.Errorf("told: %v; warnings %q", told, r.warnings())
			}
			if got := rollback(r); got != c.status {
				t.Errorf("rollback %q, want %q", got, c.status)
			}
		})
	}
}

func TestSkippedStepsAndChecksAreReported(t *testing.T) {
	r := walk(t, func(s *script, _ func()) {
		s.do(plan.Protect, func(context.Context) error { return errNo })
	}, engine.Options{})
	for name, want := range map[string]plan.Status{
		"arrange": plan.StatusPassed, "protect": plan.StatusFailed, "break": plan.StatusSkipped, "recover": plan.StatusSkipped,
	} {
		if got := r.step(name).Status; got != want {
			t.Errorf("step %s is %q, want %s", name, got, want)
		}
	}
	for _, name := range []string{"protected", "proven"} {
		if f := r.finding(name); f.Status != plan.StatusSkipped || !strings.Contains(f.Detail, "step protect: no luck") {
			t.Errorf("check %s: %+v", name, f)
		}
	}
}

// TestWarningsOfAPlan: what is to be known before the run begins is told before its first step.
func TestWarningsOfAPlan(t *testing.T) {
	r := walk(t, func(s *script, _ func()) { s.Warnings = []string{"100% old", "not ours"} }, engine.Options{})
	var told []string
	for _, e := range r.events {
		if w, ok := e.(plan.Warning); ok {
			told = append(told, w.Message)
		}
		if _, ok := e.(plan.StepStarted); ok {
			break
		}
	}
	if !slices.Equal(told, []string{"100% old", "not ours"}) || r.Verdict != plan.VerdictPassed {
		t.Errorf("%s, told %q", r.Verdict, told)
	}
}

func TestRollbackThatFailsSaysWhatWasNotDone(t *testing.T) {
	r := walk(t, func(s *script, _ func()) {
		s.do(plan.Recover, func(context.Context) error { return errNo })
		s.Rollback[0].Do = func(context.Context) error { return errors.New("kubelet won't stop") }
	}, engine.Options{})
	if r.step("undo-1").Status != plan.StatusFailed || r.step("undo-2").Status != plan.StatusSkipped {
		t.Errorf("undo-1 is %q, undo-2 %q", r.step("undo-1").Status, r.step("undo-2").Status)
	}
	if w := r.warnings(); !strings.Contains(w, "undo-1: kubelet won't stop") {
		t.Errorf("warnings: %q", w)
	}
}

func TestStepTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		own, general time.Duration
		err          func(ctx context.Context) error
		want         string
	}{
		"its own bound": {
			7 * time.Second, time.Minute,
			func(ctx context.Context) error { return fmt.Errorf("wait for etcd: %w; last seen: refused", ctx.Err()) },
			"step recover: the step took longer than its bound of 7s: wait for etcd: context deadline exceeded; last seen: refused",
		},
		"the general one": {
			0, 11 * time.Second,
			func(context.Context) error { return errors.New("last seen: refused") },
			"step recover: the step took longer than its bound of 11s: last seen: refused",
		},
		"the default": {
			0, 0,
			func(context.Context) error { return errors.New("last seen: refused") },
			"step recover: the step took longer than its bound of 3m0s: last seen: refused",
		},
		"a step that names the cause itself": {
			7 * time.Second, 0,
			func(ctx context.Context) error {
				return fmt.Errorf("wait for etcd: %w; last seen: refused", context.Cause(ctx))
			},
			"step recover: wait for etcd: the step took longer than its bound of 7s; last seen: refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := walk(t, func(s *script, _ func()) {
				s.Steps[3].Timeout = c.own
				s.do(plan.Recover, func(ctx context.Context) error { <-ctx.Done(); return c.err(ctx) })
			}, engine.Options{StepTimeout: c.general, OutageLimit: time.Hour})
			if r.Verdict != plan.VerdictFailed || r.Reason != c.want {
				t.Errorf("%s: %s, want\n%s", r.Verdict, r.Reason, c.want)
			}
		})
	}
}

// TestErrorBeforeTheBound: a step that fails by itself is not said to have taken too long.
func TestErrorBeforeTheBound(t *testing.T) {
	r := walk(t, func(s *script, _ func()) {
		s.do(plan.Recover, func(context.Context) error { return context.DeadlineExceeded })
	}, engine.Options{})
	if want := "step recover: context deadline exceeded"; r.Reason != want {
		t.Errorf("reason %q, want %q", r.Reason, want)
	}
	if err := r.step("recover").Err; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the step's error is %v", err)
	}
}

func TestTypistAndLearn(t *testing.T) {
	build := func(s *script) {
		s.Steps[0].Learn = func(context.Context) error { s.note("learn"); return nil }
		s.Steps[3].Commands = []plan.Command{{On: "a", Argv: []string{"one"}}, {On: "b", Argv: []string{"two", "2"}}}
		s.Steps[3].Learn = func(context.Context) error { s.note("learn too"); return nil }
	}
	t.Run("drill's own hand", func(t *testing.T) {
		r := walk(t, func(s *script, _ func()) { build(s) }, engine.Options{})
		want := words("arrange, learn, protect, protected, break, recover, learn too, proven, proven, measure, close tidy=true")
		if !slices.Equal(r.done, want) {
			t.Errorf("done\n%q, want\n%q", r.done, want)
		}
	})
	t.Run("typed", func(t *testing.T) {
		var s *script
		o := engine.Options{Typist: typistFunc(func(ctx context.Context, c plan.Command) error {
			s.note("typed " + c.String() + " on " + c.On + dead(ctx))
			return nil
		})}
		r := walk(t, func(built *script, _ func()) { s = built; build(s) }, o)
		want := words("arrange, learn, protect, protected, break, typed one on a, typed two 2 on b, learn too, proven, proven, measure, close tidy=true")
		if !slices.Equal(r.done, want) {
			t.Errorf("done\n%q, want\n%q", r.done, want)
		}
	})
	t.Run("a command that fails ends the step", func(t *testing.T) {
		var s *script
		o := engine.Options{Typist: typistFunc(func(context.Context, plan.Command) error { s.note("typed"); return errNo })}
		r := walk(t, func(built *script, _ func()) { s = built; build(s) }, o)
		want := words("arrange, learn, protect, protected, break, typed, measure, undo-1, undo-2, close tidy=true")
		if !slices.Equal(r.done, want) || r.Reason != "step recover: no luck" {
			t.Errorf("%s; done\n%q, want\n%q", r.Reason, r.done, want)
		}
	})
}

type typistFunc func(context.Context, plan.Command) error

func (f typistFunc) Type(ctx context.Context, c plan.Command) error { return f(ctx, c) }

func TestChecksSettle(t *testing.T) {
	t.Run("until one is true", func(t *testing.T) {
		looks := 0
		r := walk(t, func(s *script, _ func()) {
			s.look("proven", func(context.Context) (plan.Finding, error) {
				looks++
				switch looks {
				case 1:
					return plan.Finding{}, errNo // an API server that has just started refuses at first
				case 2:
					return plan.Failed("not yet", ""), nil
				}
				return yes, nil
			})
		}, engine.Options{})
		if r.Verdict != plan.VerdictPassed || looks != 4 { // the last one confirms
			t.Errorf("%s after %d looks: %s", r.Verdict, looks, r.Reason)
		}
	})
	t.Run("together, and each has some time of its own", func(t *testing.T) {
		looks := map[string]int{}
		r := walk(t, func(s *script, _ func()) {
			s.Checks = nil
			for _, name := range []string{"first", "second"} {
				s.Checks = append(s.Checks, plan.Check{Name: name, Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
					looks[name]++
					return plan.Failed("never", ""), nil
				}})
			}
		}, engine.Options{Settle: 10 * time.Second, Patience: 2 * time.Second, Poll: 300 * time.Millisecond})
		if r.Verdict != plan.VerdictFailed || looks["first"] < 30 || looks["second"] != looks["first"] {
			t.Errorf("%s after these looks: %v", r.Verdict, looks)
		}
	})
	t.Run("the last one has some time of its own", func(t *testing.T) {
		looks := 0
		r := walk(t, func(s *script, _ func()) {
			slow := plan.Check{Name: "slow", Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
				time.Sleep(20 * time.Second)
				return yes, nil
			}}
			s.Checks = []plan.Check{slow, {Name: "late", Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
				looks++
				return plan.Failed("never", ""), nil
			}}}
		}, engine.Options{Settle: 10 * time.Second, Patience: 2 * time.Second, LookTimeout: time.Minute, Poll: 300 * time.Millisecond})
		if r.Verdict != plan.VerdictFailed || looks < 5 || looks > 10 {
			t.Errorf("%s after %d looks", r.Verdict, looks)
		}
	})
	t.Run("until an answer is due, and not for ever", func(t *testing.T) {
		for due, want := range map[time.Duration]time.Duration{5 * time.Second: 10 * time.Second, 15 * time.Second: 15 * time.Second, time.Hour: 20 * time.Second} {
			var began, last time.Time
			r := walk(t, func(s *script, _ func()) {
				s.look("proven", func(context.Context) (plan.Finding, error) {
					if last = time.Now(); began.IsZero() {
						began = last
					}
					f := plan.Failed("nothing is known yet", "")
					f.Due = began.Add(due)
					return f, nil
				})
			}, engine.Options{Settle: 10 * time.Second, Patience: 2 * time.Second, Poll: 100 * time.Millisecond})
			if took := last.Sub(began); r.Verdict != plan.VerdictFailed || took < want-time.Second || took > want+time.Second {
				t.Errorf("%s after %v where an answer is due after %v; want %v", r.Verdict, took, due, want)
			}
		}
	})
	t.Run("before one that changes the cluster begins", func(t *testing.T) {
		looks := 0
		r := walk(t, func(s *script, _ func()) {
			s.Checks = []plan.Check{
				{Name: "first", Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
					if looks++; looks < 5 {
						return plan.Failed("not yet", ""), nil
					}
					return yes, nil
				}},
				{Name: "alters", Alters: true, Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
					if looks < 5 {
						return plan.Failed("too early", "").ForGood(), nil
					}
					return yes, nil
				}},
			}
		}, engine.Options{})
		if r.Verdict != plan.VerdictPassed {
			t.Errorf("%s: %s", r.Verdict, r.Reason)
		}
	})
	t.Run("no more than once where the answer is final", func(t *testing.T) {
		looks := 0
		walk(t, func(s *script, _ func()) {
			s.look("proven", func(context.Context) (plan.Finding, error) {
				looks++
				return plan.Failed("never", "").ForGood(), nil
			})
		}, engine.Options{})
		if looks != 1 {
			t.Errorf("%d looks", looks)
		}
	})
	t.Run("not before anything is broken", func(t *testing.T) {
		looks := 0
		walk(t, func(s *script, _ func()) {
			s.look("protected", func(context.Context) (plan.Finding, error) {
				looks++
				return plan.Failed("damaged", ""), nil
			})
		}, engine.Options{})
		if looks != 1 {
			t.Errorf("a damaged file was looked at %d times", looks)
		}
	})
}

// TestAllChecksHoldAtOnce: what was true when it was looked at must be true still when all the others have been.
func TestAllChecksHoldAtOnce(t *testing.T) {
	first := func(n int, then plan.Finding) func(looks int) plan.Finding {
		return func(looks int) plan.Finding {
			if looks <= n {
				return yes
			}
			return then
		}
	}
	gone := plan.Failed("gone", "find out who did it")
	for name, c := range map[string]struct {
		// early is the answer of a check to each look, counted from 1, and late of the last one, which alters the cluster.
		early   func(looks int) plan.Finding
		late    plan.Finding
		verdict plan.Verdict
		reason  string
		// early's answer and the looks that it takes.
		finding plan.Finding
		looks   int
	}{
		"all do": {
			early: first(9, gone), late: yes, verdict: plan.VerdictPassed, finding: yes, looks: 2,
		},
		"one doesn't": {
			early: first(1, gone), late: yes, verdict: plan.VerdictFailed, looks: 6,
			finding: plan.Failed("no longer true when all checks were looked at again: gone", "find out who did it"),
			reason:  "check early: no longer true when all checks were looked at again: gone",
		},
		"one doesn't, and that is final": {
			early: first(1, gone.ForGood()), late: yes, verdict: plan.VerdictFailed, looks: 2,
			finding: plan.Failed("no longer true when all checks were looked at again: gone", "find out who did it"),
			reason:  "check early: no longer true when all checks were looked at again: gone",
		},
		"one doesn't for a moment": {
			early: func(looks int) plan.Finding {
				if looks == 2 {
					return gone
				}
				return yes
			},
			late: yes, verdict: plan.VerdictPassed, finding: yes, looks: 3,
		},
		"one has nothing to look at any more": {
			early: first(1, plan.Skipped("nothing there")), late: yes, verdict: plan.VerdictFailed, looks: 2,
			finding: plan.Failed("it doesn't apply any more: nothing there", "somebody changed the cluster while it was being checked"),
			reason:  "check early: it doesn't apply any more: nothing there",
		},
		"another one failed anyway": {
			early: first(1, gone.ForGood()), late: plan.Failed("no", "").ForGood(), verdict: plan.VerdictFailed, looks: 2,
			finding: plan.Failed("no longer true when all checks were looked at again: gone", "find out who did it"),
			reason:  "2 checks failed: late, early; check late: no",
		},
	} {
		t.Run(name, func(t *testing.T) {
			looks, lateLooks := 0, 0
			r := walk(t, func(s *script, _ func()) {
				s.Checks = []plan.Check{
					{Name: "early", Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
						looks++
						return c.early(looks), nil
					}},
					{Name: "late", Alters: true, Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
						lateLooks++
						return c.late, nil
					}},
				}
			}, engine.Options{Poll: time.Second, Patience: 3500 * time.Millisecond})
			got := r.finding("early")
			if r.Verdict != c.verdict || r.Reason != c.reason || got.Status != c.finding.Status || got.Detail != c.finding.Detail || got.Remedy != c.finding.Remedy {
				t.Errorf("%s, %q, %+v", r.Verdict, r.Reason, got)
			}
			if looks != c.looks || lateLooks != 1 {
				t.Errorf("looked at %d times, and %d times at what alters the cluster; want %d and 1", looks, lateLooks, c.looks)
			}
		})
	}
	t.Run("before one that alters the cluster begins, where that would be in the way", func(t *testing.T) {
		altered := false
		looks := map[string]int{}
		r := walk(t, func(s *script, _ func()) {
			s.Checks = nil
			for name, undisturbed := range map[string]bool{"counts": true, "other": false} {
				s.Checks = append(s.Checks, plan.Check{Name: name, Undisturbed: undisturbed, Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
					if looks[name]++; undisturbed && altered {
						return plan.Failed("more than there was", ""), nil
					}
					return yes, nil
				}})
			}
			s.Checks = append(s.Checks, plan.Check{Name: "alters", Alters: true, Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
				altered = true
				return yes, nil
			}})
		}, engine.Options{})
		if r.Verdict != plan.VerdictPassed || looks["counts"] != 2 || looks["other"] != 2 {
			t.Errorf("%s, %q, after these looks: %v", r.Verdict, r.Reason, looks)
		}
	})
	t.Run("with patience for each, however long the others take", func(t *testing.T) {
		looks := 0
		r := walk(t, func(s *script, _ func()) {
			slow := plan.Check{Name: "slow", Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
				time.Sleep(20 * time.Second)
				return yes, nil
			}}
			s.Checks = []plan.Check{slow, {Name: "once", Phase: plan.Prove, Look: func(context.Context) (plan.Finding, error) {
				if looks++; looks == 2 {
					return plan.Finding{}, errNo
				}
				return yes, nil
			}}}
		}, engine.Options{LookTimeout: time.Minute, Patience: 2 * time.Second})
		if r.Verdict != plan.VerdictPassed || looks != 3 {
			t.Errorf("%s, %q, after %d looks", r.Verdict, r.Reason, looks)
		}
	})
	t.Run("or nothing is proven: an interruption before that is one", func(t *testing.T) {
		r := walk(t, func(s *script, stop func()) {
			s.look("proven", func(context.Context) (plan.Finding, error) { stop(); return yes, nil })
		}, engine.Options{})
		if r.Verdict != plan.VerdictInterrupted || r.Reason != "interrupted before the checks were looked at again" {
			t.Errorf("%s, %q", r.Verdict, r.Reason)
		}
	})
	t.Run("an interruption then takes nothing back", func(t *testing.T) {
		looks := 0
		r := walk(t, func(s *script, stop func()) {
			s.look("proven", func(ctx context.Context) (plan.Finding, error) {
				if looks++; looks == 2 {
					stop()
					return plan.Finding{}, ctx.Err()
				}
				return yes, nil
			})
		}, engine.Options{})
		if r.Verdict != plan.VerdictInterrupted || r.Reason != "interrupted when check proven was looked at again" || r.finding("proven").Status != plan.StatusPassed {
			t.Errorf("%s, %q, %+v", r.Verdict, r.Reason, r.finding("proven"))
		}
	})
}

// TestUnreadProtection: what can't be read before anything is broken is tried for a while, and then it is the drill that is broken, not the backup.
func TestUnreadProtection(t *testing.T) {
	for name, c := range map[string]struct {
		errors  int
		verdict plan.Verdict
		reason  string
	}{
		"for a moment": {errors: 3, verdict: plan.VerdictPassed},
		"for good":     {errors: 1000, verdict: plan.VerdictBroken, reason: "check protected could not be evaluated: no luck"},
	} {
		looks := 0
		r := walk(t, func(s *script, _ func()) {
			s.look("protected", func(context.Context) (plan.Finding, error) {
				if looks++; looks <= c.errors {
					return plan.Finding{}, errNo
				}
				return yes, nil
			})
		}, engine.Options{Poll: time.Second, Patience: 5 * time.Second})
		if r.Verdict != c.verdict || r.Reason != c.reason || slices.Contains(r.done, "break") != (c.verdict == plan.VerdictPassed) {
			t.Errorf("%s: %s, %q, done %q", name, r.Verdict, r.Reason, r.done)
		}
	}
}

func TestChecksWithoutAnAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		look   func(context.Context) (plan.Finding, error)
		detail string
	}{
		"an error": {
			func(context.Context) (plan.Finding, error) { return yes, errNo }, // what comes with an error doesn't count
			"could not be evaluated: no luck",
		},
		"no status":        {func(context.Context) (plan.Finding, error) { return plan.Finding{}, nil }, `the check gave no answer (status "")`},
		"a strange status": {func(context.Context) (plan.Finding, error) { return plan.Finding{Status: "perhaps"}, nil }, `the check gave no answer (status "perhaps")`},
		"a panic": {
			func(context.Context) (plan.Finding, error) { panic("index out of range") },
			"could not be evaluated: panic: index out of range; this is a defect of drill",
		},
		"a look that takes too long": {
			func(ctx context.Context) (plan.Finding, error) {
				<-ctx.Done()
				return plan.Finding{}, fmt.Errorf("LIST pods: %w", ctx.Err())
			},
			"could not be evaluated: the look took longer than its bound of 2s: LIST pods: context deadline exceeded",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := walk(t, func(s *script, _ func()) { s.look("proven", c.look) }, engine.Options{LookTimeout: 2 * time.Second})
			if f := r.finding("proven"); f.Status != plan.StatusFailed || f.Detail != c.detail {
				t.Errorf("finding %+v, want %s", f, c.detail)
			}
			if r.Verdict != plan.VerdictFailed || r.Reason != "check proven: "+c.detail {
				t.Errorf("%s: %s", r.Verdict, r.Reason)
			}
		})
	}
}

// TestPanicInTheOutage: a defect of drill leaves no control plane down that could have been brought back.
func TestPanicInTheOutage(t *testing.T) {
	r := walk(t, func(s *script, _ func()) {
		s.do(plan.Recover, func(context.Context) error { panic("index out of range") })
	}, engine.Options{})
	if want := words("arrange, protect, protected, break, measure, undo-1, undo-2, close tidy=true"); !slices.Equal(r.done, want) {
		t.Errorf("done\n%q, want\n%q", r.done, want)
	}
	if r.Verdict != plan.VerdictFailed || r.Reason != "step recover: panic: index out of range; this is a defect of drill" {
		t.Errorf("%s: %s", r.Verdict, r.Reason)
	}
	if w := r.warnings(); !strings.Contains(w, "TestPanicInTheOutage") {
		t.Errorf("the stack is not told: %q", w)
	}
}

func TestAfterwards(t *testing.T) {
	t.Run("trouble there changes no verdict", func(t *testing.T) {
		r := walk(t, func(s *script, _ func()) {
			s.Measure = func(context.Context, plan.Marks) (plan.Measurement, error) {
				return plan.Measurement{Loss: plan.Loss{Objects: []plan.Object{{Kind: "A", Name: "a"}}}}, errNo
			}
			s.Close = func(context.Context, bool) error { panic("nil") }
		}, engine.Options{})
		if r.Verdict != plan.VerdictPassed {
			t.Errorf("%s: %s", r.Verdict, r.Reason)
		}
		if w := r.warnings(); !strings.Contains(w, "not everything could be measured: no luck") || !strings.Contains(w, plan.CleanUpFailed+": panic: nil") {
			t.Errorf("warnings: %q", w)
		}
		// What was measured in spite of the trouble is told.
		if i := slices.IndexFunc(r.events, func(e plan.Event) bool { m, ok := e.(plan.Measured); return ok && len(m.Measurement.Loss.Objects) == 1 }); i < 0 {
			t.Error("nothing was measured")
		}
	})
	t.Run("evidence that is not whole", func(t *testing.T) {
		r := walk(t, func(s *script, _ func()) {
			s.do(plan.Arrange, func(context.Context) error { return errNo })
			s.Evidence = func(_ context.Context, dir string) ([]string, error) { return []string{dir + "/a"}, errNo }
		}, engine.Options{EvidenceDir: "there"})
		i := slices.IndexFunc(r.events, func(e plan.Event) bool {
			k, ok := e.(plan.EvidenceKept)
			return ok && slices.Equal(k.Paths, []string{"there/a"})
		})
		if i < 0 || !strings.Contains(r.warnings(), "not all evidence could be kept: no luck") {
			t.Errorf("events %+v", r.events)
		}
	})
	t.Run("nowhere to keep evidence", func(t *testing.T) {
		r := walk(t, func(s *script, _ func()) { s.do(plan.Arrange, func(context.Context) error { return errNo }) }, engine.Options{})
		if slices.Contains(r.done, "evidence") {
			t.Error("evidence was collected")
		}
	})
	t.Run("what hangs is ended", func(t *testing.T) {
		r := walk(t, func(s *script, stop func()) {
			stop()
			s.Close = func(ctx context.Context, _ bool) error { <-ctx.Done(); return ctx.Err() }
		}, engine.Options{})
		if w := r.warnings(); !strings.Contains(w, "cleaning up took longer than its bound of 30s") {
			t.Errorf("warnings: %q", w)
		}
	})
	t.Run("a plan without any of it", func(t *testing.T) {
		r := walk(t, func(s *script, _ func()) { s.Measure, s.Evidence, s.Close, s.Rollback = nil, nil, nil, nil }, engine.Options{})
		if r.Verdict != plan.VerdictPassed {
			t.Errorf("%s: %s", r.Verdict, r.Reason)
		}
	})
}

func TestMarks(t *testing.T) {
	var got plan.Marks
	measure := func(s *script) {
		s.Measure = func(_ context.Context, m plan.Marks) (plan.Measurement, error) {
			got = m
			return plan.Measurement{}, nil
		}
	}
	started := func(r result, name string) (at time.Time) {
		for _, e := range r.events {
			if e, ok := e.(plan.StepStarted); ok && e.Step.Name == name {
				at = e.At
			}
		}
		return at
	}
	r := walk(t, func(s *script, _ func()) {
		measure(s)
		again := s.step("again", plan.Recover)
		again.Outage = true
		s.Steps = append(s.Steps, again)
		for i := range s.Steps {
			s.Steps[i].Do = func(context.Context) error { time.Sleep(time.Second); return nil } // a bubble's second
		}
	}, engine.Options{})
	if !got.OutageBegan.Equal(started(r, "recover")) {
		t.Errorf("marks %v; the steps started at %v and %v", got, started(r, "break"), started(r, "recover"))
	}
	walk(t, func(s *script, _ func()) {
		measure(s)
		s.do(plan.Protect, func(context.Context) error { return errNo })
	}, engine.Options{})
	if !got.OutageBegan.IsZero() {
		t.Errorf("nothing was broken, and the marks are %v", got)
	}
}

func TestEveryObserverSeesTheSame(t *testing.T) {
	var first, second []string
	see := func(to *[]string) plan.Observer {
		return plan.ObserverFunc(func(e plan.Event) { *to = append(*to, fmt.Sprintf("%T", e)) })
	}
	r := walk(t, nil, engine.Options{Observers: []plan.Observer{see(&first), see(&second)}})
	if len(first) != len(r.events) || !slices.Equal(first, second) {
		t.Errorf("one saw\n%q, the other\n%q", first, second)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(s *script){
		`a step of phase "arrange" has no name or no title`:                                  func(s *script) { s.Steps[0].Name = "" },
		`a step of phase "protect" has no name or no title`:                                  func(s *script) { s.Steps[1].Title = "" },
		`two steps are named "arrange"`:                                                      func(s *script) { s.Steps[1].Name = "arrange" },
		`step "arrange" is of phase "prove", where it doesn't belong`:                        func(s *script) { s.Steps[0].Phase = plan.Prove },
		`step "recover" is of phase "rollback", where it doesn't belong`:                     func(s *script) { s.Steps[3].Phase = plan.Rollback },
		`step "break" is of phase "later", where it doesn't belong`:                          func(s *script) { s.Steps[2].Phase = "later" },
		`step "recover" of phase "protect" comes after a later phase`:                        func(s *script) { s.Steps[3].Phase = plan.Protect },
		`step "break" does nothing`:                                                          func(s *script) { s.Steps[2].Do = nil },
		`step "break" is to hold until step "protect", and none of that name comes after it`: func(s *script) { s.Steps[2].Until = "protect" },
		`two steps are named "undo-1"`:                                                       func(s *script) { s.Rollback[1].Name = "undo-1" },
		`two steps are named "recover"`:                                                      func(s *script) { s.Rollback[1].Name = "recover" },
		`step "undo-1" is of phase "recover", where it doesn't belong`:                       func(s *script) { s.Rollback[0].Phase = plan.Recover },
		`step "undo-2" does nothing`:                                                         func(s *script) { s.Rollback[1].Do = nil },
		`check "" has no name or looks at nothing`:                                           func(s *script) { s.Checks[0].Name = "" },
		`check "protected" has no name or looks at nothing`:                                  func(s *script) { s.Checks[1].Look = nil },
		`two checks are named "proven"`:                                                      func(s *script) { s.Checks[1].Name = "proven" },
		`check "protected" is of phase "recover", in which it isn't evaluated`:               func(s *script) { s.Checks[1].Phase = plan.Recover },
		`no check in phase "prove", so nothing could be proven`:                              func(s *script) { s.Checks = s.Checks[1:] },
		`check "back" is of phase "prove", in which it isn't evaluated`:                      func(s *script) { s.RollbackChecks = []plan.Check{s.check("back", plan.Prove, yes)} },
	} {
		t.Run(want, func(t *testing.T) {
			s := newScript()
			change(s)
			seen := false
			_, err := engine.Run(t.Context(), s.Plan, engine.Options{Observers: []plan.Observer{plan.ObserverFunc(func(plan.Event) { seen = true })}})
			if err == nil || err.Error() != "plan tiny: "+want {
				t.Errorf("%v, want %s", err, want)
			}
			if seen || len(s.done) > 0 {
				t.Errorf("done %q, event seen: %v", s.done, seen)
			}
		})
	}
	if err := engine.Validate(newScript().Plan); err != nil {
		t.Error(err)
	}
}
