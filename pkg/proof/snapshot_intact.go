package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// SnapshotIntact verifies the snapshot before anything is broken: the SHA-256 that etcd appends to a snapshot, bbolt's pages, and the
// order of revisions. It also compares the file with what was recorded when it was taken, and makes sure that it is of this cluster: clusters are told apart by
// the UID of their namespace kube-system, and a sound snapshot of another one is the worst that could be restored.
func SnapshotIntact(s *Subject) plan.Check {
	return plan.Check{
		Name:    "snapshot-intact",
		Summary: "the snapshot is the file that was saved, of this cluster, and its checksum, pages and revisions are sound; looked at before anything is broken",
		Phase:   plan.Protect,
		Timeout: 10 * time.Minute, // it reads the whole file
		Look:    func(ctx context.Context) (plan.Finding, error) { return snapshotIntact(ctx, s) },
	}
}

func snapshotIntact(ctx context.Context, s *Subject) (plan.Finding, error) {
	if s.Snapshot == nil {
		return plan.Failed("there is no snapshot", "the step that takes it did not record one").ForGood(), nil
	}
	const remedy = "do not rely on this snapshot: take another, and find out what damaged this one, the disk or a copy that was cut short for example"
	got, err := VerifySnapshot(ctx, s.Worker, *s.Snapshot)
	switch {
	case saysNothing(ctx, err):
		return plan.Finding{}, errors.Join(err, context.Cause(ctx))
	case err != nil:
		return unsound(s.Snapshot.Path, remedy, err), nil
	case got.SHA256 != s.Snapshot.SHA256:
		return plan.Differs("the snapshot is another file than the one that was saved", remedy, []plan.Difference{{
			Subject: "SHA-256 of " + s.Snapshot.Path, Expected: s.Snapshot.SHA256 + ", as when it was saved", Seen: got.SHA256,
		}}).ForGood(), nil
	}
	live, err := LiveUID(ctx, s.Servers[0])
	if err != nil {
		return plan.Finding{}, err
	}
	other, whose, err := Foreign(ctx, s.Worker, *s.Snapshot, live)
	switch {
	case saysNothing(ctx, err):
		return plan.Finding{}, errors.Join(err, context.Cause(ctx))
	case err != nil:
		return unsound(s.Snapshot.Path, remedy, err), nil
	case other != nil && !s.OtherCluster:
		return plan.Differs("the snapshot is of another cluster", "do not restore it: find the snapshots of this cluster, and find out how they were mixed up",
			[]plan.Difference{*other}, "sha256 "+got.SHA256).ForGood(), nil
	case other != nil:
		whose = "of another cluster, as was allowed: " + other.String()
	}
	detail := fmt.Sprintf("%d keys at revision %d, %d bytes", got.Keys, got.Revision, got.Bytes)
	if s.Snapshot.NoChecksum {
		detail += "; it has no checksum of etcd's, so that pages and records alone show that it is whole"
	}
	return plan.Passed(detail, "sha256 "+got.SHA256, whose), nil
}

// VerifySnapshot verifies the file as what it is: with its checksum, or as a database that has none.
func VerifySnapshot(ctx context.Context, w etcd.Worker, snapshot plan.SnapshotInfo) (plan.SnapshotInfo, error) {
	if snapshot.NoChecksum {
		return etcd.VerifyDatabase(ctx, w, snapshot.Path)
	}
	return etcd.Verify(ctx, w, snapshot.Path)
}

// SnapshotSource reads the file as what it is.
func SnapshotSource(w etcd.Worker, snapshot plan.SnapshotInfo) inventory.Source {
	if snapshot.NoChecksum {
		return inventory.FromDatabase(w, snapshot.Path)
	}
	return inventory.FromSnapshot(w, snapshot.Path)
}

// LiveUID is by what a cluster is told from others: the UID of its namespace kube-system.
func LiveUID(ctx context.Context, s Server) (string, error) {
	live, err := get(ctx, s, Object{Resource: namespaces, Name: metav1.NamespaceSystem})
	if err != nil {
		return "", err
	}
	return string(live.GetUID()), nil
}

// saysNothing reports whether reading the file ended for a reason that says nothing about it.
func saysNothing(ctx context.Context, err error) bool {
	return errors.Is(err, etcd.ErrWorker) || ctx.Err() != nil
}

func unsound(path, remedy string, err error) plan.Finding {
	return plan.Differs("the snapshot is not sound", remedy, []plan.Difference{{
		Subject: path, Expected: "a snapshot whose checksum, pages and revisions are sound", Seen: err.Error(),
	}}).ForGood()
}

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// kubeSystem ends the key of the namespace, whatever prefix the API server was told to use (--etcd-prefix), which may have several parts. A custom resource with the plural
// namespaces has such a key as well, so that the value decides.
const kubeSystem = "/namespaces/kube-system"

// errFound ends the reading of a snapshot.
var errFound = errors.New("found")

// namespaceOf returns the Namespace that a value is; nil if it is anything else.
func namespaceOf(value []byte) *corev1.Namespace {
	o, _, err := scheme.Codecs.UniversalDeserializer().Decode(value, nil, nil)
	if err != nil {
		return nil
	}
	n, _ := o.(*corev1.Namespace)
	return n
}

// Foreign returns how the snapshot differs from one of the cluster whose namespace kube-system has the UID want, nil if it doesn't, and a line that says whose it is.
func Foreign(ctx context.Context, w etcd.Worker, snapshot plan.SnapshotInfo, want string) (*plan.Difference, string, error) {
	var stored *corev1.Namespace
	encrypted := false
	_, err := SnapshotSource(w, snapshot)(ctx, func(kv etcd.KeyValue) error {
		if !bytes.HasSuffix(kv.Key, []byte(kubeSystem)) {
			return nil
		}
		encrypted = encrypted || bytes.HasPrefix(kv.Value, []byte("k8s:enc:"))
		if stored = namespaceOf(kv.Value); stored != nil {
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, "", err
	}
	d := &plan.Difference{Subject: "namespace kube-system in " + snapshot.Path, Expected: "UID " + want + ", as in this cluster"}
	switch {
	case stored == nil && encrypted:
		return nil, "the snapshot's namespaces are encrypted, so that it can't be said whose they are", nil
	case stored == nil:
		d.Seen = "no such namespace"
	case stored.UID == "":
		d.Seen = "no UID"
	case string(stored.UID) != want:
		d.Seen = "UID " + string(stored.UID)
	default:
		return nil, "namespace kube-system has UID " + want + ", as in this cluster", nil
	}
	return d, "", nil
}
