package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Typist carries out the second face of a step: it types the command on the node that it names.
type Typist interface {
	Type(ctx context.Context, c plan.Command) error
}

// Journal keeps on disk what a run is about to do and what it has done.
type Journal interface {
	// Record returns when it is kept: that the run begins or has ended, that a step is about to be carried out or was. Other events it needn't keep.
	Record(ctx context.Context, e plan.Event) error
}

// Options say how a plan is walked. The zero value of a duration means the default named beside it.
type Options struct {
	// ID names the run in every report.
	ID string
	// Observers receive every event, in order.
	Observers []plan.Observer
	// Journal, where set, is told of each step before it is begun, and that it has ended after observers are. While it can't keep them nothing is begun. Once the control plane is down the
	// run goes on all the same: a cluster that is down is worse than a journal with a gap.
	Journal Journal
	// Past is what an earlier process did of the same run; see Past.
	Past *Past
	// OutageLimit bounds the recovery from the step that takes the control plane down to the last one. A recovery that takes longer has failed, and is undone.
	// Default DefaultOutageLimit.
	OutageLimit time.Duration
	// StepTimeout bounds a step that has no bound of its own. Default 3 minutes.
	StepTimeout time.Duration
	// Settle is how long after the recovery the checks, all together, may take to become true; those that begin when others have their answers
	// (plan.Check.Alters), and what follows them, have it once more, and so have those that say for how long no answer is to be expected (plan.Finding.Due). Default 75 s: a client
	// that lost its API server asks again in growing intervals of up to 30 s, which chance may double (the backoff of
	// reflectors in client-go's tools/cache), and only then learns what has become of the world.
	Settle time.Duration
	// Patience is how long each of these checks may take in any case, however much of Settle was over when it was first
	// looked at, and how long a check of phase Protect may take to be evaluated. Default 10 s.
	Patience time.Duration
	// LookTimeout bounds one evaluation of a check that has no bound of its own. Default 15 s.
	LookTimeout time.Duration
	// Poll is the interval between two looks. Default 100 ms.
	Poll time.Duration
	// EvidenceDir is where what explains a failure is kept; empty means nowhere.
	EvidenceDir string
	// Typist, when set, types the commands of each step that has any, in place of what drill does itself.
	Typist Typist
	// KeepState leaves the cluster as the run left it: nothing is rolled back, nothing tidied up.
	KeepState bool
	// Disposable says that the cluster is thrown away after the run, so there is no point in rolling it back or
	// tidying it up.
	Disposable bool
}

// DefaultOutageLimit is the default of Options.OutageLimit.
const DefaultOutageLimit = 2 * time.Minute

// Defaults of Options.
const (
	defaultStepTimeout = 3 * time.Minute
	defaultSettle      = 75 * time.Second
	defaultPatience    = 10 * time.Second
	defaultLook        = 15 * time.Second
	defaultPoll        = 100 * time.Millisecond
	// afterwards bounds what is done after the verdict is known or the run was interrupted: evidence, closing.
	afterwards = 30 * time.Second
	// measuring bounds the numbers of the run, for which a whole snapshot may have to be read.
	measuring = 5 * time.Minute
)

// Outcome is the answer of a run.
type Outcome struct {
	Verdict plan.Verdict
	// Reason says in one line why the verdict is not passed.
	Reason string
}

// Run walks p and returns its outcome. Every failure is an outcome, told to the observers too; the error is only for a
// plan that can't be walked, in which case nothing was touched and no event was emitted.
//
// When ctx ends, the step at hand is told to stop, the run is rolled back if the control plane had been taken down, and the
// verdict is interrupted.
func Run(ctx context.Context, p plan.Plan, o Options) (Outcome, error) {
	if err := Validate(p); err != nil {
		return Outcome{}, err
	}
	w := newWalk(p, o)
	return w.run(ctx), nil
}

// Undo puts the old state back that a run of p has left, whatever it came to, and says whether that is proven: the outcome is passed if it is, and failed if not. Like
// Run it tells observers and the journal of all it does. Once it has begun it goes on when ctx ends: a control plane that is taken down is to come back.
func Undo(ctx context.Context, p plan.Plan, o Options) (Outcome, error) {
	if err := Validate(p); err != nil {
		return Outcome{}, err
	}
	return newWalk(p, o).undo(ctx), nil
}

