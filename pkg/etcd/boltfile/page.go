package boltfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// elementSize is that of an element of a branch and of a leaf, which stand behind the page's header and say where keys and values are.
	elementSize = 16
	// leafBucket marks an element of a leaf that is a bucket.
	leafBucket uint32 = 0x01
	// bucketSize is that of what stands in the value of a bucket's element: its root page, and a sequence. A root of 0 says that its only page follows right there.
	bucketSize = 16

	// readAhead is how much is read of a page before it is known how far it goes on; few values of Kubernetes are larger.
	readAhead = 16 << 10
	// maxRun is how long a page may be together with those that it goes on over. A leaf has four values at most where they are this large, and etcd refuses requests of more than
	// 1.5 MiB unless its --max-request-bytes was raised. It bounds the memory that is needed.
	maxRun = 64 << 20
	// maxBranch is the same for branches, of which there is one for each level at once. Keys of etcd are short.
	maxBranch = 1 << 20
)

// page is a page that was looked at: its elements lie inside it, one behind the other, and its keys rise.
type page struct {
	id   uint64
	leaf bool
	// overflow is over how many pages it goes on.
	overflow uint64
	count    int
	buf      []byte
}

// bounds returns where in buf the key of element i begins, where its value begins, which a branch has not, and where that ends.
func (p *page) bounds(i int) (key, value, end int) {
	at := headerSize + i*elementSize
	e := p.buf[at : at+elementSize]
	if !p.leaf {
		key = at + int(binary.LittleEndian.Uint32(e))
		end = key + int(binary.LittleEndian.Uint32(e[4:]))
		return key, end, end
	}
	key = at + int(binary.LittleEndian.Uint32(e[4:]))
	value = key + int(binary.LittleEndian.Uint32(e[8:]))
	return key, value, value + int(binary.LittleEndian.Uint32(e[12:]))
}

func (p *page) key(i int) []byte {
	key, value, _ := p.bounds(i)
	return p.buf[key:value:value]
}

func (p *page) value(i int) []byte {
	_, value, end := p.bounds(i)
	return p.buf[value:end:end]
}

// child is the page that element i of a branch leads to.
func (p *page) child(i int) uint64 {
	return binary.LittleEndian.Uint64(p.buf[headerSize+i*elementSize+8:])
}

func (p *page) isBucket(i int) bool {
	return binary.LittleEndian.Uint32(p.buf[headerSize+i*elementSize:])&leafBucket != 0
}

// read reads a page and those that it goes on over, into p's own buffer.
func (f *File) read(id uint64, p *page) error {
	if id < 2 || id >= f.pages {
		return f.damage(id, "is named as part of the database, which has the pages 2 to %d", f.pages-1)
	}
	first := min(max(f.pageSize, readAhead), f.Size()-int64(id)*f.pageSize)
	if err := f.fill(id, p, 0, first); err != nil {
		return err
	}
	p.overflow = uint64(binary.LittleEndian.Uint32(p.buf[12:]))
	if id+p.overflow >= f.pages {
		return f.damage(id, "says that it goes on over %d pages, beyond the last one", p.overflow)
	}
	length := int64(p.overflow+1) * f.pageSize
	if length > maxRun {
		return f.damage(id, "says that it goes on over %d pages, which is longer than anything that etcd writes", p.overflow)
	}
	if flags := binary.LittleEndian.Uint16(p.buf[8:]); length > maxBranch && flags == flagBranch {
		return f.damage(id, "is a branch and says that it goes on over %d pages, which is longer than any that etcd writes", p.overflow)
	}
	if length > first {
		if err := f.fill(id, p, first, length); err != nil {
			return err
		}
	}
	p.buf = p.buf[:length]
	if said := binary.LittleEndian.Uint64(p.buf); said != id {
		return f.damage(id, "says that it is page %d", said)
	}
	p.id = id
	return f.look(p)
}

// fill reads a page's bytes from one offset to another.
func (f *File) fill(id uint64, p *page, from, to int64) error {
	if int64(cap(p.buf)) < to {
		grown := make([]byte, to)
		copy(grown, p.buf[:from])
		p.buf = grown
	}
	p.buf = p.buf[:to]
	at := int64(id) * f.pageSize
	if _, err := f.r.ReadAt(p.buf[from:to], at+from); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("reading page %d, at byte %d: %w", id, at, err)
	}
	return nil
}

// look checks what a page says of itself.
func (f *File) look(p *page) error {
	switch flags := binary.LittleEndian.Uint16(p.buf[8:]); flags {
	case flagBranch, flagLeaf:
		p.leaf = flags == flagLeaf
	default:
		return f.damage(p.id, "is marked as neither branch nor leaf (%#x)", flags)
	}
	p.count = int(binary.LittleEndian.Uint16(p.buf[10:]))
	if p.count == 0 && !p.leaf {
		return f.damage(p.id, "is a branch that leads nowhere")
	}
	next := headerSize + p.count*elementSize // where keys and values begin
	if next > len(p.buf) {
		return f.damage(p.id, "says that it has %d elements, and ends before", p.count)
	}
	var last []byte
	for i := range p.count {
		key, value, end := p.bounds(i)
		// bbolt writes one behind the other, without a gap (WriteInodeToPage in internal/common/inode.go).
		if key != next || end > len(p.buf) || value < key || end < value {
			return f.damage(p.id, "has an element (%d of %d) at %d to %d, where the one before ends at %d and the page at %d", i+1, p.count, key, end, next, len(p.buf))
		}
		if key == value {
			return f.damage(p.id, "has an element (%d of %d) without a key", i+1, p.count)
		}
		next = end
		k := p.buf[key:value]
		if i > 0 && bytes.Compare(last, k) >= 0 {
			return f.damage(p.id, "has keys that don't rise: element %d of %d is %x and comes after %x", i+1, p.count, short(k), short(last))
		}
		last = k
		if p.leaf && binary.LittleEndian.Uint32(p.buf[headerSize+i*elementSize:])&^leafBucket != 0 {
			return f.damage(p.id, "has an element (%d of %d) of an unknown kind", i+1, p.count)
		}
	}
	return nil
}

// short bounds what is shown of a key.
func short(key []byte) []byte { return key[:min(len(key), 32)] }
