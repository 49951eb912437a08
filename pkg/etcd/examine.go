package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"

	"go.etcd.io/etcd/server/v3/storage/schema"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/etcd-drill/drill/pkg/etcd/boltfile"
	"github.com/etcd-drill/drill/pkg/plan"
)

// ExamineOptions say what else is looked at. The slices that the functions get may be used during the call only.
type ExamineOptions struct {
	// Raw says that the file is a database that has no trailer.
	Raw bool
	// Value is called with each value that was ever written, of which the history is known, from several goroutines at once. An error of it means that the snapshot is damaged.
	Value func(key, value []byte) error
	// Live is called with each key that is live at the last revision, from one goroutine, in the order of File's Live. An error of it ends the reading. What it is told counts only if the file turns out to be sound.
	Live func(KeyValue) error
}

// Examine reads all of a snapshot, and says what is in it, or wraps the one sentinel error that says what is wrong with it. It is what Verify has a child do.
//
// It holds some 100 MB at most, whatever the size of the file.
func Examine(ctx context.Context, path string, o ExamineOptions) (info plan.SnapshotInfo, facts Facts, err error) {
	f, err := OpenFile(ctx, path, o.Raw)
	if err != nil {
		return info, facts, err
	}
	raw := f.raw
	defer func() { err = errors.Join(err, f.Close()) }()
	info = plan.SnapshotInfo{Path: path, Bytes: f.size, TakenAt: f.began.ModTime(), NoChecksum: raw}

	// The hash takes the file from its beginning to its end, the rest from page to page.
	var both errgroup.Group
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	var sumErr, contentErr error
	both.Go(func() error {
		info.SHA256, sumErr = f.sum(reading)
		if sumErr != nil && !errors.Is(sumErr, ErrTrailerMismatch) {
			cancel() // it can't be read
		}
		return nil
	})
	both.Go(func() error {
		facts, contentErr = f.content(reading, o)
		if contentErr != nil && raw {
			cancel() // without a trailer, the hash says nothing about it
		}
		return nil
	})
	_ = both.Wait() // they return none
	if err := f.verdict(ctx, sumErr, contentErr); err != nil {
		return plan.SnapshotInfo{}, Facts{}, err
	}
	info.Revision, info.Keys = facts.Revision, facts.Keys
	info.EtcdVersion, info.ClusterVersion = facts.StorageVersion, facts.ClusterVersion
	return info, facts, nil
}

// verdict makes one error of two.
func (f *File) verdict(ctx context.Context, sumErr, contentErr error) error {
	seen := contentErr
	sumErr, contentErr = f.why(sumErr), f.why(contentErr)
	damaged := errors.Is(contentErr, ErrDamaged) || errors.Is(contentErr, ErrNotSnapshot)
	switch {
	case errors.Is(sumErr, ErrChanged):
		return sumErr
	case errors.Is(contentErr, ErrChanged):
		return contentErr
	case errors.Is(sumErr, ErrTrailerMismatch) && damaged:
		return fmt.Errorf("%w; what differs is seen here: %s", sumErr, seen.Error())
	case errors.Is(sumErr, ErrTrailerMismatch) && contentErr == nil:
		return fmt.Errorf("%w; every page and every record makes sense, so that the difference lies in a value, in a page that isn't in use, or in the trailer", sumErr)
	case damaged:
		if newer := f.newer(ctx); newer != nil {
			return fmt.Errorf("%w, so that it may be sound: %s", newer, seen.Error())
		}
		return contentErr
	}
	for _, err := range []error{ctx.Err(), f.unchanged(), sumErr, contentErr} {
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.Canceled)) { // each ends the other
			return err
		}
	}
	return nil
}

