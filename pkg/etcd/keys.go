package etcd

import (
	"bufio"
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
	// all begins a range that has every key in it, and ends it.
	all = "\x00"
)

// LiveKeys calls each with every key that the member holds, in the order of the keys, as of one revision, which it returns. The first page is
// read linearizably: what was acknowledged before the call is in it. No more than a page is held in memory, so each may take its time; but
// when etcd compacts that revision meanwhile, the error wraps ErrCompacted. An error of each ends the reading and is returned as it is.
//
// The slices belong to each, which is called from this goroutine.
func LiveKeys(ctx context.Context, ep Endpoint, each func(KeyValue) error) (revision int64, err error) {
	cli, err := dial(ctx, ep)
	if err != nil {
		return 0, err
	}
	defer func() { _ = cli.Close() }()
	read, limit := 0, int64(pageKeys)
	for next := []byte(all); next != nil; {
		page, err := readPage(ctx, cli, &etcdserverpb.RangeRequest{Key: next, RangeEnd: []byte(all), Limit: limit, Revision: revision})
		switch {
		case status.Code(err) == codes.ResourceExhausted && limit > 1:
			limit /= 2
			continue
		case errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted):
			return 0, fmt.Errorf("%w: etcd at %s, revision %d, after %d keys; read it again", ErrCompacted, ep.URL, revision, read)
		case err != nil:
			return 0, fmt.Errorf("reading the keys of etcd at %s, after %d of them: %w", ep.URL, read, explain(ctx, err))
		}
		if revision == 0 {
			revision = page.GetHeader().GetRevision()
		}
		next = nil
		for _, kv := range page.GetKvs() {
			if err := each(keyValue(kv)); err != nil {
				return 0, err
			}
			read++
			if page.GetMore() {
				next = append([]byte(nil), kv.GetKey()...)
			}
		}
		if next != nil {
			next = append(next, 0) // the first key after the last one
		}
		limit = min(2*limit, pageKeys)
	}
	return revision, nil
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
