// Package term shows a run to a person: on a terminal a line a step with the elapsed time redrawn in place, elsewhere plain
// lines that are easy to search; at the end the checks, the outage, the loss and the verdict.
//
// What is to be shown is made by functions of values (lines.go, summary.go); a screen (screen.go) puts it where it belongs; a
// View joins the two and is the observer of the run.
package term
