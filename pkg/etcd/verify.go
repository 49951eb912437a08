package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"

	"github.com/etcd-drill/drill/pkg/etcd/boltfile"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Verify examines a snapshot file in a child process and says what is in it, or wraps the one sentinel error that says
// what is wrong with it.
//
// It checks that the file is as long as its own header says; the trailer, the SHA-256 that etcd appends to what it sends; every page, and that each is in use once; that etcd's buckets are there;
// and that every record of the history can be read, in strictly rising order of revisions. The file is streamed and never held in memory; what is held is hashes of the live keys' names, and of no more than a million at once.
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
)

// verifyHere does in the child what Verify and, with raw, VerifyDatabase asked for.
func verifyHere(ctx context.Context, path string, raw bool) (plan.SnapshotInfo, error) {
	info, _, err := Examine(ctx, path, ExamineOptions{Raw: raw})
	return info, err
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
		return err
	}
	return errors.Join(db.View(look), db.Close())
}

// checkTrailer makes sure that the file has the length that its header says, followed by the SHA-256 of its content, and
// returns the SHA-256 of the whole file in hexadecimal.
func checkTrailer(ctx context.Context, path string) (sum string, err error) {
	f, err := OpenFile(ctx, path, false)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum, err = f.sum(ctx)
	return sum, f.why(err)
}

// mostPadding is up to where padded looks for the end of the zeros behind a snapshot, in bytes.
const mostPadding = 16 << 20

// padded says whether there is something of a trailer's length behind the pages, and nothing but zeros behind that. In a database, which has no trailer, there are either no bytes there, or zeros, or pages that a crash left, and pages are longer.
func (f *File) padded() (bool, error) {
	zeros := f.size - f.pages - sha256.Size
	if zeros <= 0 || zeros > mostPadding {
		return false, nil
	}
	behind := make([]byte, f.size-f.pages)
	if _, err := f.f.ReadAt(behind, f.pages); err != nil {
		return false, err
	}
	something := func(b byte) bool { return b != 0 }
	return slices.ContainsFunc(behind[:sha256.Size], something) && !slices.ContainsFunc(behind[sha256.Size:], something), nil
}

// measure notes how long the file is, and how long its own header says that its database is; a file that can be no snapshot for that is refused. Only the header is read.
//
// etcd sends the database's pages up to the high-water mark and then 32 bytes of SHA-256 over them (Snapshot in
// etcd's server/etcdserver/api/v3rpc/maintenance.go), so the right length is known exactly.
func (f *File) measure() (err error) {
	if f.began, err = f.f.Stat(); err != nil {
		return err
	}
	f.size = f.began.Size()
	if f.size == 0 {
		return fmt.Errorf("%w: %s has no content; %s", ErrEmpty, f.path, takeAnother)
	}
	if err := refuseCompressed(f.f); err != nil {
		return err
	}
	f.bolt, err = boltfile.Open(f.f, f.size)
	switch {
	case errors.Is(err, boltfile.ErrShort):
		return fmt.Errorf("%w: %s has %d bytes and ends before its second page does; %s", ErrTruncated, f.path, f.size, takeAnother)
	case errors.Is(err, boltfile.ErrNotBolt), errors.Is(err, boltfile.ErrVersion):
		return fmt.Errorf("%w: %s has no valid header of a bbolt database (%w)", ErrNotSnapshot, f.path, err)
	case err != nil:
		return f.why(err)
	}
	f.pages = f.bolt.Size()
	if f.size < f.pages {
		return fmt.Errorf("%w: %s has %d bytes, and by its header its pages alone have %d; %s", ErrTruncated, f.path, f.size, f.pages, takeAnother)
	}
	switch is, err := f.padded(); {
	case err != nil:
		return f.why(err)
	case is:
		return fmt.Errorf("%w: %s is a snapshot with %d zeros behind its end, as a copy in blocks leaves them; `truncate --size=%d` takes them away, from a copy of it", ErrTrailerMismatch, f.path, f.size-f.pages-sha256.Size, f.pages+sha256.Size)
	}
	// Databases grow by whole pages. What is longer by a checksum has one, and then that counts.
	if f.raw && f.size == f.pages+sha256.Size {
		f.raw = false
	}
	if f.raw {
		if f.size%512 != 0 {
			return fmt.Errorf("%w: %s has %d bytes, which is no multiple of a page of a database: it was cut, or something is behind its end; %s", ErrDamaged, f.path, f.size, takeAnother)
		}
		return nil
	}
	switch whole := f.pages + sha256.Size; {
	case f.size == f.pages, f.size%512 == 0:
		return fmt.Errorf("%w: %s looks like a database file copied out of a data directory, which may be "+
			"inconsistent when etcd was running; take a snapshot with `etcdctl snapshot save` instead", ErrNoTrailer, f.path)
	case f.size < whole:
		return fmt.Errorf("%w: %s ends within its trailer, %d of %d bytes; %s", ErrTruncated, f.path, f.size, whole, takeAnother)
	case f.size > whole:
		return fmt.Errorf("%w: %s has %d bytes after its end; %s", ErrTrailerMismatch, f.path, f.size-whole, takeAnother)
	}
	return nil
}

// sumBuffer is how much is read at once of a file whose hash is made.
const sumBuffer = 1 << 20

// sum returns the SHA-256 of the whole file in hexadecimal, and makes sure that the trailer is that of the content, where there should be one.
func (f *File) sum(ctx context.Context) (string, error) {
	h := sha256.New()
	content := &withContext{ctx: ctx, r: io.NewSectionReader(f.f, 0, f.size)}
	buffer := make([]byte, sumBuffer)
	trailerAt := f.pages
	if f.raw {
		trailerAt = f.size
	}
	// The hash has no ReadFrom, and the buffer is larger than io.Copy's own.
	if _, err := io.CopyBuffer(h, io.LimitReader(content, trailerAt), buffer); err != nil {
		return "", fmt.Errorf("read %s: %w", f.path, err)
	}
	computed := h.Sum(nil)
	if f.raw {
		return hex.EncodeToString(computed), nil
	}
	trailer := make([]byte, sha256.Size)
	if _, err := io.ReadFull(content, trailer); err != nil {
		return "", fmt.Errorf("read %s: %w", f.path, err)
	}
	if !bytes.Equal(computed, trailer) {
		return "", fmt.Errorf("%w: the content of %s has %x, its trailer says %x; %s",
			ErrTrailerMismatch, f.path, computed, trailer, takeAnother)
	}
	_, _ = h.Write(trailer) // a hash never fails
	return hex.EncodeToString(h.Sum(nil)), nil
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

// parseRevision turns mvcc's panic about a key that is no revision into an error.
func parseRevision(k []byte) (rev mvcc.Revision, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("its key is no revision: %v", r)
		}
	}()
	return mvcc.BytesToRev(k), nil
}
