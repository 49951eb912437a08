package rehearsal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"
	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcd-drill/drill/pkg/apiserver"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/rehearsal"
)

// What makes this binary a rehearsal or a worker in place of a test.
const (
	rehearseEnv = "DRILL_TEST_REHEARSE"
	workerEnv   = "DRILL_TEST_REHEARSAL_WORKER"
	// markEnv is inherited by all that a rehearsal starts.
	markEnv = "DRILL_TEST_MARK"
	// binaryEnv is the path of a real kube-apiserver.
	binaryEnv = "DRILL_KUBE_APISERVER"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(workerEnv) != "":
		if err := etcd.WorkerMain(context.Background(), os.Stdin, os.Stdout, append(inventory.Jobs(), apiserver.Jobs()...)...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case os.Getenv(rehearseEnv) != "":
		o := rehearsal.Options{Path: os.Getenv(rehearseEnv), ScratchDir: os.Args[1], Worker: self(), Observe: func(part string) func(error) {
			fmt.Println(part)
			return func(error) {}
		}}
		if binary := os.Getenv(binaryEnv); binary != "" {
			o.APIServer = &rehearsal.APIServerOptions{Binary: binary}
		}
		fmt.Println(rehearsal.Run(context.Background(), o).Verdict)
	default:
		os.Exit(m.Run())
	}
}

func self() etcd.Worker {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return etcd.Worker{Command: []string{"env", workerEnv + "=yes", path}}
}

func realSnapshot(version string) string {
	return "../../testdata/kubeadm-v1.37-etcd-" + version + ".db"
}

// rehearse rehearses in a folder of its own, where nothing may be left.
func rehearse(t *testing.T, ctx context.Context, o rehearsal.Options) rehearsal.Result {
	t.Helper()
	o.ScratchDir, o.Worker = t.TempDir(), self()
	r := rehearsal.Run(ctx, o)
	left, err := os.ReadDir(o.ScratchDir)
	if err != nil || len(left) > 0 {
		t.Errorf("%d entries are left in the scratch folder, %v", len(left), err)
	}
	return r
}

// statuses are those of the checks, by name.
func statuses(r rehearsal.Result) map[string]plan.Status {
	out := map[string]plan.Status{}
	for _, c := range r.Checks {
		out[c.Name] = c.Status
	}
	return out
}

func TestRehearseEachVersion(t *testing.T) {
	for _, version := range []string{"3.4", "3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			r := rehearse(t, t.Context(), rehearsal.Options{Path: realSnapshot(version)})
			if r.Verdict != plan.VerdictPassed || r.Reason != "" || r.Condition != "sound" || r.KeysCompared != 387 || len(r.Differences) != 0 {
				t.Errorf("%+v", r)
			}
			for name, status := range statuses(r) {
				if status != plan.StatusPassed {
					t.Errorf("%s is %s", name, status)
				}
			}
			var parts []string
			for _, p := range r.Parts {
				parts = append(parts, p.Name)
			}
			slices.Sort(parts)
			if want := []string{"read-back", "restore", "start", "try-out", "verify"}; !slices.Equal(parts, want) {
				t.Errorf("parts %q, want %q", parts, want)
			}
			if r.Etcd.Revision != r.Snapshot.Revision+int64(etcd.DefaultBump) || r.Etcd.Version != etcd.OwnVersion() || r.Etcd.MemberID == "" {
				t.Errorf("%+v", r.Etcd)
			}
		})
	}
}

