package boltfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// What a file can be instead of a database.
var (
	// ErrNotBolt: neither of its two first pages begins as a database's do.
	ErrNotBolt = errors.New("not a bbolt database")
	// ErrShort: it begins as a database does, and ends before its second page does.
	ErrShort = errors.New("bbolt database without a second page")
	// ErrVersion: it is in another format of bbolt than the one that is known.
	ErrVersion = errors.New("bbolt database of an unknown version")
)

// Damage is something in a database that can't be, and where.
type Damage struct {
	// Page is the number of the page, Offset where it begins in the file, in bytes.
	Page   uint64
	Offset int64
	// What is wrong, as a sentence without its subject.
	What string
}

func (d *Damage) Error() string {
	return fmt.Sprintf("page %d (at byte %d) %s", d.Page, d.Offset, d.What)
}

// The layout of a page's header and of a file's header, which is on its first two pages (internal/common/page.go and meta.go in go.etcd.io/bbolt).
const (
	headerSize = 16
	metaSize   = 64

	magic   uint32 = 0xED0CDAED
	version uint32 = 2

	flagBranch   uint16 = 0x01
	flagLeaf     uint16 = 0x02
	flagMeta     uint16 = 0x04
	flagFreelist uint16 = 0x10

	// noFreelist stands in the place of the free list's page where none is written, as etcd has it.
	noFreelist uint64 = 1<<64 - 1

	// bbolt takes the page size of the operating system, and looks for it in these steps.
	minPageSize, maxPageSize = 1 << 10, 1 << 24
)

// File is an open database. Its methods may be called from several goroutines at once.
type File struct {
	r        io.ReaderAt
	length   int64
	pageSize int64
	pages    uint64
	root     uint64
	freelist uint64
	// beside is what is wrong with the one of the two headers that is not in use; nil if nothing is.
	beside *Damage
}

// meta is the content of one of the two headers.
type meta struct {
	pageSize             uint32
	root, freelist, high uint64
	txid                 uint64
}

// Open reads the headers of a database of so many bytes, and nothing behind them. The error wraps ErrNotBolt, ErrShort, ErrVersion or a *Damage, or is one of r.
//
// Like bbolt it uses the header with the higher transaction that is right; see Check for the other one.
func Open(r io.ReaderAt, size int64) (*File, error) {
	first, firstErr := readMeta(r, 0, 0)
	if fatal(firstErr) {
		return nil, firstErr
	}
	if firstErr == nil {
		if size < 2*int64(first.pageSize) {
			return nil, ErrShort
		}
		second, err := readMeta(r, 1, int64(first.pageSize))
		if fatal(err) {
			return nil, err
		}
		if err == nil && (second.pageSize != first.pageSize) {
			err = &Damage{1, int64(first.pageSize), fmt.Sprintf("says that a page has %d bytes, and page 0 says %d", second.pageSize, first.pageSize)}
		}
		if err != nil {
			return newFile(r, size, first, asDamage(err, 1, int64(first.pageSize)))
		}
		if second.txid > first.txid {
			return newFile(r, size, second, nil)
		}
		return newFile(r, size, first, nil)
	}
	// The first is no good, so nothing says how large a page is.
	for pageSize := int64(minPageSize); pageSize <= maxPageSize; pageSize *= 2 {
		second, err := readMeta(r, 1, pageSize)
		if fatal(err) {
			return nil, err
		}
		if err == nil && int64(second.pageSize) == pageSize {
			return newFile(r, size, second, asDamage(firstErr, 0, 0))
		}
		var d *Damage
		if errors.As(err, &d) && errors.Is(firstErr, ErrNotBolt) {
			firstErr = err // it began as one
		}
	}
	var d *Damage
	if errors.As(firstErr, &d) && size < 2*minPageSize {
		return nil, ErrShort
	}
	return nil, firstErr
}

