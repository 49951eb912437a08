// Package runner carries out one run on a cluster that is there: it sets the stage, walks the plan, and keeps the report
// beside the snapshot. The command line and the test suites both go through it.
package runner

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// Job is one run.
type Job struct {
	// ID is the run's name; see NewID.
	ID        string
	Scenario  scenarios.Scenario
	Procedure procedure.Procedure
	Cluster   cluster.Cluster
	// Place is where the cluster's provider has it, see Provider; empty where that isn't told.
	Place string
	// StateDir is where drill keeps what outlives a run, for example $XDG_STATE_HOME/drill.
	StateDir string
	// Worker is how etcd's own code is run in a child process.
	Worker etcd.Worker
	// BumpRevision overrides the procedure's choice; see stage.Options.
	BumpRevision *uint64
	// KeepRunning and Renew vary what the procedure begins anew; see procedure.Procedure.Check.
	KeepRunning, Renew []string
	// WorkloadImage overrides the workload's image.
	WorkloadImage string
	// LateWrites is how many objects are made between the snapshot and the break, to be lost; see stage.Stage.LateWrites.
	LateWrites int
	// Snapshot is one that is restored in place of one that the run takes; nil where it takes one.
	Snapshot *stage.Snapshot
	// Literal types the commands of the steps in place of what drill does itself.
	Literal bool
	// Keep leaves the cluster as the run left it.
	Keep bool
	// Disposable says that the cluster is deleted after the run.
	Disposable bool
	// EvidenceDir is where what explains a failure is kept; empty means the run's own folder.
	EvidenceDir string
	// ReportDir is where the caller writes the report besides; the run only remembers it, for whoever takes it up.
	ReportDir string
	// Settle and Patience bound how long the checks may take to become true, and OutageLimit how long the recovery may; see engine.Options. 0 means the engine's default.
	Settle, Patience, OutageLimit time.Duration
	// Alter, where set, changes the plan before it is walked: it puts a fault into it.
	Alter func(plan.Plan, *stage.Stage) plan.Plan
	// Observers receive every event.
	Observers []plan.Observer
}

// NewID makes the name of a run: its time in UTC and some letters, fit for a file name and sorted by time.
func NewID(now time.Time) string {
	return now.UTC().Format("20060102-150405-") + Letters()
}

// Letters returns four random lower-case letters or digits.
func Letters() string {
	b := make([]byte, 3)
	rand.Read(b) // never fails, says crypto/rand
	return strings.ToLower(base32.StdEncoding.EncodeToString(b))[:4]
}

// Dir is the folder in which the run of that name keeps its snapshot, report and evidence.
func Dir(stateDir, id string) string { return filepath.Join(stateDir, "runs", id) }

// Run carries the job out and returns its report, which it has also written to the run's folder. A run that could not even begin is a
// broken one; where that is because another run has the cluster, the reason is that of a *ClaimedError. The error is for a report that could not be kept.
//
// All that the run does is in a journal before it is done, so that Resume or Rollback can take it up should this process be killed.
func (j Job) Run(ctx context.Context) (report.Run, error) {
	began := time.Now()
	dir := Dir(j.StateDir, j.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return j.CouldNotBegin(ctx, began, j.clusterInfo(), fmt.Errorf("making the run's folder: %w", err)), nil
	}
	var builder report.Builder
	// A run that was killed may have left the control plane down. That it has the cluster is what a person should hear of, and not what doesn't answer for that reason; where that
	// can't be told, the stage says why.
	var s *stage.Stage
	_, err := j.vacant(ctx)
	if !errors.Is(err, ErrClaimed) {
		s, err = stage.Set(ctx, j.Cluster, j.Procedure, j.stageOptions(dir, &builder))
	}
	if err == nil {
		err = j.suits(s)
	}
	if err != nil {
		run := j.CouldNotBegin(ctx, began, j.clusterInfo(), err)
		return run, keep(dir, run)
	}
	// The journal comes first: a lock that nobody can say anything of would be there for good.
	book, err := journal.Create(ctx, dir, j.entry(began), began.UTC())
	if err != nil {
		run := j.CouldNotBegin(ctx, began, j.clusterInfo(), err)
		return run, keep(dir, run)
	}
	if err := j.claim(ctx); err != nil {
		run := j.CouldNotBegin(ctx, began, j.clusterInfo(), err)
		ended := journal.Entry{At: time.Now().UTC(), Kind: journal.Ended, Verdict: run.Verdict, Reason: run.Reason}
		return run, errors.Join(book.Append(ended), book.Close(), keep(dir, run))
	}
	return j.walk(ctx, book, s, &builder, engine.Run, nil)
}