func newWalk(p plan.Plan, o Options) *walk {
	now := time.Now()
	w := &walk{plan: p, opt: withDefaults(o), began: now, entered: now}
	if o.Past != nil {
		w.marks = o.Past.Marks
		if !o.Past.Began.IsZero() {
			w.began = o.Past.Began
		}
	}
	return w
}

func withDefaults(o Options) Options {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&o.StepTimeout, defaultStepTimeout)
	set(&o.OutageLimit, DefaultOutageLimit)
	set(&o.Settle, defaultSettle)
	set(&o.Patience, defaultPatience)
	set(&o.LookTimeout, defaultLook)
	set(&o.Poll, defaultPoll)
	return o
}

// Validate says whether a plan can be walked: steps with unique names that do something, in phases that never go back; steps
// of the rollback likewise; checks with unique names that belong to a phase in which checks are evaluated, and at least one in Prove.
func Validate(p plan.Plan) error {
	if err := validate(p); err != nil {
		return fmt.Errorf("plan %s: %w", p.Scenario.Name, err)
	}
	return nil
}

func validate(p plan.Plan) error {
	seen := map[string]bool{}
	if err := validateSteps(p.Steps, seen, plan.Arrange, plan.Protect, plan.Break, plan.Recover); err != nil {
		return err
	}
	if err := validateSteps(p.Rollback, seen, plan.Rollback); err != nil {
		return err
	}
	if err := validateChecks(p.Checks, plan.Protect, plan.Prove); err != nil {
		return err
	}
	if !slices.ContainsFunc(p.Checks, func(c plan.Check) bool { return c.Phase == plan.Prove }) {
		return fmt.Errorf("no check in phase %q, so nothing could be proven", plan.Prove)
	}
	return validateChecks(p.RollbackChecks, plan.Rollback)
}

// validateSteps says whether steps can be walked whose phases are to come in this order. Names are unique across all that seen holds.
func validateSteps(steps []plan.Step, seen map[string]bool, order ...plan.Phase) error {
	last := 0
	for i, s := range steps {
		at := slices.Index(order, s.Phase)
		switch {
		case s.Name == "" || s.Title == "":
			return fmt.Errorf("a step of phase %q has no name or no title", s.Phase)
		case seen[s.Name]:
			return fmt.Errorf("two steps are named %q", s.Name)
		case at < 0:
			return fmt.Errorf("step %q is of phase %q, where it doesn't belong", s.Name, s.Phase)
		case at < last:
			return fmt.Errorf("step %q of phase %q comes after a later phase", s.Name, s.Phase)
		case s.Do == nil:
			return fmt.Errorf("step %q does nothing", s.Name)
		case s.Until != "" && !slices.ContainsFunc(steps[i+1:], func(later plan.Step) bool { return later.Name == s.Until }):
			return fmt.Errorf("step %q is to hold until step %q, and none of that name comes after it", s.Name, s.Until)
		}
		seen[s.Name], last = true, at
	}
	return nil
}

// validateChecks says whether these checks can be evaluated, in phases in which they are.
func validateChecks(checks []plan.Check, phases ...plan.Phase) error {
	seen := map[string]bool{}
	for _, c := range checks {
		switch {
		case c.Name == "" || c.Look == nil:
			return fmt.Errorf("check %q has no name or looks at nothing", c.Name)
		case seen[c.Name]:
			return fmt.Errorf("two checks are named %q", c.Name)
		case !slices.Contains(phases, c.Phase):
			return fmt.Errorf("check %q is of phase %q, in which it isn't evaluated", c.Name, c.Phase)
		}
		seen[c.Name] = true
	}
	return nil
}

// walk is one run of a plan.
type walk struct {
	plan  plan.Plan
	opt   Options
	marks plan.Marks
	began time.Time
	// entered is when this process took the run up.
	entered time.Time
	// gap says that the journal has one.
	gap bool
	// verdict and reason hold the first thing that went wrong; later trouble doesn't hide it.
	verdict  plan.Verdict
	reason   string
	ran      int         // checks of phase Prove that passed or failed
	untrue   []string    // the checks that failed
	proof    plan.Proof  // what the checks of phase Prove saw, and what was measured
	undone   plan.Status // of the rollback; empty when there was none
	regained int         // checks of the rollback that passed
	unproven []string    // the checks of the rollback that failed
}

