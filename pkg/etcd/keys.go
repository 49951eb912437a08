package etcd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// KeyValue is one key with what etcd holds about it (https://etcd.io/docs/v3.6/learning/api/#key-value-pair).
type KeyValue struct {
	Key, Value []byte
	// CreateRevision and ModRevision are those of the key's last creation and last change.
	CreateRevision, ModRevision int64
	// Version counts the changes since the creation, which is 1.
	Version int64
	// Lease is the ID of the lease that the key ends with; 0 for none.
	Lease int64
}

func keyValue(kv *mvccpb.KeyValue) KeyValue {
	return KeyValue{
		Key: kv.GetKey(), Value: kv.GetValue(), CreateRevision: kv.GetCreateRevision(), ModRevision: kv.GetModRevision(),
		Version: kv.GetVersion(), Lease: kv.GetLease(),
	}
}

// ErrCompacted says that etcd has compacted its history beyond the revision at which it was being read. What was read is of no use; read anew.
var ErrCompacted = errors.New("etcd was compacted beyond the revision at which it was being read")

const (
	// pageKeys is how many keys are asked for at once, as the API server does when it reads in pages.
	pageKeys = 500
	// pageBytes bounds an answer: where the keys of a page are larger together, fewer are asked for. A single one is never
	// larger, unless etcd's --max-request-bytes was raised from its 1.5 MiB to more than this.
	pageBytes = 32 << 20
	// pageGoal is about how large an answer should be where many keys are asked for at once.
	pageGoal = 8 << 20
	// all begins a range that has every key in it, and ends it.
	all = "\x00"
)

// LiveKeys calls each with every key that the member holds, in the order of the keys, as of one revision, which it returns. The first page is
// read linearizably: what was acknowledged before the call is in it. No more than two pages are held in memory, so each may take its time; but
// when etcd compacts that revision meanwhile, the error wraps ErrCompacted. An error of each ends the reading and is returned as it is.
//
// The slices belong to each, which is called from this goroutine.
func LiveKeys(ctx context.Context, ep Endpoint, each func(KeyValue) error) (revision int64, err error) {
	return liveKeys(ctx, ep, 0, pageSize{keys: pageKeys}, each)
}

// LiveKeysAtOnce is LiveKeys for an etcd that has nothing else to do, as of a revision, or with 0 as of the latest: it asks for as many keys at once as make some 8 MB. For each question, etcd goes through the names of all keys that are still to come, to count
// them (Revisions in server/storage/mvcc/index.go), so that reading a large database in small pages takes it time by the square.
func LiveKeysAtOnce(ctx context.Context, ep Endpoint, at int64, each func(KeyValue) error) (revision int64, err error) {
	return liveKeys(ctx, ep, at, pageSize{bytes: pageGoal}, each)
}

// page is a part of the keys.
type page struct {
	kvs      []*mvccpb.KeyValue
	revision int64
}

// ranger answers a question for a range of keys.
type ranger func(context.Context, *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error)

// liveKeys asks over the network; see inPages.
func liveKeys(ctx context.Context, ep Endpoint, at int64, size pageSize, each func(KeyValue) error) (revision int64, err error) {
	cli, err := dial(ctx, ep)
	if err != nil {
		return 0, err
	}
	defer func() { _ = cli.Close() }()
	return inPages(ctx, func(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
		return readPage(ctx, cli, r)
	}, "the keys of etcd at "+ep.URL, span{from: all, to: all, revision: at}, size, each)
}

// pageSize is at most so many keys or, where these are 0, about so many bytes.
type pageSize struct{ keys, bytes int64 }

// span is a range of keys, from one to before another, as of a revision; 0 is for the one at which it is begun with.
type span struct {
	from, to string
	revision int64
}

