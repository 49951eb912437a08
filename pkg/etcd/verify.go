package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"google.golang.org/protobuf/proto"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Verify examines a snapshot file in a child process and says what is in it, or wraps the one sentinel error that says
// what is wrong with it.
//
// It checks, in this order: that the file is as long as its own header says; the trailer, the SHA-256 that etcd appends to
// what it sends; every page, by bbolt's own consistency check; that etcd's buckets are there; and that every
// record of the history can be read, in strictly rising order of revisions. The file is streamed and never held in
// memory; what is held is the set of live keys' names.
//
// Revision, and Keys but for one case, are what `etcdutl snapshot status` prints: the revision of the last record, and the number
// of keys that aren't deleted there. A restore with a revision bump leaves one record without a key, which etcdutl
// counts and Verify doesn't. TakenAt is the file's modification time, which Save sets to when taking it began.
func Verify(ctx context.Context, w Worker, path string) (plan.SnapshotInfo, error) {
	return verify(ctx, w, path, false)
}

// VerifyDatabase is Verify for what has no trailer: the database of a stopped etcd, DATADIR/member/snap/db, or a copy of one. Its length, every page and every record are looked at all
// the same; that it is what etcd last wrote nobody can tell from it, see DatabaseKeys. The result has NoChecksum set.
func VerifyDatabase(ctx context.Context, w Worker, path string) (plan.SnapshotInfo, error) {
	return verify(ctx, w, path, true)
}

func verify(ctx context.Context, w Worker, path string, raw bool) (plan.SnapshotInfo, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return plan.SnapshotInfo{}, fmt.Errorf("verify snapshot %s: %w", path, err)
	}
	a, err := w.call(ctx, request{Op: opVerify, Path: abs, Raw: raw})
	switch {
	case err != nil:
		return plan.SnapshotInfo{}, fmt.Errorf("verify snapshot %s: %w", path, err)
	case a.Snapshot == nil:
		return plan.SnapshotInfo{}, fmt.Errorf("verify snapshot %s: %w: the answer is empty", path, ErrWorker)
	}
	info := *a.Snapshot
	info.Path = path
	return info, nil
}

// Hints for people.
const (
	takeAnother  = "take another snapshot, or fetch the file again from where it was copied"
	lockPatience = 2 * time.Second
	// checkEvery is how many records are read between two looks at the context.
	checkEvery = 4096
	// maxComplaints bounds how many of bbolt's complaints are passed on.
	maxComplaints = 5
)

// verifyHere does in the child what Verify and, with raw, VerifyDatabase asked for.
func verifyHere(ctx context.Context, path string, raw bool) (plan.SnapshotInfo, error) {
	var info plan.SnapshotInfo
	check := checkTrailer
	if raw {
		check = sumOf
	}
	sum, err := check(ctx, path)
	if err != nil {
		return info, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return info, err
	}
	info = plan.SnapshotInfo{Path: path, SHA256: sum, Bytes: st.Size(), TakenAt: st.ModTime(), NoChecksum: raw}
	return info, readContent(ctx, path, &info)
}

// readContent reads the whole database and notes in info what etcd keeps there.
func readContent(ctx context.Context, path string, info *plan.SnapshotInfo) error {
	return view(path, func(tx *bolt.Tx) error {
		if err := checkPages(ctx, tx); err != nil {
			return err
		}
		if err := checkBuckets(tx); err != nil {
			return err
		}
		if v := schema.ReadStorageVersionFromSnapshot(tx); v != nil {
			info.EtcdVersion = v.String()
		}
		if b := tx.Bucket(schema.Cluster.Name()); b != nil {
			info.ClusterVersion = string(b.Get(schema.ClusterClusterVersionKeyName))
		}
		var err error
		info.Revision, info.Keys, err = readHistory(ctx, tx.Bucket(schema.Key.Name()))
		return err
	})
}

// checkBuckets tells etcd's databases from other ones.
func checkBuckets(tx *bolt.Tx) error {
	for _, b := range []interface{ Name() []byte }{schema.Key, schema.Meta} {
		if tx.Bucket(b.Name()) == nil {
			return fmt.Errorf("%w: a sound bbolt database, but without etcd's bucket %q", ErrNotSnapshot, b.Name())
		}
	}
	return nil
}

