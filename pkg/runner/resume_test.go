package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	if job.ID == "" {
		job.ID = "a-run"
	}
	job.StateDir, job.Cluster = t.TempDir(), lab{newLocal(t, "cp")}
	job.Scenario, job.Procedure = scenarios.DeploymentLoss(), procedure.KubeletStop()
	dir := Dir(job.StateDir, job.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Create(t.Context(), dir, job.entry(time.Now()), time.Now())
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
		"passed":                          {Job{}, []journal.Entry{deployed, down, end(plan.VerdictPassed, "")}, ErrNothingToDo, ErrCantRollBack, "passed"},
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
				run, err := way.takeUp(job, t.Context())
				if over := way.want == ErrNothingToDo; over != (run.ID == job.ID) || over && run.Verdict != c.entries[len(c.entries)-1].Verdict {
					t.Errorf("%s %s is reported", run.ID, run.Verdict)
				}
				if !errors.Is(err, way.want) || errors.Is(way.want, ErrCantResume) && !strings.Contains(err.Error(), c.why) || errors.Is(way.want, ErrNothingToDo) && !strings.Contains(err.Error(), "a-run") {
					t.Errorf("%v, want %v (%s)", err, way.want, c.why)
				}
				after, err := os.ReadFile(path)
				if err != nil || string(before) != string(after) {
					t.Errorf("the journal has become\n%s, %v", after, err)
				}
			}
			nothing := c.resume == ErrNothingToDo
			for _, ran := range n.ran {
				if released := nothing && ran == "rm -f -- "+cluster.LockFile; !released && ran != "true" && !strings.HasPrefix(ran, "read ") {
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

// TestRemovedLock: with what the error says a run has its cluster again.
func TestRemovedLock(t *testing.T) {
	job := left(t, Job{}, journal.Entry{Kind: journal.StepBegins, Step: "stop-kubelet", Phase: plan.Recover, Outage: true})
	n := job.Cluster.(lab)[0]
	if err := errors.Join(job.claim(t.Context()), os.Remove(n.path(cluster.LockFile))); err != nil {
		t.Fatal(err)
	}
	state, err := Find(job.StateDir, job.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, hint, _ := strings.Cut(fmt.Sprint(job.owns(t.Context(), state.State)), "to the run: ")
	argv := strings.Fields(hint)
	if len(argv) != 3 || argv[0] != "ln" {
		t.Fatalf("the hint is %q", hint)
	}
	if _, err := cluster.Run(t.Context(), n, argv...); err != nil {
		t.Fatal(err)
	}
	if err := job.owns(t.Context(), state.State); err != nil {
		t.Error(err)
	}
}

// TestDamagedLock: neither does one whose lock can't be read.
func TestDamagedLock(t *testing.T) {
	job := left(t, Job{}, journal.Entry{Kind: journal.StepBegins, Step: "stop-kubelet", Phase: plan.Recover, Outage: true})
	n := job.Cluster.(lab)[0]
	if err := errors.Join(job.claim(t.Context()), os.WriteFile(n.path(cluster.LockFile), []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	state, err := Find(job.StateDir, job.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, hint, _ := strings.Cut(fmt.Sprint(job.owns(t.Context(), state.State)), "rolled back: ")
	content, _, found := strings.Cut(strings.TrimPrefix(hint, "echo '"), "' >"+cluster.LockFile)
	if !found || content == "" {
		t.Fatalf("the hint is %q", hint)
	}
	content = strings.ReplaceAll(content, "RUN", job.ID)
	if err := os.WriteFile(n.path(cluster.LockFile), []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(job.owns(t.Context(), state.State), job.claim(t.Context())); err != nil {
		t.Error(err)
	}
	if c := held(t, n); c == nil || c.Run != job.ID || c.PID != os.Getpid() {
		t.Errorf("held by %+v", c)
	}
}

func TestAtWorkIsLeftAlone(t *testing.T) {
	job := left(t, Job{})
	j, _, err := journal.Open(t.Context(), Dir(job.StateDir, job.ID))
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
		EvidenceDir: "/tmp/e", ReportDir: "/tmp/r", Settle: time.Second, Patience: 2 * time.Second, OutageLimit: 3 * time.Second,
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
	// What was named relative to a folder is found from every other one.
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := left(t, Job{EvidenceDir: "reports/evidence", ReportDir: "reports"})
	t.Chdir("/")
	kept, err := Find(elsewhere.StateDir, elsewhere.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := JobOf(kept.Run); err != nil || got.ReportDir != filepath.Join(here, "reports") || got.EvidenceDir != filepath.Join(here, "reports/evidence") {
		t.Errorf("%q, %q, %v", got.ReportDir, got.EvidenceDir, err)
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
	if err := Abandoned(t.Context(), job.Cluster, elsewhere, job.ID); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a run that is there was fetched: %v", err)
	}
	if err := Abandoned(t.Context(), job.Cluster, elsewhere, "../"+job.ID); !errors.Is(err, ErrNoRun) {
		t.Error(err)
	}
	for _, pid := range []int{os.Getppid(), os.Getpid()} { // another process has it, and lives; and then one of this process's number, which it can't be
		refused := pid != os.Getpid()
		lock, err := json.Marshal(Claim{Run: job.ID, Owner: journal.Owner{Host: journal.Self().Host, PID: pid}})
		if err == nil {
			err = os.WriteFile(n.path(cluster.LockFile), lock, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := Abandoned(t.Context(), job.Cluster, t.TempDir(), job.ID); errors.Is(err, journal.ErrAtWork) != refused || (err != nil) != refused {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	if err := os.WriteFile(n.path(dir+"/"+journal.FileName), []byte("{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Abandoned(t.Context(), job.Cluster, t.TempDir(), job.ID); !errors.Is(err, journal.ErrDamaged) {
		t.Error(err)
	}
}

// TestCopiesKnowMore: what others have made of the run, or this machine's disk had no room for, is in the copies on the control planes, and is what counts.
func TestCopiesKnowMore(t *testing.T) {
	down := journal.Entry{Kind: journal.StepBegins, Step: "stop-kubelet", Phase: plan.Recover, Outage: true}
	others := []journal.Entry{down, {Kind: journal.Undoing, Owner: &journal.Owner{Host: "elsewhere", PID: 7}}, {Kind: journal.Ended, Verdict: plan.VerdictInterrupted, Rollback: plan.StatusPassed}}
	for name, c := range map[string]struct {
		own  []journal.Entry
		copy []journal.Entry
		on   bool // the copy goes on where this one ends
		want error
	}{
		"it was put back from elsewhere":                            {[]journal.Entry{down, {Kind: journal.StepBegins, Step: "swap", Phase: plan.Recover}}, others, false, ErrNothingToDo},
		"it was put back, and nothing was known here of the outage": {nil, others, false, ErrNothingToDo},
		"it passed, and the disk here was full":                     {[]journal.Entry{down}, []journal.Entry{{Kind: journal.Ended, Verdict: plan.VerdictPassed}}, true, ErrCantRollBack},
		"nothing more is known there":                               {[]journal.Entry{down}, nil, true, stage.ErrForgotten},
	} {
		t.Run(name, func(t *testing.T) {
			job := left(t, Job{}, c.own...)
			n := job.Cluster.(lab)[0]
			if err := job.claim(t.Context()); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(Dir(job.StateDir, job.ID), journal.FileName)
			own, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(own), "\n")
			there := first + "\n"
			if c.on {
				there = string(own)
			}
			for _, e := range c.copy {
				e.At = time.Now()
				line, err := json.Marshal(e)
				if err != nil {
					t.Fatal(err)
				}
				there += string(line) + "\n"
			}
			if err := os.WriteFile(n.path(stage.NodeDirs+"/"+job.ID+"/"+journal.FileName), []byte(there), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := job.Rollback(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != there {
				t.Errorf("the journal is\n%s, %v, want\n%s", got, err, there)
			}
			if l, err := Find(job.StateDir, job.ID); err != nil || l.Settled() == (c.want == stage.ErrForgotten) || l.Settled() != (held(t, n) == nil) {
				t.Errorf("%+v, %v; held by %+v", l, err, held(t, n))
			}
		})
	}
	// A copy of another run, or one that can't be read, is no reason to touch anything.
	job := left(t, Job{}, down)
	n := job.Cluster.(lab)[0]
	if err := job.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.path(stage.NodeDirs+"/"+job.ID+"/"+journal.FileName), []byte("{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := job.Rollback(t.Context()); !errors.Is(err, journal.ErrDamaged) || !strings.Contains(err.Error(), "nothing was touched: the copy of the journal on node cp") {
		t.Error(err)
	}
}

// TestFetchedWholeOrNotAtAll: what could be fetched in part only is no run, and keeps nobody from fetching it again.
func TestFetchedWholeOrNotAtAll(t *testing.T) {
	state := t.TempDir()
	dir := Dir(state, "a-run")
	journals := map[string][]byte{journal.FileName: []byte("{}\n")}
	if err := fetched(dir, map[string][]byte{journal.FileName: journals[journal.FileName], "nowhere/memory.json": nil}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	// A process that was killed meanwhile leaves a folder that is nobody's.
	if err := os.Mkdir(filepath.Join(filepath.Dir(dir), fetching+"1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), fetching+"1", journal.FileName), journals[journal.FileName], 0o600); err != nil {
		t.Fatal(err)
	}
	if runs, err := List(state); err != nil || len(runs) > 0 {
		t.Errorf("%+v, %v", runs, err)
	}
	if err := fetched(dir, journals); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, journal.FileName): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

// TestRollbackOfARunThatDidNothing: there is nothing to put back, so nothing that speaks against a run keeps it from being settled.
func TestRollbackOfARunThatDidNothing(t *testing.T) {
	job := left(t, Job{})
	n := job.Cluster.(lab)[0]
	if err := job.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	run, err := job.Rollback(t.Context())
	if err != nil || run.ID != job.ID || run.Verdict != plan.VerdictInterrupted || run.Rollback != "" || !strings.Contains(run.Reason, "before its first step") {
		t.Errorf("%s, %s: %s, %v", run.Verdict, run.Rollback, run.Reason, err)
	}
	if got := held(t, n); got != nil {
		t.Errorf("the cluster is held by %+v", got)
	}
	if l, err := Find(job.StateDir, job.ID); err != nil || !l.Settled() || l.AtWork {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := os.Stat(filepath.Join(Dir(job.StateDir, job.ID), report.JSONFile)); err != nil {
		t.Error(err)
	}
	if _, err := job.Rollback(t.Context()); !errors.Is(err, ErrNothingToDo) {
		t.Error(err)
	}
	// One that can't be told whether it has the cluster stays as it is.
	job = left(t, Job{})
	job.Cluster.(lab)[0].fail(errGone)
	if _, err := job.Rollback(t.Context()); !errors.Is(err, errGone) {
		t.Error(err)
	}
	if l, err := Find(job.StateDir, job.ID); err != nil || l.Settled() {
		t.Errorf("%+v, %v", l, err)
	}
}

var errGone = errors.New("no route to host")

// TestControlPlaneIsLost: who takes a run up is told which control plane is missing, before anything is touched on the others.
func TestControlPlaneIsLost(t *testing.T) {
	down := journal.Entry{Kind: journal.StepBegins, Step: "stop-kubelet", Phase: plan.Recover, Outage: true}
	job := left(t, Job{}, down)
	a, b, c := job.Cluster.(lab)[0], newLocal(t, "b"), newLocal(t, "c")
	job.Cluster = lab{a, b, c}
	memory := `{"members":[{"node":"cp"},{"node":"b"},{"node":"c"}]}`
	if err := os.WriteFile(filepath.Join(Dir(job.StateDir, job.ID), stage.MemoryFile), []byte(memory), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := job.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused := func(want string) {
		t.Helper()
		a.ran, b.ran = nil, nil
		for _, takeUp := range []func(Job, context.Context) (report.Run, error){Job.Resume, Job.Rollback} {
			_, err := takeUp(job, t.Context())
			if err == nil || !strings.Contains(err.Error(), "nothing was touched") || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		if got := strings.Join(append(a.ran, b.ran...), ", "); got != "true, true, true, true" {
			t.Errorf("on the others: %s", got)
		}
	}
	c.fail(errGone)
	refused("control plane c can't be reached: no route to host")
	job.Cluster = lab{a, b}
	refused("control plane c, which cluster lab had when the run began, is no more")
	// The first one is where the lock is.
	job.Cluster = lab{c, a, b}
	refused("control plane c can't be reached: no route to host")
}

// TestJournalIsDamaged: who meets a damaged journal is told of it, and where there are copies.
func TestJournalIsDamaged(t *testing.T) {
	job := left(t, Job{})
	dir := Dir(job.StateDir, job.ID)
	if err := os.WriteFile(filepath.Join(dir, journal.FileName), []byte("{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Find(job.StateDir, job.ID)
	if !errors.Is(err, journal.ErrDamaged) || !strings.Contains(err.Error(), "move "+dir+" away, and call `drill rollback a-run --cluster NAME`") {
		t.Error(err)
	}
	err = job.explained(&ClaimedError{Cluster: "lab", Claim: Claim{Run: job.ID}})
	if !errors.Is(err, ErrClaimed) || !errors.Is(err, journal.ErrDamaged) || strings.Contains(err.Error(), "is not in") {
		t.Error(err)
	}
}

// TestNothingCanBeWrittenDown: nothing is begun then, but for what may bring a control plane back.
func TestNothingCanBeWrittenDown(t *testing.T) {
	job := left(t, Job{})
	book, _, err := journal.Open(t.Context(), Dir(job.StateDir, job.ID))
	if err != nil {
		t.Fatal(err)
	}
	if err := book.Close(); err != nil {
		t.Fatal(err)
	}
	down := journal.State{OutageBegan: time.Now()}
	for _, c := range []struct {
		kind  journal.Kind
		state journal.State
		goes  bool
	}{
		{journal.Resumed, journal.State{}, false},
		{journal.Resumed, down, false},
		{journal.Undoing, journal.State{}, false},
		{journal.Undoing, down, true},
	} {
		unkept, err := announce(book, c.kind, c.state)
		if c.goes != (err == nil) || c.goes != (unkept != nil) {
			t.Errorf("%s: %v, %v", c.kind, unkept, err)
		}
	}
}