// fatal says whether an error is of the reader, and not about what it read.
func fatal(err error) bool {
	var d *Damage
	return err != nil && !errors.Is(err, ErrNotBolt) && !errors.Is(err, ErrVersion) && !errors.As(err, &d)
}

func asDamage(err error, page uint64, offset int64) *Damage {
	var d *Damage
	if errors.As(err, &d) {
		return d
	}
	return &Damage{page, offset, "doesn't begin as the header of a database does"}
}

// readMeta reads the header on the page that begins at an offset.
func readMeta(r io.ReaderAt, page uint64, at int64) (meta, error) {
	var b [headerSize + metaSize]byte
	if n, err := r.ReadAt(b[:], at); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			return meta{}, ErrNotBolt
		}
		return meta{}, err
	}
	m := b[headerSize:]
	if binary.LittleEndian.Uint32(m) != magic {
		return meta{}, ErrNotBolt
	}
	sum := fnv.New64a()
	_, _ = sum.Write(m[:metaSize-8]) // a hash never fails
	if want := binary.LittleEndian.Uint64(m[metaSize-8:]); want != sum.Sum64() {
		return meta{}, &Damage{page, at, fmt.Sprintf("is a header whose checksum is %016x and says %016x", sum.Sum64(), want)}
	}
	if v := binary.LittleEndian.Uint32(m[4:]); v != version {
		return meta{}, fmt.Errorf("%w: %d, and %d is known", ErrVersion, v, version)
	}
	out := meta{
		pageSize: binary.LittleEndian.Uint32(m[8:]),
		root:     binary.LittleEndian.Uint64(m[16:]),
		freelist: binary.LittleEndian.Uint64(m[32:]),
		high:     binary.LittleEndian.Uint64(m[40:]),
		txid:     binary.LittleEndian.Uint64(m[48:]),
	}
	wrong := ""
	switch size := out.pageSize; {
	case size < minPageSize || size > maxPageSize || size&(size-1) != 0:
		wrong = fmt.Sprintf("says that a page has %d bytes", size)
	case out.high < 3 || out.high > 1<<62/uint64(size):
		wrong = fmt.Sprintf("says that there are %d pages", out.high)
	case out.root < 2 || out.root >= out.high:
		wrong = fmt.Sprintf("says that page %d of %d is the root", out.root, out.high)
	case out.freelist != noFreelist && (out.freelist < 2 || out.freelist >= out.high):
		wrong = fmt.Sprintf("says that page %d of %d is the free list", out.freelist, out.high)
	case binary.LittleEndian.Uint16(b[8:]) != flagMeta:
		wrong = fmt.Sprintf("is a header, and marked as something else (%#x)", binary.LittleEndian.Uint16(b[8:]))
	case binary.LittleEndian.Uint64(b[:]) != page:
		wrong = fmt.Sprintf("says that it is page %d", binary.LittleEndian.Uint64(b[:]))
	}
	if wrong != "" {
		return meta{}, &Damage{page, at, wrong}
	}
	return out, nil
}

func newFile(r io.ReaderAt, length int64, m meta, beside *Damage) (*File, error) {
	return &File{r: r, length: length, pageSize: int64(m.pageSize), pages: m.high, root: m.root, freelist: m.freelist, beside: beside}, nil
}

// PageSize is how many bytes a page has.
func (f *File) PageSize() int64 { return f.pageSize }

// whole says whether the file is as long as its header says: what is held for each page is then no more than the file could have.
func (f *File) whole() error {
	if f.Size() > f.length {
		return f.damage(0, "says that there are %d bytes of pages, and the file has %d", f.Size(), f.length)
	}
	return nil
}

// Size is how long the file has to be by its own header, in bytes. It may be longer; of one that is shorter nothing else is read.
func (f *File) Size() int64 { return int64(f.pages) * f.pageSize }

// damage makes a Damage.
func (f *File) damage(page uint64, format string, args ...any) error {
	return &Damage{page, int64(page) * f.pageSize, fmt.Sprintf(format, args...)}
}
