package inventory

import (
	"context"

	"golang.org/x/sync/errgroup"

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

// batchKeys is how many keys go to a goroutine at once, and fewer where their values have so many bytes together: of large ones, little may be held at once.
const (
	batchKeys  = 256
	batchValue = 1 << 20
)

// divided reads a source once and gives each key to one of several functions. Each of them is called by a goroutine of its own, and an error of one ends the reading and is returned.
func divided(ctx context.Context, from Source, sees []func(etcd.KeyValue) error) (revision int64, err error) {
	group, ctx := errgroup.WithContext(ctx)
	batches := make(chan []etcd.KeyValue)
	for _, see := range sees {
		group.Go(func() error {
			for batch := range batches {
				for _, kv := range batch {
					if err := see(kv); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	group.Go(func() (err error) {
		defer close(batches)
		var batch []etcd.KeyValue
		size := 0
		send := func() error {
			if len(batch) == 0 {
				return nil
			}
			select {
			case batches <- batch:
				batch, size = nil, 0
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		revision, err = from(ctx, func(kv etcd.KeyValue) error {
			batch, size = append(batch, kv), size+len(kv.Value)
			if len(batch) < batchKeys && size < batchValue {
				return nil
			}
			return send()
		})
		if err != nil {
			return err
		}
		return send()
	})
	err = group.Wait()
	return revision, err
}
