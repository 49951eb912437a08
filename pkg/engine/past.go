package engine

import (
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Past is what an earlier process did of a run that is carried on.
type Past struct {
	// Done are the steps that were carried out, and how long each took. One that was begun and isn't among them is carried out again.
	Done map[string]time.Duration
	// Begun are the steps that were begun, whatever came of them: what one of them was to end (plan.Step.Until) need not last any more.
	Begun map[string]bool
	// Resumed is how many processes have carried the run on by now, this one included.
	Resumed int
	// Began is when the run did, and Verdict and Reason are what it came to before it was taken up to be undone; empty where it had come to nothing.
	Began   time.Time
	Verdict plan.Verdict
	Reason  string
	// Proof is what the recovery was proven by, where an earlier process had come to that verdict and was about to remove what the run had made on the cluster; nil where none had.
	Proof *plan.Proof
	// Marks are the moments that were reached. With them everything counts from when it really began.
	Marks plan.Marks
}