// A database without a trailer can be rehearsed, when that is asked for.
func TestRehearseRaw(t *testing.T) {
	content, err := os.ReadFile(realSnapshot("3.6"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, content[:len(content)-32], 0o600); err != nil {
		t.Fatal(err)
	}
	if r := rehearse(t, t.Context(), rehearsal.Options{Path: path, Raw: true}); r.Verdict != plan.VerdictPassed || !r.Snapshot.NoChecksum {
		t.Errorf("%+v", r)
	}
	if r := rehearse(t, t.Context(), rehearsal.Options{Path: path}); r.Verdict != plan.VerdictFailed || r.Condition != "no-trailer" {
		t.Errorf("%+v", r)
	}
}

// onRecords changes the history of a restored database.
func onRecords(dataDir string, change func(*bolt.Bucket) error) error {
	db, err := bolt.Open(filepath.Join(dataDir, "member/snap/db"), 0o600, &bolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return err
	}
	return errors.Join(db.Update(func(tx *bolt.Tx) error { return change(tx.Bucket([]byte("key"))) }), db.Close())
}

// Whatever is wrong with what is served is noticed, by the check that is for it and by no other.
func TestSabotage(t *testing.T) {
	path := realSnapshot("3.6")
	again := func(dataDir string, o etcd.RestoreOptions) error {
		if err := os.RemoveAll(dataDir); err != nil {
			return err
		}
		o.Snapshot, o.DataDir, o.Name, o.PeerURLs = path, dataDir, "rehearsal", []string{"https://127.0.0.1:2380"}
		return etcd.Restore(t.Context(), self(), o)
	}
	const served, raised, equal = rehearsal.CheckServes, rehearsal.CheckRaised, rehearsal.CheckEqual
	for name, tt := range map[string]struct {
		spoil func(dataDir string) error
		fails string
		how   string
	}{
		"a value is another one": {func(dir string) error {
			return onRecords(dir, func(b *bolt.Bucket) error {
				k, v := b.Cursor().First()
				changed := slices.Clone(v)
				changed[len(changed)-8]++
				return b.Put(slices.Clone(k), changed)
			})
		}, equal, rehearsal.Changed},
		"a key is missing": {func(dir string) error {
			return onRecords(dir, func(b *bolt.Bucket) error {
				k, _ := b.Cursor().First()
				return b.Delete(slices.Clone(k))
			})
		}, equal, rehearsal.Missing},
		"the revision isn't raised": {func(dir string) error { return again(dir, etcd.RestoreOptions{}) }, raised, ""},
		"it is raised by less": {func(dir string) error {
			return again(dir, etcd.RestoreOptions{BumpRevision: 1000, MarkCompacted: true})
		}, raised, ""},
		"the database is empty": {func(dir string) error { return os.Truncate(filepath.Join(dir, "member/snap/db"), 4096) }, served, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := rehearse(t, t.Context(), rehearsal.Options{Path: path, Restored: tt.spoil})
			if r.Verdict != plan.VerdictFailed || r.Reason == "" || r.Condition != "sound" {
				t.Errorf("%s: %s, condition %s", r.Verdict, r.Reason, r.Condition)
			}
			for name, status := range statuses(r) {
				if (status == plan.StatusFailed) != (name == tt.fails) {
					t.Errorf("%s is %s", name, status)
				}
			}
			if (tt.how != "") != (len(r.Differences) == 1) || tt.how != "" && (r.Differences[0].How != tt.how || !strings.HasPrefix(r.Differences[0].Key, "/registry/")) {
				t.Errorf("differences %+v", r.Differences)
			}
		})
	}
}

// A file that another one takes the place of meanwhile is told as changed, and not as one that differs from itself.
func TestReplacedMeanwhile(t *testing.T) {
	content, err := os.ReadFile(realSnapshot("3.6"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "latest.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	r := rehearse(t, t.Context(), rehearsal.Options{Path: path, Restored: func(dir string) error {
		other, err := os.ReadFile(realSnapshot("3.7"))
		if err == nil {
			err = os.WriteFile(path+".new", other, 0o600)
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		return errors.Join(err, onRecords(dir, func(b *bolt.Bucket) error {
			k, _ := b.Cursor().First()
			return b.Delete(slices.Clone(k))
		}))
	}})
	if r.Verdict != plan.VerdictFailed || r.Condition != string(etcd.ConditionChanged) || !strings.Contains(r.Reason, path+" isn't the file any more") {
		t.Errorf("%s, condition %s: %s", r.Verdict, r.Condition, r.Reason)
	}
}

