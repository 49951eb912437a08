package proof

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/plan"
)

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(context.Background(), m)) }

// namespaceStored is the namespace kube-system as the API server stores it.
func namespaceStored(t *testing.T, uid string) string {
	t.Helper()
	raw, err := (&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: types.UID(uid)}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, Raw: raw}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return "k8s\x00" + string(whole)
}

// realSnapshot is one of a real etcd server that holds a namespace kube-system, and before it a custom resource whose key ends alike.
func realSnapshot(t *testing.T, namespace string) plan.SnapshotInfo {
	t.Helper()
	server := etcdtest.Serve(t, t.TempDir(), nil)
	defer server.Stop()
	for key, value := range map[string]string{
		"/other/prefix/example.com/namespaces/kube-system": `{"apiVersion":"example.com/v1","kind":"Namespace","metadata":{"name":"kube-system","uid":"cccccccc-4b5a-6978-8796-a5b4c3d2e1f0"}}`,
		"/other/prefix/namespaces/kube-system":             namespace, "/other/prefix/pods/x": "x",
	} {
		if _, err := server.Client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	info, err := etcd.Save(t.Context(), server.Endpoint, filepath.Join(t.TempDir(), "vault", "snapshot.db"))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestSnapshotIntact(t *testing.T) {
	worker := etcdtest.Worker(t)
	const ours, theirs = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "ffffffff-4b5a-6978-8796-a5b4c3d2e1f0"
	sound := realSnapshot(t, namespaceStored(t, ours))
	api := serve(t, "cp-a", &apiServer{objects: map[string][]object{"namespaces": {
		{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": "kube-system", "uid": ours}},
	}}})
	content, err := os.ReadFile(sound.Path)
	if err != nil {
		t.Fatal(err)
	}
	const whole = "a snapshot whose checksum, pages and revisions are sound"
	for name, c := range map[string]struct {
		change         func(t *testing.T, info *plan.SnapshotInfo)
		expected, seen string // empty where it passes
	}{
		"sound": {func(*testing.T, *plan.SnapshotInfo) {}, "", ""},
		"one bit is wrong": {func(t *testing.T, info *plan.SnapshotInfo) {
			damaged := append([]byte(nil), content...)
			damaged[len(damaged)/2] ^= 1
			write(t, info.Path, damaged, 0o600)
		}, whole, etcd.ErrTrailerMismatch.Error()},
		"cut short": {func(t *testing.T, info *plan.SnapshotInfo) {
			write(t, info.Path, content[:len(content)-512], 0o600)
		}, whole, "snapshot"},
		"gone": {func(t *testing.T, info *plan.SnapshotInfo) {
			if err := os.Remove(info.Path); err != nil {
				t.Fatal(err)
			}
		}, whole, "no such file"},
		"another one": {func(_ *testing.T, info *plan.SnapshotInfo) { info.SHA256 = "c0ffee" }, "c0ffee, as when it was saved", sound.SHA256},
		// Who can read it is told by secrets-safe.
		"others can read it": {func(t *testing.T, info *plan.SnapshotInfo) {
			if err := os.Chmod(info.Path, 0o640); err != nil {
				t.Fatal(err)
			}
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			info := sound
			info.Path = filepath.Join(t.TempDir(), "snapshot.db")
			write(t, info.Path, content, 0o600)
			c.change(t, &info)
			f, err := snapshotIntact(t.Context(), &Subject{Snapshot: &info, Worker: worker, Servers: []Server{api}})
			if c.seen != "" {
				differs(t, f, err, info.Path, c.expected, c.seen)
				if !f.Final {
					t.Error("looking again would help")
				}
			} else if err != nil || f.Status != plan.StatusPassed || !strings.Contains(f.Detail, fmt.Sprintf("%d bytes", sound.Bytes)) || !holds(f.Evidence, ours, "as in this cluster") {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
	for name, c := range map[string]struct {
		namespace string
		seen      string // empty where it passes
	}{
		"another cluster's": {namespaceStored(t, theirs), "UID " + theirs},
		"as JSON":           {`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"kube-system","uid":"` + theirs + `"}}`, "UID " + theirs},
		"of no cluster":     {namespaceStored(t, ""), "no UID"},
		"without a cluster": {"", "no such namespace"},
		"of another kind":   {storedAs("v1", "ConfigMap", "kube-system", ours, ""), "no such namespace"},
		"encrypted":         {"k8s:enc:aescbc:v1:key1:" + theirs, ""},
	} {
		t.Run(name, func(t *testing.T) {
			info := realSnapshot(t, c.namespace)
			f, err := snapshotIntact(t.Context(), &Subject{Snapshot: &info, Worker: worker, Servers: []Server{api}})
			if c.seen != "" {
				differs(t, f, err, "namespace kube-system in "+info.Path, "UID "+ours+", as in this cluster", c.seen)
				if !f.Final {
					t.Error("looking again would help")
				}
			} else if err != nil || f.Status != plan.StatusPassed || !holds(f.Evidence, "encrypted") {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
	if f, err := snapshotIntact(t.Context(), &Subject{Snapshot: &sound, Worker: worker, Servers: []Server{serve(t, "cp-a", refusing("namespaces"))}}); err == nil {
		t.Errorf("the cluster doesn't say who it is: %+v", f)
	}
	if f, err := snapshotIntact(t.Context(), &Subject{}); err != nil || f.Status != plan.StatusFailed || f.Detail != "there is no snapshot" {
		t.Errorf("none was taken: %+v, %v", f, err)
	}
	if f, err := snapshotIntact(t.Context(), &Subject{Snapshot: &sound, Worker: etcd.Worker{Command: []string{"false"}}}); err == nil {
		t.Errorf("a worker that fails says nothing about the snapshot: %+v", f)
	}
}

func write(t *testing.T, path string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
}

// TestGivenSnapshotIntact: one that was given may be of another cluster if somebody asked for it, and may have no checksum, and is held against all else.
func TestGivenSnapshotIntact(t *testing.T) {
	worker := etcdtest.Worker(t)
	const ours, theirs = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "ffffffff-4b5a-6978-8796-a5b4c3d2e1f0"
	sound := realSnapshot(t, namespaceStored(t, theirs))
	api := serve(t, "cp-a", &apiServer{objects: map[string][]object{"namespaces": {
		{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": "kube-system", "uid": ours}},
	}}})
	f, err := snapshotIntact(t.Context(), &Subject{Snapshot: &sound, OtherCluster: true, Worker: worker, Servers: []Server{api}})
	if err != nil || f.Status != plan.StatusPassed || !holds(f.Evidence, "of another cluster, as was allowed", ours, theirs) {
		t.Errorf("%+v, %v", f, err)
	}
	content, err := os.ReadFile(sound.Path)
	if err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(t.TempDir(), "db")
	write(t, database, content[:len(content)-sha256.Size], 0o600)
	raw, err := etcd.VerifyDatabase(t.Context(), worker, database)
	if err != nil {
		t.Fatal(err)
	}
	s := &Subject{Snapshot: &raw, OtherCluster: true, Worker: worker, Servers: []Server{api}}
	if f, err := snapshotIntact(t.Context(), s); err != nil || f.Status != plan.StatusPassed || !strings.Contains(f.Detail, "no checksum") {
		t.Errorf("%+v, %v", f, err)
	}
	s.OtherCluster = false
	f, err = snapshotIntact(t.Context(), s)
	differs(t, f, err, "namespace kube-system in "+database, "UID "+ours+", as in this cluster", "UID "+theirs)
	s.OtherCluster, raw.NoChecksum = true, false // it was said to have one
	if f, err := snapshotIntact(t.Context(), s); err != nil || f.Status != plan.StatusFailed || !strings.Contains(f.Detail, etcd.ErrNoTrailer.Error()) {
		t.Errorf("%+v, %v", f, err)
	}
}
