// Package dbwriter writes snapshots of etcd without an etcd, with etcd's own storage code and in its own order: keys that are put and deleted in one revision each, leases, and compactions. What
// comes out is what a member of a cluster of one would have sent, down to the buckets that only etcd looks at, the pages that compactions left free, and the SHA-256 at the end. It is made
// for test data and measurements: a gigabyte takes seconds instead of minutes. The same calls always give the same records; on which pages they come to lie is left to etcd, which commits by
// the clock, so that the files' checksums differ.
package dbwriter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// The member that the snapshot is of.
const (
	memberName = "control-plane-1"
	peerURL    = "https://192.0.2.10:2380"
	clientURL  = "https://192.0.2.10:2379"
	raftTerm   = 4
)

// Writer writes one snapshot. It is for one goroutine.
type Writer struct {
	be      backend.Backend
	kv      mvcc.KV
	path    string
	lg      *zap.Logger
	voter   uint64
	writes  uint64
	closing error
	closed  bool
}

// New begins a database in the file path, which must not exist. Close removes it.
func New(path string) (*Writer, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%w: %s; choose another name", etcd.ErrTargetExists, path)
	}
	lg := zap.NewNop()
	cfg := backend.DefaultBackendConfig(lg)
	cfg.Path, cfg.UnsafeNoFsync = path, true
	w := &Writer{be: backend.New(cfg), path: path, lg: lg}
	w.found()
	// Large batches, without a rest in between: nobody else uses it.
	w.kv = mvcc.NewStore(lg, w.be, &lease.FakeLessor{}, mvcc.StoreConfig{CompactionBatchLimit: 10_000, CompactionSleepInterval: time.Nanosecond})
	return w, nil
}

// found writes what etcd writes when a cluster begins.
func (w *Writer) found() {
	urls := types.MustNewURLs([]string{peerURL})
	m := membership.NewMember(memberName, urls, "etcd-cluster", nil)
	m.ClientURLs = []string{clientURL}
	w.voter = uint64(m.ID)
	own := semver.Must(semver.NewVersion(version.Version))
	minor := semver.Version{Major: own.Major, Minor: own.Minor}
	members := schema.NewMembershipBackend(w.lg, w.be)
	members.MustCreateBackendBuckets()
	schema.NewAlarmBackend(w.lg, w.be).CreateAlarmBucket()
	schema.NewAuthBackend(w.lg, w.be).CreateAuthBuckets()
	w.update(func(tx backend.BatchTx) {
		schema.UnsafeCreateLeaseBucket(tx)
		schema.UnsafeCreateMetaBucket(tx)
	})
	members.MustSaveMemberToBackend(m)
	members.MustSaveClusterVersionToBackend(&minor)
	w.update(func(tx backend.BatchTx) { schema.UnsafeSetStorageVersion(tx, &minor) })
}

// update changes the database outside of the key space.
func (w *Writer) update(change func(backend.BatchTx)) {
	tx := w.be.BatchTx()
	tx.LockOutsideApply()
	defer tx.Unlock()
	change(tx)
}

// Put writes a key, attached to a lease unless that is 0, and returns the revision.
func (w *Writer) Put(key string, value []byte, leaseID int64) int64 {
	w.writes++
	return w.kv.Put([]byte(key), value, lease.LeaseID(leaseID))
}

// Delete deletes a key, and returns the revision; where there is no such key, that is the one before.
func (w *Writer) Delete(key string) int64 {
	w.writes++
	_, rev := w.kv.DeleteRange([]byte(key), nil)
	return rev
}

// Grant adds a lease. seconds is its time to live.
func (w *Writer) Grant(id, seconds int64) {
	w.writes++
	w.update(func(tx backend.BatchTx) { schema.MustUnsafePutLease(tx, &leasepb.Lease{ID: id, TTL: seconds}) })
}

// Compact drops history up to rev, as an API server asks for every five minutes, and waits for that.
func (w *Writer) Compact(ctx context.Context, rev int64) error {
	w.writes++
	done, err := w.kv.Compact(traceutil.TODO(), rev) // a trace that records nothing, as etcd's own callers without a request have it
	if err != nil {
		return fmt.Errorf("compact at revision %d: %w", rev, err)
	}
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Revision is the store's current one.
func (w *Writer) Revision() int64 { return w.kv.Rev() }

// Info is about a written snapshot.
type Info struct {
	SHA256   string `json:"sha256"`
	Bytes    int64  `json:"bytes"`
	Revision int64  `json:"revision"`
	// Keys is how many there are at Revision.
	Keys int64 `json:"keys"`
}

// Save writes the snapshot into the new file path, with mode 0600. SHA256 is that of the whole file. Where it fails nothing is left.
func (w *Writer) Save(ctx context.Context, path string) (_ Info, err error) {
	w.kv.Commit()
	w.update(func(tx backend.BatchTx) {
		schema.UnsafeUpdateConsistentIndex(tx, w.writes+10, raftTerm)
		schema.MustUnsafeSaveConfStateToBackend(w.lg, tx, &raftpb.ConfState{Voters: []uint64{w.voter}})
	})
	all, err := w.kv.Range(ctx, []byte{0}, []byte{}, mvcc.RangeOptions{CountOnly: true})
	if err != nil {
		return Info{}, err
	}
	info := Info{Revision: w.kv.Rev(), Keys: int64(all.Count)}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return Info{}, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path)
		}
	}()
	snapshot := w.be.Snapshot()
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	pages, whole := sha256.New(), sha256.New()
	n, err := snapshot.WriteTo(io.MultiWriter(until{ctx, f}, pages, whole))
	if err != nil {
		return Info{}, fmt.Errorf("write %s: %w", filepath.Base(path), errors.Join(err, ctx.Err())) // bbolt tells what a writer said, but doesn't wrap it
	}
	trailer := pages.Sum(nil)
	if _, err := f.Write(trailer); err != nil {
		return Info{}, err
	}
	_, _ = whole.Write(trailer) // a hash takes everything
	info.Bytes, info.SHA256 = n+sha256.Size, hex.EncodeToString(whole.Sum(nil))
	return info, nil
}

// Close removes the database. It may be called more than once.
func (w *Writer) Close() error {
	if !w.closed {
		w.closed = true
		w.closing = errors.Join(w.kv.Close(), w.be.Close(), os.Remove(w.path))
	}
	return w.closing
}

// until writes until its context ends.
type until struct {
	ctx context.Context
	w   io.Writer
}

func (u until) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(p)
}
