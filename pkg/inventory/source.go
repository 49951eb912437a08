package inventory

import (
	"context"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// Source calls each with every key of one revision of etcd, in the order of the keys, and returns that revision. It can be called again; a running etcd
// may then be further. An error of each ends it and is returned. It wraps etcd.ErrCompacted where it should be called once more.
type Source func(ctx context.Context, each func(etcd.KeyValue) error) (revision int64, err error)

// FromEtcd is what a running etcd holds whenever it is read.
func FromEtcd(ep etcd.Endpoint) Source {
	return func(ctx context.Context, each func(etcd.KeyValue) error) (int64, error) {
		return etcd.LiveKeys(ctx, ep, each)
	}
}

// FromSnapshot is what a snapshot file holds. It is opened by the worker; see etcd.SnapshotKeys for what can be wrong with it.
func FromSnapshot(w etcd.Worker, path string) Source {
	return func(ctx context.Context, each func(etcd.KeyValue) error) (int64, error) {
		return etcd.SnapshotKeys(ctx, w, path, each)
	}
}

// FromDatabase is what the database of a stopped etcd holds, DATADIR/member/snap/db. See etcd.DatabaseKeys for what may be missing in it.
func FromDatabase(w etcd.Worker, path string) Source {
	return func(ctx context.Context, each func(etcd.KeyValue) error) (int64, error) {
		return etcd.DatabaseKeys(ctx, w, path, each)
	}
}