func (w *walk) emit(e plan.Event) {
	if f, ok := e.(plan.CheckFinished); ok && f.Check.Phase == plan.Prove {
		w.proof.Checks = append(slices.DeleteFunc(w.proof.Checks, func(p plan.Proven) bool { return p.Check == f.Check.Name }), plan.Proven{Check: f.Check.Name, Finding: f.Finding, Elapsed: f.Elapsed})
	}
	for _, o := range w.opt.Observers {
		o.Observe(e)
	}
}

func (w *walk) warn(format string, args ...any) {
	w.emit(plan.Warning{At: time.Now(), Message: fmt.Sprintf(format, args...)})
}

// fail records the first reason for which the run can't pass.
func (w *walk) fail(v plan.Verdict, reason string) {
	if w.verdict == "" {
		w.verdict, w.reason = v, reason
	}
}

func (w *walk) run(ctx context.Context) Outcome {
	w.start(ctx)
	if w.replays() {
		ctx = context.WithoutCancel(ctx) // what is proven must not be put back because somebody is in a hurry
		w.steps(ctx)
		w.proven(*w.opt.Past.Proof)
	} else {
		w.steps(ctx)
		w.clear(ctx)
		w.checks(ctx, plan.Prove)
	}
	w.judge()
	if w.verdict == plan.VerdictFailed {
		_ = w.unkept(w.record(context.WithoutCancel(ctx), plan.Judged{At: time.Now(), Verdict: w.verdict, Reason: w.reason}))
	}
	w.after(ctx)
	return w.finish(ctx)
}

// start tells that the run begins. One that can't be kept a journal of is not begun.
func (w *walk) start(ctx context.Context) {
	e := plan.RunStarted{At: w.began, ID: w.opt.ID, Plan: w.plan}
	if w.opt.Past != nil {
		e.Resumed = w.opt.Past.Resumed
	}
	err := w.record(ctx, e)
	w.emit(e)
	for _, message := range w.plan.Warnings {
		w.warn("%s", message)
	}
	if err = w.unkept(err); err != nil && w.marks.OutageBegan.IsZero() {
		w.fail(plan.VerdictBroken, err.Error())
	}
}

// finish tells what the run came to. What is told can't be taken back, so it goes on when the run was interrupted.
func (w *walk) finish(ctx context.Context) Outcome {
	e := plan.RunFinished{At: time.Now(), Verdict: w.verdict, Reason: w.reason, Rollback: w.undone, Elapsed: time.Since(w.began)}
	_ = w.unkept(w.record(context.WithoutCancel(ctx), e))
	w.emit(e)
	return Outcome{Verdict: w.verdict, Reason: w.reason}
}

// undo is for a run that another process has left.
func (w *walk) undo(ctx context.Context) Outcome {
	w.start(ctx)
	for _, s := range w.plan.Steps {
		w.past(s)
	}
	if past := w.opt.Past; past != nil && past.Verdict != "" {
		w.fail(past.Verdict, past.Reason)
	}
	w.fail(plan.VerdictInterrupted, "the run did not come to its end, and was undone afterwards")
	if ctx.Err() != nil && !w.marks.OutageBegan.IsZero() {
		w.undone = plan.StatusFailed
		_ = w.finish(ctx)
		return Outcome{plan.VerdictInterrupted, "interrupted before the old state was put back"}
	}
	// What takes a control plane down must not be left in its midst.
	ctx = context.WithoutCancel(ctx)
	undone := w.rollback(ctx)
	w.close(ctx, undone)
	_ = w.finish(ctx)
	switch {
	case len(w.unproven) > 0:
		return Outcome{plan.VerdictFailed, "the old state is not proven to be back: " + strings.Join(w.unproven, ", ")}
	case undone:
		return Outcome{Verdict: plan.VerdictPassed}
	default:
		return Outcome{plan.VerdictFailed, "the old state could not be put back"}
	}
}

// errJournal says that a transition could not be kept, so that it was not made.
var errJournal = errors.New("the journal can't be kept")

// record keeps a transition.
func (w *walk) record(ctx context.Context, e plan.Event) error {
	if w.opt.Journal == nil {
		return nil
	}
	return w.opt.Journal.Record(ctx, e)
}

// unkept says, once, that a transition could not be kept. Before the outage that is reason enough not to make it; once the control plane is down, the run goes on.
func (w *walk) unkept(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: %w", errJournal, err)
	if !w.gap {
		w.gap = true
		w.warn("%v; should drill be killed now, nobody can tell how far it came", err)
	}
	return err
}

