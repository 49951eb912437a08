package procedure_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
)

// TestModes: a procedure that is the change of the manifest can't do without it, and a name that doesn't exist is told from one that does.
func TestModes(t *testing.T) {
	for _, p := range procedure.All() {
		if got := p.DataDirMode(); got != procedure.DataDirManifest {
			t.Errorf("%s is by itself in mode %s", p.Name, got)
		}
		for _, mode := range append(procedure.DataDirModes(), "") {
			in, err := p.In(mode)
			if refused := p.Name == "manifest-edit" && mode == procedure.DataDirSwap; refused != (err != nil) {
				t.Errorf("%s in mode %q: %v", p.Name, mode, err)
			} else if refused && !strings.Contains(err.Error(), "procedure manifest-edit is the edit of etcd's manifest") {
				t.Errorf("no reason: %v", err)
			}
			if want := string(in.DataDirMode()); err == nil && (in.Build(three()).Variant.DataDirMode != want || in.Variant(0, nil, nil).DataDirMode != want || mode != "" && want != string(mode)) {
				t.Errorf("%s in mode %q says that it is in another", p.Name, mode)
			}
		}
		if _, err := p.In("rename"); err == nil || !strings.Contains(err.Error(), `there is no mode "rename"; there are: manifest, swap`) {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	back, err := swapped(procedure.KubeletStop()).In(procedure.DataDirManifest)
	if err != nil || back.Build(three()).Variant.DataDirMode != "manifest" {
		t.Errorf("a procedure does not leave the mode: %v", err)
	}
}

// exchange is a procedure in mode swap on nodes whose files are real, but for what restores.
type exchange struct {
	target          procedure.Target
	nodes           map[string]*sandbox
	before          map[string]map[string]string
	steps, rollback []plan.Step
	face            func(context.Context, plan.Step) error
	// third are the members whose third directory is known to be in place.
	third map[string]bool
}

const old, restored, third, stranger = "old", "restored", "third", "a stranger's"

func newExchange(t *testing.T, p procedure.Procedure, face string) *exchange {
	t.Helper()
	x := &exchange{target: three(), nodes: map[string]*sandbox{}, before: map[string]map[string]string{}, third: map[string]bool{}}
	x.target.Members = x.target.Members[:2]
	for i := range x.target.Members {
		member := &x.target.Members[i]
		n := newSandbox(t, member.Name)
		member.Node, x.nodes[member.Name], x.before[member.Name] = n, n, n.files(t, controlplane.ManifestDir)
		n.holdDir(t, member.Etcd.HostDataDir, old+" of "+member.Name)
	}
	x.target.Restore = func(_ context.Context, m controlplane.Member) error {
		x.nodes[m.Name].holdDir(t, x.target.DataDir, restored)
		return nil
	}
	x.target.RestoreOld = func(context.Context) error {
		for name, n := range x.nodes {
			if got := n.heldBy(x.target.AsideDir); got != old+" of "+name {
				return fmt.Errorf("%s: the old directory holds %q", name, got)
			}
			n.holdDir(t, x.target.RollbackDir, third)
		}
		return nil
	}
	x.target.NoteRestored = func(context.Context) error { return nil }
	x.target.BackInPlace = func(_ context.Context, m controlplane.Member) (bool, error) { return x.third[m.Name], nil }
	r := swapped(p).Build(x.target)
	only := func(steps []plan.Step) []plan.Step {
		return slices.DeleteFunc(slices.Clone(steps), func(s plan.Step) bool { return !dealsWithFiles(s) && s.Name != "rollback-restore-old" })
	}
	x.steps, x.rollback, x.face = only(r.Steps), only(r.Rollback), faces(x.nodes)[face]
	if err := r.Steps[0].Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Steps[0].Learn(t.Context()); err != nil {
		t.Fatal(err)
	}
	return x
}

// holdDir makes a data directory with a database that is no more than a text.
func (s *sandbox) holdDir(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.MkdirAll(s.path(dir+"/member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(dir+"/member/db"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// heldBy is the text in a data directory; empty where there is none.
func (s *sandbox) heldBy(dir string) string {
	b, err := os.ReadFile(s.path(dir + "/member/db"))
	if err != nil {
		return ""
	}
	return string(b)
}

// undo carries the rollback out, with what a rollback does itself even where commands are typed.
func (x *exchange) undo(t *testing.T) error {
	t.Helper()
	failed := false
	for _, s := range x.rollback {
		if failed && !s.Always {
			continue
		}
		act := x.face
		if s.Name == "rollback-restore-old" {
			act = func(ctx context.Context, s plan.Step) error { return s.Do(ctx) }
		}
		if err := act(t.Context(), s); err != nil {
			if s.Always {
				return fmt.Errorf("step %s: %w", s.Name, err)
			}
			failed = true
		}
	}
	return nil
}

// untouched makes sure that every manifest is as it was.
func (x *exchange) untouched(t *testing.T, when string) {
	t.Helper()
	for name, n := range x.nodes {
		now := n.files(t, controlplane.ManifestDir)
		for file, want := range x.before[name] {
			if now[file] != want || len(now) != len(x.before[name]) {
				t.Errorf("%s: %s on %s is %q; there are %d manifests", when, file, name, now[file], len(now))
			}
		}
	}
}

// holds makes sure that these directories hold these texts on every node.
func (x *exchange) holds(t *testing.T, when string, want map[string]string) {
	t.Helper()
	for name, n := range x.nodes {
		for dir, text := range want {
			if text == old {
				text += " of " + name
			}
			if got := n.heldBy(dir); got != text {
				t.Errorf("%s: %s on %s holds %q, want %q", when, dir, name, got, text)
			}
		}
	}
}

const inPlace = "/var/lib/etcd"

// TestExchange: the restored directory gets the path of the old one, which is kept; no manifest is another than before; and wherever the recovery ends, between the two renames too, on one
// node or on all of them, the rollback puts the third directory in place and keeps what was restored. A node that was restarted between the renames has had kubelet make a directory
// of that path, which is kept as well.
func TestExchange(t *testing.T) {
	for _, p := range []procedure.Procedure{procedure.KubeletStop(), procedure.ManifestMove()} {
		for _, face := range []string{"done", "typed"} {
			whole := newExchange(t, p, face)
			for _, s := range whole.steps {
				if err := whole.face(t.Context(), s); err != nil {
					t.Fatalf("%s, %s: step %s: %v", p.Name, face, s.Name, err)
				}
			}
			whole.untouched(t, "at the end")
			whole.holds(t, "at the end", map[string]string{inPlace: restored, "/new/etcd-before": old, "/new/etcd": ""})
			for _, n := range whole.nodes {
				if b, err := os.ReadFile(n.path(procedure.KeptManifest("/new"))); err != nil || string(b) != whole.before[n.name]["etcd.yaml"] {
					t.Errorf("%s: no copy of the manifest is kept: %v", n.name, err)
				}
			}

			swap := slices.IndexFunc(whole.steps, func(s plan.Step) bool { return s.Name == "swap-data-dir" })
			for steps := swap; steps <= len(whole.steps); steps++ {
				for name, renames := range map[string][2]int{"": {}, "one node between the renames": {1, 0}, "both between them": {1, 1}, "one node done": {2, 0}, "one done, one between": {2, 1}} {
					if name != "" && (steps != swap || p.Name != "kubelet-stop") {
						continue // what is half done is half done in the same way
					}
					for _, restarted := range []bool{false, true} {
						for _, hopeless := range []bool{false, true} {
							if face == "typed" && restarted && hopeless {
								continue
							}
							when := fmt.Sprintf("%s, %s, after %d steps, %s, restarted %v, nothing to restore from %v", p.Name, face, steps, name, restarted, hopeless)
							x := newExchange(t, p, face)
							for _, s := range x.steps[:steps] {
								if err := x.face(t.Context(), s); err != nil {
									t.Fatalf("%s: step %s: %v", when, s.Name, err)
								}
							}
							x.interrupted(t, renames, restarted)
							x.rolledBack(t, when, restarted, hopeless, face)
						}
					}
				}
			}
		}
	}
}

// interrupted carries out so many renames on each of the nodes and, where the node is restarted, has kubelet make what is missing then.
func (x *exchange) interrupted(t *testing.T, renames [2]int, restarted bool) {
	t.Helper()
	for i, m := range x.target.Members {
		n := x.nodes[m.Name]
		for _, r := range [][2]string{{inPlace, x.target.AsideDir}, {x.target.DataDir, inPlace}}[:renames[i]] {
			if err := os.Rename(n.path(r[0]), n.path(r[1])); err != nil {
				t.Fatal(err)
			}
		}
		if restarted && n.heldBy(inPlace) == "" {
			n.holdDir(t, inPlace, stranger)
		}
	}
}

func (x *exchange) rolledBack(t *testing.T, when string, restarted, hopeless bool, face string) {
	t.Helper()
	strangers := 0
	for _, n := range x.nodes {
		if n.heldBy(inPlace) == stranger {
			strangers++
		}
	}
	if hopeless {
		x.target.RestoreOld = func(context.Context) error { return errors.New("the disk is full") }
		i := slices.IndexFunc(x.rollback, func(s plan.Step) bool { return s.Name == "rollback-restore-old" })
		x.rollback[i].Do = x.target.RestoreOld
	}
	if err := x.undo(t); err != nil {
		t.Errorf("%s: %v", when, err)
		return
	}
	x.untouched(t, when)
	if hopeless { // better the old directory itself than none
		x.holds(t, when, map[string]string{inPlace: old, "/new/etcd-before": ""})
	} else {
		x.holds(t, when, map[string]string{inPlace: third, "/new/etcd-before": old, "/new/etcd": "", "/new/etcd-rolled-back": ""})
	}
	for name, n := range x.nodes { // nothing is lost, whatever it is called by now
		var kept []string
		for _, dir := range []string{"/new/etcd-given-up", "/new/etcd-given-up.~1~"} {
			if text := n.heldBy(dir); text != "" {
				kept = append(kept, text)
			}
		}
		if slices.Contains(kept, stranger) {
			strangers--
		}
		if !slices.Contains(kept, restored) {
			t.Errorf("%s: on %s nothing is left of what was restored: %q", when, name, kept)
		}
	}
	if strangers != 0 {
		t.Errorf("%s: what kubelet had made is gone on %d nodes", when, strangers)
	}
	if hopeless || face != "done" {
		return
	}
	// Another rollback leaves alone what is in use.
	for name := range x.nodes {
		x.third[name] = true
	}
	x.target.RestoreOld = nil
	for _, s := range x.rollback {
		if s.Name != "rollback-restore-old" {
			if err := x.face(t.Context(), s); err != nil {
				t.Errorf("%s, once more: step %s: %v", when, s.Name, err)
			}
		}
	}
	x.holds(t, when+", once more", map[string]string{inPlace: third, "/new/etcd-before": old})
}

// TestExchangeIsTakenUp: whatever was done of the two renames on whichever node, the step does the rest.
func TestExchangeIsTakenUp(t *testing.T) {
	for _, renames := range [][2]int{{}, {1, 0}, {1, 1}, {2, 1}, {2, 2}} {
		x := newExchange(t, procedure.KubeletStop(), "done")
		x.interrupted(t, renames, false)
		i := slices.IndexFunc(x.steps, func(s plan.Step) bool { return s.Name == "swap-data-dir" })
		if err := x.steps[i].Do(t.Context()); err != nil {
			t.Errorf("after %v renames: %v", renames, err)
		}
		x.holds(t, fmt.Sprintf("after %v renames", renames), map[string]string{inPlace: restored, "/new/etcd-before": old, "/new/etcd": ""})
	}
}

// TestExchangeOverwritesNothing: where something has got the path meanwhile, or what is to be moved isn't there, a person hears of it, and it stays as it is.
func TestExchangeOverwritesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		renames [2]int
		alter   func(t *testing.T, n *sandbox)
		want    string
	}{
		"kubelet has made another":      {[2]int{1, 1}, func(t *testing.T, n *sandbox) { n.holdDir(t, inPlace, stranger) }, "somebody has made it since"},
		"the old one is gone":           {[2]int{}, func(t *testing.T, n *sandbox) { n.moveAway(t, inPlace) }, "moving the old data directory aside"},
		"the restored one is gone":      {[2]int{}, func(t *testing.T, n *sandbox) { n.moveAway(t, "/new/etcd") }, "moving the restored data directory to /var/lib/etcd"},
		"what is aside was not the old": {[2]int{}, func(t *testing.T, n *sandbox) { n.holdDir(t, "/new/etcd-before", stranger) }, "somebody has made it since"},
	} {
		x := newExchange(t, procedure.KubeletStop(), "done")
		x.interrupted(t, c.renames, false)
		n := x.nodes["cp-b"]
		c.alter(t, n)
		i := slices.IndexFunc(x.steps, func(s plan.Step) bool { return s.Name == "swap-data-dir" })
		err := x.steps[i].Do(t.Context())
		if err == nil || !strings.Contains(err.Error(), "node cp-b: ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "node cp-a: ") {
			t.Errorf("%s: %v", name, err)
		}
		var left []string
		for _, dir := range []string{inPlace, inPlace + "-elsewhere", "/new/etcd", "/new/etcd-elsewhere", "/new/etcd-before"} {
			left = append(left, n.heldBy(dir))
		}
		if !slices.Contains(left, old+" of cp-b") || !slices.Contains(left, restored) || strings.Contains(c.want, "somebody") && !slices.Contains(left, stranger) {
			t.Errorf("%s: left are %q", name, left)
		}
	}
}

func (s *sandbox) moveAway(t *testing.T, dir string) {
	t.Helper()
	if err := os.Rename(s.path(dir), s.path(dir+"-elsewhere")); err != nil {
		t.Fatal(err)
	}
}
