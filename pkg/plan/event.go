package plan

import "time"

// Event is one entry of the stream that the engine emits while it walks a plan. The types below are all there are.
type Event interface{ event() }

// Observer receives every event of a run, in order, on the engine's goroutine. It must not block for long.
type Observer interface{ Observe(Event) }

// ObserverFunc makes an Observer of a function.
type ObserverFunc func(Event)

// Observe calls f.
func (f ObserverFunc) Observe(e Event) { f(e) }

// RunStarted is the first event of every run.
type RunStarted struct {
	At   time.Time
	ID   string
	Plan Plan
	// Resumed is how many times another process has carried the run on; At is when this one did, or when the run began.
	Resumed int
}

// StepStarted says that a step is about to be carried out.
type StepStarted struct {
	At   time.Time
	Step Step
	// Number counts from 1; Of is how many steps the plan has.
	Number, Of int
}

// StepFinished says how a step ended. Steps that were never reached are reported as skipped.
type StepFinished struct {
	At      time.Time
	Step    Step
	Status  Status
	Elapsed time.Duration
	// Earlier says that an earlier process carried it out; Elapsed is how long that took.
	Earlier bool
	// Err says why the step failed; nil otherwise.
	Err error
}

// CheckStarted says that a check is about to be evaluated.
type CheckStarted struct {
	At    time.Time
	Check Check
}

// CheckFinished carries what a check finally saw. It comes a second time, failed, for one that was true and no longer is when it is looked at once more: the last one counts.
type CheckFinished struct {
	At      time.Time
	Check   Check
	Finding Finding
	Elapsed time.Duration
}

// ConfirmStarted says that checks that were true are about to be looked at once more.
type ConfirmStarted struct {
	At time.Time
	// Phase is the checks'.
	Phase Phase
	// Checks is how many.
	Checks int
}

// ConfirmFinished says that they have been.
type ConfirmFinished struct {
	At    time.Time
	Phase Phase
}

// Measured carries the numbers of the run.
type Measured struct {
	At          time.Time
	Measurement Measurement
}

// EvidenceKept names files that were written to explain a failure.
type EvidenceKept struct {
	At    time.Time
	Paths []string
}

// Warning is something the person should know that doesn't change the verdict.
type Warning struct {
	At      time.Time
	Message string
}

// Judged says what the verdict is going to be, before anything is done about it. It is for the journal only: who carries the run on must not come to another one.
type Judged struct {
	At      time.Time
	Verdict Verdict
	Reason  string
	// Proof is what a run was judged by that passed: nobody can look again once it has begun to remove what it made on the cluster. Nil for other verdicts.
	Proof *Proof
}

// Proof is what was found in a recovery that is proven.
type Proof struct {
	Checks []Proven `json:"checks"`
	// Measurement is without its Probe.
	Measurement Measurement `json:"measurement"`
}

// Proven is what a check of phase Prove saw in the end.
type Proven struct {
	Check   string        `json:"check"`
	Finding Finding       `json:"finding"`
	Elapsed time.Duration `json:"elapsed"`
}

// RunFinished is the last event of every run.
type RunFinished struct {
	At      time.Time
	Verdict Verdict
	// Reason says in one line why the verdict is not passed; empty when it is.
	Reason string
	// Rollback says whether the old state was put back; empty when there was no need to, or when it was not to be.
	Rollback Status
	Elapsed  time.Duration
}

func (RunStarted) event()      {}
func (StepStarted) event()     {}
func (StepFinished) event()    {}
func (CheckStarted) event()    {}
func (CheckFinished) event()   {}
func (ConfirmStarted) event()  {}
func (ConfirmFinished) event() {}
func (Measured) event()        {}
func (EvidenceKept) event()    {}
func (Warning) event()         {}
func (Judged) event()          {}
func (RunFinished) event()     {}
