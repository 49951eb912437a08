package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/plan"
)

// book is a journal that notes what it is told in the script it belongs to, and can't from a moment on.
type book struct {
	script *script
	// full says whether this transition can't be kept.
	full func(transition string) bool
}

func (b *book) Record(_ context.Context, e plan.Event) error {
	var what string
	switch e := e.(type) {
	case plan.RunStarted:
		what = "begin"
	case plan.StepStarted:
		what = "begin " + e.Step.Name
	case plan.StepFinished:
		what = "end " + e.Step.Name
	case plan.Judged:
		what = "judge " + string(e.Verdict)
	case plan.RunFinished:
		what = "end"
	default:
		return fmt.Errorf("told of %T", e)
	}
	if b.full != nil && b.full(what) {
		return errors.New("no space left on device")
	}
	b.script.note("<" + what + ">")
	return nil
}

func TestJournalIsToldBefore(t *testing.T) {
	b := &book{}
	r := walk(t, func(s *script, _ func()) {
		b.script = s
		s.Measure, s.Close = nil, nil
		s.look("proven", func(context.Context) (plan.Finding, error) { return plan.Failed("no", ""), nil })
		s.RollbackChecks = []plan.Check{{Name: "back", Phase: plan.Rollback, Look: func(context.Context) (plan.Finding, error) { return yes, nil }}}
	}, engine.Options{Journal: b})
	want := words("<begin>, <begin arrange>, arrange, <end arrange>, <begin protect>, protect, <end protect>, protected, " +
		"<begin break>, break, <end break>, <begin recover>, recover, <end recover>, <judge failed>, <begin undo-1>, undo-1, <end undo-1>, <begin undo-2>, undo-2, <end undo-2>, <end>")
	if !slices.Equal(r.done, want) {
		t.Errorf("%q, want\n%q", r.done, want)
	}
}

// TestNothingIsBegunUnkept: as long as the control plane is up, what can't be kept isn't done.
func TestNothingIsBegunUnkept(t *testing.T) {
	for _, c := range []struct {
		full    string
		verdict plan.Verdict
		never   string
	}{
		{"begin", plan.VerdictBroken, "arrange"},
		{"begin arrange", plan.VerdictBroken, "arrange"},
		{"begin break", plan.VerdictBroken, "break"},
		{"begin recover", plan.VerdictBroken, "recover"},
		{"end arrange", plan.VerdictBroken, "protect"},
		{"end break", plan.VerdictBroken, "recover"},
		{"end recover", plan.VerdictPassed, "undo-1"},
		{"end", plan.VerdictPassed, "undo-1"},
	} {
		t.Run(c.full, func(t *testing.T) {
			b := &book{full: func(transition string) bool { return transition == c.full }}
			r := walk(t, func(s *script, _ func()) { b.script = s }, engine.Options{Journal: b})
			if r.Verdict != c.verdict || c.verdict == plan.VerdictBroken && !strings.Contains(r.Reason, "the journal can't be kept: ") {
				t.Errorf("%s: %s", r.Verdict, r.Reason)
			}
			if slices.Contains(r.done, c.never) {
				t.Errorf("%s was done: %q", c.never, r.done)
			}
			if n := strings.Count(r.warnings(), "no space left"); n != 1 {
				t.Errorf("warned %d times: %s", n, r.warnings())
			}
		})
	}
}

// TestUnkeptInTheOutage: a control plane that is down must come back, whether or not anybody can write that down.
func TestUnkeptInTheOutage(t *testing.T) {
	down := false
	b := &book{full: func(string) bool { return down }}
	r := walk(t, func(s *script, _ func()) {
		b.script = s
		s.do(plan.Recover, func(context.Context) error { down = true; return errNo })
	}, engine.Options{Journal: b})
	if r.Verdict != plan.VerdictFailed || !slices.Contains(r.done, "undo-1") || !slices.Contains(r.done, "undo-2") {
		t.Errorf("%s: %q", r.Verdict, r.done)
	}
	if n := strings.Count(r.warnings(), "no space left"); n != 1 {
		t.Errorf("warned %d times: %s", n, r.warnings())
	}
}