// steps carries out the steps in order, and the checks of phase Protect as soon as its last step is done, that is before
// anything is broken.
func (w *walk) steps(ctx context.Context) {
	protected := false
	protect := func() {
		if !protected {
			protected = true
			w.protected(ctx)
		}
	}
	for i, s := range w.plan.Steps {
		if s.Phase != plan.Arrange && s.Phase != plan.Protect {
			protect()
		}
		if ctx.Err() != nil { // a step that pays no heed to its context must not begin, least of all one that breaks something
			w.fail(plan.VerdictInterrupted, fmt.Sprintf("interrupted before step %s", s.Name))
		}
		if (w.replays() || !w.again(s)) && w.past(s) {
			continue
		}
		if w.verdict != "" {
			w.skip(s)
			continue
		}
		if err := w.step(ctx, s, i+1, len(w.plan.Steps)); err != nil {
			w.failStep(ctx, s, err)
		}
	}
	protect()
}

// protected evaluates the checks of phase Protect. Where an earlier process has begun to break things they were true, or it would not have; and what they ask may be down by now.
func (w *walk) protected(ctx context.Context) {
	if w.opt.Past == nil || w.opt.Past.Marks.BreakBegan.IsZero() {
		w.checks(ctx, plan.Protect)
		return
	}
	for _, c := range w.plan.Checks {
		if c.Phase == plan.Protect {
			now := time.Now()
			w.emit(plan.CheckStarted{At: now, Check: c})
			w.emit(plan.CheckFinished{At: now, Check: c, Finding: plan.Passed("it was true before anything was broken, when the run was not resumed yet")})
		}
	}
}

// again says whether a step is to be carried out though an earlier process may have done so: one that lives in the process, as long as there is something to see for it, and one of which a later
// step needs what may not have lasted.
func (w *walk) again(s plan.Step) bool {
	return s.Live && w.marks.OutageBegan.IsZero() || s.Until != "" && w.opt.Past != nil && !w.opt.Past.Begun[s.Until]
}

// clear removes what an earlier process may have made while it looked. Where it can't be, the checks say what is in their way.
func (w *walk) clear(ctx context.Context) {
	if w.opt.Past == nil || w.plan.Clear == nil || w.verdict != "" {
		return
	}
	if err := w.within(ctx, afterwards, "removing what was made before the run was resumed", w.plan.Clear); err != nil {
		w.warn("what the checks made before the run was resumed may still be there: %v", err)
	}
}

// proven tells of the checks of which an earlier process has the answers. What they looked at may be gone by now, because it has begun to clean up.
func (w *walk) proven(earlier plan.Proof) {
	for _, c := range w.plan.Checks {
		i := slices.IndexFunc(earlier.Checks, func(p plan.Proven) bool { return p.Check == c.Name })
		if c.Phase != plan.Prove || i < 0 {
			continue
		}
		now, p := time.Now(), earlier.Checks[i]
		w.emit(plan.CheckStarted{At: now, Check: c})
		w.emit(plan.CheckFinished{At: now, Check: c, Finding: p.Finding, Elapsed: p.Elapsed})
		if p.Finding.Status == plan.StatusPassed {
			w.ran++
		}
	}
}

// replays says whether an earlier process has proven the recovery, so that nothing is left to do but to tell of it and to clean up.
func (w *walk) replays() bool { return w.opt.Past != nil && w.opt.Past.Proof != nil }

// past tells of a step that an earlier process has carried out. What is proven was carried out, whether or not the journal could be written.
func (w *walk) past(s plan.Step) bool {
	if w.opt.Past == nil {
		return false
	}
	elapsed, done := w.opt.Past.Done[s.Name]
	if done = done || w.replays(); done {
		w.emit(plan.StepFinished{At: time.Now(), Step: s, Status: plan.StatusPassed, Elapsed: elapsed, Earlier: true})
	}
	return done
}

func (w *walk) skip(s plan.Step) {
	w.emit(plan.StepFinished{At: time.Now(), Step: s, Status: plan.StatusSkipped})
}

func (w *walk) failStep(ctx context.Context, s plan.Step, err error) {
	switch {
	case ctx.Err() != nil:
		w.fail(plan.VerdictInterrupted, fmt.Sprintf("interrupted in step %s", s.Name))
	case errors.Is(err, errJournal):
		w.fail(plan.VerdictBroken, fmt.Sprintf("step %s was not begun: %v", s.Name, err))
	default:
		w.fail(s.Phase.Blames(), fmt.Sprintf("step %s: %v", s.Name, err))
	}
}

