package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
)

const mirrored = "/var/lib/drill/a-run"

func newTestMirror(t *testing.T, nodes ...*local) *mirror {
	t.Helper()
	var all []cluster.Node
	for _, n := range nodes {
		all = append(all, n)
	}
	m := newMirror(t.Context(), all, mirrored)
	t.Cleanup(func() { _ = m.close(context.WithoutCancel(t.Context())) })
	return m
}

func TestMirror(t *testing.T) {
	a, b := newLocal(t, "a"), newLocal(t, "b")
	m := newTestMirror(t, a, b)
	for i := range 20 {
		m.put("journal.jsonl", fmt.Appendf(nil, "%d", i))
		m.put("memory.json", fmt.Appendf(nil, "m%d", i))
	}
	if err := m.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*local{a, b} {
		for name, want := range map[string]string{"journal.jsonl": "19", "memory.json": "m19"} {
			if got, err := os.ReadFile(n.path(mirrored + "/" + name)); err != nil || string(got) != want {
				t.Errorf("node %s: %s holds %q, %v", n.name, name, got, err)
			}
		}
	}
	m.put("journal.jsonl", []byte("20"))
	if err := m.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(a.path(mirrored + "/journal.jsonl")); err != nil || string(got) != "20" {
		t.Errorf("closed with %q, %v", got, err)
	}
	m.put("journal.jsonl", []byte("21")) // is of no consequence
	if err := m.close(t.Context()); err == nil {
		t.Error("it was closed twice")
	}
}

// TestMirrorOfANodeThatIsAway: whoever waits is told, and what could not be copied is when the node is back.
func TestMirrorOfANodeThatIsAway(t *testing.T) {
	a, b := newLocal(t, "a"), newLocal(t, "b")
	m := newTestMirror(t, a, b)
	away := errors.New("no route to host")
	b.fail(away)
	m.put("journal.jsonl", []byte("1"))
	if err := m.flush(t.Context()); !errors.Is(err, away) {
		t.Errorf("%v", err)
	}
	m.put("journal.jsonl", []byte("2"))
	b.fail(nil)
	if err := m.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(b.path(mirrored + "/journal.jsonl")); err != nil || string(got) != "2" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestMirrorIsNotWaitedForTooLong(t *testing.T) {
	n := newLocal(t, "a")
	m := newTestMirror(t, n)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, errors.New("it took longer than that"))
	defer cancel()
	<-ctx.Done()
	n.mu.Lock() // nothing is copied meanwhile
	m.put("journal.jsonl", []byte("1"))
	err := m.flush(ctx)
	n.mu.Unlock()
	if err == nil || !strings.Contains(err.Error(), "it took longer than that") {
		t.Error(err)
	}
}

// TestOutageIsPutOff until the copies are on the nodes; but not one that has begun already: what takes the control plane down again when a run is carried on needs no leave.
func TestOutageIsPutOff(t *testing.T) {
	step := plan.StepStarted{At: time.Now(), Step: plan.Step{Name: "stop-kubelet", Phase: plan.Recover, Outage: true}}
	for _, down := range []bool{false, true} {
		n := newLocal(t, "a")
		n.fail(errors.New("the node is away"))
		dir := t.TempDir()
		book, err := journal.Create(t.Context(), dir, journal.Run{ID: "a-run"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		begun := journal.Entry{At: time.Now(), Kind: journal.StepBegins, Step: "stop-kubelet", Phase: plan.Recover, Outage: true}
		if down {
			if err := book.Append(begun); err != nil {
				t.Fatal(err)
			}
		}
		r := &recorder{dir: dir, journal: book, mirror: newTestMirror(t, n), down: down, owns: func(context.Context) error { return nil }}
		book.Watch(func(content []byte) { r.mirror.put(journal.FileName, content) })
		if err := r.Record(t.Context(), step); (err == nil) != down {
			t.Errorf("down %t: %v", down, err)
		}
		if err := book.Close(); err != nil {
			t.Fatal(err)
		}
		state, err := journal.Read(dir)
		if err != nil || state.OutageBegan.IsZero() == down {
			t.Errorf("down %t: the outage began at %s, %v", down, state.OutageBegan, err)
		}
	}
}