func TestOutageLimit(t *testing.T) {
	const limit = 20 * time.Second
	back := func(after time.Duration) func(s *script, _ func()) {
		return func(s *script, _ func()) {
			s.Steps = append(s.Steps, plan.Step{Name: "wait", Phase: plan.Recover, Title: "Wait", Do: func(ctx context.Context) error {
				select {
				case <-ctx.Done():
					return fmt.Errorf("waiting for etcd: %w", ctx.Err())
				case <-time.After(after):
					return nil
				}
			}}, s.step("last", plan.Recover))
			s.do(plan.Recover, func(context.Context) error { time.Sleep(5 * time.Second); return nil })
		}
	}
	if r := walk(t, back(limit-6*time.Second), engine.Options{OutageLimit: limit}); r.Verdict != plan.VerdictPassed {
		t.Errorf("%s: %s", r.Verdict, r.Reason)
	}
	r := walk(t, back(limit-4*time.Second), engine.Options{OutageLimit: limit})
	if want := "step wait: the control plane was not back within the limit of 20s: waiting for etcd: context deadline exceeded"; r.Reason != want || r.Verdict != plan.VerdictFailed {
		t.Errorf("%s: %s, want\n%s", r.Verdict, r.Reason, want)
	}
	if r.step("wait").Elapsed != limit-5*time.Second || !slices.Contains(r.done, "undo-1") || slices.Contains(r.done, "last") {
		t.Errorf("given up after %s: %q", r.step("wait").Elapsed, r.done)
	}
}

func TestPast(t *testing.T) {
	long := 3 * time.Second
	for name, c := range map[string]struct {
		done string
		// began says that the outage had begun.
		began bool
		want  string
	}{
		"nothing was done":       {"", false, "arrange, watch, protect, protected, break, recover, proven, proven"},
		"before the break":       {"arrange, watch, protect", false, "watch, protected, break, recover, proven, proven"},
		"a step was cut off":     {"arrange, watch", false, "watch, protect, protected, break, recover, proven, proven"},
		"the outage had begun":   {"arrange, watch, protect, break", true, "recover, proven, proven"},
		"everything was done":    {"arrange, watch, protect, break, recover", true, "proven, proven"},
		"it was broken, no more": {"arrange, watch, protect, break", false, "watch, protected, recover, proven, proven"},
	} {
		t.Run(name, func(t *testing.T) {
			past := &engine.Past{Done: map[string]time.Duration{}}
			if c.done != "" {
				for _, w := range words(c.done) {
					past.Done[w] = long
				}
			}
			if c.began {
				past.Marks = plan.Marks{BreakBegan: time.Now().Add(-time.Hour), OutageBegan: time.Now().Add(-time.Hour)}
			}
			var marks plan.Marks
			r := walk(t, func(s *script, _ func()) {
				watch := s.step("watch", plan.Arrange)
				watch.Live = true
				s.Steps = slices.Insert(s.Steps, 1, watch)
				s.Close = nil
				s.Measure = func(_ context.Context, m plan.Marks) (plan.Measurement, error) {
					marks = m
					return plan.Measurement{}, nil
				}
			}, engine.Options{Past: past})
			if want := words(c.want); r.Verdict != plan.VerdictPassed || !slices.Equal(r.done, want) {
				t.Errorf("%s %s: %q, want\n%q", r.Verdict, r.Reason, r.done, want)
			}
			if c.began != marks.OutageBegan.Equal(past.Marks.OutageBegan) {
				t.Errorf("the outage began at %s, want %s", marks.OutageBegan, past.Marks.OutageBegan)
			}
			for _, e := range r.events {
				f, ok := e.(plan.StepFinished)
				if !ok {
					continue
				}
				if want := past.Done[f.Step.Name] > 0 && !slices.Contains(r.done, f.Step.Name); f.Earlier != want || want && f.Elapsed != long {
					t.Errorf("step %s: earlier %t, after %s", f.Step.Name, f.Earlier, f.Elapsed)
				}
			}
		})
	}
}

