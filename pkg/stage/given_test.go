package stage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
)

const (
	ourUID   = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
	theirUID = "ffffffff-4b5a-6978-8796-a5b4c3d2e1f0"
)

// stored is an object as JSON.
func stored(apiVersion, kind, namespace, name, uid, rest string) string {
	return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"namespace":%q,"name":%q,"uid":%q,"labels":{"app":"nginx"}}%s}`, apiVersion, kind, namespace, name, uid, rest)
}

// backup is a snapshot of a real etcd that holds a namespace kube-system and what else is given, and the etcd, which runs on.
func backup(t *testing.T, more map[string]string) (path string, server *etcdtest.Server) {
	t.Helper()
	server = etcdtest.Serve(t, t.TempDir(), nil)
	for key, value := range more {
		if _, err := server.Client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"kube-system", "default", "team"} {
		if _, err := server.Client.Put(t.Context(), "/registry/namespaces/"+name, stored("v1", "Namespace", "", name, map[bool]string{true: ourUID, false: "uid-of-" + name}[name == "kube-system"], "")); err != nil {
			t.Fatal(err)
		}
	}
	path = filepath.Join(t.TempDir(), "vault", "backup.db")
	if _, err := etcd.Save(t.Context(), server.Endpoint, path); err != nil {
		t.Fatal(err)
	}
	return path, server
}

// setWith sets the stage for a snapshot that was given, and makes sure that nothing was touched: neither the node nor the run's folder nor the file.
func setWith(t *testing.T, g Snapshot) error {
	t.Helper()
	before, readErr := os.ReadFile(g.Path)
	if readErr != nil {
		t.Fatal(readErr)
	}
	n, dir := newSound(t, "cp-a", "172.18.0.3"), t.TempDir()
	_, err := Set(t.Context(), several{n}, procedure.KubeletStop(), Options{RunID: "a-run", Dir: dir, Worker: etcdtest.Worker(t), Snapshot: &g})
	n.untouched()
	if left, readErr := os.ReadDir(dir); readErr != nil || len(left) > 0 {
		t.Errorf("the run's folder on this machine holds %v, %v", left, readErr)
	}
	if after, readErr := os.ReadFile(g.Path); readErr != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed, %v", readErr)
	}
	return err
}

// TestGivenFileIsRefused: each kind of damage is told apart, with what to do about it, and nothing is touched.
func TestGivenFileIsRefused(t *testing.T) {
	path, server := backup(t, nil)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(server.Config().Dir, "member/snap/db")
	server.Stop()
	raw, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	newer, err := os.ReadFile(etcdtest.Newer(t, path))
	if err != nil {
		t.Fatal(err)
	}
	flipped, trailer := slices.Clone(sound), slices.Clone(sound)
	flipped[len(flipped)/2] ^= 1
	trailer[len(trailer)-1] ^= 1
	zeroed := slices.Clone(sound[:len(sound)-sha256.Size])
	clear(zeroed[2*os.Getpagesize():])
	sum := sha256.Sum256(zeroed)
	for _, c := range []struct {
		name    string
		content []byte
		want    error
		said    string
	}{
		{"empty", nil, etcd.ErrEmpty, "disk was full"},
		{"text", bytes.Repeat([]byte("kind: List\n"), 2000), etcd.ErrNotSnapshot, "give the file that `etcdctl snapshot save` wrote"},
		{"compressed", append([]byte("\x1f\x8b"), sound...), etcd.ErrCompressed, "gzip --decompress --stdout "},
		{"cut short", sound[:len(sound)/2], etcd.ErrTruncated, "cut short"},
		{"flipped bit", flipped, etcd.ErrTrailerMismatch, "fetch it again"},
		{"wrong trailer", trailer, etcd.ErrTrailerMismatch, "fetch it again"},
		{"nonsense, sealed", append(zeroed, sum[:]...), etcd.ErrDamaged, "restore an older one"},
		{"database", raw, etcd.ErrNoTrailer, "--skip-hash-check"},
		{"of a newer etcd than drill knows", newer, etcd.ErrNewer, "one of etcd 3.7 or before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "given.db")
			if err := os.WriteFile(file, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, lenient := range []bool{false, true} {
				err := setWith(t, Snapshot{Path: file, SkipHashCheck: lenient, OtherCluster: lenient})
				if lenient && errors.Is(c.want, etcd.ErrNoTrailer) {
					if !errors.Is(err, errBeyond) {
						t.Errorf("a database that was allowed: %v", err)
					}
					continue
				}
				if !errors.Is(err, c.want) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
				for _, want := range []string{"nothing was touched", "this machine: ", "; hint: ", c.said} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("want %q in: %v", want, err)
					}
				}
				if len(reasons(err)) != 1 || strings.Contains(err.Error(), "\n") && !errors.Is(err, etcd.ErrDamaged) { // bbolt may have died of it, and says where
					t.Errorf("one reason is one line: %v", err)
				}
			}
		})
	}
	if err := setWith(t, Snapshot{Path: path}); !errors.Is(err, errBeyond) {
		t.Errorf("a sound one: %v", err)
	}
}

// TestSidecarOfAGivenFile: when it was taken is said by what stands beside it, if that is about this file.
func TestSidecarOfAGivenFile(t *testing.T) {
	path, _ := backup(t, nil)
	check := func() (plan.SnapshotInfo, error) {
		return Snapshot{Path: path}.Check(t.Context(), etcdtest.Worker(t))
	}
	info, err := check()
	if err != nil {
		t.Fatal(err)
	}
	taken := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := etcd.Sidecar{SHA256: info.SHA256, Bytes: info.Bytes, Revision: info.Revision, TakenAt: taken, TakenBy: "drill"}
	if err := etcd.WriteSidecar(path, s); err != nil {
		t.Fatal(err)
	}
	if info, err = check(); err != nil || !info.TakenAt.Equal(taken) {
		t.Errorf("taken %s, %v", info.TakenAt, err)
	}
	if err := os.Remove(etcd.SidecarPath(path)); err != nil {
		t.Fatal(err)
	}
	s.SHA256 = strings.Repeat("0", 64)
	if err := etcd.WriteSidecar(path, s); err != nil {
		t.Fatal(err)
	}
	if _, err = check(); !errors.Is(err, etcd.ErrSidecar) || !strings.Contains(err.Error(), "nothing was touched") || !strings.Contains(err.Error(), "move the JSON away") {
		t.Errorf("another file's: %v", err)
	}
}

// TestGivenFileAndNodeAreRefusedTogether: all that is found is told at once.
func TestGivenFileAndNodeAreRefusedTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "given.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n := newSound(t, "cp-a", "172.18.0.3")
	n.answers["systemctl"] = answer{"LoadState=loaded\nActiveState=inactive\nSubState=dead\n", 0}
	_, err := Set(t.Context(), several{n}, procedure.KubeletStop(), Options{RunID: "a-run", Dir: t.TempDir(), Worker: etcdtest.Worker(t), Snapshot: &Snapshot{Path: file}})
	if !errors.Is(err, etcd.ErrEmpty) || !strings.Contains(err.Error(), "ActiveState=inactive") {
		t.Error(err)
	}
	n.untouched()
}

// TestGivenSnapshotNeedsRoom: its own size counts, not that of the database.
func TestGivenSnapshotNeedsRoom(t *testing.T) {
	for _, c := range []struct {
		snapshot int64
		typed    bool
		fits     bool
	}{{0, false, true}, {100 << 20, false, true}, {700 << 20, false, false}, {400 << 20, false, true}, {400 << 20, true, false}} {
		s := &survey{node: brokenNode{}, premises: premises{snapshot: c.snapshot, typed: c.typed}, room: &room{on: "/", bytes: 800 << 20, inodes: -1}}
		s.hasRoom(20 << 20)
		if fits := len(s.reasons) == 0; fits != c.fits {
			t.Errorf("%+v: %v", c, s.reasons)
		}
	}
	for _, typed := range []bool{false, true} { // the snapshot that is taken lies on the node only where it is typed
		s := &survey{node: brokenNode{}, premises: premises{typed: typed}, room: &room{on: "/", bytes: 800 << 20, inodes: -1}}
		s.hasRoom(230 << 20)
		if fits := len(s.reasons) == 0; fits == typed {
			t.Errorf("typed %t: %v", typed, s.reasons)
		}
	}
}

// onCluster is a stage whose only member is the etcd, and whose API server says that namespace kube-system has this UID.
func onCluster(t *testing.T, server *etcdtest.Server, uid string, g Snapshot) *Stage {
	t.Helper()
	api := apiServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, stored("v1", "Namespace", "", "kube-system", uid, ""))
	})
	s := &Stage{opt: Options{RunID: "a-run", Dir: t.TempDir(), Worker: etcdtest.Worker(t), Snapshot: &g}}
	s.Subject = proof.Subject{Cluster: one{}, Worker: s.opt.Worker, Servers: []proof.Server{api}, Endpoints: []etcd.Endpoint{server.Endpoint}}
	s.Subject.Members = []controlplane.Member{{Name: "cp-a"}}
	s.cast(s.Subject.Members, procedure.KubeletStop(), "nginx:1", nodeDir)
	var err error
	if s.given, err = s.opt.checkGiven(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGivenSnapshotSuitsTheCluster(t *testing.T) {
	path, server := backup(t, map[string]string{"/registry/leases/kube-system/kube-scheduler": stored("coordination.k8s.io/v1", "Lease", "kube-system", "kube-scheduler", "l", `,"spec":{"holderIdentity":"cp-a_old"}`)})
	clashing, _ := backup(t, map[string]string{"/registry/deployments/default/nginx-after-recovery": stored("apps/v1", "Deployment", "default", "nginx-after-recovery", "d", "")})
	for _, c := range []struct {
		name, live string
		given      Snapshot
		age        string
		refused    []string
		warned     string
	}{
		{"its own", ourUID, Snapshot{Path: path}, "", nil, ""},
		{"another's", theirUID, Snapshot{Path: path}, "", []string{"of another cluster", ourUID, theirUID, "--other-cluster", "nothing was touched"}, ""},
		{"another's, allowed", theirUID, Snapshot{Path: path, OtherCluster: true}, "", nil, "another cluster, as was allowed"},
		{"a newer etcd's", ourUID, Snapshot{Path: path}, "3.99.0", []string{"node cp-a: its etcd can't read", "storage version is 3.99.0", "upgrade"}, ""},
		{"another's and a newer etcd's", theirUID, Snapshot{Path: path}, "3.99.0", []string{"of another cluster", "storage version is 3.99.0"}, ""},
		{"taken during a proof", ourUID, Snapshot{Path: clashing}, "", []string{"Deployment.apps default/nginx-after-recovery"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := onCluster(t, server, c.live, c.given)
			if c.age != "" {
				s.given.Info.EtcdVersion = c.age
			}
			err := s.suitsCluster(t.Context(), procedure.KubeletStop())
			if (err != nil) != (c.refused != nil) {
				t.Fatal(err)
			}
			for _, want := range append(c.refused, "; hint: ") {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("want %q in: %v", want, err)
				}
			}
			if all := strings.Join(s.given.Warnings, "\n"); c.warned == "" && all != "" || !strings.Contains(all, c.warned) {
				t.Errorf("warnings: %q", all)
			}
		})
	}
	s := onCluster(t, server, ourUID, Snapshot{Path: path})
	if err := s.suitsCluster(t.Context(), procedure.KubeletStop()); err != nil {
		t.Fatal(err)
	}
	s.takeOver()
	want := []proof.Object{{Resource: namespaces, Name: "default", UID: "uid-of-default"}, {Resource: namespaces, Name: "kube-system", UID: ourUID}}
	if !reflect.DeepEqual(s.Subject.Anchors, want) || s.Target.BumpRevision != etcd.DefaultBump || s.Target.SkipHashCheck {
		t.Errorf("anchors %+v, %+v", s.Subject.Anchors, s.Target)
	}
	if !s.gone("kube-scheduler", "cp-a_old") || s.gone("kube-scheduler", "cp-a_new") || s.gone("kube-controller-manager", "cp-a_old") {
		t.Error("who held the Lease in the snapshot ended with the outage, and nobody else")
	}
}

// TestRaised: whatever the two revisions are, the restored one begins well above the cluster's, unless it is not to be raised at all.
func TestRaised(t *testing.T) {
	const billion = int64(etcd.DefaultBump)
	for _, c := range []struct {
		wanted         uint64
		snapshot, live int64
		want           uint64
	}{
		{0, 10, 5000, 0},
		{etcd.DefaultBump, 500, 600, etcd.DefaultBump},
		{etcd.DefaultBump, 500, 500 + billion/2, etcd.DefaultBump},
		{etcd.DefaultBump, 500, 500 + billion - 1, uint64(2*billion - 1)},
		{etcd.DefaultBump, 500, 3*billion + 7, uint64(4*billion - 493)},
		{etcd.DefaultBump, 9 * billion, 700, etcd.DefaultBump}, // another cluster's
	} {
		got := raised(c.wanted, c.snapshot, c.live)
		if got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
		if c.wanted > 0 && c.snapshot+int64(got) < c.live+int64(headroom) {
			t.Errorf("%+v: %d is not enough", c, got)
		}
	}
}

func TestBumpOfAGivenSnapshot(t *testing.T) {
	path, server := backup(t, nil)
	bump := func(n uint64) *uint64 { return &n }
	for _, c := range []struct {
		name     string
		ask      *uint64
		p        procedure.Procedure
		snapshot int64
		bump     uint64
		warned   string
	}{
		{"enough", nil, procedure.KubeletStop(), 1, etcd.DefaultBump, ""},
		{"a cluster that is far ahead", nil, procedure.KubeletStop(), -2_000_000_000, 0, "instead of 1000000000"},
		{"another cluster's, far ahead of this one", nil, procedure.KubeletStop(), 5_000_000_000, etcd.DefaultBump, ""},
		{"none", bump(0), procedure.KubeletStop(), -2_000_000_000, 0, ""},
		{"none by itself", nil, procedure.ManifestEdit(), 1, 0, ""},
		{"too little, as was asked for", bump(7), procedure.KubeletStop(), 1, 7, "may not get beyond"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := onCluster(t, server, ourUID, Snapshot{Path: path})
			s.opt.BumpRevision, s.given.Info.Revision = c.ask, c.snapshot
			if err := s.decideBump(t.Context(), c.p); err != nil {
				t.Fatal(err)
			}
			live, err := etcd.StatusOf(t.Context(), server.Endpoint)
			if err != nil {
				t.Fatal(err)
			}
			g := s.given
			if c.bump > 0 && g.Bump != c.bump {
				t.Errorf("%+v", g)
			}
			if g.Bump >= etcd.DefaultBump && c.snapshot+int64(g.Bump) <= live.Revision {
				t.Errorf("the recovery would end at %d, below %d", c.snapshot+int64(g.Bump), live.Revision)
			}
			if handedOut := max(live.Revision, c.snapshot+int64(g.Bump)); live.Revision+int64(g.RollbackBump) != handedOut+int64(etcd.DefaultBump) {
				t.Errorf("a rollback would end at %d, and a recovery that failed at %d", live.Revision+int64(g.RollbackBump), handedOut)
			}
			if all := strings.Join(g.Warnings, "\n"); !strings.Contains(all, c.warned) || c.warned == "" && all != "" {
				t.Errorf("warnings: %q", all)
			}
		})
	}
}

// TestDivide: what the snapshot holds of the workload is decided by UIDs, and what else has its label there is told apart.
func TestDivide(t *testing.T) {
	gvr := workloadKinds()[schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}]
	object := func(name, uid string) proof.Object {
		return proof.Object{Resource: gvr, Namespace: "default", Name: name, UID: types.UID(uid)}
	}
	w := proof.Workload{Namespace: "default", Name: "nginx", Objects: []proof.Object{object("nginx", "a"), object("other", "b")}}
	got := contents{Labelled: []proof.Object{object("nginx", "a"), object("other", "older")}}.divide(w)
	if !reflect.DeepEqual(got.Objects, w.Objects[:1]) || !reflect.DeepEqual(got.Beyond, w.Objects[1:]) || !reflect.DeepEqual(got.Namesakes, []proof.Object{object("other", "older")}) {
		t.Errorf("%+v", got)
	}
	if again := (contents{Labelled: []proof.Object{object("nginx", "a"), object("other", "older")}}).divide(got); !reflect.DeepEqual(again, got) {
		t.Errorf("divided once more: %+v", again)
	}
	s := &Stage{}
	s.Subject.Workload = w
	if s.divide(); !reflect.DeepEqual(s.Subject.Workload, w) {
		t.Error("a snapshot that the run takes holds all of it")
	}
	s.given = &given{}
	s.divide()
	if o := s.mine("deployments"); o.Preconditions == nil || *o.Preconditions.UID != "a" {
		t.Errorf("what has the name by the end may be another one: %+v", o)
	}
	if look, err := s.sought(); err != nil || look.kind != "Namespace" || s.Subject.Workload.Absent() == "" {
		t.Errorf("%+v, %v", look, err)
	}
}

// TestContentsOf reads a real snapshot.
func TestContentsOf(t *testing.T) {
	path, _ := backup(t, map[string]string{
		"/registry/deployments/default/nginx":    stored("apps/v1", "Deployment", "default", "nginx", "d", ""),
		"/registry/deployments/team/nginx":       stored("apps/v1", "Deployment", "team", "nginx", "x", ""),
		"/registry/pods/default/nginx-1":         stored("v1", "Pod", "default", "nginx-1", "p", ""),
		"/registry/configmaps/default/unrelated": stored("v1", "ConfigMap", "default", "unrelated", "c", ""),
	})
	info := plan.SnapshotInfo{Path: path}
	got, err := contentsOf(t.Context(), proof.SnapshotSource(etcdtest.Worker(t), info), proof.Workload{Namespace: "default", Name: "nginx"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range got.Labelled {
		names = append(names, o.String()+" "+string(o.UID))
	}
	if want := []string{"deployments default/nginx d", "pods default/nginx-1 p"}; !slices.Equal(names, want) || len(got.Clashes) > 0 || got.Encrypted {
		t.Errorf("%q, %+v", names, got)
	}
}

// TestBringSnapshot: the copy is the file, for its owner alone, and the original is neither changed nor needed any more.
func TestBringSnapshot(t *testing.T) {
	path, server := backup(t, nil)
	taken := time.Now().Add(-30 * time.Hour).Truncate(time.Second)
	if err := errors.Join(os.Chmod(path, 0o644), os.Chtimes(path, time.Time{}, taken)); err != nil {
		t.Fatal(err)
	}
	s := onCluster(t, server, ourUID, Snapshot{Path: path})
	if len(s.given.Warnings) != 1 || !strings.Contains(s.given.Warnings[0], "mode 0644") {
		t.Errorf("%q", s.given.Warnings)
	}
	s.takeOver()
	steps := append(s.BringSnapshot(), s.SaveSnapshot(), s.SnapshotStatus())
	for _, step := range steps {
		if err := step.Do(t.Context()); err != nil {
			t.Fatalf("%s: %v", step.Name, err)
		}
		if step.Learn == nil {
			continue
		}
		if err := step.Learn(t.Context()); err != nil {
			t.Fatalf("%s: %v", step.Name, err)
		}
	}
	got := *s.Subject.Snapshot
	st, err := os.Stat(s.snapshotPath())
	if err != nil || st.Mode().Perm() != 0o600 || !st.ModTime().Equal(taken) {
		t.Errorf("%v, %v", st, err)
	}
	if got.Path != s.snapshotPath() || got.Source != path || !got.TakenAt.Equal(taken) || got.Revision == 0 {
		t.Errorf("%+v", got)
	}
	copied, err := os.ReadFile(s.snapshotPath())
	if sum := sha256.Sum256(copied); err != nil || hex.EncodeToString(sum[:]) != got.SHA256 {
		t.Errorf("%v", err)
	}

	// Another process goes on with the copy, wherever the file is by now.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.recalled = true
	if err := s.bringSnapshot(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.sameAsGiven(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(s.snapshotPath(), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.sameAsGiven(t.Context()); err == nil || !strings.Contains(err.Error(), got.SHA256) {
		t.Errorf("another file: %v", err)
	}
}

// TestBringSnapshotThatChanged: a file that is written to while it is looked at is no backup.
func TestBringSnapshotThatChanged(t *testing.T) {
	path, server := backup(t, nil)
	s := onCluster(t, server, ourUID, Snapshot{Path: path})
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("more")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.bringSnapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "has changed since it was looked at") {
		t.Error(err)
	}
	if left, err := os.ReadDir(s.opt.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestBringSnapshotToTheNode: who types needs it there.
func TestBringSnapshotToTheNode(t *testing.T) {
	path, server := backup(t, nil)
	s := onCluster(t, server, ourUID, Snapshot{Path: path})
	s.opt.Literal = true
	n := newSound(t, "cp-a", "172.18.0.3")
	n.answers["mkdir"] = answer{}
	s.Target.Members = []controlplane.Member{{Name: "cp-a", Node: n}}
	if err := s.bringSnapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(n.written, []string{nodeDir + "/snapshot.db"}) {
		t.Errorf("%q", n.written)
	}
	typed := s.SaveSnapshot().Commands
	if last := typed[len(typed)-1]; last.Argv[1] != s.given.Info.SHA256+"  "+nodeDir+"/snapshot.db" || !slices.Equal(last.PipeTo, []string{"sha256sum", "--check"}) {
		t.Errorf("%v", typed)
	}
}

// TestLossByAGivenFile: its time tells its age, and where the two histories can't be compared, nothing is made up.
func TestLossByAGivenFile(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name       string
		given      given
		comparable bool
	}{
		{"a backup", given{Info: plan.SnapshotInfo{Revision: 5, TakenAt: now}}, true},
		{"another cluster's", given{Info: plan.SnapshotInfo{Revision: 5, TakenAt: now}, OtherCluster: true}, false},
		{"of a history that a restore has ended", given{Info: plan.SnapshotInfo{Revision: 50, TakenAt: now}}, false},
	} {
		s := &Stage{given: &c.given}
		s.Subject.Snapshot = &c.given.Info
		s.Subject.Before.Revision = 10
		if got := s.comparable(); got != c.comparable {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestMemoryOfAGivenSnapshot: another process knows what was given, by how much the revision was to be raised, and what of the workload to expect.
func TestMemoryOfAGivenSnapshot(t *testing.T) {
	c := newDownCluster(t)
	o := Options{RunID: "a-run", Dir: t.TempDir()}
	member := controlplane.Member{Name: "n", Node: c.node, Etcd: controlplane.EtcdConfig{AdvertiseClientURLs: []string{"https://127.0.0.1:1"}, CACert: "/ca", Cert: "/crt", Key: "/key"}}
	s := &Stage{opt: o}
	s.cast([]controlplane.Member{member}, procedure.KubeletStop(), "nginx:1", dirOnNodes("a-run"))
	s.given = &given{
		Info: plan.SnapshotInfo{Source: "/backup.db", SHA256: "abc", NoChecksum: true, Revision: 3}, Bump: 5, RollbackBump: 8, OtherCluster: true, Live: "u", Warnings: []string{"old"},
		Contents: contents{System: []proof.Object{{Resource: namespaces, Name: "kube-system", UID: "v"}}, Holders: map[string]string{"a": "b"}},
	}
	s.takeOver()
	s.Subject.Workload.Beyond = []proof.Object{{Resource: namespaces, Name: "x", UID: "w"}}
	if err := s.Remember(); err != nil {
		t.Fatal(err)
	}
	got, err := Recall(t.Context(), c, procedure.KubeletStop(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.given, s.given) || !reflect.DeepEqual(got.Subject.Workload, s.Subject.Workload) || !reflect.DeepEqual(got.Subject.Anchors, s.Subject.Anchors) ||
		!reflect.DeepEqual(got.Subject.Given, s.Subject.Given) || !got.Subject.OtherCluster || got.Target.BumpRevision != 5 || got.Target.RollbackBump != 8 || !got.Target.SkipHashCheck {
		t.Errorf("recalled %+v, %+v, want %+v, %+v", got.given, got.Target, s.given, s.Target)
	}
}
