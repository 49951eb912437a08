package etcd

import "errors"

// Condition is what a file turns out to be, in one word.
type Condition string

// What a file can turn out to be.
const (
	ConditionSound       Condition = "sound"
	ConditionEmpty       Condition = "empty"
	ConditionNotSnapshot Condition = "not-a-snapshot"
	ConditionCompressed  Condition = "compressed"
	ConditionTruncated   Condition = "truncated"
	ConditionNoTrailer   Condition = "no-trailer"
	// ConditionDamaged is that of a file which isn't what etcd sent, or makes no sense.
	ConditionDamaged Condition = "damaged"
	ConditionNewer   Condition = "newer"
	// ConditionChanged is that of a file to which somebody wrote while it was read: it may be any.
	ConditionChanged Condition = "changed"
	// ConditionMismatch is that of a sound file whose sidecar is of another one.
	ConditionMismatch Condition = "sidecar-mismatch"
)

// Conditions are all of them, the good one first.
func Conditions() []Condition {
	return []Condition{
		ConditionSound, ConditionEmpty, ConditionNotSnapshot, ConditionCompressed, ConditionTruncated, ConditionNoTrailer, ConditionDamaged, ConditionNewer,
		ConditionChanged, ConditionMismatch,
	}
}

// ConditionOf says in which condition a file is of which Verify, Examine, OpenFile or CanRead had said err. It is false where err says nothing about the file: it couldn't be read, or there was no worker.
func ConditionOf(err error) (Condition, bool) {
	if err == nil {
		return ConditionSound, true
	}
	for _, c := range []struct {
		err       error
		condition Condition
	}{
		{ErrWorker, ""}, // nobody knows, whatever else it says
		{ErrChanged, ConditionChanged}, {ErrEmpty, ConditionEmpty}, {ErrNotSnapshot, ConditionNotSnapshot}, {ErrCompressed, ConditionCompressed},
		{ErrTruncated, ConditionTruncated}, {ErrNoTrailer, ConditionNoTrailer}, {ErrNewer, ConditionNewer}, {ErrTrailerMismatch, ConditionDamaged}, {ErrDamaged, ConditionDamaged},
		{ErrSidecar, ConditionMismatch},
	} {
		if errors.Is(err, c.err) {
			return c.condition, c.condition != ""
		}
	}
	return "", false
}
