package plan

import "time"

// Probe is everything that was asked from outside, over and over, from before the break until the proof ended, as it was answered: what a
// chart of the outage is drawn from.
type Probe struct {
	// IntervalSeconds lie between two questions of a series; an answer that takes longer delays the next question.
	IntervalSeconds float64 `json:"intervalSeconds"`
	// PatienceSeconds is how long an answer may take before the question counts as unanswered.
	PatienceSeconds float64 `json:"patienceSeconds"`
	// StartedAt is where the time axis begins: all other times count seconds from here.
	StartedAt time.Time `json:"startedAt"`
	// BreakBegan and OutageBegan are the moments of Marks; null where they never came.
	BreakBegan  *float64 `json:"breakBegan"`
	OutageBegan *float64 `json:"outageBegan"`
	// Series holds a series for each question.
	Series []Series `json:"series"`
}

// Series is every answer to one question, oldest first, in columns: the same index in each is the same answer.
type Series struct {
	// Name is the question's.
	Name string `json:"name"`
	// At is when it was asked, in seconds since StartedAt, and Took how long the answer took, in seconds.
	At   []float64 `json:"at"`
	Took []float64 `json:"took"`
	// Error is an index into Errors.
	Error []int `json:"error"`
	// Errors are the different reasons for which there was no answer. The first is empty: it stands for a good answer.
	Errors []string `json:"errors"`
	// Revision is etcd's as far as the answer tells, 0 where it doesn't; empty for a question whose answers never tell.
	Revision []int64 `json:"revision"`
}