// newer returns what CanRead says of the file to this build: what doesn't make sense here may do so in a later etcd.
func (f *File) newer(ctx context.Context) error {
	buckets, err := f.bolt.Buckets(ctx)
	if err != nil {
		return nil // it is damaged, and that is known
	}
	var facts Facts
	for _, name := range [][]byte{schema.Meta.Name(), schema.Cluster.Name()} {
		b, ok := buckets[string(name)]
		if !ok {
			continue
		}
		if err := b.Down(ctx, func(l *boltfile.Leaf) error { defer l.Release(); return facts.page(b.Name, l) }); err != nil {
			return nil
		}
	}
	return CanReadHere(plan.SnapshotInfo{EtcdVersion: facts.StorageVersion, ClusterVersion: facts.ClusterVersion})
}

// maxInFlight is how much of a file is held at once for Value to look at, in bytes, unless a single page is larger.
const maxInFlight = 32 << 20

// pagesAhead is how many pages may wait to be looked at.
const pagesAhead = 16

// inFlight is how much of maxInFlight a page takes.
func inFlight(l *boltfile.Leaf) int64 { return min(int64(l.Capacity()), maxInFlight) }

// content reads every page, and every entry on it.
func (f *File) content(ctx context.Context, o ExamineOptions) (Facts, error) {
	facts := Facts{PageSize: f.bolt.PageSize(), Pages: uint64(f.pages / f.bolt.PageSize())}
	var live func(record) error
	if o.Live != nil {
		live = func(r record) error { return o.Live(r.KeyValue) }
	}
	h := newHistory(live)
	h.next()
	group, inner := errgroup.WithContext(ctx)
	room := semaphore.NewWeighted(maxInFlight)
	pages := make(chan *boltfile.Leaf, pagesAhead)
	if o.Value != nil {
		// Few goroutines for many pages: what reads values needs a deep stack, and one that is new each time would have to grow anew each time.
		for range runtime.GOMAXPROCS(0) {
			group.Go(func() error {
				for l := range pages {
					err := look(l, o.Value)
					size := inFlight(l)
					l.Release()
					room.Release(size)
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	buckets := map[string]boltfile.Bucket{}
	var err error
	facts.PagesUsed, err = f.bolt.Check(inner, func(b boltfile.Bucket, l *boltfile.Leaf) error {
		buckets[b.Name] = b
		if b.Name != string(schema.Key.Name()) {
			defer l.Release()
			return facts.page(b.Name, l)
		}
		err := h.page(l)
		if err == nil && o.Value != nil {
			err = room.Acquire(inner, inFlight(l))
		}
		if err != nil || o.Value == nil {
			l.Release()
			return err
		}
		select {
		case pages <- l:
			return nil
		case <-inner.Done():
			return inner.Err()
		}
	})
	close(pages)
	if found := group.Wait(); found != nil { // it ended the rest
		return Facts{}, found
	}
	if err != nil {
		return Facts{}, err
	}
	for _, must := range [][]byte{schema.Key.Name(), schema.Meta.Name()} {
		if _, ok := buckets[string(must)]; !ok {
			return Facts{}, noBucket(must)
		}
	}
	for h.next() {
		if err := buckets[string(schema.Key.Name())].Down(ctx, h.leaf); err != nil {
			return Facts{}, err
		}
	}
	facts.Records, facts.Tombstones, facts.Keys, facts.Revision = h.records, h.tombstones, h.liveKeys, h.last.Main
	for _, known := range schema.AllBuckets {
		delete(buckets, string(known.Name()))
	}
	facts.OtherBuckets = slices.Sorted(maps.Keys(buckets))
	return facts, nil
}

// look has value look at every value of a page of records.
func look(l *boltfile.Leaf, value func(key, value []byte) error) error {
	for i := range l.Len() {
		r, err := readRecord(l.Key(i), l.Value(i))
		if err == nil && !r.tombstone && len(r.Key) > 0 {
			if err = value(r.Key, r.Value); err != nil {
				err = &told{text: fmt.Sprintf("the value of %s at revision %d can't be read: %v", printable(r.Key), r.rev.Main, err), kind: errValue}
			}
		}
		if err != nil {
			return inPage(l, err)
		}
	}
	return nil
}

// printable shows a key, whatever it holds.
func printable(key []byte) string {
	if q := strconv.Quote(string(key)); q != `"`+string(key)+`"` {
		return q
	}
	return string(key)
}
