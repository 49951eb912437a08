package journal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
)

var began = time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }

var tiny = journal.Run{ID: "a-run", Scenario: "deployment-loss", Procedure: "kubelet-stop", Provider: "kind", Cluster: "lab", StartedAt: began, Settings: []byte(`{"keep":true}`)}

// entries are those of a run that was killed in its outage, and undone by another process.
func entries() []journal.Entry {
	return []journal.Entry{
		{At: at(1), Kind: journal.StepBegins, Step: "deploy", Phase: plan.Arrange},
		{At: at(2), Kind: journal.StepEnded, Step: "deploy", Phase: plan.Arrange, Status: plan.StatusPassed, Seconds: 1},
		{At: at(3), Kind: journal.StepBegins, Step: "delete", Phase: plan.Break},
		{At: at(4), Kind: journal.StepEnded, Step: "delete", Phase: plan.Break, Status: plan.StatusPassed, Seconds: 1},
		{At: at(5), Kind: journal.StepBegins, Step: "stop", Phase: plan.Recover, Outage: true},
		{At: at(6), Kind: journal.StepEnded, Step: "stop", Phase: plan.Recover, Status: plan.StatusFailed, Seconds: 1, Error: "kubelet won't\nstop"},
		{At: at(7), Kind: journal.Undoing, Owner: &journal.Owner{Host: "other", PID: 7}},
		{At: at(8), Kind: journal.StepBegins, Step: "rollback-stop", Phase: plan.Rollback},
		{At: at(9), Kind: journal.StepEnded, Step: "rollback-stop", Phase: plan.Rollback, Status: plan.StatusPassed, Seconds: 1},
		{At: at(10), Kind: journal.Ended, Verdict: plan.VerdictInterrupted, Reason: "undone", Rollback: plan.StatusPassed},
		{At: at(11), Kind: journal.Cleaning, Owner: &journal.Owner{Host: "third", PID: 8}},
		{At: at(12), Kind: journal.Cleaned},
	}
}

func create(t *testing.T) (dir string, j *journal.Journal) {
	t.Helper()
	dir = t.TempDir()
	j, err := journal.Create(t.Context(), dir, tiny, began)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return dir, j
}