// A file that isn't sound has failed, whatever else could be done with it.
func TestUnsound(t *testing.T) {
	content, err := os.ReadFile(realSnapshot("3.6"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flipped := slices.Clone(content)
	flipped[len(flipped)/2] ^= 1
	for condition, path := range map[string]string{
		"damaged": write("flipped", flipped), "truncated": write("cut", content[:len(content)/2]), "empty": write("empty", nil), "not-a-snapshot": write("text", []byte("apiVersion: v1\n")),
		"newer": etcdtest.Newer(t, realSnapshot("3.6")),
	} {
		r := rehearse(t, t.Context(), rehearsal.Options{Path: path})
		if r.Verdict != plan.VerdictFailed || r.Condition != condition || r.Reason == "" || statuses(r)[rehearsal.CheckSound] != plan.StatusFailed {
			t.Errorf("%s: %+v", condition, r)
		}
	}
}

func TestCouldNotBegin(t *testing.T) {
	r := rehearsal.Run(t.Context(), rehearsal.Options{Path: realSnapshot("3.6"), ScratchDir: filepath.Join(t.TempDir(), "gone"), Worker: self()})
	if r.Verdict != plan.VerdictBroken || !strings.Contains(r.Reason, "--scratch-dir") {
		t.Errorf("%+v", r)
	}
	r = rehearsal.Run(t.Context(), rehearsal.Options{Path: realSnapshot("3.6"), ScratchDir: t.TempDir(), Worker: etcd.Worker{Command: []string{"false"}}})
	if r.Verdict != plan.VerdictBroken {
		t.Errorf("%+v", r)
	}
}

// Interrupted when any of its parts begins, it leaves nothing.
func TestInterrupted(t *testing.T) {
	for _, at := range []string{"verify", "restore", "start", "read-back", "try-out"} {
		t.Run(at, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := rehearse(t, ctx, rehearsal.Options{Path: realSnapshot("3.7"), Observe: func(part string) func(error) {
				if part == at {
					cancel()
				}
				return func(error) {}
			}})
			if r.Verdict != plan.VerdictInterrupted {
				t.Errorf("%s: %s", r.Verdict, r.Reason)
			}
		})
	}
}

// marked are the processes that inherited a mark.
func marked(t *testing.T, mark string) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		if environ, err := os.ReadFile(path); err == nil && strings.Contains(string(environ), markEnv+"="+mark) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// Killed at any moment, with no chance to clean up, it leaves neither a folder nor a process.
func TestKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what is left of processes is looked for in /proc, which Linux alone has")
	}
	for i, after := range []time.Duration{0, 20, 60, 100, 150, 200, 250, 300} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			dir := t.TempDir()
			mark := fmt.Sprintf("%d-%d", os.Getpid(), i)
			cmd := exec.Command(self().Command[2], dir)
			cmd.Env = append(os.Environ(), binaryEnv+"=", rehearseEnv+"="+realSnapshot("3.7"), markEnv+"="+mark)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 1)); err != nil { // it has begun with a part
				t.Fatal(err)
			}
			select {
			case <-time.After(after * time.Millisecond):
			case <-t.Context().Done():
			}
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Log(err) // it was faster
			}
			_ = cmd.Wait()
			nothingLeft(t, dir, mark)
		})
	}
}

// nothingLeft waits until there are neither folders nor processes of a rehearsal.
func nothingLeft(t *testing.T, dir, mark string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		pids := marked(t, mark)
		if len(left)+len(pids) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d folders and processes %q are left", len(left), pids)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// What another rehearsal has left that was killed with all of its children is removed by the next one; what is in use is not.
func TestAbandoned(t *testing.T) {
	dir := t.TempDir()
	const abandoned, inUse = "drill-rehearsal-aaaaaaaaaaaaaaaaaaaaaaaaaa", "drill-rehearsal-bbbbbbbbbbbbbbbbbbbbbbbbbb"
	const somebodys = "drill-rehearsal-reports" // which begins alike, and is none of ours
	for _, name := range []string{abandoned, inUse, somebodys, "something-else"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "etcd"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "lock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	used := flock.New(filepath.Join(dir, inUse, "lock"))
	if held, err := used.TryLock(); !held || err != nil {
		t.Fatal(held, err)
	}
	defer func() { _ = used.Unlock() }()
	r := rehearsal.Run(t.Context(), rehearsal.Options{Path: realSnapshot("3.6"), ScratchDir: dir, Worker: self()})
	if r.Verdict != plan.VerdictPassed {
		t.Errorf("%+v", r)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if want := []string{inUse, somebodys, "something-else"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

// An alarm comes back with the backup: it is seen by looking into it, and the etcd that is started on it takes no writes.
func TestAlarm(t *testing.T) {
	server := etcdtest.Serve(t, t.TempDir(), nil)
	if _, err := server.Client.Put(t.Context(), "/registry/example.com/widgets/a/b", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"namespace":"a","name":"b"}}`); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Server.Alarm(t.Context(), &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: uint64(server.Server.MemberID()), Alarm: etcdserverpb.AlarmType_NOSPACE,
	}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.db")
	if _, err := etcd.Save(t.Context(), server.Endpoint, path, etcd.InAnyFolder()); err != nil {
		t.Fatal(err)
	}
	found, err := inventory.Inspect(t.Context(), self(), path, false, inventory.SurveyOptions{At: time.Now()})
	if err != nil || len(found.Survey.Hazards) != 1 || found.Survey.Hazards[0].Name != "etcd-alarms" || found.Survey.Hazards[0].Objects[0].Name != "NOSPACE" {
		t.Errorf("%+v, %v", found.Survey.Hazards, err)
	}
	r := rehearse(t, t.Context(), rehearsal.Options{Path: path})
	if r.Verdict != plan.VerdictFailed || statuses(r)[rehearsal.CheckServes] != plan.StatusFailed || !strings.HasPrefix(r.Reason, "the alarm NOSPACE of etcd is part of the backup") {
		t.Errorf("%s: %s", r.Verdict, r.Reason)
	}
}
