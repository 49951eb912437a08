package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
)

// State is what a journal tells of a run.
type State struct {
	Run Run
	// Owner is the process that took the run up last, and Resumed how many did so after the first.
	Owner   Owner
	Resumed int
	// Steps are those that were begun, in the order in which they first were.
	Steps []Step
	// BreakBegan and OutageBegan are when the first step of phase Break was begun, and the first that takes the control plane away; zero if none was.
	BreakBegan, OutageBegan time.Time
	// Undoing says that somebody began to put the old state back.
	Undoing bool
	// Judged is the verdict that was known before the run came to its end; empty as long as none was, or none that says more than the steps.
	Judged plan.Verdict
	// Proof is what it was judged by, where it passed.
	Proof *plan.Proof
	// End is what the run came to; nil as long as it has not.
	End *End
	// Cleaned is when all was removed that the run had left of the cluster's data; zero as long as it was not.
	Cleaned time.Time
}

// Step is what came of a step.
type Step struct {
	Name  string
	Phase plan.Phase
	// Status is empty for one that was begun and not ended.
	Status  plan.Status
	Seconds float64
	Error   string
}

// End is what a run came to.
type End struct {
	At       time.Time
	Verdict  plan.Verdict
	Reason   string
	Rollback plan.Status
}

func (s State) find(name string) int {
	return slices.IndexFunc(s.Steps, func(st Step) bool { return st.Name == name })
}

// Settled says whether nothing is left to be done: the run has ended, and if it took the control plane down, the recovery or the old state is proven.
func (s State) Settled() bool {
	return s.End != nil && (s.OutageBegan.IsZero() || s.End.Verdict == plan.VerdictPassed || s.End.Rollback == plan.StatusPassed)
}

// Parse reads what a journal holds. What stands after the last end of a line was cut short, and is left out. The error wraps ErrDamaged.
func Parse(content []byte) (State, error) {
	var s State
	lines := bytes.Split(content, []byte("\n"))
	for i, line := range lines[:len(lines)-1] {
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return State{}, fmt.Errorf("%w: line %d: %w", ErrDamaged, i+1, err)
		}
		if i == 0 {
			if e.Kind != Began || e.Run == nil {
				return State{}, fmt.Errorf("%w: it doesn't begin with the beginning of a run", ErrDamaged)
			}
			if e.Version > version {
				return State{}, fmt.Errorf("the journal was written by a newer drill: its version is %d, and this one reads up to %d", e.Version, version)
			}
			s.Run = *e.Run
		}
		s.take(e)
	}
	if len(lines) == 1 {
		return State{}, fmt.Errorf("%w: it holds no whole line", ErrDamaged)
	}
	return s, nil
}

// take takes the next entry in.
func (s *State) take(e Entry) {
	if e.Owner != nil {
		s.Owner = *e.Owner
	}
	switch e.Kind {
	case Resumed:
		s.Resumed++
		s.End = nil
	case Undoing:
		s.Undoing, s.End = true, nil
	case StepBegins:
		if e.Phase == plan.Break && s.BreakBegan.IsZero() {
			s.BreakBegan = e.At
		}
		if e.Outage && s.OutageBegan.IsZero() {
			s.OutageBegan = e.At
		}
		s.Undoing = s.Undoing || e.Phase == plan.Rollback
		s.put(Step{Name: e.Step, Phase: e.Phase})
	case StepEnded:
		s.put(Step{Name: e.Step, Phase: e.Phase, Status: e.Status, Seconds: e.Seconds, Error: e.Error})
	case NotBegun:
		if i := s.find(e.Step); i >= 0 {
			s.Steps = slices.Delete(s.Steps, i, i+1)
		}
		if e.Outage {
			s.OutageBegan = time.Time{}
		}
	case Judged:
		s.Judged, s.Proof = e.Verdict, e.Proof
	case Cleaned:
		s.Cleaned = e.At
	case Ended:
		s.End = &End{At: e.At, Verdict: e.Verdict, Reason: e.Reason, Rollback: e.Rollback}
	}
}

func (s *State) put(st Step) {
	if i := s.find(st.Name); i >= 0 {
		s.Steps[i] = st
		return
	}
	s.Steps = append(s.Steps, st)
}
