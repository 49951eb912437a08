// Package plan is drill's vocabulary: what a recovery drill consists of, and what happened when one was run.
//
// It holds values only. It does no I/O and imports nothing else of drill, so that everything that
// runs, renders or teaches a drill can share it.
//
// A Plan is one scenario joined with one procedure for one cluster: an ordered list of steps and the checks that
// decide whether the recovery is proven. Walking a plan yields a stream of events (Event); the terminal view and
// the report are observers of that stream.
package plan