// step carries out one step within its bound.
func (w *walk) step(ctx context.Context, s plan.Step, number, of int) error {
	started := plan.StepStarted{At: time.Now(), Step: s, Number: number, Of: of}
	err := w.unkept(w.record(ctx, started))
	if err == nil && w.gap {
		err = fmt.Errorf("%w: an earlier transition is missing in it", errJournal)
	}
	if err != nil && w.marks.OutageBegan.IsZero() {
		w.skip(s) // it was not begun
		return err
	}
	// The clock begins when the journal is written, and not before.
	started.At = time.Now()
	if s.Phase == plan.Break && w.marks.BreakBegan.IsZero() {
		w.marks.BreakBegan = started.At
	}
	if s.Outage && w.marks.OutageBegan.IsZero() {
		w.marks.OutageBegan = started.At
	}
	w.emit(started)
	bound, cause := w.bound(s)
	err = w.withinCause(ctx, bound, cause, "the step", func(ctx context.Context) error {
		err := w.act(ctx, s)
		if err == nil && s.Learn != nil {
			err = s.Learn(ctx)
		}
		return err
	})
	status := plan.StatusPassed
	if err != nil {
		status = plan.StatusFailed
	}
	finished := plan.StepFinished{At: time.Now(), Step: s, Status: status, Elapsed: time.Since(started.At), Err: err}
	w.emit(finished)
	// What was done is done. Before the outage the next step will not begin if it can't be kept, either.
	_ = w.unkept(w.record(context.WithoutCancel(ctx), finished))
	return err
}

// bound is how long a step may take, and what to say when it has taken longer.
func (w *walk) bound(s plan.Step) (time.Duration, error) {
	bound := s.Timeout
	if bound == 0 {
		bound = w.opt.StepTimeout
	}
	if s.Phase == plan.Recover && !w.marks.OutageBegan.IsZero() {
		from := w.marks.OutageBegan
		if from.Before(w.entered) { // nobody worked on it in between
			from = w.entered
		}
		if left := time.Until(from.Add(w.opt.OutageLimit)); left < bound {
			return max(0, left), fmt.Errorf("the control plane was not back within the limit of %s", w.opt.OutageLimit)
		}
	}
	return bound, fmt.Errorf("the step took longer than its bound of %s", bound)
}

// within calls f with a context that ends after the bound. When that is why f failed, the error says so besides what f last
// said. A panic becomes an error: a defect of drill must not leave a control plane down that a rollback can bring back.
func (w *walk) within(ctx context.Context, bound time.Duration, what string, f func(context.Context) error) error {
	return w.withinCause(ctx, bound, fmt.Errorf("%s took longer than its bound of %s", what, bound), what, f)
}

// withinCause is within, with what to say when the bound is over.
func (w *walk) withinCause(ctx context.Context, bound time.Duration, cause error, what string, f func(context.Context) error) (err error) {
	bounded, cancel := context.WithTimeoutCause(ctx, bound, cause)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			w.warn("%s panicked: %v\n%s", what, v, debug.Stack())
			err = fmt.Errorf("panic: %v; this is a defect of drill", v)
		}
	}()
	if bound <= 0 {
		return cause
	}
	err = f(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil && !errors.Is(err, context.Cause(bounded)) {
		err = fmt.Errorf("%w: %w", context.Cause(bounded), err)
	}
	return err
}

