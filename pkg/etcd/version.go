package etcd

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/version"
	utilversion "k8s.io/apimachinery/pkg/util/version"

	"github.com/etcd-drill/drill/pkg/plan"
)

// OwnVersion is the version of etcd's code in drill, which restores snapshots.
func OwnVersion() string { return version.Version }

// CanRead returns an error that wraps ErrNewer if an etcd of the version given, or etcdutl, can't make sense of a snapshot because that is of a newer one. A snapshot that doesn't say
// what it is of can be read as far as anybody knows.
//
// Two versions are in a snapshot, and major and minor count of each. The storage version (bucket meta, key storageVersion, since etcd 3.6) says in which way the file is written: etcd ends at
// once when it doesn't know that (Validate in server/storage/schema/schema.go, called by bootstrapBackend in server/etcdserver/bootstrap.go). The cluster version (bucket cluster, key
// clusterVersion, since 3.5) is what all members had agreed on. A restore removes the members and leaves it where it is (TrimMembershipFromBackend in
// server/storage/schema/membership.go), and an etcd below it panics with "invalid downgrade" (MustDetectDowngrade in server/etcdserver/version/downgrade.go).
func CanRead(reader string, snapshot plan.SnapshotInfo) error {
	by, err := utilversion.ParseGeneric(reader)
	if err != nil {
		return fmt.Errorf("the version of the etcd that would read the snapshot: %w", err)
	}
	for _, of := range []struct{ what, version string }{{"storage version", snapshot.EtcdVersion}, {"cluster version", snapshot.ClusterVersion}} {
		if of.version == "" {
			continue
		}
		made, err := utilversion.ParseGeneric(of.version)
		if err != nil {
			return fmt.Errorf("%w: its %s is %q, which is none that is known", ErrNewer, of.what, of.version)
		}
		if utilversion.MajorMinor(by.Major(), by.Minor()).LessThan(utilversion.MajorMinor(made.Major(), made.Minor())) {
			return fmt.Errorf("%w: its %s is %s", ErrNewer, of.what, of.version)
		}
	}
	return nil
}

// CanReadHere is CanRead for the etcd in this drill.
func CanReadHere(snapshot plan.SnapshotInfo) error {
	if err := CanRead(OwnVersion(), snapshot); err != nil {
		return fmt.Errorf("%w, and the etcd in this drill is %s; use a drill that has an etcd of that version or a later one", err, OwnVersion())
	}
	return nil
}
