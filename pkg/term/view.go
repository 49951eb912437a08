package term

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

// View shows runs, one after another, and what goes on around them. While it is open, nothing else may write to its
// writer. Methods may be called concurrently.
type View struct {
	options Options

	mu     sync.Mutex
	screen screen
	closed bool
	// going is what is going on, the latest last; that one is shown.
	going []*going
	run   runState

	stop    chan struct{}
	stopped sync.WaitGroup
}

// runState is what a View knows of the run that it shows.
type runState struct {
	builder report.Builder
	phase   plan.Phase
	// current is the step or the check that is going on.
	current *going
	// open are the checks that have begun and not ended, by name.
	open    map[string]*going
	checks  int
	checked int
}

// going is something that was begun and hasn't ended.
type going struct {
	text, aside string
	began       time.Time
}

var _ plan.Observer = (*View)(nil)

// New returns a View that writes to w. On a terminal it redraws until Close is called.
func New(w io.Writer, o Options) *View {
	v := &View{options: o.withDefaults(), screen: screen{w: w}, stop: make(chan struct{})}
	if v.options.Interactive {
		v.stopped.Go(v.redraw)
	}
	return v
}

// Close takes away the line that is redrawn, and returns the first error that writing met. Whatever comes later is ignored.
func (v *View) Close() error {
	v.mu.Lock()
	if !v.closed {
		v.closed = true
		v.screen.show(nil, "")
		close(v.stop)
	}
	err := v.screen.err
	v.mu.Unlock()
	v.stopped.Wait()
	if err != nil {
		return fmt.Errorf("show progress: %w", err)
	}
	return nil
}

// Observe shows the next event of a run.
func (v *View) Observe(e plan.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.options.style()
	if started, ok := e.(plan.RunStarted); ok {
		v.endAll()
		v.run = runState{open: map[string]*going{}, checks: len(started.Plan.Checks)}
	}
	v.run.builder.Observe(e)
	var lines []string
	switch e := e.(type) {
	case plan.RunStarted:
		lines = s.runHeading(v.run.builder.Run())
	case plan.StepStarted:
		lines = v.enter(s, e.Step.Phase)
		v.begin(&going{text: e.Step.Title, aside: fmt.Sprintf("%d of %d", e.Number, e.Of), began: e.At})
	case plan.StepFinished:
		v.end(v.run.current)
		lines = append(v.enter(s, e.Step.Phase), s.done(e.Status, e.Elapsed, e.Step.Name, e.Step.Title+earlier(e)))
		if e.Err != nil {
			lines = append(lines, s.failure(e.Err)...)
		}
	case plan.CheckStarted:
		aside := "after the rollback"
		if e.Check.Phase != plan.Rollback {
			v.run.checked++
			aside = fmt.Sprintf("check %d of %d", v.run.checked, v.run.checks)
		}
		v.run.open[e.Check.Name] = v.begin(&going{text: "Check " + e.Check.Name, aside: aside, began: e.At})
	case plan.CheckFinished:
		v.end(v.run.open[e.Check.Name])
		// On a terminal they all stand in one table at the end, but for those of a rollback; plain lines are read while they come.
		if s.plain() || e.Check.Phase == plan.Rollback {
			lines = s.checkLines(e)
		}
	case plan.ConfirmStarted:
		v.begin(&going{text: fmt.Sprintf("Look once more at %d checks", e.Checks), began: e.At})
	case plan.ConfirmFinished:
		v.end(v.run.current)
	case plan.Warning:
		lines = s.hang(s.warn("warning: "), e.Message)
	case plan.RunFinished:
		v.endAll()
		r := v.run.builder.Run()
		lines = append(lines, "")
		if !s.plain() {
			lines = append(lines, s.checksTable(r)...)
		}
		lines = append(lines, s.summary(r)...)
	}
	v.show(s, lines)
}

// Say writes text as lines of their own, above the one that is redrawn.
func (v *View) Say(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.options.style()
	v.show(s, s.hang("", text))
}

