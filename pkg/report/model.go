package report

import (
	"slices"
	"strings"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
)

// SchemaVersion is the version of the document that this package writes.
const SchemaVersion = 1

// Document is what `-o json` prints and report.json holds.
type Document struct {
	SchemaVersion int   `json:"schemaVersion"`
	Runs          []Run `json:"runs"`
}

// NewDocument returns a document of the runs, of the current schema version.
func NewDocument(runs ...Run) Document {
	return Document{SchemaVersion: SchemaVersion, Runs: runs}
}

// Run is one scenario with one procedure on one cluster, and what came of it.
type Run struct {
	// ID names the run among all runs.
	ID        string `json:"id"`
	Scenario  string `json:"scenario"`
	Procedure string `json:"procedure"`
	// Variant says in which way the procedure was carried out.
	Variant  plan.Variant `json:"variant"`
	Provider string       `json:"provider"`
	Verdict  plan.Verdict `json:"verdict"`
	// Reason says in one line why the verdict is not passed, or in one line for each reason where a run was refused for several; empty when it is passed.
	Reason string `json:"reason"`
	// Rollback is passed when the old state was put back after the recovery was not proven, and is proven to be back; failed when it could not be or is not, and
	// empty when there was no need to or it was not to be.
	Rollback  plan.Status `json:"rollback"`
	StartedAt time.Time   `json:"startedAt"`
	// Seconds is how long the run took, from its first event to its last.
	Seconds float64 `json:"seconds"`
	Cluster Cluster `json:"cluster"`
	// Snapshot is null where none was taken.
	Snapshot *plan.SnapshotInfo `json:"snapshot"`
	Outage   plan.Outage        `json:"outage"`
	Loss     plan.Loss          `json:"loss"`
	// Probe holds the answers behind Outage; null where nobody asked.
	Probe *plan.Probe `json:"probe"`
	// EndedByThemselves are those of Variant.KeptRunning that nobody ended and that began anew all the same, on one control plane at least; null where it isn't
	// known. Such a run says nothing about what comes of their living on.
	EndedByThemselves []string `json:"endedByThemselves"`
	// Phases holds the phases that were reached, in order.
	Phases []Phase `json:"phases"`
	// Steps holds every step of the plan, in order, also those that were never reached, and then those that put the
	// old state back, if any were taken.
	Steps []Step `json:"steps"`
	// Checks holds every check of the plan, in order, also those that were never evaluated.
	Checks []Check `json:"checks"`
	// RollbackChecks hold what was looked at after the old state had been put back, to see whether it is; none where that was not done.
	RollbackChecks []Check `json:"rollbackChecks"`
	// Resumed is how many times another process has carried the run on.
	Resumed int `json:"resumed"`
	// Warnings are what the person should know although it doesn't change the verdict.
	Warnings []string `json:"warnings"`
	// Artifacts are paths of files that explain the result.
	Artifacts []string `json:"artifacts"`
}

// Cluster says which cluster a run was on. Kubernetes and Etcd are versions.
type Cluster struct {
	Name       string `json:"name"`
	Nodes      int    `json:"nodes"`
	Kubernetes string `json:"kubernetes"`
	Etcd       string `json:"etcd"`
}

// Phase is how long a phase took: from the start of its first step or check to the end of its last.
type Phase struct {
	Name    plan.Phase `json:"name"`
	Seconds float64    `json:"seconds"`
}

// Step is what came of a step.
type Step struct {
	Name    string      `json:"name"`
	Phase   plan.Phase  `json:"phase"`
	Title   string      `json:"title"`
	Status  plan.Status `json:"status"`
	Seconds float64     `json:"seconds"`
	// Outage marks the step with whose start the outage began.
	Outage bool `json:"outage"`
	// Commands are what a person would type to the same effect.
	Commands []plan.Command `json:"commands"`
	// Error says why the step failed; empty otherwise.
	Error string `json:"error"`
}

// Check is what a check found.
type Check struct {
	Name   string      `json:"name"`
	Status plan.Status `json:"status"`
	// Detail is one line: what was seen, or for a skipped check the reason.
	Detail string `json:"detail"`
	// Remedy is what to do about a failed check; empty otherwise.
	Remedy string `json:"remedy"`
	// Differences are what is not as it must be.
	Differences []plan.Difference `json:"differences"`
	// Evidence holds the facts behind the answer, line by line.
	Evidence []string `json:"evidence"`
	// Seconds is how long it took to settle.
	Seconds float64 `json:"seconds"`
}

// Counts says how many checks of a run passed, failed and were skipped.
func (r Run) Counts() (passed, failed, skipped int) {
	for _, c := range r.Checks {
		switch c.Status {
		case plan.StatusPassed:
			passed++
		case plan.StatusFailed:
			failed++
		default:
			skipped++
		}
	}
	return passed, failed, skipped
}

// OutageBegan reports whether a step that takes the control plane away was carried out, so that a null in Outage can
// mean that something never came back.
func (r Run) OutageBegan() bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Outage && s.Status != plan.StatusSkipped })
}

// CleanedUp reports whether nothing is known of that the run made and left behind: a warning says so where it could not clean up.
func (r Run) CleanedUp() bool {
	return !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.HasPrefix(w, plan.CleanUpFailed) })
}

// finishedAt is when the run ended.
func (r Run) finishedAt() time.Time {
	return r.StartedAt.Add(time.Duration(r.Seconds * float64(time.Second)))
}

// complete returns a copy in which no list is nil, so that no array is null in JSON.
func (d Document) complete() Document {
	d.Runs = list(slices.Clone(d.Runs))
	for i := range d.Runs {
		d.Runs[i] = d.Runs[i].complete()
	}
	return d
}

func (r Run) complete() Run {
	r.Variant.KeptRunning, r.Variant.Renewed = list(r.Variant.KeptRunning), list(r.Variant.Renewed)
	r.Variant.DataDirMode = dataDirMode(r.Variant.DataDirMode)
	r.Phases = list(r.Phases)
	r.Outage.Interruptions, r.Outage.NotAsked = list(r.Outage.Interruptions), list(r.Outage.NotAsked)
	r.Steps = list(slices.Clone(r.Steps))
	for i := range r.Steps {
		r.Steps[i].Commands = list(slices.Clone(r.Steps[i].Commands))
		for j := range r.Steps[i].Commands {
			r.Steps[i].Commands[j].Argv = list(r.Steps[i].Commands[j].Argv)
		}
	}
	r.Checks, r.RollbackChecks = completeChecks(r.Checks), completeChecks(r.RollbackChecks)
	r.Probe = completeProbe(r.Probe)
	r.Warnings = list(r.Warnings)
	r.Artifacts = list(r.Artifacts)
	return r
}

func completeChecks(checks []Check) []Check {
	checks = list(slices.Clone(checks))
	for i := range checks {
		checks[i].Evidence = list(checks[i].Evidence)
		checks[i].Differences = list(checks[i].Differences)
	}
	return checks
}

func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// LossMeasured reports whether anything is known about the loss, so that an empty list of objects means that none was lost.
func (r Run) LossMeasured() bool {
	return r.Loss.Seconds != nil || r.Loss.Revisions != nil || len(r.Loss.Objects) > 0
}