// view opens the file without changing it.
func view(path string, look func(*bolt.Tx) error) error {
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: lockPatience})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%s is in use by another process, so it is the database of a running etcd and no snapshot: %w", path, err)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return fmt.Errorf("%w: it has no valid header of a bbolt database (%w)", ErrNotSnapshot, err)
	case err != nil:
		return tooSmall(path, err)
	}
	return errors.Join(db.View(look), db.Close())
}

// tooSmall tells what a file is that bbolt refused to map, because it doesn't have two pages, from other errors of opening it.
func tooSmall(path string, refusal error) error {
	var sys syscall.Errno
	if errors.As(refusal, &sys) {
		return refusal
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], boltMagicAt); err == nil && binary.NativeEndian.Uint32(magic[:]) == boltMagic {
		return fmt.Errorf("%w: %s ends before its second page; %s", ErrTruncated, path, takeAnother)
	}
	return fmt.Errorf("%w: %s is too small for one (%w)", ErrNotSnapshot, path, refusal)
}

// bbolt's first page begins with a page header and then this number, in the byte order of the machine
// (internal/common/meta.go and types.go in go.etcd.io/bbolt).
const (
	boltMagic   uint32 = 0xED0CDAED
	boltMagicAt int64  = 16
)

// checkTrailer makes sure that the file has the length that its header says, followed by the SHA-256 of its content, and
// returns the SHA-256 of the whole file in hexadecimal.
//
// etcd sends the database's pages up to the high-water mark and then 32 bytes of SHA-256 over them (Snapshot in
// etcd's server/etcdserver/api/v3rpc/maintenance.go), so the right length is known exactly.
func checkTrailer(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	size, pages, err := measure(f)
	if err != nil {
		return "", err
	}
	switch whole := pages + sha256.Size; {
	case size == pages, size%512 == 0:
		return "", fmt.Errorf("%w: %s looks like a database file copied out of a data directory, which may be "+
			"inconsistent when etcd was running; take a snapshot with `etcdctl snapshot save` instead", ErrNoTrailer, path)
	case size < whole:
		return "", fmt.Errorf("%w: %s ends within its trailer, %d of %d bytes; %s", ErrTruncated, path, size, whole, takeAnother)
	case size > whole:
		return "", fmt.Errorf("%w: %s has %d bytes after its end; %s", ErrTrailerMismatch, path, size-whole, takeAnother)
	}

	h := sha256.New()
	content := &withContext{ctx: ctx, r: f}
	if _, err := io.CopyN(h, content, pages); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	computed := h.Sum(nil)
	var trailer bytes.Buffer
	if _, err := io.CopyN(io.MultiWriter(h, &trailer), content, sha256.Size); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if !bytes.Equal(computed, trailer.Bytes()) {
		return "", fmt.Errorf("%w: the content of %s has %x, its trailer says %x; %s",
			ErrTrailerMismatch, path, computed, trailer.Bytes(), takeAnother)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// measure returns how long a database file is, and how long its own header says that its pages are. Only the header is read:
// no page behind it is looked at, so that a file that is too short does no harm. Such a one is refused.
func measure(f *os.File) (size, pages int64, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	path, size := f.Name(), st.Size()
	switch {
	case !st.Mode().IsRegular():
		return 0, 0, fmt.Errorf("%w: %s is not a regular file", ErrNotSnapshot, path)
	case size == 0:
		return 0, 0, fmt.Errorf("%w: %s has no content; %s", ErrEmpty, path, takeAnother)
	}
	if err := refuseCompressed(f); err != nil {
		return 0, 0, err
	}
	if err := view(path, func(tx *bolt.Tx) error { pages = tx.Size(); return nil }); err != nil {
		return 0, 0, err
	}
	if size < pages {
		return 0, 0, fmt.Errorf("%w: %s has %d bytes, and by its header its pages alone have %d; %s", ErrTruncated, path, size, pages, takeAnother)
	}
	return size, pages, nil
}

// packers are programs that make files smaller, by how such files begin. bbolt's begin with zeros: the number of the first page.
func packers() map[string][]string {
	return map[string][]string{
		"\x1f\x8b":         {"gzip", "--decompress", "--stdout"},
		"\x28\xb5\x2f\xfd": {"zstd", "--decompress", "--stdout"},
		"\xfd7zXZ\x00":     {"xz", "--decompress", "--stdout"},
		"BZh":              {"bzip2", "--decompress", "--stdout"},
		"\x04\x22\x4d\x18": {"lz4", "--decompress", "--stdout"},
		"PK\x03\x04":       {"unzip", "-p"},
	}
}

// An archive of tar's begins with a file's name; this is where it says what it is (pax in POSIX.1-2017).
const (
	tarMagic   = "ustar"
	tarMagicAt = 257
)

// refuseCompressed says of a compressed file with what it was made, and how to unpack it so that nobody else can read the result.
func refuseCompressed(f *os.File) error {
	head := make([]byte, tarMagicAt+len(tarMagic))
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var argv []string
	for magic, with := range packers() {
		if bytes.HasPrefix(head[:n], []byte(magic)) {
			argv = with
		}
	}
	if bytes.HasSuffix(head[:n], []byte(tarMagic)) && n == len(head) {
		argv = []string{"tar", "--extract", "--to-stdout", "--file"}
	}
	if argv == nil {
		return nil
	}
	unpack := plan.Command{Argv: append(argv, f.Name())}
	return fmt.Errorf("%w: %s was made by %s; unpack it first: (umask 077; %s >snapshot.db)", ErrCompressed, f.Name(), argv[0], unpack)
}

// sumOf returns the SHA-256 of the whole file in hexadecimal, if the file is as long as its own header says.
func sumOf(ctx context.Context, path string) (string, error) {
	if err := checkLength(path); err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, &withContext{ctx: ctx, r: f}); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// withContext is a reader that ends with its context.
type withContext struct {
	ctx context.Context
	r   io.Reader
}

func (c *withContext) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// checkPages runs bbolt's consistency check over every page.
func checkPages(ctx context.Context, tx *bolt.Tx) error {
	var complaints []error
	count := 0
	// The channel must be drained, or the goroutine behind it would hang on.
	for err := range tx.Check() {
		if count++; count <= maxComplaints {
			complaints = append(complaints, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if count > 0 {
		return fmt.Errorf("%w: bbolt finds %d faults in its pages, the first being: %w; %s",
			ErrDamaged, count, errors.Join(complaints...), takeAnother)
	}
	return nil
}

// readHistory reads every record of the key bucket, whose keys are revisions and whose values are key-value pairs
// (https://etcd.io/docs/v3.6/learning/data_model/#physical-view).
func readHistory(ctx context.Context, history *bolt.Bucket) (revision, keys int64, err error) {
	live := make(map[string]struct{})
	var last mvcc.Revision
	records := 0
	err = history.ForEach(func(k, v []byte) error {
		if records++; records%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		rev, err := parseRevision(k)
		if err != nil {
			return fmt.Errorf("%w: record %d: %w; %s", ErrDamaged, records, err, takeAnother)
		}
		if !rev.GreaterThan(last) {
			return fmt.Errorf("%w: record %d: revision %d/%d comes after %d/%d; %s",
				ErrDamaged, records, rev.Main, rev.Sub, last.Main, last.Sub, takeAnother)
		}
		last = rev
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(v, &kv); err != nil {
			return fmt.Errorf("%w: record %d at revision %d can't be read: %w; %s", ErrDamaged, records, rev.Main, err, takeAnother)
		}
		switch {
		case len(kv.GetKey()) == 0:
			// Left by a restore with a revision bump: it marks a revision and belongs to no key.
		case mvcc.IsTombstone(k):
			delete(live, string(kv.GetKey()))
		case kv.GetModRevision() != rev.Main:
			return fmt.Errorf("%w: record %d at revision %d says that it was written at revision %d; %s",
				ErrDamaged, records, rev.Main, kv.GetModRevision(), takeAnother)
		default:
			live[string(kv.GetKey())] = struct{}{}
		}
		return nil
	})
	return last.Main, int64(len(live)), err
}

// parseRevision turns mvcc's panic about a key that is no revision into an error.
func parseRevision(k []byte) (rev mvcc.Revision, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("its key is no revision: %v", r)
		}
	}()
	return mvcc.BytesToRev(k), nil
}