func TestState(t *testing.T) {
	dir, j := create(t)
	first := journal.State{Run: tiny, Owner: journal.Self()}
	for i := 0; ; i++ {
		got, err := journal.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			if !reflect.DeepEqual(got, first) {
				t.Errorf("at first %+v, want %+v", got, first)
			}
		case 3:
			if want := []journal.Step{{Name: "deploy", Phase: plan.Arrange, Status: plan.StatusPassed, Seconds: 1}, {Name: "delete", Phase: plan.Break}}; !reflect.DeepEqual(got.Steps, want) {
				t.Errorf("steps %+v", got.Steps)
			}
			if !got.BreakBegan.Equal(at(3)) || !got.OutageBegan.IsZero() {
				t.Errorf("%+v", got)
			}
		case 5:
			if !got.OutageBegan.Equal(at(5)) || got.Undoing || got.Settled() {
				t.Errorf("%+v", got)
			}
		case 7:
			if !got.Undoing || got.Owner.PID != 7 || got.Resumed != 0 {
				t.Errorf("%+v", got)
			}
		case 10:
			want := &journal.End{At: at(10), Verdict: plan.VerdictInterrupted, Reason: "undone", Rollback: plan.StatusPassed}
			if !reflect.DeepEqual(got.End, want) || !got.Settled() || !got.Cleaned.IsZero() {
				t.Errorf("%+v", got)
			}
		case len(entries()):
			if got.Owner.PID != 8 || !got.Settled() || !got.Cleaned.Equal(at(12)) {
				t.Errorf("%+v", got)
			}
			return
		}
		if err := j.Append(entries()[i]); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRollbackThatBeganByItself needs no entry of its own.
func TestRollbackThatBeganByItself(t *testing.T) {
	dir, j := create(t)
	if err := j.Append(journal.Entry{At: at(1), Kind: journal.StepBegins, Step: "rollback-stop", Phase: plan.Rollback}); err != nil {
		t.Fatal(err)
	}
	if s, err := journal.Read(dir); err != nil || !s.Undoing {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestProof: what a run was judged by that passed is known to whoever takes it up.
func TestProof(t *testing.T) {
	dir, j := create(t)
	lost := int64(3)
	proof := plan.Proof{
		Checks:      []plan.Proven{{Check: "reads-agree", Finding: plan.Passed("all say the same", "one", "two"), Elapsed: time.Second}},
		Measurement: plan.Measurement{Loss: plan.Loss{Revisions: &lost}, Snapshot: &plan.SnapshotInfo{Path: "/snapshot.db", TakenAt: at(1)}},
	}
	if err := j.Append(journal.Entry{At: at(2), Kind: journal.Judged, Verdict: plan.VerdictPassed, Proof: &proof}); err != nil {
		t.Fatal(err)
	}
	s, err := journal.Read(dir)
	if err != nil || s.Judged != plan.VerdictPassed || !reflect.DeepEqual(s.Proof, &proof) || s.Settled() {
		t.Errorf("%+v, %v; want %+v", s.Proof, err, proof)
	}
}

// TestNotBegun: a step that was refused after its line was written has not begun, and no outage with it.
func TestNotBegun(t *testing.T) {
	dir, j := create(t)
	stop := journal.Entry{At: at(1), Kind: journal.StepBegins, Step: "stop", Phase: plan.Recover, Outage: true}
	refused := stop
	refused.Kind = journal.NotBegun
	judged := journal.Entry{At: at(2), Kind: journal.Judged, Verdict: plan.VerdictBroken}
	for _, e := range []journal.Entry{stop, refused, judged} {
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := journal.Read(dir); err != nil || len(s.Steps) > 0 || !s.OutageBegan.IsZero() || s.Judged != plan.VerdictBroken {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestSettled(t *testing.T) {
	for _, c := range []struct {
		end  *journal.End
		want bool
	}{
		{nil, false},
		{&journal.End{Verdict: plan.VerdictPassed}, true},
		{&journal.End{Verdict: plan.VerdictFailed, Rollback: plan.StatusPassed}, true},
		{&journal.End{Verdict: plan.VerdictFailed, Rollback: plan.StatusFailed}, false},
		{&journal.End{Verdict: plan.VerdictFailed}, false}, // it was kept as it was
	} {
		if c.end != nil && !(journal.State{End: c.end}).Settled() {
			t.Errorf("%+v without an outage is not settled", c.end)
		}
		if got := (journal.State{End: c.end, OutageBegan: began}).Settled(); got != c.want {
			t.Errorf("%+v: %t", c.end, got)
		}
	}
}

// TestCutOffAnywhere: whatever the last write has left, the journal can be read and gone on with, and says what was complete.
func TestCutOffAnywhere(t *testing.T) {
	dir, j := create(t)
	for _, e := range entries() {
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, journal.FileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	start := bytes.IndexByte(whole, '\n') + 1
	for n := 0; n < len(whole); n += 7 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := journal.Read(dir)
		if n < start {
			if !errors.Is(err, journal.ErrDamaged) {
				t.Errorf("after %d bytes: %+v, %v", n, s, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		lines := bytes.Count(whole[:n], []byte("\n"))
		again, opened, err := journal.Open(t.Context(), dir)
		if err != nil || !reflect.DeepEqual(s, opened) {
			t.Fatalf("after %d bytes: %+v, %v", n, opened, err)
		}
		if err := errors.Join(again.Append(journal.Entry{At: at(99), Kind: journal.Resumed, Owner: &journal.Owner{PID: 9}}), again.Close()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || bytes.Count(b, []byte("\n")) != lines+1 || !bytes.HasPrefix(b, whole[:bytes.LastIndexByte(whole[:n], '\n')+1]) {
			t.Fatalf("after %d bytes it is\n%s, %v", n, b, err)
		}
		if s, err := journal.Read(dir); err != nil || s.Resumed != 1 || s.Owner.PID != 9 || s.End != nil {
			t.Errorf("after %d bytes: %+v, %v", n, s, err)
		}
	}
}

// TestCopies: a journal learns from a copy what others have written to that, and only then.
func TestCopies(t *testing.T) {
	lines := func(entries ...journal.Entry) string {
		var b strings.Builder
		for _, e := range entries {
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(line, '\n'))
		}
		return b.String()
	}
	all := entries()
	undoing := all[6]
	later := undoing
	later.At = at(70)
	resumed := journal.Entry{At: at(6), Kind: journal.Resumed, Owner: &journal.Owner{Host: "first", PID: 3}}
	step := journal.Entry{At: at(6), Kind: journal.StepBegins, Step: "swap", Phase: plan.Recover}
	for name, c := range map[string]struct {
		own, other []journal.Entry // after the first
		want, set  bool
	}{
		"the same":                                   {all[:5], all[:5], false, false},
		"the copy goes on":                           {all[:5], all, true, false},
		"the copy lags behind":                       {all, all[:5], false, false},
		"another machine has undone it":              {append(all[:5:5], step), all, true, true},
		"another machine's is from before":           {all, append(all[:5:5], step), false, false},
		"both have taken it up, the other one later": {append(all[:5:5], resumed), append(all[:5:5], later), true, true},
		"both have taken it up, this one later":      {append(all[:5:5], later), append(all[:5:5], resumed), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, j := create(t)
			path := filepath.Join(dir, journal.FileName)
			first, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range c.own {
				if err := j.Append(e); err != nil {
					t.Fatal(err)
				}
			}
			other := string(first) + lines(c.other...)
			if got, err := j.Behind([]byte(other + `{"kind":"cut`)); err != nil || got != c.want {
				t.Fatalf("%t, %v", got, err)
			}
			if !c.want {
				return
			}
			s, err := j.Adopt([]byte(other + `{"kind":"cut`))
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if want, parseErr := journal.Parse([]byte(other)); err != nil || parseErr != nil || string(got) != other || !reflect.DeepEqual(s, want) {
				t.Errorf("%+v, %v, %v\n%s", s, err, parseErr, got)
			}
			aside, err := filepath.Glob(path + ".*")
			if err != nil || (len(aside) == 1) != c.set {
				t.Errorf("beside it are %v, %v", aside, err)
			}
			if c.set {
				if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != string(first)+lines(c.own...) {
					t.Errorf("%s, %v", kept, err)
				}
			}
			if err := j.Append(all[7]); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != other+lines(all[7]) {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
	_, j := create(t)
	stranger := tiny
	stranger.ID = "b-run"
	for content, want := range map[string]string{lines(journal.Entry{Version: 1, Kind: journal.Began, Run: &stranger}): "of run b-run", "": "damaged"} {
		if got, err := j.Behind([]byte(content)); got || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%t, %v; want %q", got, err, want)
		}
	}
}

func TestDamaged(t *testing.T) {
	for name, content := range map[string]string{
		"a line in its midst": `{"version":1,"kind":"began","run":{}}` + "\n" + "{\n" + `{"kind":"ended"}` + "\n",
		"no beginning":        `{"kind":"ended"}` + "\n",
		"empty":               "",
		"another file":        "hello\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := journal.Parse([]byte(content)); !errors.Is(err, journal.ErrDamaged) {
				t.Error(err)
			}
		})
	}
	if _, err := journal.Parse([]byte(`{"version":2,"kind":"began","run":{}}` + "\n")); err == nil || errors.Is(err, journal.ErrDamaged) || !strings.Contains(err.Error(), "newer drill") {
		t.Error(err)
	}
	// What a newer drill adds without changing the version is left out.
	if s, err := journal.Parse([]byte(`{"version":1,"kind":"began","run":{"id":"r"},"mood":"good"}` + "\n" + `{"kind":"paused"}` + "\n")); err != nil || s.Run.ID != "r" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestOneOwner(t *testing.T) {
	dir, j := create(t)
	if atWork, err := journal.AtWork(dir); err != nil || !atWork {
		t.Errorf("%t, %v", atWork, err)
	}
	if _, _, err := journal.Open(t.Context(), dir); !errors.Is(err, journal.ErrAtWork) || !strings.Contains(err.Error(), journal.Self().String()) {
		t.Error(err)
	}
	if _, err := journal.Create(t.Context(), dir, tiny, began); !errors.Is(err, journal.ErrAtWork) {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if atWork, err := journal.AtWork(dir); err != nil || atWork {
		t.Errorf("%t, %v", atWork, err)
	}
	if _, err := journal.Create(t.Context(), dir, tiny, began); err == nil {
		t.Error("a journal was begun where there is one")
	}
	if _, s, err := journal.Open(t.Context(), dir); err != nil || s.Run.ID != tiny.ID {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestLookingKeepsNobodyFromIt: those who look whether a process is at work don't take each other for one, and whoever wants to begin gets the run all the same.
func TestLookingKeepsNobodyFromIt(t *testing.T) {
	dir, j := create(t)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	for range 4 {
		looking.Go(func() {
			for ctx.Err() == nil {
				// What it says while the run is taken up below is as it may be.
				if _, err := journal.AtWork(dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 50 {
		j, _, err := journal.Open(t.Context(), dir)
		if err != nil {
			t.Error(err)
			break
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
	stop()
	looking.Wait()
	var seen sync.WaitGroup
	for range 4 {
		seen.Go(func() {
			for range 100 {
				if atWork, err := journal.AtWork(dir); err != nil || atWork {
					t.Errorf("%t, %v", atWork, err)
				}
			}
		})
	}
	seen.Wait()
}

// TestOwnerIsKilled: nothing that a process leaves behind keeps others from its runs.
func TestOwnerIsKilled(t *testing.T) {
	if dir := os.Getenv("JOURNAL_OWNER"); dir != "" {
		j, err := journal.Create(t.Context(), dir, tiny, began)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = j.Close() }() // without a use for it, the journal would be collected, and its lock with it
		fmt.Println("at work")
		select {}
	}
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOwnerIsKilled$")
	child.Env = append(os.Environ(), "JOURNAL_OWNER="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, len("at work"))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := journal.Open(t.Context(), dir); !errors.Is(err, journal.ErrAtWork) {
		t.Error(err)
	}
	s, err := journal.Read(dir)
	if err != nil || s.Owner.PID != child.Process.Pid {
		t.Errorf("%+v, %v", s, err)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	j, _, err := journal.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
}

func TestNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := journal.Read(dir); !errors.Is(err, journal.ErrNone) {
		t.Error(err)
	}
	if _, _, err := journal.Open(t.Context(), dir); !errors.Is(err, journal.ErrNone) {
		t.Error(err)
	}
	if atWork, err := journal.AtWork(dir); err != nil || atWork {
		t.Errorf("%t, %v", atWork, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("looking left %v, %v", left, err)
	}
	if _, err := journal.Create(t.Context(), filepath.Join(dir, "missing"), tiny, began); err == nil {
		t.Error("a journal was begun in a folder that isn't there")
	}
}

func TestWatch(t *testing.T) {
	dir, j := create(t)
	var seen []string
	j.Watch(func(content []byte) { seen = append(seen, string(content)) })
	for _, e := range entries()[:2] {
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(filepath.Join(dir, journal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 3 || seen[2] != string(whole) || !strings.HasPrefix(seen[2], seen[1]) || !strings.HasPrefix(seen[1], seen[0]) {
		t.Errorf("seen %d times: %q", len(seen), seen)
	}
	if info, err := os.Stat(filepath.Join(dir, journal.FileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