// act does what the step says, by drill's own hand or by typing its commands.
func (w *walk) act(ctx context.Context, s plan.Step) error {
	if w.opt.Typist == nil || len(s.Commands) == 0 {
		return s.Do(ctx)
	}
	for _, c := range s.Commands {
		if err := w.opt.Typist.Type(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// checks evaluates the checks of a phase, in rounds: each that is not true yet is looked at again when all the others have had their turn, so that the time
// to settle is one for all of them. When all of the proof have their answers, each that was true is looked at once more. After trouble they are reported
// as skipped: what they would see says nothing about the procedure any more.
func (w *walk) checks(ctx context.Context, phase plan.Phase) {
	var checks []plan.Check
	for _, c := range w.plan.Checks {
		if c.Phase == phase {
			checks = append(checks, c)
		}
	}
	w.evaluate(ctx, checks, phase, w.reason)
}

// evaluate is checks, for checks of one phase. Where there was trouble, none is evaluated.
func (w *walk) evaluate(ctx context.Context, checks []plan.Check, phase plan.Phase, trouble string) {
	settled := time.Now()
	if phase != plan.Protect {
		settled = settled.Add(w.opt.Settle)
	}
	var looks []*look
	for _, c := range checks {
		if c.Alters {
			w.settle(ctx, looks)
			w.confirm(ctx, looks, func(c plan.Check) bool { return c.Undisturbed })
			// What was waited for before must not be taken from those that could not begin.
			settled = time.Now().Add(w.opt.Settle)
		}
		if trouble == "" && ctx.Err() != nil {
			trouble = fmt.Sprintf("interrupted before check %s", c.Name)
			w.fail(plan.VerdictInterrupted, trouble)
		}
		if trouble != "" {
			w.emit(plan.CheckFinished{At: time.Now(), Check: c, Finding: plan.Skipped("not evaluated: " + trouble)})
			continue
		}
		l := &look{check: c, began: time.Now(), until: settled}
		if patient := l.began.Add(w.opt.Patience); patient.After(settled) {
			l.until = patient
		}
		looks = append(looks, l)
		w.emit(plan.CheckStarted{At: l.began, Check: c})
		if w.look(ctx, l); l.cut {
			trouble = w.reason
		}
	}
	w.settle(ctx, looks)
	w.confirm(ctx, looks, func(c plan.Check) bool { return !c.Alters })
}

// confirm looks once more at each of these checks that was true after the recovery, or after a rollback, and was not looked at again yet, whatever the others say: somebody may have acted since on
// what it remembers from before, and all are to hold at the same time. What no longer is true has Patience to become so again.
func (w *walk) confirm(ctx context.Context, looks []*look, concerns func(plan.Check) bool) {
	var again []*look
	for _, l := range looks {
		if l.finding.Status == plan.StatusPassed && l.check.Phase != plan.Protect && !l.confirmed && concerns(l.check) {
			l.confirmed = true
			again = append(again, &look{check: l.check, began: l.began, again: true})
		}
	}
	if len(again) == 0 {
		return
	}
	if ctx.Err() != nil {
		w.fail(plan.VerdictInterrupted, "interrupted before the checks were looked at again")
		return
	}
	phase := again[0].check.Phase
	w.emit(plan.ConfirmStarted{At: time.Now(), Phase: phase, Checks: len(again)})
	w.settle(ctx, again)
	w.emit(plan.ConfirmFinished{At: time.Now(), Phase: phase})
}

// look is one check on its way to an answer.
type look struct {
	check plan.Check
	began time.Time
	// until is when no further look is taken. One that is taken again has none until it is found untrue.
	until   time.Time
	finding plan.Finding
	// unread says that there is no answer: the check could not be evaluated.
	unread bool
	// done says that the finding is the answer, and cut that it is one only because the run was interrupted.
	done, cut bool
	// again says that it has an answer already, which stands if it is true still, and confirmed that it was looked at again.
	again, confirmed bool
}

// settle looks again at the checks that are not done, in rounds, until all are.
func (w *walk) settle(ctx context.Context, looks []*look) {
	open := slices.Clone(looks)
	tick := time.NewTicker(w.opt.Poll)
	defer tick.Stop()
	for {
		open = slices.DeleteFunc(open, func(l *look) bool { return l.done })
		if len(open) == 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		for _, l := range open {
			w.look(ctx, l)
		}
	}
}

// look evaluates a check once. It is done when it is true, doesn't apply, can't change any more, has used up its time, or when the run was
// interrupted.
func (w *walk) look(ctx context.Context, l *look) {
	if l.finding.Status == "" || ctx.Err() == nil {
		l.finding, l.unread = w.lookOnce(ctx, l.check)
	}
	l.cut = ctx.Err() != nil && l.finding.Status == plan.StatusFailed
	if l.until.IsZero() {
		l.until = time.Now().Add(w.opt.Patience)
	}
	// What is protected lies still: an answer about it doesn't change.
	final := l.finding.Final || l.check.Phase == plan.Protect && !l.unread
	until := l.until
	if most := until.Add(w.opt.Settle); l.finding.Due.After(most) {
		until = most
	} else if l.finding.Due.After(until) {
		until = l.finding.Due
	}
	l.done = l.finding.Status != plan.StatusFailed || final || l.cut || !time.Now().Before(until)
	if l.done && (!l.again || !w.stands(l)) {
		w.emit(plan.CheckFinished{At: time.Now(), Check: l.check, Finding: l.finding, Elapsed: time.Since(l.began)})
		w.count(l)
	}
}

// stands says whether the answer from before holds, after looking again. If it doesn't, the finding says so.
func (w *walk) stands(l *look) bool {
	switch {
	case l.cut:
		w.fail(plan.VerdictInterrupted, fmt.Sprintf("interrupted when check %s was looked at again", l.check.Name))
		return true
	case l.finding.Status == plan.StatusSkipped:
		l.finding = plan.Failed("it doesn't apply any more: "+l.finding.Detail, "somebody changed the cluster while it was being checked")
	case l.finding.Status == plan.StatusFailed:
		l.finding.Detail = "no longer true when all checks were looked at again: " + l.finding.Detail
	}
	return l.finding.Status == plan.StatusPassed
}

// count takes an answer into account. A check that fails is an answer about the backup or the procedure, whatever its phase. One that could not be
// evaluated is a failure of the recovery, too, where it looks at what was recovered, and the drill's own before that.
func (w *walk) count(l *look) {
	if l.check.Phase == plan.Prove && l.finding.Status != plan.StatusSkipped {
		w.ran++
	}
	switch {
	case l.finding.Status != plan.StatusFailed:
		if l.check.Phase == plan.Rollback && l.finding.Status == plan.StatusPassed {
			w.regained++
		}
	case l.check.Phase == plan.Rollback:
		if !slices.Contains(w.unproven, l.check.Name) {
			w.unproven = append(w.unproven, l.check.Name)
		}
	case l.cut:
		w.fail(plan.VerdictInterrupted, fmt.Sprintf("interrupted in check %s", l.check.Name))
	case l.unread && l.check.Phase == plan.Protect:
		w.fail(plan.VerdictBroken, fmt.Sprintf("check %s %s", l.check.Name, l.finding.Detail))
	default:
		w.untrue = append(w.untrue, l.check.Name)
		w.fail(plan.VerdictFailed, fmt.Sprintf("check %s: %s", l.check.Name, l.finding.Detail))
	}
}

// lookOnce evaluates a check. Unread says that it could not be evaluated, which the finding tells of.
func (w *walk) lookOnce(ctx context.Context, c plan.Check) (f plan.Finding, unread bool) {
	bound := c.Timeout
	if bound == 0 {
		bound = w.opt.LookTimeout
	}
	err := w.within(ctx, bound, "the look", func(ctx context.Context) (err error) {
		f, err = c.Look(ctx)
		return err
	})
	switch {
	case err != nil:
		return plan.Failed("could not be evaluated: "+err.Error(), "see the error; a view that can't be read proves nothing"), true
	case f.Status != plan.StatusPassed && f.Status != plan.StatusFailed && f.Status != plan.StatusSkipped:
		return plan.Failed(fmt.Sprintf("the check gave no answer (status %q)", f.Status), "this is a defect of drill"), true
	default:
		return f, false
	}
}

// judge fills in the verdict of a run in which nothing went wrong, and names every check that failed in one where something did.
func (w *walk) judge() {
	switch {
	case w.verdict == plan.VerdictFailed && len(w.untrue) > 1:
		w.reason = fmt.Sprintf("%d checks failed: %s; %s", len(w.untrue), strings.Join(w.untrue, ", "), w.reason)
	case w.verdict != "":
	case w.ran == 0:
		w.fail(plan.VerdictFailed, "no check could be evaluated, so nothing is proven")
	default:
		w.verdict = plan.VerdictPassed
	}
}

// after does what is due whatever the verdict: the numbers, the evidence of a failure, the old state put back, and what
// the plan left running closed. It goes on when the run was interrupted, within a bound of its own.
func (w *walk) after(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	switch {
	case w.replays():
		w.emit(plan.Measured{At: time.Now(), Measurement: w.opt.Past.Proof.Measurement})
	case w.plan.Measure != nil && w.verdict != plan.VerdictInterrupted: // who interrupts waits for the old state, not for numbers
		w.measure(ctx)
	}
	if w.verdict == plan.VerdictPassed && !w.replays() { // else it is in the journal
		_ = w.unkept(w.record(ctx, plan.Judged{At: time.Now(), Verdict: w.verdict, Proof: &w.proof}))
	}
	if w.plan.Evidence != nil && w.opt.EvidenceDir != "" && (w.verdict == plan.VerdictFailed || w.verdict == plan.VerdictBroken) {
		w.evidence(ctx)
	}
	undone := w.rollback(ctx)
	w.close(ctx, undone)
}

// close ends what the plan left running and, if the cluster can be talked to, removes what it made there.
func (w *walk) close(ctx context.Context, undone bool) {
	if w.plan.Close == nil {
		return
	}
	tidy := !w.opt.KeepState && !w.opt.Disposable && undone
	if err := w.within(ctx, afterwards, "cleaning up", func(ctx context.Context) error { return w.plan.Close(ctx, tidy) }); err != nil {
		w.warn(plan.CleanUpFailed+": %v", err)
	}
}

func (w *walk) measure(ctx context.Context) {
	var m plan.Measurement
	err := w.within(ctx, measuring, "measuring", func(ctx context.Context) (err error) {
		m, err = w.plan.Measure(ctx, w.marks)
		return err
	})
	if err != nil {
		w.warn("not everything could be measured: %v", err)
	}
	w.emit(plan.Measured{At: time.Now(), Measurement: m})
	w.proof.Measurement = m
	w.proof.Measurement.Probe = nil
}

func (w *walk) evidence(ctx context.Context) {
	var paths []string
	err := w.within(ctx, afterwards, "keeping evidence", func(ctx context.Context) (err error) {
		paths, err = w.plan.Evidence(ctx, w.opt.EvidenceDir)
		return err
	})
	if err != nil {
		w.warn("not all evidence could be kept: %v", err)
	}
	if len(paths) > 0 {
		w.emit(plan.EvidenceKept{At: time.Now(), Paths: paths})
	}
}

// rollback puts the old state back when the control plane was taken down and the recovery is not proven. It says whether
// the cluster can be talked to afterwards as far as the run knows.
func (w *walk) rollback(ctx context.Context) bool {
	if w.verdict == plan.VerdictPassed || w.marks.OutageBegan.IsZero() {
		return true
	}
	if w.opt.Disposable {
		return false
	}
	if w.opt.KeepState {
		w.warn("the cluster is left as it is, as was asked for%s", w.byHand())
		return false
	}
	w.undone = plan.StatusPassed
	for i, s := range w.plan.Rollback {
		if w.undone == plan.StatusFailed && !s.Always {
			w.skip(s)
			continue
		}
		err := w.step(ctx, s, i+1, len(w.plan.Rollback))
		switch {
		case err == nil:
		case s.Fallback:
			w.warn("the old state is put back without step %s: %v", s.Name, err)
		default:
			w.warn("the old state could not be put back, step %s: %v", s.Name, err)
			w.undone = plan.StatusFailed
		}
	}
	if w.undone == plan.StatusFailed {
		w.warn("the control plane may be down%s", w.byHand())
		return false
	}
	return w.proveUndone(ctx)
}

// proveUndone looks whether the old state is back. That the steps were carried out is not enough, here as little as after a recovery.
func (w *walk) proveUndone(ctx context.Context) bool {
	w.evaluate(ctx, w.plan.RollbackChecks, plan.Rollback, "")
	if len(w.unproven) == 0 && w.regained == 0 && len(w.plan.RollbackChecks) > 0 {
		w.unproven = []string{"no check could be evaluated"}
	}
	if len(w.unproven) > 0 {
		w.undone = plan.StatusFailed
		w.warn("the old state was put back, and is not proven to be: %s", strings.Join(w.unproven, ", "))
	}
	return true
}

// byHand tells how a person puts the old state back.
func (w *walk) byHand() string {
	var b strings.Builder
	on := map[string]bool{}
	for _, s := range w.plan.Rollback {
		for _, c := range s.Commands {
			fmt.Fprintf(&b, "\n  on %s: %s", c.On, c)
			on[c.On] = true
		}
	}
	if len(on) > 1 && w.opt.ID != "" { // members are restored from the same database, which a person would have to carry to the others
		b.Reset()
	}
	var told string
	if w.opt.ID != "" {
		told = fmt.Sprintf("; `drill rollback %s` puts the old state back", w.opt.ID)
	}
	if b.Len() > 0 {
		told += "; this does it by hand:" + b.String()
	}
	return told
}