// TestNeedsToLast: what was stopped runs again on a machine that was started anew since, so it is stopped again before somebody relies on it.
func TestNeedsToLast(t *testing.T) {
	marks := plan.Marks{BreakBegan: time.Now().Add(-time.Hour), OutageBegan: time.Now().Add(-time.Hour)}
	for name, c := range map[string]struct {
		done, begun string
		want        string
	}{
		"cut off when it stopped":   {"arrange, protect, break", "recover", "recover, halt, swap, start, proven, proven"},
		"half of it stopped":        {"arrange, protect, break, recover", "halt", "recover, halt, swap, start, proven, proven"},
		"stopped":                   {"arrange, protect, break, recover, halt", "halt", "recover, halt, swap, start, proven, proven"},
		"in the midst of the swap":  {"arrange, protect, break, recover, halt", "swap", "recover, halt, swap, start, proven, proven"},
		"swapped":                   {"arrange, protect, break, recover, halt, swap", "swap", "recover, halt, start, proven, proven"},
		"in the midst of the start": {"arrange, protect, break, recover, halt, swap", "start", "start, proven, proven"},
		"started":                   {"arrange, protect, break, recover, halt, swap, start", "start", "proven, proven"},
	} {
		t.Run(name, func(t *testing.T) {
			past := &engine.Past{Done: map[string]time.Duration{}, Begun: map[string]bool{}, Marks: marks}
			for _, w := range words(c.done) {
				past.Done[w], past.Begun[w] = time.Second, true
			}
			past.Begun[c.begun] = true
			build := func(s *script, _ func()) {
				for i := range s.Steps {
					if s.Steps[i].Name == "recover" {
						s.Steps[i].Until = "start"
					}
				}
				halt := s.step("halt", plan.Recover)
				halt.Until = "start"
				s.Steps = append(s.Steps, halt, s.step("swap", plan.Recover), s.step("start", plan.Recover))
				s.Close, s.Measure = nil, nil
			}
			r := walk(t, build, engine.Options{Past: past})
			if want := words(c.want); r.Verdict != plan.VerdictPassed || !slices.Equal(r.done, want) {
				t.Errorf("%s %s: %q, want\n%q", r.Verdict, r.Reason, r.done, want)
			}
			told := map[string]int{}
			for _, e := range r.events {
				if f, ok := e.(plan.StepFinished); ok {
					told[f.Step.Name]++
				}
			}
			for step, n := range told {
				if n != 1 {
					t.Errorf("step %s is told of %d times", step, n)
				}
			}
			// To be undone, nothing of it is carried out again, and all that was done is told.
			undone := walkWith(t, engine.Undo, build, engine.Options{Past: past})
			if want := words("undo-1, undo-2"); !slices.Equal(undone.done, want) {
				t.Errorf("undoing: %q, want %q", undone.done, want)
			}
			for _, w := range words(c.done) {
				if !undone.step(w).Earlier {
					t.Errorf("undoing: nothing is told of step %s", w)
				}
			}
		})
	}
}

// TestCleared: what a check has made that was being looked at is removed before the checks are looked at anew, and only then; and where that fails the checks say so.
func TestCleared(t *testing.T) {
	for _, c := range []struct {
		past *engine.Past
		err  error
		want string
	}{
		{nil, nil, "arrange, protect, protected, break, recover, proven, proven"},
		{&engine.Past{}, nil, "arrange, protect, protected, break, recover, clear, proven, proven"},
		{&engine.Past{}, errNo, "arrange, protect, protected, break, recover, clear, proven, proven"},
	} {
		r := walk(t, func(s *script, _ func()) {
			s.Measure, s.Close = nil, nil
			s.Clear = func(context.Context) error { s.note("clear"); return c.err }
		}, engine.Options{Past: c.past})
		if !slices.Equal(r.done, words(c.want)) || strings.Contains(r.warnings(), "may still be there") != (c.err != nil) {
			t.Errorf("%q, warnings %q", r.done, r.warnings())
		}
	}
}

