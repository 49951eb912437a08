package procedure_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
)

// sandbox is a node whose files are real ones, below a folder of the test. Commands that deal with files are carried out; of others there is nothing to be done.
type sandbox struct {
	recorder
	root string
}

func newSandbox(t *testing.T, name string) *sandbox {
	t.Helper()
	for _, tool := range []string{"mv", "cp", "find", "sed"} {
		if out, err := exec.Command(tool, "--version").Output(); err != nil || !bytes.Contains(out, []byte("GNU")) {
			t.Skipf("no GNU %s here, which a node has", tool)
		}
	}
	s := &sandbox{recorder: recorder{name: name}, root: t.TempDir()}
	if err := os.MkdirAll(s.path(controlplane.ManifestDir), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range controlplane.Components() {
		b, err := os.ReadFile("../controlplane/testdata/" + c + "-v1.37.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(controlplane.ManifestDir+"/"+c+".yaml"), append([]byte("# of "+name+"\n"), b...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// path is where a file of the node is.
func (s *sandbox) path(onNode string) string { return filepath.Join(s.root, onNode) }

func (s *sandbox) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	argv := slices.Clone(cmd.Argv)
	if argv[0] == "curl" {
		return cluster.Result{Stdout: []byte("ok\n200")}, nil
	}
	if !slices.Contains([]string{"mkdir", "mv", "cp", "find", "sed", "diff", "test", "sync"}, argv[0]) {
		return cluster.Result{Stdout: []byte(`{"containers":[],"items":[]}`)}, nil
	}
	for i, arg := range argv {
		if strings.HasPrefix(arg, "/") {
			argv[i] = s.path(arg)
		}
	}
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if err != nil {
		err = &cluster.ExitError{Node: s.name, Cmd: cmd, Code: c.ProcessState.ExitCode(), Output: stderr.String()}
	}
	// What find lists are files of the node.
	return cluster.Result{Stdout: []byte(strings.ReplaceAll(stdout.String(), s.root, "")), Stderr: stderr.Bytes()}, err
}

func (s *sandbox) ReadFile(_ context.Context, path string) ([]byte, error) {
	return os.ReadFile(s.path(path))
}

// files returns what is in a folder of the node, by name; those that a listing doesn't show as well.
func (s *sandbox) files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(s.path(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(s.path(dir + "/" + e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// faces are the two ways to carry out a step that deals with files.
func faces(nodes map[string]*sandbox) map[string]func(context.Context, plan.Step) error {
	return map[string]func(context.Context, plan.Step) error{
		"done": func(ctx context.Context, s plan.Step) error { return s.Do(ctx) },
		"typed": func(ctx context.Context, s plan.Step) error {
			for _, c := range s.Commands {
				if _, err := nodes[c.On].Exec(ctx, cluster.Cmd{Argv: c.Argv}); err != nil && !c.Fails {
					return err
				}
			}
			return nil
		},
	}
}

// WriteFile is for what drill writes itself.
func (s *sandbox) WriteFile(_ context.Context, path string, mode fs.FileMode, r io.Reader) error {
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		return err
	}
	return os.WriteFile(s.path(path), b.Bytes(), mode)
}

// dealsWithFiles says whether a step can be carried out in a sandbox.
func dealsWithFiles(s plan.Step) bool {
	for _, name := range []string{"prepare-manifest", "keep-manifest", "move-", "set-aside", "swap-", "hold-back", "join-etcd"} {
		if strings.HasPrefix(strings.TrimPrefix(s.Name, "rollback-"), name) {
			return true
		}
	}
	return false
}

// TestMove: after all steps the manifests are those from before but for etcd's directory, and nothing was deleted; and whatever step the procedure is
// interrupted after, or in the middle of, the rollback puts all four back.
func TestMove(t *testing.T) {
	for _, c := range []struct {
		procedure procedure.Procedure
		members   int
		keep      [][]string
	}{
		{procedure.ManifestMove(), 2, [][]string{nil, {"kube-apiserver", "kubelet"}, procedure.Components()}},
		{procedure.KubeletStop(), 3, [][]string{nil, {"kube-apiserver"}, {"kube-apiserver", "kube-controller-manager", "kube-scheduler"}}},
	} {
		for _, face := range []string{"done", "typed"} {
			for _, keep := range c.keep {
				steps := 0
				for cut := 0; cut == 0 || cut <= steps; cut++ { // 0 is no interruption
					for _, half := range []bool{false, true} {
						if half && cut < 2 { // nothing is moved before
							continue
						}
						t.Run(fmt.Sprintf("%s %s keeping %v, interrupted %d, half way %v", c.procedure.Name, face, keep, cut, half), func(t *testing.T) {
							m := newMove(t, c.procedure, c.members, keep, face)
							steps = len(m.steps)
							m.play(t, cut, half)
						})
					}
				}
			}
		}
	}
}

// move is the procedure on nodes of its own.
type move struct {
	target procedure.Target
	nodes  map[string]*sandbox
	before map[string]map[string]string
	// steps are those that deal with files, from the first that does on.
	steps, rollback []plan.Step
	face            func(context.Context, plan.Step) error
	// away is where the procedure says that old manifests of etcd are; with none, all are.
	away map[string]string
}

func newMove(t *testing.T, p procedure.Procedure, members int, keep []string, face string) move {
	t.Helper()
	m := move{target: three(), nodes: map[string]*sandbox{}, before: map[string]map[string]string{}}
	m.target.Members = m.target.Members[:members]
	m.target.KeepRunning = keep
	m.target.RestoreOld = func(context.Context) error { return nil }
	for i := range m.target.Members {
		member := &m.target.Members[i]
		n := newSandbox(t, member.Name)
		member.Node, m.nodes[member.Name], m.before[member.Name] = n, n, n.files(t, controlplane.ManifestDir)
		if err := os.MkdirAll(n.path(m.target.RollbackDir+"/member"), 0o700); err != nil { // whatever restores it
			t.Fatal(err)
		}
	}
	r := p.Build(m.target)
	m.away = r.TakenAway
	only := func(steps []plan.Step) []plan.Step {
		return slices.DeleteFunc(slices.Clone(steps), func(s plan.Step) bool { return !dealsWithFiles(s) })
	}
	m.steps, m.rollback = only(r.Steps), r.Rollback
	m.face = faces(m.nodes)[face]
	return m
}

// TestThirdDirectoryIsGone: an etcd that began on a third directory which isn't there any more would begin an empty cluster, so the manifest names the old one again.
func TestThirdDirectoryIsGone(t *testing.T) {
	for _, face := range []string{"done", "typed"} {
		for _, gone := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, gone %v", face, gone), func(t *testing.T) {
				m := newMove(t, procedure.KubeletStop(), 3, nil, face)
				for _, s := range m.steps[:1] {
					if err := m.face(t.Context(), s); err != nil {
						t.Fatal(err)
					}
				}
				want := m.target.RollbackDir
				for name, n := range m.nodes { // as an earlier rollback left it
					named := strings.ReplaceAll(m.before[name]["etcd.yaml"], "path: /var/lib/etcd\n", "path: "+m.target.RollbackDir+"\n")
					if err := os.WriteFile(n.path(controlplane.ManifestDir+"/etcd.yaml"), []byte(named), 0o600); err != nil {
						t.Fatal(err)
					}
					if gone {
						want = ""
						if err := os.RemoveAll(n.path(m.target.RollbackDir)); err != nil {
							t.Fatal(err)
						}
					}
				}
				for _, s := range m.rollback { // of which restoring failed
					if dealsWithFiles(s) {
						if err := m.face(t.Context(), s); err != nil {
							t.Fatalf("step %s: %v", s.Name, err)
						}
					}
				}
				m.same(t, "after the rollback", want)
			})
		}
	}
}

// play carries out so many steps, all of them with 0, the last one on one file of one node only with half, and rolls back unless it was all of them.
func (m move) play(t *testing.T, cut int, half bool) {
	t.Helper()
	steps := m.steps
	if cut > 0 {
		steps = steps[:cut]
	}
	for i, s := range steps {
		if half && i == len(steps)-1 && cut > 0 {
			m.halfWay(t, s)
			break
		}
		if err := m.face(t.Context(), s); err != nil {
			t.Fatalf("step %s: %v", s.Name, err)
		}
		if name := strings.TrimPrefix(s.Name, "prepare-"); name != s.Name {
			m.same(t, "after "+s.Name, "")
		}
	}
	if cut == 0 {
		m.same(t, "at the end", "/new/etcd")
		for _, n := range m.nodes {
			if len(m.away) > 0 && m.away[n.name] == "" {
				continue
			}
			if old := n.files(t, "/etc/kubernetes/manifests-moved-by-new")["etcd.yaml"]; old != m.before[n.name]["etcd.yaml"] {
				t.Errorf("%s: etcd's old manifest is not kept: %q", n.name, old)
			}
		}
		return
	}
	if cut == 1 { // nothing was taken down yet, so nothing is rolled back
		return
	}
	restore := slices.IndexFunc(m.rollback, func(s plan.Step) bool { return s.Name == "rollback-restore-old" })
	if err := m.rollback[restore].Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range m.rollback {
		if !dealsWithFiles(s) {
			continue
		}
		if !s.Always {
			t.Errorf("step %s is given up when another one fails", s.Name)
		}
		if err := m.face(t.Context(), s); err != nil {
			t.Fatalf("step %s: %v", s.Name, err)
		}
	}
	m.same(t, "after the rollback", m.target.RollbackDir)
}

// halfWay carries out a step on the first of its nodes only and, where it moves several files, with the first of them only.
func (m move) halfWay(t *testing.T, s plan.Step) {
	t.Helper()
	first := s.Commands[0].On
	if s.Name == "join-etcd" { // where it first asks another one
		first = s.Commands[1].On
	}
	for _, c := range s.Commands {
		argv := c.Argv
		if i := slices.Index(argv, "-t"); i > 0 {
			argv = argv[:i+3]
		}
		if c.On != first || argv[0] == "test" {
			continue
		}
		if _, err := m.nodes[first].Exec(t.Context(), cluster.Cmd{Argv: argv}); err != nil && !c.Fails {
			t.Fatalf("step %s: %v", s.Name, err)
		}
	}
}

// same makes sure that the manifests are all there and as they were, but for etcd's data directory where one is given.
func (m move) same(t *testing.T, when, dataDir string) {
	t.Helper()
	for name, n := range m.nodes {
		now := n.files(t, controlplane.ManifestDir)
		if len(now) != len(m.before[name]) {
			t.Errorf("%s: %s has %d manifests, want %d", when, name, len(now), len(m.before[name]))
		}
		for file, want := range m.before[name] {
			if file == "etcd.yaml" && dataDir != "" {
				want = strings.Replace(want, "path: /var/lib/etcd\n", "path: "+dataDir+"\n", 1)
			}
			if now[file] != want {
				t.Errorf("%s: %s of %s is\n%s\nwant\n%s", when, file, name, now[file], want)
			}
		}
	}
}

// TestMoveBackOverwritesNothing: where a manifest has appeared meanwhile, a person must decide.
func TestMoveBackOverwritesNothing(t *testing.T) {
	m := newMove(t, procedure.ManifestMove(), 2, nil, "done")
	for _, s := range m.steps[:2] {
		if err := s.Do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	n := m.nodes["cp-b"]
	const theirs = "somebody else's"
	path := n.path(controlplane.ManifestDir + "/kube-scheduler.yaml")
	if err := os.WriteFile(path, []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m.rollback, func(s plan.Step) bool { return s.Name == "rollback-move-back" })
	err := m.rollback[i].Do(t.Context())
	if err == nil || !strings.Contains(err.Error(), "node cp-b") || !strings.Contains(err.Error(), "kube-scheduler.yaml") || strings.Contains(err.Error(), "cp-a") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != theirs {
		t.Errorf("it is now %q, %v", b, err)
	}
	for _, c := range []string{"kube-apiserver", "kube-controller-manager"} {
		if got := n.files(t, controlplane.ManifestDir)[c+".yaml"]; got != m.before["cp-b"][c+".yaml"] {
			t.Errorf("%s is not back", c)
		}
	}
}

// TestReturnOverwritesNothing: the recovery doesn't go on with a manifest that somebody put there meanwhile, whoever carries it out.
func TestReturnOverwritesNothing(t *testing.T) {
	for _, face := range []string{"done", "typed"} {
		m := newMove(t, procedure.ManifestMove(), 2, nil, face)
		i := slices.IndexFunc(m.steps, func(s plan.Step) bool { return s.Name == "move-back" })
		for _, s := range m.steps[:i] {
			if err := m.face(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(m.nodes["cp-b"].path(controlplane.ManifestDir+"/kube-scheduler.yaml"), []byte("somebody else's"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := m.face(t.Context(), m.steps[i]); err == nil || !strings.Contains(err.Error(), "kube-scheduler.yaml") || !strings.Contains(err.Error(), "cp-b") {
			t.Errorf("%s: %v", face, err)
		}
	}
}

// TestWaitUntilGone says what is still there.
func TestWaitUntilGone(t *testing.T) {
	for name, c := range map[string]struct {
		dirs []string
		want string // part of the error; empty if it ends well
	}{
		"at last":       {[]string{"/var/lib/etcd", "gone", "/var/lib/etcd", "none"}, ""},
		"never":         {[]string{"/var/lib/etcd"}, "node cp-a: waiting until kubelet has ended etcd: patience is over; last seen: still running: etcd (container c)"},
		"no answer yet": {[]string{"/var/lib/etcd", "gone", "/var/lib/etcd"}, "last seen: still running: etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target := three()
				target.Members = target.Members[:1]
				target.Members[0].Node = &replacing{recorder: recorder{name: "cp-a"}, dirs: c.dirs}
				steps := procedure.ManifestMove().Build(target).Steps
				i := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Name == "wait-etcd-gone" })
				ctx, cancel := context.WithTimeoutCause(t.Context(), steps[i].Timeout, fmt.Errorf("patience is over"))
				defer cancel()
				if err := steps[i].Do(ctx); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			})
		})
	}
}
