package etcd

import (
	"context"
	"fmt"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/schema"
)

// RevisionOf returns, read in a child process, the revision that an etcd has which is started on the database in path: either that of
// a stopped etcd, DATADIR/member/snap/db, or a snapshot. Among the members of one cluster, the one with the highest has applied
// the most.
//
// It is the revision of the last record, or the one up to which the history was compacted where that is higher, for a
// compaction may take the last record away; etcd itself begins with the higher one (restore in
// etcd's server/storage/mvcc/kvstore.go). For an empty store it is 1, as etcd's own.
//
// Only the way to the last record is read, and no trailer, so that an answer doesn't mean that the file is sound. The error
// wraps a sentinel of this package where the file is to blame. The database of a running etcd is refused.
func RevisionOf(ctx context.Context, w Worker, path string) (int64, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return 0, fmt.Errorf("revision of %s: %w", path, err)
	}
	a, err := w.call(ctx, request{Op: opRevision, Path: abs})
	switch {
	case err != nil:
		return 0, fmt.Errorf("revision of %s: %w", path, err)
	case a.Revision < 1:
		return 0, fmt.Errorf("revision of %s: %w: the answer is empty", path, ErrWorker)
	}
	return a.Revision, nil
}

// revisionHere does in the child what RevisionOf asked for.
func revisionHere(ctx context.Context, path string) (int64, error) {
	f, err := OpenFile(ctx, path, true) // for a snapshot, too: its trailer isn't read
	if err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	revision := int64(1)
	err = view(path, func(tx *bolt.Tx) error {
		if err := checkBuckets(tx); err != nil {
			return err
		}
		last, _ := tx.Bucket(schema.Key.Name()).Cursor().Last()
		meta := tx.Bucket(schema.Meta.Name())
		for what, k := range map[string][]byte{
			"the last record":          last,
			"the finished compaction":  meta.Get(schema.FinishedCompactKeyName),
			"the scheduled compaction": meta.Get(schema.ScheduledCompactKeyName),
		} {
			if k == nil {
				continue // an empty store, or never compacted
			}
			rev, err := parseRevision(k)
			if err != nil {
				return fmt.Errorf("%w: %s of %s: %w; %s", ErrDamaged, what, path, err, takeAnother)
			}
			revision = max(revision, rev.Main)
		}
		return ctx.Err()
	})
	return revision, err
}

// checkRaw makes sure that a database which has no trailer is sound in itself: its length, every page, every record.
func checkRaw(ctx context.Context, path string) error {
	_, _, err := Examine(ctx, path, ExamineOptions{Raw: true})
	return err
}
