package runner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// left makes a run that a process has left, with these entries in its journal.
func left(t *testing.T, job Job, entries ...journal.Entry) Job {
	t.Helper()
	job.ID, job.StateDir, job.Cluster = "a-run", t.TempDir(), lab{newLocal(t, "cp")}
	job.Scenario, job.Procedure = scenarios.DeploymentLoss(), procedure.KubeletStop()
	dir := Dir(job.StateDir, job.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Create(dir, job.entry(time.Now()), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		e.At = time.Now()
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return job
}

// TestWhatCanBeTakenUp: what can't be carried on or put back is refused before anything is touched. What can be gets as far as what the stage has remembered, of which there is nothing
// here.
func TestWhatCanBeTakenUp(t *testing.T) {
	deployed := journal.Entry{Kind: journal.StepEnded, Step: "deploy-workload", Phase: plan.Arrange, Status: plan.StatusPassed}
	down := journal.Entry{Kind: journal.StepBegins, Step: "stop-kubelet", Phase: plan.Recover, Outage: true}
	end := func(v plan.Verdict, rollback plan.Status) journal.Entry {
		return journal.Entry{Kind: journal.Ended, Verdict: v, Rollback: rollback}
	}
	goes := stage.ErrForgotten
	for name, c := range map[string]struct {
		job              Job
		entries          []journal.Entry
		resume, rollback error
		why              string
	}{
		"killed while it arranged":        {Job{}, []journal.Entry{deployed}, goes, goes, ""},
		"killed in the outage":            {Job{}, []journal.Entry{deployed, down}, goes, goes, ""},
		"typed":                           {Job{Literal: true}, []journal.Entry{deployed, down}, ErrCantResume, goes, "typed"},
		"with something that was to stay": {Job{KeepRunning: []string{"kubelet"}}, []journal.Entry{deployed, down}, ErrCantResume, goes, "live on"},
		"passed":                          {Job{}, []journal.Entry{deployed, down, end(plan.VerdictPassed, "")}, ErrNothingToDo, ErrNothingToDo, "passed"},
		"failed, and put back":            {Job{}, []journal.Entry{deployed, down, end(plan.VerdictFailed, plan.StatusPassed)}, ErrNothingToDo, ErrNothingToDo, "a-run"},
		"failed, and not put back":        {Job{}, []journal.Entry{deployed, down, end(plan.VerdictFailed, plan.StatusFailed)}, goes, goes, ""},
		"failed, and kept":                {Job{Keep: true}, []journal.Entry{deployed, down, end(plan.VerdictFailed, "")}, ErrCantResume, goes, "kept as it was"},
		"killed after its verdict":        {Job{Literal: true}, []journal.Entry{deployed, down, {Kind: journal.Judged, Verdict: plan.VerdictFailed}}, goes, goes, ""},
		"broken before the outage":        {Job{}, []journal.Entry{deployed, end(plan.VerdictBroken, "")}, ErrNothingToDo, ErrNothingToDo, "broken"},
		"killed while it put back": {
			Job{Literal: true}, []journal.Entry{deployed, down, {Kind: journal.StepBegins, Step: "rollback-stop-kubelet", Phase: plan.Rollback}}, goes, goes, "",
		},
		"killed after a step had failed": {
			Job{Literal: true}, []journal.Entry{deployed, down, {Kind: journal.StepEnded, Step: "stop-kubelet", Phase: plan.Recover, Status: plan.StatusFailed}}, goes, goes, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			job := left(t, c.job, c.entries...)
			n := job.Cluster.(lab)[0]
			if err := job.claim(t.Context()); err != nil {
				t.Fatal(err)
			}
			n.ran = nil
			path := filepath.Join(Dir(job.StateDir, job.ID), journal.FileName)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, way := range []struct {
				takeUp func(Job, context.Context) (report.Run, error)
				want   error
			}{{Job.Resume, c.resume}, {Job.Rollback, c.rollback}} {
				_, err := way.takeUp(job, t.Context())
				if !errors.Is(err, way.want) || errors.Is(way.want, ErrCantResume) && !strings.Contains(err.Error(), c.why) || errors.Is(way.want, ErrNothingToDo) && !strings.Contains(err.Error(), "a-run") {
					t.Errorf("%v, want %v (%s)", err, way.want, c.why)
				}
				after, err := os.ReadFile(path)
				if err != nil || string(before) != string(after) {
					t.Errorf("the journal has become\n%s, %v", after, err)
				}
			}
			nothing := c.resume == ErrNothingToDo && c.rollback == ErrNothingToDo
			for _, ran := range n.ran {
				if released := nothing && ran == "rm -f -- "+cluster.LockFile; !released && !strings.HasPrefix(ran, "read ") {
					t.Errorf("on the node: %q", ran)
				}
			}
			if got := held(t, n); nothing != (got == nil) {
				t.Errorf("the cluster is held by %+v", got)
			}
		})
	}
}

// TestNotItsOwn: a cluster that nobody has, or another run, is not the one that the run has left.
func TestNotItsOwn(t *testing.T) {
	down := journal.Entry{Kind: journal.StepBegins, Step: "stop-kubelet", Phase: plan.Recover, Outage: true}
	job := left(t, Job{}, down)
	for _, takeUp := range []func(Job, context.Context) (report.Run, error){Job.Resume, Job.Rollback} {
		if _, err := takeUp(job, t.Context()); err == nil || !strings.Contains(err.Error(), "nobody has; is it another cluster of that name") {
			t.Error(err)
		}
	}
	other := Job{ID: "other", Cluster: job.Cluster, StateDir: t.TempDir()}
	if err := other.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, takeUp := range []func(Job, context.Context) (report.Run, error){Job.Resume, Job.Rollback} {
		if _, err := takeUp(job, t.Context()); !errors.Is(err, ErrClaimed) {
			t.Error(err)
		}
	}
}

func TestAtWorkIsLeftAlone(t *testing.T) {
	job := left(t, Job{})
	j, _, err := journal.Open(Dir(job.StateDir, job.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, takeUp := range []func(Job, context.Context) (report.Run, error){Job.Resume, Job.Rollback} {
		if _, err := takeUp(job, t.Context()); !errors.Is(err, journal.ErrAtWork) {
			t.Error(err)
		}
	}
	if l, err := Find(job.StateDir, job.ID); err != nil || !l.AtWork {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestJobOf: a journal tells all of a job that decides what it does.
func TestJobOf(t *testing.T) {
	bump := uint64(7)
	want := Job{
		BumpRevision: &bump, KeepRunning: []string{"kubelet"}, Renew: []string{"kube-scheduler"}, WorkloadImage: "nginx:1", LateWrites: 3, Literal: true, Keep: true,
		EvidenceDir: "/tmp/e", Settle: time.Second, Patience: 2 * time.Second, OutageLimit: 3 * time.Second,
		Snapshot: &stage.Snapshot{Path: "/backup.db", SkipHashCheck: true, OtherCluster: true},
	}
	job := left(t, want)
	l, err := Find(job.StateDir, job.ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := JobOf(l.Run)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.entry1(job)) != string(job.entry(time.Time{}).Settings) || got.Scenario.Name != "deployment-loss" || got.Procedure.Name != "kubelet-stop" || got.ID != "a-run" {
		t.Errorf("%+v", got)
	}
	l.Run.Procedure = "rain-dance"
	if _, err := JobOf(l.Run); err == nil || !strings.Contains(err.Error(), "rain-dance") {
		t.Error(err)
	}
}

// entry1 is what the job's journal would keep of it on the other job's cluster.
func (j Job) entry1(other Job) []byte {
	j.Cluster = other.Cluster
	return j.entry(time.Time{}).Settings
}

func TestList(t *testing.T) {
	state := t.TempDir()
	if runs, err := List(state); err != nil || len(runs) > 0 {
		t.Errorf("%+v, %v", runs, err)
	}
	job := left(t, Job{})
	dirs := filepath.Dir(Dir(job.StateDir, job.ID))
	for name, content := range map[string]string{"b-damaged": "{\n", "c-without": ""} {
		if err := os.MkdirAll(filepath.Join(dirs, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(filepath.Join(dirs, name, journal.FileName), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	runs, err := List(job.StateDir)
	if err != nil || len(runs) != 2 || runs[0].Run.ID != "a-run" || runs[0].Err != nil || runs[1].Run.ID != "b-damaged" || !errors.Is(runs[1].Err, journal.ErrDamaged) {
		t.Errorf("%+v, %v", runs, err)
	}
	for _, id := range []string{"", "..", "a/b", "c-without", "nonesuch"} {
		if _, err := Find(job.StateDir, id); !errors.Is(err, ErrNoRun) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// TestAbandoned: what a run has left on a node is enough to begin with, where nothing else is.
func TestAbandoned(t *testing.T) {
	job := left(t, Job{})
	n := job.Cluster.(lab)[0]
	b, err := os.ReadFile(filepath.Join(Dir(job.StateDir, job.ID), journal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	if err := Abandoned(t.Context(), job.Cluster, elsewhere, job.ID); !errors.Is(err, ErrNoRun) {
		t.Error(err)
	}
	dir := stage.NodeDirs + "/" + job.ID
	if err := os.MkdirAll(n.path(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{journal.FileName: b, stage.MemoryFile: []byte(`{}`)} {
		if err := os.WriteFile(n.path(dir+"/"+name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Abandoned(t.Context(), job.Cluster, elsewhere, job.ID); err != nil {
		t.Fatal(err)
	}
	if l, err := Find(elsewhere, job.ID); err != nil || l.Run.Cluster != "lab" {
		t.Errorf("%+v, %v", l, err)
	}
	if err := Abandoned(t.Context(), job.Cluster, elsewhere, job.ID); err == nil {
		t.Error("a run that is there was fetched")
	}
	if err := job.claim(t.Context()); err != nil { // this process has it, and lives
		t.Fatal(err)
	}
	if err := Abandoned(t.Context(), job.Cluster, t.TempDir(), job.ID); !errors.Is(err, journal.ErrAtWork) {
		t.Error(err)
	}
	if err := os.WriteFile(n.path(dir+"/"+journal.FileName), []byte("{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Abandoned(t.Context(), job.Cluster, t.TempDir(), job.ID); !errors.Is(err, journal.ErrDamaged) {
		t.Error(err)
	}
}
