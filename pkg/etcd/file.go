package etcd

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/gofrs/flock"
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	utilversion "k8s.io/apimachinery/pkg/util/version"

	"github.com/etcd-drill/drill/pkg/etcd/boltfile"
)

// File is a snapshot, or the database of a stopped etcd, open to be read. It is read piece by piece and never mapped into memory, so that whatever stands in it does no harm to the process: it can be used
// without a Worker. How much memory it takes doesn't depend on the file's size.
//
// That the file is what etcd wrote is said by Verify alone; what is read here is looked at as far as it is read.
type File struct {
	path  string
	f     *os.File
	bolt  *boltfile.File
	began os.FileInfo
	// lock keeps an etcd from starting on the file.
	lock *flock.Flock
	// size is how long the file is, and pages how long its database is, in bytes.
	size, pages int64
	raw         bool
}

// OpenFile opens a snapshot, or, with raw, a database without a trailer, DATADIR/member/snap/db. It says what can be told from a file's beginning and its length: the error wraps ErrEmpty, ErrCompressed, ErrNotSnapshot,
// ErrTruncated, ErrNoTrailer, ErrTrailerMismatch where there is something behind the trailer, or ErrDamaged where both of the database's headers are damaged. The database of a running etcd is refused.
func OpenFile(ctx context.Context, path string, raw bool) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() { // to open a pipe would wait until somebody writes to it
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrNotSnapshot, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	file := &File{path: path, f: f, raw: raw}
	err = file.measure()
	if err == nil {
		err = file.hold(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Close ends the reading.
func (f *File) Close() error {
	if f.lock != nil {
		return errors.Join(f.lock.Unlock(), f.f.Close())
	}
	return f.f.Close()
}

// hold makes sure that no etcd runs on the file, as bbolt itself does. Where a file system has no locks, unchanged tells what was written meanwhile.
func (f *File) hold(ctx context.Context) error {
	lock := flock.New(f.path, flock.SetFlag(os.O_RDONLY))
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	held, err := lock.TryRLockContext(ctx, lockPatience/20)
	if held {
		f.lock = lock
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s is locked by another process, as the database of a running etcd is: take a snapshot of that, or wait until the process has finished", f.path)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}

// unchanged says whether the file is still what it was when it was opened.
func (f *File) unchanged() error {
	now, err := f.f.Stat()
	if err != nil {
		return err
	}
	if now.Size() != f.began.Size() || !now.ModTime().Equal(f.began.ModTime()) {
		return fmt.Errorf("%w: %s had %d bytes, written at %s, and has %d, written at %s; wait until whoever writes it has finished", ErrChanged,
			f.path, f.began.Size(), f.began.ModTime().Format(time.RFC3339Nano), now.Size(), now.ModTime().Format(time.RFC3339Nano))
	}
	return nil
}

// why turns what went wrong while reading into an error of this package.
func (f *File) why(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if changed := f.unchanged(); changed != nil {
		return changed
	}
	var d *boltfile.Damage
	if errors.As(err, &d) || errors.Is(err, errRecord) {
		hint := takeAnother
		if errors.Is(err, errValue) {
			hint += "; if that says the same, it is so in etcd: mend the object there, or delete it"
		}
		return fmt.Errorf("%w: %w; %s", ErrDamaged, err, hint)
	}
	return err
}

// Live calls each with every key that is live at the file's last revision, and returns that revision. The order is not that of the keys: most of them come from the last that was written to the first, and where
// there are more than two millions they come in several such turns. Use SnapshotKeys for the order of the keys.
//
// The slices belong to each, which is called from this goroutine. An error of each ends the reading and is returned as it is; others wrap a sentinel of this package where the file is to blame.
func (f *File) Live(ctx context.Context, each func(KeyValue) error) (revision int64, err error) {
	buckets, err := f.bolt.Buckets(ctx)
	if err != nil {
		return 0, f.why(err)
	}
	history, ok := buckets[string(schema.Key.Name())]
	if !ok {
		return 0, noBucket(schema.Key.Name())
	}
	var refused error
	h := newHistory(func(r record) error {
		refused = each(r.clone())
		return refused
	})
	for h.next() {
		if err := history.Down(ctx, h.leaf); err != nil {
			if refused != nil {
				return 0, refused
			}
			return 0, f.why(err)
		}
	}
	if err := f.unchanged(); err != nil {
		return 0, err
	}
	return max(h.last.Main, 1), nil
}

func noBucket(name []byte) error {
	return fmt.Errorf("%w: a sound bbolt database, but without etcd's bucket %q", ErrNotSnapshot, name)
}

// clone makes the slices ones of their own.
func (kv KeyValue) clone() KeyValue {
	kv.Key, kv.Value = slices.Clone(kv.Key), slices.Clone(kv.Value)
	return kv
}

// record is one entry of etcd's history (https://etcd.io/docs/v3.6/learning/data_model/#physical-view).
type record struct {
	KeyValue
	rev       mvcc.Revision
	tombstone bool
}

// readRecord reads a record and looks whether it can be one. Its slices are parts of v.
func readRecord(k, v []byte) (record, error) {
	rev, err := parseRevision(k)
	if err != nil {
		return record{}, recordError("the key of a record is no revision: %v", err)
	}
	r := record{rev: rev, tombstone: mvcc.IsTombstone(k)}
	if r.KeyValue, err = parseKeyValue(v); err != nil {
		return r, recordError("the record of revision %d/%d can't be read: %v", rev.Main, rev.Sub, err)
	}
	if rev.Main > maxRevision {
		return r, recordError("the record of revision %d/%d is of a revision that no etcd comes to", rev.Main, rev.Sub)
	}
	// A restore with a revision bump leaves a record without a key: it marks a revision. A tombstone has nothing but the key.
	if len(r.Key) > 0 && !r.tombstone {
		switch {
		case r.ModRevision != rev.Main:
			return r, recordError("the record of revision %d/%d says that it was written at revision %d", rev.Main, rev.Sub, r.ModRevision)
		case r.CreateRevision < 1 || r.CreateRevision > r.ModRevision || r.Version < 1:
			return r, recordError("the record of revision %d/%d says that it is version %d of a key that was made at revision %d", rev.Main, rev.Sub, r.Version, r.CreateRevision)
		}
	}
	return r, nil
}

// maxRevision is far above what an etcd comes to in its life, and leaves room to raise it.
const maxRevision = 1 << 61

// parseKeyValue reads a message KeyValue (api/mvccpb/kv.proto in go.etcd.io/etcd) without copying it.
func parseKeyValue(b []byte) (kv KeyValue, err error) {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return kv, protowire.ParseError(n)
		}
		if field > protowire.MaxValidNumber {
			return kv, fmt.Errorf("there is no field of number %d", field)
		}
		b = b[n:]
		switch {
		case (field == 1 || field == 5) && kind == protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); field == 1 {
				kv.Key = v
			} else {
				kv.Value = v
			}
		case field >= 2 && field <= 6 && field != 5 && kind == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			*[]*int64{&kv.CreateRevision, &kv.ModRevision, &kv.Version, nil, &kv.Lease}[field-2] = int64(v)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return kv, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return kv, nil
}

// maxSeen is how many keys are remembered at once.
const maxSeen = 1 << 20

// history goes through etcd's records from the last to the first. The first record of a key that comes is its last: unless it is a tombstone, the key is live. Which keys have come is remembered by hashes of 128 bits.
//
// Where there are more keys than may be remembered, half of them are put off to another turn through the records, as often as need be: memory is bounded, and only time grows. A turn begins at the last record again, and
// tells nothing of those that had come before it was put off.
type history struct {
	// live is called with each live record.
	live  func(record) error
	limit int
	seeds [2]maphash.Seed
	turns []turn
	turn  turn
	seen  map[[2]uint64]struct{}
	// first says that it is the first turn, in which all records come.
	first bool
	// The last record of all, the one that came before, and how many there are.
	last, before                  mvcc.Revision
	records, tombstones, liveKeys int64
}

// turn is about the keys whose hash ends with these bits, and tells of records below a revision.
type turn struct {
	bits  uint
	ends  uint64
	below mvcc.Revision
}

func newHistory(live func(record) error) *history {
	return &history{
		live: live, limit: maxSeen, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		turns: []turn{{below: mvcc.Revision{Main: 1<<63 - 1, Sub: 1<<63 - 1}}},
	}
}

// next begins the next turn, if there is one.
func (h *history) next() bool {
	if len(h.turns) == 0 {
		return false
	}
	h.first = h.seen == nil
	h.turn, h.turns = h.turns[len(h.turns)-1], h.turns[:len(h.turns)-1]
	h.seen = map[[2]uint64]struct{}{}
	h.before = mvcc.Revision{}
	return true
}

// leaf goes through a page of records and gives it back.
func (h *history) leaf(l *boltfile.Leaf) error {
	defer l.Release()
	return h.page(l)
}

// page goes through a page of records.
func (h *history) page(l *boltfile.Leaf) error {
	for i := l.Len() - 1; i >= 0; i-- {
		r, err := readRecord(l.Key(i), l.Value(i))
		if err == nil {
			err = h.enter(r)
		}
		if err != nil {
			return inPage(l, err)
		}
	}
	return nil
}

// inPage says on which page it is that something can't be.
func inPage(l *boltfile.Leaf, err error) error {
	if errors.Is(err, errRecord) {
		return fmt.Errorf("page %d: %w", l.Page(), err)
	}
	return err
}

// enter takes the next record.
func (h *history) enter(r record) error {
	if h.before != (mvcc.Revision{}) && !h.before.GreaterThan(r.rev) {
		return recordError("revision %d/%d comes before %d/%d", r.rev.Main, r.rev.Sub, h.before.Main, h.before.Sub)
	}
	h.before = r.rev
	if h.first {
		h.records++
		if h.last == (mvcc.Revision{}) {
			h.last = r.rev
		}
		if r.tombstone {
			h.tombstones++
		}
	}
	if len(r.Key) == 0 {
		return nil
	}
	key := [2]uint64{maphash.Bytes(h.seeds[0], r.Key), maphash.Bytes(h.seeds[1], r.Key)}
	if key[0]&(1<<h.turn.bits-1) != h.turn.ends {
		return nil
	}
	if _, known := h.seen[key]; known {
		return nil
	}
	h.seen[key] = struct{}{}
	if !r.tombstone && h.turn.below.GreaterThan(r.rev) {
		h.liveKeys++
		if h.live != nil {
			if err := h.live(r); err != nil {
				return err
			}
		}
	}
	for len(h.seen) > h.limit {
		h.split(r.rev)
	}
	return nil
}

// split puts half of the keys off to another turn.
func (h *history) split(at mvcc.Revision) {
	off := h.turn
	off.bits++
	off.ends |= 1 << h.turn.bits
	if off.below.GreaterThan(at) {
		off.below = at
	}
	h.turns = append(h.turns, off)
	h.turn.bits++
	for key := range h.seen {
		if key[0]&(1<<h.turn.bits-1) != h.turn.ends {
			delete(h.seen, key)
		}
	}
}

// errRecord is behind what recordError makes: a record that can't be.
var errRecord = errors.New("a record that can't be")

// errValue is behind an error about a value that can't be what it should. etcd doesn't care, so it may be so in etcd.
var errValue = fmt.Errorf("%w, for its value", errRecord)

func recordError(format string, args ...any) error {
	return &told{text: fmt.Sprintf(format, args...), kind: errRecord}
}

// Facts are what a database of etcd says beside its keys.
type Facts struct {
	// Records is how many entries etcd's history has, Tombstones how many of them say that a key was deleted, and Keys how many keys are live at the last revision.
	Records, Tombstones, Keys int64
	// Revision is that of the last record. CompactRevision is up to where the history was compacted, 0 for never; CompactScheduled up to where it was about to be.
	Revision, CompactRevision, CompactScheduled int64
	// PageSize is in bytes; of Pages pages PagesUsed are in use.
	PageSize         int64
	Pages, PagesUsed uint64
	// ConsistentIndex and Term are those of the last entry of the Raft log that is in it; Term is 0 before etcd 3.5.
	ConsistentIndex, Term uint64
	// StorageVersion is in the file since etcd 3.6, and ClusterVersion since 3.5; empty otherwise.
	StorageVersion, ClusterVersion string
	// Leases are those that were granted, in the order of their IDs, Members who was in the cluster, and Alarms which were raised (NOSPACE, CORRUPT).
	Leases  []Lease
	Members []Member
	Alarms  []string
	// AuthEnabled says that etcd's own access control is on: whoever restores it needs a password.
	AuthEnabled bool
	// OtherBuckets are parts of the database that this version of etcd doesn't know.
	OtherBuckets []string
}

// Lease is one that etcd had granted. What remains of it isn't known: a member writes that down only once in a while, and a new leader begins anew with the whole
// (https://etcd.io/docs/v3.6/learning/api/#lease-api).
type Lease struct {
	ID int64
	// TTL is in seconds; RemainingTTL, where the leader had noted it, is 0 otherwise.
	TTL, RemainingTTL int64
}

// page reads a page of another bucket than that of the history.
func (f *Facts) page(bucket string, l *boltfile.Leaf) error {
	for i := range l.Len() {
		if err := f.enter(bucket, l.Key(i), l.Value(i)); err != nil {
			return inPage(l, fmt.Errorf("bucket %q: %w", bucket, err))
		}
	}
	return nil
}

func (f *Facts) enter(bucket string, k, v []byte) error {
	switch bucket {
	case string(schema.Meta.Name()):
		return f.enterMeta(string(k), v)
	case string(schema.Cluster.Name()):
		switch string(k) {
		case string(schema.ClusterClusterVersionKeyName):
			f.ClusterVersion = string(v)
			return versionRecord(k, v)
		case string(schema.ClusterDowngradeKeyName):
			if !json.Valid(v) {
				return recordError("%s is no JSON", k)
			}
		}
	case string(schema.Lease.Name()):
		var l leasepb.Lease
		if err := proto.Unmarshal(v, &l); err != nil || len(k) != 8 || int64(binary.BigEndian.Uint64(k)) != l.GetID() {
			return recordError("the lease under %x can't be read", k)
		}
		f.Leases = append(f.Leases, Lease{ID: l.GetID(), TTL: l.GetTTL(), RemainingTTL: l.GetRemainingTTL()})
	case string(schema.Members.Name()):
		var m struct {
			ID         uint64   `json:"id"`
			Name       string   `json:"name"`
			PeerURLs   []string `json:"peerURLs"`
			ClientURLs []string `json:"clientURLs"`
			IsLearner  bool     `json:"isLearner"`
		}
		if err := json.Unmarshal(v, &m); err != nil {
			return recordError("member %s can't be read: %v", k, err)
		}
		if !isMemberID(k) {
			return recordError("the key of member %q is no ID", m.Name)
		}
		f.Members = append(f.Members, Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner, Started: m.Name != ""})
	case string(schema.MembersRemoved.Name()):
		if !isMemberID(k) {
			return recordError("the key of a member that was removed is no ID: %q", k)
		}
	case string(schema.Alarm.Name()):
		var a etcdserverpb.AlarmMember
		if err := proto.Unmarshal(k, &a); err != nil {
			return recordError("alarm %x can't be read: %v", k, err)
		}
		f.Alarms = append(f.Alarms, a.GetAlarm().String())
	case string(schema.Auth.Name()):
		switch string(k) {
		case string(schema.AuthEnabledKeyName):
			f.AuthEnabled = len(v) == 1 && v[0] == 1
		case string(schema.AuthRevisionKeyName):
			if len(v) != 8 {
				return recordError("%s has %d bytes, and not 8", k, len(v))
			}
		}
	case string(schema.AuthUsers.Name()):
		if err := proto.Unmarshal(v, &authpb.User{}); err != nil {
			return recordError("user %q can't be read: %v", k, err)
		}
	case string(schema.AuthRoles.Name()):
		if err := proto.Unmarshal(v, &authpb.Role{}); err != nil {
			return recordError("role %q can't be read: %v", k, err)
		}
	}
	return nil
}

// isMemberID says whether a key is as etcd writes the ID of a member (BackendMemberKey in server/storage/schema/membership.go). It ends at others.
func isMemberID(k []byte) bool {
	_, err := strconv.ParseUint(string(k), 16, 64)
	return err == nil
}

func (f *Facts) enterMeta(k string, v []byte) error {
	number := func(into *uint64) error {
		if len(v) != 8 {
			return recordError("%s has %d bytes, and not 8", k, len(v))
		}
		*into = binary.BigEndian.Uint64(v)
		return nil
	}
	revision := func(into *int64) error {
		rev, err := parseRevision(v)
		*into = rev.Main
		if err != nil {
			return recordError("%s: %v", k, err)
		}
		return nil
	}
	switch k {
	case string(schema.MetaConsistentIndexKeyName):
		return number(&f.ConsistentIndex)
	case string(schema.MetaTermKeyName):
		return number(&f.Term)
	case string(schema.FinishedCompactKeyName):
		return revision(&f.CompactRevision)
	case string(schema.ScheduledCompactKeyName):
		return revision(&f.CompactScheduled)
	case string(schema.MetaStorageVersionName):
		f.StorageVersion = string(v)
		return versionRecord([]byte(k), v)
	}
	return nil
}

// versionRecord says whether a record is a version at all.
func versionRecord(k, v []byte) error {
	if _, err := utilversion.ParseGeneric(string(v)); err != nil {
		return recordError("%s is %q, which is no version", k, v)
	}
	return nil
}
