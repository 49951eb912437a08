package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
)

const (
	cleanedID = "20261123-080000-abcd"
	laterID   = "20261130-080000-efgh"
	onNode    = "/var/lib/drill/" + cleanedID
	movedDir  = "/etc/kubernetes/manifests-moved-by-" + cleanedID
)

var (
	down   = journal.Entry{Kind: journal.StepBegins, Step: "stop-kubelet", Phase: plan.Recover, Outage: true}
	passed = journal.Entry{Kind: journal.Ended, Verdict: plan.VerdictPassed}
)

// put writes files below a folder, each with the content given, and makes the folders that they need.
func put(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// etcdOn is etcd's manifest with that data directory.
func etcdOn(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile("../controlplane/testdata/etcd-v1.37.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(b), "path: /var/lib/etcd\n", "path: "+dir+"\n", 1)
}

// settledRun has passed, with these entries in its journal, on a cluster of two control planes whose etcds run on the directory of a later run that began on its own.
func settledRun(t *testing.T, entries ...journal.Entry) Job {
	t.Helper()
	if entries == nil {
		entries = []journal.Entry{down, passed}
	}
	job := left(t, Job{ID: cleanedID}, entries...)
	job.Cluster = lab{newLocal(t, "a"), newLocal(t, "b")}
	for _, n := range job.Cluster.(lab) {
		put(t, n.root, map[string]string{
			onNode + "/etcd/member/snap/db":                      "restored",
			onNode + "/etcd.yaml.before":                         etcdOn(t, "/var/lib/etcd"),
			onNode + "/journal.jsonl":                            "{}",
			movedDir + "/etcd.yaml":                              etcdOn(t, "/var/lib/etcd"),
			movedDir + "/etcd.yaml.~1~":                          etcdOn(t, "/var/lib/etcd"),
			"/var/lib/drill/" + laterID + "/etcd/member/snap/db": "restored later",
			"/var/lib/drill/" + laterID + "/etcd.yaml.before":    etcdOn(t, onNode+"/etcd"),
			"/var/lib/drill/" + laterID + "/journal.jsonl": `{"version":1,"kind":"began","run":{"id":"` + laterID + `"}}` + "\n" +
				`{"kind":"step-begins","outage":true}` + "\n" + `{"kind":"ended","verdict":"passed"}` + "\n",
			"/var/lib/etcd/member/snap/db":        "the cluster's own",
			"/etc/kubernetes/manifests/etcd.yaml": etcdOn(t, "/var/lib/drill/"+laterID+"/etcd"),
		})
	}
	put(t, Dir(job.StateDir, job.ID), map[string]string{
		"snapshot.db": "backup", "memory.json": "{}", "at-break.json": "{}", "at-outage.json": "{}", ".etcd.part/x": "half", "old-1/a.db": "half",
		"report.json": "{}", "junit.xml": "", "metrics.prom": "", "evidence/events.txt": "why", "notes.txt": "a person's own",
	})
	return job
}

// everything are the names of all files on the cluster and in the run's folder on this machine, with what each of the latter holds.
func everything(t *testing.T, job Job) []string {
	t.Helper()
	var out []string
	for _, n := range job.Cluster.(lab) {
		for _, name := range names(t, n) {
			out = append(out, n.name+":"+name)
		}
	}
	root := Dir(job.StateDir, job.ID)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Type()&fs.ModeSymlink != 0 || d.Name() == "journal.lock" {
			return err
		}
		b, err := os.ReadFile(path)
		out = append(out, strings.TrimPrefix(path, root)+": "+string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestClean(t *testing.T) {
	job := settledRun(t)
	before := everything(t, job)
	would, err := job.Clean(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if after := everything(t, job); !slices.Equal(before, after) {
		t.Errorf("asking has left %q, after %q", after, before)
	}
	var listed []string
	for _, l := range would.Leavings {
		listed = append(listed, l.Node+":"+strings.TrimPrefix(l.Path, Dir(job.StateDir, job.ID)))
		if l.Bytes <= 0 {
			t.Errorf("%+v", l)
		}
	}
	here := strings.Fields(":/.etcd.part :/at-break.json :/at-outage.json :/memory.json :/old-1 :/snapshot.db")
	want := append([]string{"a:" + onNode, "a:" + movedDir, "b:" + onNode, "b:" + movedDir}, here...)
	if !slices.Equal(listed, want) {
		t.Errorf("%q, want %q", listed, want)
	}
	if len(would.Notes) != 2 || !strings.Contains(would.Notes[0], "run "+laterID+" began on what this run had restored") {
		t.Errorf("%q", would.Notes)
	}

	done, err := job.Clean(t.Context(), false)
	// What claims the cluster is a file in that folder.
	if err != nil || len(done.Leavings) != len(would.Leavings) || done.Leavings[0].Path != onNode || !slices.Equal(done.Leavings[1:], would.Leavings[1:]) || !slices.Equal(done.Notes, would.Notes) {
		t.Errorf("%+v, %v, want %+v", done, err, would)
	}
	var kept []string
	for _, name := range before {
		if !slices.ContainsFunc([]string{"a:" + onNode, "b:" + onNode, "a:" + movedDir, "b:" + movedDir}, func(dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }) &&
			!slices.ContainsFunc(here, func(file string) bool { return strings.HasPrefix(name, file[1:]) }) && !strings.HasPrefix(name, "/journal.jsonl") {
			kept = append(kept, name)
		}
	}
	after := everything(t, job)
	if i := slices.IndexFunc(after, func(name string) bool { return strings.HasPrefix(name, "/journal.jsonl") }); i < 0 || !slices.Equal(slices.Delete(slices.Clone(after), i, i+1), kept) {
		t.Errorf("left are %q, want %q and the journal", after, kept)
	}
	if got := held(t, job.Cluster.(lab)[0]); got != nil {
		t.Errorf("the cluster is held by %+v", got)
	}
	l, err := Find(job.StateDir, job.ID)
	if err != nil || l.Cleaned.IsZero() || time.Since(l.Cleaned) > time.Minute || l.End.Verdict != plan.VerdictPassed || l.AtWork {
		t.Errorf("%+v, %v", l, err)
	}
	if again, err := job.Clean(t.Context(), false); err != nil || len(again.Leavings) != 1 { // what claims the cluster
		t.Errorf("%+v, %v", again, err)
	}
}

// TestCleanRefuses: nothing is removed, on no control plane and not here, of a run that may be needed.
// exchanged has the run remember that it has put the directory with that inode at the path, on the second control plane.
func exchanged(t *testing.T, job Job, path string, inode uint64) {
	t.Helper()
	put(t, Dir(job.StateDir, job.ID), map[string]string{
		"memory.json": fmt.Sprintf(`{"members":[{"node":"b","etcd":{"HostDataDir":%q}}],"restored":{"b":%d}}`, path, inode),
	})
}

// TestCleanBesideTheData: a run that renamed directories has them beside etcd's own, wherever that is.
func TestCleanBesideTheData(t *testing.T) {
	job := settledRun(t)
	n := job.Cluster.(lab)[1]
	const beside = "/data/drill/" + cleanedID
	put(t, n.root, map[string]string{beside + "/etcd-before/member/snap/db": "old", "/data/etcd/member/snap/db": "a later run's", "/etc/kubernetes/manifests/etcd.yaml": etcdOn(t, "/data/etcd")})
	exchanged(t, job, "/data/etcd", 1)
	if _, err := job.Clean(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	for name, is := range map[string]bool{beside: false, "/data/etcd/member/snap/db": true} {
		if _, err := os.Stat(n.path(name)); (err == nil) != is {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCleanRefuses(t *testing.T) {
	manifest := "/etc/kubernetes/manifests/etcd.yaml"
	second := func(job Job) *local { return job.Cluster.(lab)[1] } // each must be asked
	for name, c := range map[string]struct {
		entries []journal.Entry
		with    func(t *testing.T, job *Job)
		want    error
		why     string
	}{
		"killed":               {[]journal.Entry{down}, nil, ErrNotSettled, "`drill resume " + cleanedID + "` carries it on"},
		"killed in a rollback": {[]journal.Entry{down, {Kind: journal.Undoing}}, nil, ErrNotSettled, "`drill rollback " + cleanedID + "` goes on with that"},
		"not put back":         {[]journal.Entry{down, {Kind: journal.Ended, Verdict: plan.VerdictFailed, Rollback: plan.StatusFailed}}, nil, ErrNotSettled, "tries again"},
		"kept as it was":       {[]journal.Entry{down, {Kind: journal.Ended, Verdict: plan.VerdictFailed}}, nil, ErrNotSettled, "kept as it was"},
		"named by the manifest": {nil, func(t *testing.T, job *Job) {
			put(t, second(*job).root, map[string]string{manifest: etcdOn(t, onNode+"/etcd")})
		}, ErrInUse, "node b: what it has left is in use: " + onNode + ": the manifest "},
		"named by another manifest": {nil, func(t *testing.T, job *Job) {
			put(t, second(*job).root, map[string]string{"/etc/kubernetes/manifests/other": "volume at " + onNode + "-x"})
		}, ErrInUse, "manifests/other names it"},
		"behind a link": {nil, func(t *testing.T, job *Job) {
			n := second(*job)
			put(t, n.root, map[string]string{manifest: etcdOn(t, "/var/lib/linked")})
			if err := os.Symlink(n.path(onNode+"/etcd"), n.path("/var/lib/linked")); err != nil {
				t.Fatal(err)
			}
		}, ErrInUse, "etcd's data directory /var/lib/linked lies there"},
		"renamed to where another was": {nil, func(t *testing.T, job *Job) {
			n := second(*job)
			put(t, n.root, map[string]string{manifest: etcdOn(t, "/var/lib/etcd")})
			info, err := os.Stat(n.path("/var/lib/etcd"))
			if err != nil {
				t.Fatal(err)
			}
			exchanged(t, *job, "/var/lib/etcd", info.Sys().(*syscall.Stat_t).Ino)
		}, ErrInUse, "node b: what it has left is in use: etcd runs on the directory that this run has put at /var/lib/etcd"},
		"mounted by a container": {nil, func(_ *testing.T, job *Job) {
			n := second(*job)
			n.containers = `{"containers":[{"id":"c","metadata":{"name":"etcd"},"createdAt":"1","labels":{"io.kubernetes.pod.name":"etcd-b","io.kubernetes.pod.namespace":"kube-system"}}]}`
			n.inspected = `{"status":{"id":"c","state":"CONTAINER_RUNNING","mounts":[{"hostPath":"` + n.path(onNode) + `/etcd","containerPath":"/var/lib/etcd"},{"hostPath":"` + onNode + `/etcd","containerPath":"/var/lib/etcd"}]}}`
		}, ErrInUse, "container etcd of pod kube-system/etcd-b has " + onNode + "/etcd mounted"},
		"open": {nil, func(t *testing.T, job *Job) {
			f, err := os.Open(second(*job).path(onNode + "/etcd/member/snap/db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
		}, ErrInUse, fmt.Sprintf("process %d has open ", os.Getpid())},
		"without a manifest of etcd": {nil, func(t *testing.T, job *Job) {
			if err := os.Remove(second(*job).path(manifest)); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrNotExist, "node b: looking what uses "},
		"with a manifest that is moved away": {nil, func(t *testing.T, job *Job) {
			put(t, second(*job).root, map[string]string{movedDir + "/kube-scheduler.yaml": ""})
		}, ErrInUse, movedDir + "/kube-scheduler.yaml was moved away, and is not back"},
		"where another one would go back to": {nil, func(t *testing.T, job *Job) {
			put(t, second(*job).root, map[string]string{"/var/lib/drill/" + laterID + "/journal.jsonl": `{"version":1,"kind":"began","run":{"id":"` + laterID + `"}}` + "\n"})
		}, ErrInUse, "the state from before run " + laterID + " is in it, and that run is not settled"},
		"where another one without a journal would go back to": {nil, func(t *testing.T, job *Job) {
			if err := os.Remove(second(*job).path("/var/lib/drill/" + laterID + "/journal.jsonl")); err != nil {
				t.Fatal(err)
			}
		}, ErrInUse, "has no journal on node b"},
		"drilled by another one": {nil, func(t *testing.T, job *Job) {
			other := Job{ID: laterID, Cluster: job.Cluster, StateDir: t.TempDir()}
			if err := other.claim(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, ErrClaimed, laterID},
		"at work": {nil, func(t *testing.T, job *Job) {
			j, _, err := journal.Open(t.Context(), Dir(job.StateDir, job.ID))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = j.Close() })
		}, journal.ErrAtWork, fmt.Sprintf("process %d", os.Getpid())},
		"out of reach": {nil, func(_ *testing.T, job *Job) { second(*job).fail(errGone) }, errGone, "node b"},
		"a link on a node": {nil, func(t *testing.T, job *Job) {
			n := second(*job)
			if err := errors.Join(os.Rename(n.path(onNode), n.path("/var/lib/elsewhere")), os.Symlink(n.path("/var/lib/elsewhere"), n.path(onNode))); err != nil {
				t.Fatal(err)
			}
		}, nil, "links are not followed"},
		"a link here": {nil, func(t *testing.T, job *Job) {
			dir := Dir(job.StateDir, job.ID)
			if err := errors.Join(os.Rename(dir, dir+"-away"), os.Symlink(dir+"-away", dir)); err != nil {
				t.Fatal(err)
			}
		}, ErrNoRun, "links are not followed"},
	} {
		t.Run(name, func(t *testing.T) {
			job := settledRun(t, c.entries...)
			if c.with != nil {
				c.with(t, &job)
			}
			before := everything(t, job)
			for _, dry := range []bool{true, false} {
				got, err := job.Clean(t.Context(), dry)
				if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.why) || len(got.Leavings) > 0 {
					t.Errorf("dry run %t: %+v, %v, want %q", dry, got, err, c.why)
				}
			}
			if after := everything(t, job); !slices.Equal(before, after) {
				t.Errorf("left are %q, after %q", after, before)
			}
		})
	}
	job := settledRun(t)
	for _, id := range []string{"", "lock", "..", ".", "a-run", "20261123-080000-abcd/..", cleanedID + "\n", "20261123-080000-*"} {
		job.ID = id
		if _, err := job.Clean(t.Context(), false); !errors.Is(err, ErrNoRun) {
			t.Errorf("%q: %v", id, err)
		}
	}
	job.ID = laterID // it has no folder here
	if _, err := job.Clean(t.Context(), false); !errors.Is(err, ErrNoRun) {
		t.Error(err)
	}
}

// TestCleanGoesOn: what was left in its midst is removed by the next call, and keeps no other run from the cluster meanwhile.
func TestCleanGoesOn(t *testing.T) {
	job := settledRun(t)
	a, b := job.Cluster.(lab)[0], job.Cluster.(lab)[1]
	job.Cluster = lab{a, &local{name: "b", root: b.root, refuse: "rm"}}
	got, err := job.Clean(t.Context(), false)
	if !errors.Is(err, errGone) || len(got.Leavings) != 2 || got.Leavings[0].Node != "a" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(Dir(job.StateDir, job.ID), "snapshot.db")); err != nil {
		t.Errorf("this machine comes last: %v", err)
	}
	if l, err := Find(job.StateDir, job.ID); err != nil || !l.Cleaned.IsZero() || !l.Settled() {
		t.Errorf("%+v, %v", l, err)
	}
	// A process that is killed can't even give the cluster back.
	job.Cluster = lab{a, b}
	if err := job.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := Job{ID: laterID, Cluster: job.Cluster, StateDir: job.StateDir}
	if over, err := other.vacant(t.Context()); err != nil || over == "" {
		t.Errorf("%q, %v", over, err)
	}
	if got, err := job.Clean(t.Context(), false); err != nil || len(got.Leavings) != 9 { // what claims the cluster is a folder again
		t.Errorf("%+v, %v", got, err)
	}
	if l, err := Find(job.StateDir, job.ID); err != nil || l.Cleaned.IsZero() || held(t, a) != nil {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestCleanWithoutACluster: where that is gone nothing can be carried on or put back, and only what is here is removed.
func TestCleanWithoutACluster(t *testing.T) {
	job := settledRun(t, down)
	on := job.Cluster
	before := names(t, on.(lab)[0])
	job.Cluster = nil
	got, err := job.Clean(t.Context(), false)
	if err != nil || len(got.Leavings) != 6 || got.Leavings[0].Node != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(Dir(job.StateDir, job.ID), "snapshot.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if after := names(t, on.(lab)[0]); !slices.Equal(before, after) {
		t.Errorf("on the cluster: %q", after)
	}
}

// finder is a provider that says this.
type finder struct {
	place string
	found cluster.Cluster
	err   error
}

func (f finder) Place() string { return f.place }
func (f finder) Attach(context.Context, string) (cluster.Cluster, error) {
	return f.found, f.err
}

func TestWhereabouts(t *testing.T) {
	there := lab{newLocal(t, "cp")}
	missing := fmt.Errorf("asked: %w", cluster.ErrNotFound)
	for name, c := range map[string]struct {
		recorded string
		finder   finder
		gone     bool
		why      string
	}{
		"there":                                {"docker 1", finder{place: "docker 1", found: there}, false, ""},
		"there, and nobody noted where":        {"", finder{place: "docker 1", found: there}, false, ""},
		"gone":                                 {"docker 1", finder{place: "docker 1", err: missing}, true, ""},
		"gone, and nobody noted where":         {"", finder{place: "docker 1", err: missing}, false, "doesn't tell that it is gone"},
		"another engine":                       {"docker 1", finder{place: "docker 2", err: missing}, false, "it was cluster lab of docker 1, and this is docker 2"},
		"a namesake on another engine":         {"docker 1", finder{place: "docker 2", found: there}, false, "docker 2"},
		"an engine that can't be told":         {"docker 1", finder{found: there}, false, "doesn't say which it is"},
		"an engine that can't answer just now": {"docker 1", finder{place: "docker 1", err: errGone}, false, "no route"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Whereabouts(t.Context(), c.finder, journal.Run{ID: "r", Cluster: "lab", Provider: "none", Place: c.recorded})
			switch {
			case c.why != "":
				if err == nil || got != nil || !strings.Contains(err.Error(), c.why) {
					t.Errorf("%v, %v", got, err)
				}
			case err != nil || c.gone != (got == nil):
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	if got, err := Whereabouts(t.Context(), finder{found: there}, journal.Run{ID: "r", Cluster: "lab", Provider: "kind"}); err == nil || got != nil {
		t.Errorf("a cluster of another provider: %v, %v", got, err)
	}
}