// Report says where the report of the run is.
func (v *View) Report(paths ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var lines []string
	for _, p := range paths {
		lines = append(lines, "report  "+oneLine(p))
	}
	v.show(v.options.style(), lines)
}

// Activity is something that goes on outside of a run, shown like a step.
type Activity struct {
	view  *View
	title string
	going *going
	once  sync.Once
}

// Activity begins one; title says what is done, in the imperative. It must be ended with Done.
func (v *View) Activity(title string) *Activity {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := &Activity{view: v, title: title, going: &going{text: title, began: v.options.Now()}}
	v.going = append(v.going, a.going)
	v.show(v.options.style(), nil)
	return a
}

// Update says how far it is. It is seen on a terminal only, and until the next Update.
func (a *Activity) Update(text string) {
	a.view.mu.Lock()
	defer a.view.mu.Unlock()
	a.going.text = a.title
	if text != "" {
		a.going.text += ": " + text
	}
	a.view.show(a.view.options.style(), nil)
}

// Done ends it, with the error that it failed with, or nil; what was cancelled is told to be stopped. Further calls have no effect.
func (a *Activity) Done(err error) {
	a.once.Do(func() {
		v := a.view
		v.mu.Lock()
		defer v.mu.Unlock()
		v.end(a.going)
		s := v.options.style()
		status, title := plan.StatusPassed, a.title
		switch {
		case errors.Is(err, context.Canceled): // nothing is wrong with it
			status, title, err = plan.StatusSkipped, title+": stopped", nil
		case err != nil:
			status = plan.StatusFailed
		}
		lines := []string{s.done(status, v.options.Now().Sub(a.going.began), "", title)}
		if err != nil {
			lines = append(lines, s.failure(err)...)
		}
		v.show(s, lines)
	})
}

// failure is what stands below the line of something that failed: the whole error.
func (s style) failure(err error) []string {
	lines := s.hang("      ", err.Error())
	for i := range lines {
		lines[i] = s.bad(lines[i])
	}
	return lines
}

// earlier says of a step that it was carried out before the run was resumed.
func earlier(e plan.StepFinished) string {
	if e.Earlier {
		return " (done before the run was resumed)"
	}
	return ""
}

// checkLines are the plain lines of a check.
func (s style) checkLines(e plan.CheckFinished) []string {
	f, name := e.Finding, e.Check.Name
	if e.Check.Phase == plan.Rollback {
		name = "rollback-" + name // as its steps are named
	}
	return append([]string{s.done(f.Status, e.Elapsed, name, withoutFirst(f.Detail, f.Differences))},
		s.failedCheck(report.Check{Status: f.Status, Detail: f.Detail, Remedy: f.Remedy, Differences: f.Differences, Evidence: f.Evidence}, "    ")...)
}

// enter returns the heading of a phase when it begins. Plain lines have none: each stands for itself.
func (v *View) enter(s style, p plan.Phase) []string {
	if s.plain() || p == v.run.phase {
		return nil
	}
	v.run.phase = p
	return []string{s.strong(string(p))}
}

func (v *View) begin(g *going) *going {
	v.run.current = g
	v.going = append(v.going, g)
	return g
}

// endAll ends whatever of the run is still going on.
func (v *View) endAll() {
	v.end(v.run.current)
	for _, g := range v.run.open {
		v.end(g)
	}
}

func (v *View) end(g *going) {
	v.going = slices.DeleteFunc(v.going, func(other *going) bool { return other == g })
}

// show writes lines and draws what is going on.
func (v *View) show(s style, lines []string) {
	if v.closed {
		return
	}
	live := ""
	if n := len(v.going); n > 0 && !s.plain() {
		g := v.going[n-1]
		live = s.running(v.options.Now().Sub(g.began), g.text, g.aside)
	}
	v.screen.show(lines, live)
}

func (v *View) redraw() {
	tick := v.options.Tick
	if tick == nil {
		t := time.NewTicker(redrawEvery)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-v.stop:
			return
		case <-tick:
			v.mu.Lock()
			v.show(v.options.style(), nil)
			v.mu.Unlock()
		}
	}
}