// noted is a journal of what was judged.
type noted struct{ judged []plan.Judged }

func (n *noted) Record(_ context.Context, e plan.Event) error {
	if j, ok := e.(plan.Judged); ok {
		n.judged = append(n.judged, j)
	}
	return nil
}

// TestKilledWhileItCleanedUp: what is proven stays proven, though the workload that was looked at is gone by now; and it isn't put back because somebody interrupts.
func TestKilledWhileItCleanedUp(t *testing.T) {
	n := &noted{}
	seconds := 7.0
	build := func(look plan.Finding) func(s *script, _ func()) {
		return func(s *script, _ func()) {
			s.look("proven", func(context.Context) (plan.Finding, error) { s.note("proven"); return look, nil })
			s.Measure = func(context.Context, plan.Marks) (plan.Measurement, error) {
				s.note("measure")
				return plan.Measurement{Outage: plan.Outage{EtcdSeconds: &seconds}, Probe: &plan.Probe{}}, nil
			}
			s.Close = func(_ context.Context, tidy bool) error { s.note(fmt.Sprintf("close tidy=%v", tidy)); return nil }
		}
	}
	if r := walk(t, build(plan.Passed("two pods", "their names")), engine.Options{Journal: n}); r.Verdict != plan.VerdictPassed || len(n.judged) != 1 || n.judged[0].Proof == nil {
		t.Fatalf("%s, judged %+v", r.Verdict, n.judged)
	}
	proof := *n.judged[0].Proof
	if proof.Measurement.Probe != nil {
		t.Error("the samples are kept in the journal")
	}
	past := &engine.Past{Done: map[string]time.Duration{}, Begun: map[string]bool{}, Proof: &proof, Marks: plan.Marks{BreakBegan: time.Now(), OutageBegan: time.Now()}}
	for _, w := range words("arrange, protect, break") { // of the recovery the journal could not be written
		past.Done[w], past.Begun[w] = time.Second, true
	}
	for _, interrupted := range []bool{false, true} {
		again := &noted{}
		r := walk(t, func(s *script, stop func()) {
			build(plan.Failed("no pods", ""))(s, stop)
			if interrupted {
				stop()
			}
		}, engine.Options{Past: past, Journal: again})
		if r.Verdict != plan.VerdictPassed || !slices.Equal(r.done, words("close tidy=true")) {
			t.Errorf("%s %s: %q", r.Verdict, r.Reason, r.done)
		}
		if f := r.finding("proven"); f.Detail != "two pods" || !slices.Equal(f.Evidence, words("their names")) {
			t.Errorf("%+v", f)
		}
		told := 0
		for _, e := range r.events {
			if m, ok := e.(plan.Measured); ok {
				told++
				if m.Measurement.Outage.EtcdSeconds != &seconds {
					t.Errorf("measured %+v", m.Measurement)
				}
			}
		}
		if told != 1 || len(again.judged) != 0 {
			t.Errorf("measurements told %d times; judged once more: %+v", told, again.judged)
		}
	}
}

// back adds a check of the rollback that says this each time it is asked.
func (s *script) back(say func() plan.Finding) {
	s.RollbackChecks = append(s.RollbackChecks, plan.Check{Name: "back", Phase: plan.Rollback, Look: func(context.Context) (plan.Finding, error) {
		s.note("back")
		return say(), nil
	}})
}