// inPages asks for pages. The next page is asked for while each sees the last one.
func inPages(ctx context.Context, ask ranger, what string, keys span, size pageSize, each func(KeyValue) error) (revision int64, err error) {
	group, ctx := errgroup.WithContext(ctx)
	pages := make(chan page)
	group.Go(func() error {
		defer close(pages)
		return readPages(ctx, ask, what, keys, size, func(p page) error {
			select {
			case pages <- p:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	group.Go(func() error {
		for p := range pages {
			revision = p.revision
			for _, kv := range p.kvs {
				if err := each(keyValue(kv)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return revision, nil
}

// readPages reads one page after the other.
func readPages(ctx context.Context, ask ranger, what string, keys span, size pageSize, send func(page) error) error {
	read, limit, revision := 0, int64(pageKeys), keys.revision
	for next := []byte(keys.from); next != nil; {
		r, err := ask(ctx, &etcdserverpb.RangeRequest{Key: next, RangeEnd: []byte(keys.to), Limit: limit, Revision: revision})
		switch {
		case status.Code(err) == codes.ResourceExhausted && limit > 1:
			limit /= 2
			continue
		case errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted):
			return fmt.Errorf("%w: %s, revision %d, after %d keys; read it again", ErrCompacted, what, revision, read)
		case err != nil:
			return fmt.Errorf("reading %s, after %d of them: %w", what, read, explain(ctx, err))
		}
		if revision == 0 {
			revision = r.GetHeader().GetRevision()
		}
		kvs := r.GetKvs()
		next = nil
		if len(kvs) > 0 && r.GetMore() {
			next = append(bytes.Clone(kvs[len(kvs)-1].GetKey()), 0) // the first key after the last one
		}
		read += len(kvs)
		if size.keys > 0 {
			limit = min(2*limit, size.keys)
		} else {
			limit = min(4*limit, max(1, int64(len(kvs))*size.bytes/int64(max(1, proto.Size(r)))))
		}
		if err := send(page{kvs, revision}); err != nil {
			return err
		}
	}
	return nil
}

// readPage asks for one page, within the deadline of a single question.
func readPage(ctx context.Context, cli *clientv3.Client, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	// The client's own Get accepts an answer of any size. gRPC refuses one that is too large before it takes it in.
	return etcdserverpb.NewKVClient(cli.ActiveConnection()).Range(ctx, r, grpc.MaxCallRecvMsgSize(pageBytes))
}

// SnapshotKeys calls each with every key that is live at the last revision of a snapshot file, in the order of the keys, and returns that
// revision: what LiveKeys would have said of the etcd that the snapshot was taken from, at that moment.
//
// A child process reads the file and sends one key after the other; it holds the names of all keys, and no value. The file's trailer
// is checked before, and the order of the records on the way; the pages are not, see Verify. An error wraps a sentinel of this package where
// the file is to blame; each may have been called by then. An error of each ends the reading and is returned as it is.
//
// The slices belong to each, which is called from this goroutine.
func SnapshotKeys(ctx context.Context, w Worker, path string, each func(KeyValue) error) (revision int64, err error) {
	return keysOf(ctx, w, "snapshot", request{Op: opKeys, Path: path}, each)
}

// DatabaseKeys is SnapshotKeys for the database of a stopped etcd, DATADIR/member/snap/db. It has no trailer, so only its own pages and records tell whether it is
// sound, and all are read for that. The database of a running etcd is refused.
//
// What etcd had acknowledged is in it only if etcd was stopped with a signal that it could act on: of one that was killed, the last writes, those of up to
// 100 ms or 10,000 of them (etcd's --backend-batch-interval and --backend-batch-limit), may be in its write-ahead log alone, which is not read here.
func DatabaseKeys(ctx context.Context, w Worker, path string, each func(KeyValue) error) (revision int64, err error) {
	return keysOf(ctx, w, "database", request{Op: opKeys, Path: path, Raw: true}, each)
}

func keysOf(ctx context.Context, w Worker, what string, r request, each func(KeyValue) error) (revision int64, err error) {
	path := r.Path
	if r.Path, err = filepath.Abs(path); err != nil {
		return 0, fmt.Errorf("keys of %s %s: %w", what, path, err)
	}
	var refused error
	a, err := w.stream(ctx, r, func(record []byte) error {
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(record, &kv); err != nil {
			return fmt.Errorf("%w: it sent something that is no key (%w)", ErrWorker, err)
		}
		refused = each(keyValue(&kv))
		return refused
	})
	switch {
	case refused != nil:
		return 0, refused
	case err != nil:
		return 0, fmt.Errorf("keys of %s %s: %w", what, path, err)
	case a.Revision < 1:
		return 0, fmt.Errorf("keys of %s %s: %w: the answer is empty", what, path, ErrWorker)
	}
	return a.Revision, nil
}

// keysHere does in the child what SnapshotKeys and, with raw, DatabaseKeys asked for: it sends the records of the live keys, as etcd stored them.
func keysHere(ctx context.Context, path string, raw bool, send func(record []byte) error) (revision int64, err error) {
	if raw {
		err = checkRaw(ctx, path)
	} else {
		_, err = checkTrailer(ctx, path)
	}
	if err != nil {
		return 0, err
	}
	if revision, err = revisionHere(ctx, path); err != nil {
		return 0, err
	}
	return revision, view(path, func(tx *bolt.Tx) error {
		history := tx.Bucket(schema.Key.Name())
		live, err := liveRecords(ctx, history)
		if err != nil {
			return err
		}
		for i, key := range slices.Sorted(maps.Keys(live)) {
			if i%checkEvery == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			record := history.Get(mvcc.RevToBytes(live[key], mvcc.NewRevBytes()))
			if len(record) == 0 {
				return fmt.Errorf("%w: the record of revision %d/%d can't be found again; %s", ErrDamaged, live[key].Main, live[key].Sub, takeAnother)
			}
			if err := send(record); err != nil {
				return err
			}
		}
		return nil
	})
}

// liveRecords returns the revision of each live key's last record. As etcd does when it starts (restore in etcd's
// server/storage/mvcc/kvstore.go), it goes through the history from its first record to its last: a later record takes the place of an earlier one, and a tombstone
// ends the key.
func liveRecords(ctx context.Context, history *bolt.Bucket) (map[string]mvcc.Revision, error) {
	live := map[string]mvcc.Revision{}
	var last mvcc.Revision
	records := 0
	err := history.ForEach(func(k, v []byte) error {
		if records++; records%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		rev, err := parseRevision(k)
		var kv mvccpb.KeyValue
		if err == nil {
			err = proto.Unmarshal(v, &kv)
		}
		if err == nil && !rev.GreaterThan(last) {
			err = fmt.Errorf("revision %d/%d comes after %d/%d", rev.Main, rev.Sub, last.Main, last.Sub)
		}
		if err != nil {
			return fmt.Errorf("%w: record %d: %w; %s", ErrDamaged, records, err, takeAnother)
		}
		last = rev
		switch key := string(kv.GetKey()); {
		case key == "":
			// Left by a restore with a revision bump: it marks a revision and belongs to no key.
		case mvcc.IsTombstone(k):
			delete(live, key)
		default:
			live[key] = rev
		}
		return nil
	})
	return live, err
}

// maxRecord is more than a record of etcd can have, in bytes: a length beyond it was not written by a worker.
const maxRecord = 1 << 30

// writeRecord writes a record after its length. A length of 0 says that there are no more, see endOfRecords.
func writeRecord(w io.Writer, record []byte) error {
	_, err := w.Write(binary.AppendUvarint(nil, uint64(len(record))))
	if err == nil {
		_, err = w.Write(record)
	}
	return err
}

// endOfRecords ends what writeRecord wrote; the answer follows.
func endOfRecords(w io.Writer) error {
	_, err := w.Write([]byte{0})
	return err
}

// readRecords reads what was written by writeRecord up to its end.
func readRecords(r *bufio.Reader, each func(record []byte) error) error {
	for {
		n, err := binary.ReadUvarint(r)
		if err == nil && n > maxRecord {
			err = fmt.Errorf("a record of %d bytes", n)
		}
		if err != nil || n == 0 {
			return err
		}
		record := make([]byte, n)
		if _, err := io.ReadFull(r, record); err != nil {
			return err
		}
		if err := each(record); err != nil {
			return err
		}
	}
}