// walk has the engine walk the plan on the stage, and keeps the journal and the report of it. It ends the run's hold on the cluster, unless the control plane could not be
// brought back. What went wrong earlier and didn't keep the run from going on becomes one of its warnings.
func (j Job) walk(ctx context.Context, book *journal.Journal, s *stage.Stage, builder *report.Builder,
	how func(context.Context, plan.Plan, engine.Options) (engine.Outcome, error), past *engine.Past, earlier ...error) (report.Run, error) {
	began, dir := time.Now(), Dir(j.StateDir, j.ID)
	copies := newMirror(ctx, cluster.ControlPlanes(j.Cluster), stage.NodeDirs+"/"+j.ID)
	book.Watch(func(content []byte) { copies.put(journal.FileName, content) })
	evidence := j.EvidenceDir
	if evidence == "" {
		evidence = filepath.Join(dir, "evidence")
	}
	options := engine.Options{
		ID:          j.ID,
		Observers:   append([]plan.Observer{builder}, j.Observers...),
		Journal:     &recorder{dir: dir, journal: book, stage: s, mirror: copies, down: past != nil && !past.Marks.OutageBegan.IsZero(), owns: j.stillOwns},
		Past:        past,
		EvidenceDir: evidence,
		KeepState:   j.Keep,
		Disposable:  j.Disposable,
		Settle:      j.Settle,
		Patience:    j.Patience,
		OutageLimit: j.OutageLimit,
	}
	if j.Literal {
		options.Typist = stage.Typist{Cluster: j.Cluster}
	}
	_, err := how(ctx, j.plan(s), options)
	ended := context.WithoutCancel(ctx) // what follows leaves the cluster to others, however the run ended
	problems := append(earlier, copies.close(ended))
	run := builder.Run()
	if err != nil {
		run = j.CouldNotBegin(ctx, began, j.clusterInfo(), err)
	}
	if settled(run, past) && !j.Disposable {
		problems = append(problems, j.giveBack(ended, s.Unreserve))
	}
	if err := errors.Join(append(problems, book.Close())...); err != nil {
		run.Warnings = append(run.Warnings, err.Error())
	}
	return run, keep(dir, run)
}

// settled says whether others may have the cluster after the run that this process reports: the control plane was not touched, came back, or is as it was. A step that an earlier process was
// cut off in, or that failed in it, is known of from the journal alone.
func settled(run report.Run, past *engine.Past) bool {
	touched := run.OutageBegan() || past != nil && !past.Marks.OutageBegan.IsZero()
	return !touched || run.Verdict == plan.VerdictPassed || run.Rollback == plan.StatusPassed
}

// suits says whether the job can be carried out on the stage.
func (j Job) suits(s *stage.Stage) error {
	if j.Literal && len(s.Target.Members) > 1 {
		return fmt.Errorf("cluster %s has %d control planes: commands can be typed for one only, since the snapshot would have to be carried to the others by hand",
			j.Cluster.Name(), len(s.Target.Members))
	}
	return nil
}

// stageOptions are the options of the stage. What the run has reported so far is what the builder has seen.
func (j Job) stageOptions(dir string, builder *report.Builder) stage.Options {
	o := j.options()
	o.Dir = dir
	o.Transcript = func() ([]byte, error) {
		var b bytes.Buffer
		err := report.WriteJSON(&b, report.NewDocument(builder.Run()))
		return b.Bytes(), err
	}
	return o
}

// plan joins scenario and procedure on the stage.
func (j Job) plan(s *stage.Stage) plan.Plan {
	p := scenarios.Plan(j.Scenario, j.Procedure, s)
	p.Variant = j.Variant()
	p.Variant.BumpRevision = s.Target.BumpRevision // which a snapshot that was given may have raised
	if j.Alter != nil {
		p = j.Alter(p, s)
	}
	return p
}

// options are those of the stage that are known before there is one.
func (j Job) options() stage.Options {
	return stage.Options{
		RunID: j.ID, Worker: j.Worker, BumpRevision: j.BumpRevision, KeepRunning: j.KeepRunning, Renew: j.Renew, Image: j.WorkloadImage, LateWrites: j.LateWrites,
		Snapshot: j.Snapshot, Literal: j.Literal,
	}
}

// Variant says in which way the job's procedure is carried out.
func (j Job) Variant() plan.Variant {
	v := j.options().Variant(j.Procedure)
	v.SettleSeconds = j.Settle.Seconds()
	v.Own = v.Own && j.Alter == nil // with a fault in it, it is nobody's way
	return v
}

// CouldNotBegin tells everybody of a run that could not begin for the reason given, and returns its report: broken, or interrupted if
// ctx has ended. The cluster is described as far as it is known.
func (j Job) CouldNotBegin(ctx context.Context, began time.Time, c plan.ClusterInfo, err error) report.Run {
	verdict := plan.VerdictBroken
	if ctx.Err() != nil {
		verdict = plan.VerdictInterrupted
	}
	return j.told(began, c, verdict, err.Error())
}

// untouched tells everybody of a run that was put back and had done nothing, and returns its report.
func (j Job) untouched(began time.Time) report.Run {
	return j.told(began, j.clusterInfo(), plan.VerdictInterrupted, "the run was ended before its first step, and nothing had been changed")
}

// told tells everybody of a run of which no step was carried out.
func (j Job) told(began time.Time, c plan.ClusterInfo, verdict plan.Verdict, reason string) report.Run {
	var b report.Builder
	p := plan.Plan{Scenario: j.Scenario.Entry, Procedure: j.Procedure.Entry, Variant: j.Variant(), Cluster: c}
	for _, o := range append([]plan.Observer{&b}, j.Observers...) {
		o.Observe(plan.RunStarted{At: began, ID: j.ID, Plan: p})
		o.Observe(plan.RunFinished{At: time.Now(), Verdict: verdict, Reason: reason, Elapsed: time.Since(began)})
	}
	return b.Run()
}

func (j Job) clusterInfo() plan.ClusterInfo {
	return plan.ClusterInfo{Provider: j.Cluster.Provider(), Name: j.Cluster.Name(), Nodes: len(j.Cluster.Nodes())}
}

// keep writes the report to the run's folder. One that is there is set aside: what was seen before somebody took the run up is in it alone.
func keep(dir string, run report.Run) error {
	err := setAside(filepath.Join(dir, report.JSONFile))
	if err == nil {
		_, err = report.WriteDir(dir, report.NewDocument(run))
	}
	if err != nil {
		return fmt.Errorf("keeping the report of run %s: %w", run.ID, err)
	}
	return nil
}