func TestRollbackIsProven(t *testing.T) {
	for name, c := range map[string]struct {
		say      func() plan.Finding
		rollback plan.Status
		warning  string
	}{
		"it is back":     {func() plan.Finding { return yes }, plan.StatusPassed, ""},
		"it is not back": {func() plan.Finding { return plan.Failed("something is missing", "").ForGood() }, plan.StatusFailed, "the old state was put back, and is not proven to be: back"},
		"nobody can say": {func() plan.Finding { return plan.Skipped("no node answers") }, plan.StatusFailed, "the old state was put back, and is not proven to be: no check could be evaluated"},
	} {
		t.Run(name, func(t *testing.T) {
			r := walk(t, func(s *script, _ func()) {
				s.do(plan.Recover, func(context.Context) error { return errNo })
				s.back(c.say)
			}, engine.Options{})
			last := r.events[len(r.events)-1].(plan.RunFinished)
			if r.Verdict != plan.VerdictFailed || last.Rollback != c.rollback || r.warnings() != c.warning {
				t.Errorf("%s, rollback %s, warnings %q", r.Verdict, last.Rollback, r.warnings())
			}
			// What was made on the cluster is removed either way: it answers.
			if !slices.Contains(r.done, "close tidy=true") || r.finding("back").Status == "" {
				t.Errorf("%q", r.done)
			}
		})
	}
}

func TestUndo(t *testing.T) {
	began := plan.Marks{BreakBegan: time.Now(), OutageBegan: time.Now()}
	for name, c := range map[string]struct {
		past    engine.Past
		build   func(s *script, stop func())
		verdict plan.Verdict
		reason  string
		done    string
	}{
		"in the outage": {
			engine.Past{Marks: began}, func(s *script, _ func()) { s.back(func() plan.Finding { return yes }) }, plan.VerdictPassed, "", "undo-1, undo-2, back, back, close tidy=true",
		},
		"before the outage": {
			engine.Past{}, func(*script, func()) {}, plan.VerdictPassed, "", "close tidy=true",
		},
		"it can't be": {
			engine.Past{Marks: began}, func(s *script, _ func()) { s.Rollback[0].Do = func(context.Context) error { return errNo } }, plan.VerdictFailed,
			"the old state could not be put back", "close tidy=false",
		},
		"it is not back": {
			engine.Past{Marks: began}, func(s *script, _ func()) { s.back(func() plan.Finding { return plan.Failed("no", "").ForGood() }) }, plan.VerdictFailed,
			"the old state is not proven to be back: back", "undo-1, undo-2, back, close tidy=true",
		},
		"interrupted before it begins": {
			engine.Past{Marks: began}, func(_ *script, stop func()) { stop() }, plan.VerdictInterrupted, "interrupted before the old state was put back", "",
		},
		"interrupted in its midst, it goes on": {
			engine.Past{Marks: began}, func(s *script, stop func()) {
				s.Rollback[0].Do = func(ctx context.Context) error { stop(); return ctx.Err() }
				s.back(func() plan.Finding { return plan.Failed("no", "").ForGood() })
			}, plan.VerdictFailed, "the old state is not proven to be back: back", "undo-2, back, close tidy=true",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := walkWith(t, engine.Undo, func(s *script, stop func()) {
				c.build(s, stop)
				s.Close = func(_ context.Context, tidy bool) error { s.note(fmt.Sprintf("close tidy=%v", tidy)); return nil }
			}, engine.Options{Past: &c.past})
			if r.Verdict != c.verdict || r.Reason != c.reason || strings.Join(r.done, ", ") != c.done {
				t.Errorf("%s: %s: %q, want\n%s: %s: %q", r.Verdict, r.Reason, r.done, c.verdict, c.reason, c.done)
			}
			if last := r.events[len(r.events)-1].(plan.RunFinished); last.Verdict != plan.VerdictInterrupted {
				t.Errorf("the run is said to be %s", last.Verdict)
			}
		})
	}
}
