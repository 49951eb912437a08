package boltfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// maxDepth is how many pages may lead to one another. With two elements a branch, which is the least, a tree of that depth would have more pages than a file can.
const maxDepth = 64

// Leaf is a page of keys and values, in the order of the keys. It belongs to who got it, together with the slices that it returns, until Release is called.
type Leaf struct {
	page
	home *sync.Pool
}

// Page is the page's number; that of a bucket so small that it lies within another page is that page's.
func (l *Leaf) Page() uint64 { return l.id }

// Capacity is how much memory it takes, in bytes: as much as the largest page that was read into it.
func (l *Leaf) Capacity() int { return cap(l.buf) }

// Len is how many keys it has.
func (l *Leaf) Len() int { return l.count }

// Key and Value are those of element i, from 0 on.
func (l *Leaf) Key(i int) []byte { return l.key(i) }

// Value see Key.
func (l *Leaf) Value(i int) []byte { return l.value(i) }

// Release gives the leaf back, for the next page to be read into.
func (l *Leaf) Release() {
	if l.home != nil {
		l.home.Put(l)
	}
}

// Bucket is a part of a database with keys of its own.
type Bucket struct {
	Name string
	file *File
	// root is its first page. Where it is 0, the only page is inline, which lies within page id.
	root   uint64
	inline []byte
	id     uint64
}

// Buckets returns what the database consists of, by name. Of each page on the way it is checked that it can be what it says, and of nothing else.
func (f *File) Buckets(ctx context.Context) (map[string]Bucket, error) {
	if err := f.whole(); err != nil {
		return nil, err
	}
	return f.buckets(ctx, newWalk(f))
}

func (f *File) buckets(ctx context.Context, w *walk) (map[string]Bucket, error) {
	out := map[string]Bucket{}
	err := w.down(ctx, Bucket{file: f, root: f.root}, func(l *Leaf) error {
		defer l.Release()
		for i := range l.count {
			name := string(l.key(i))
			if !l.isBucket(i) {
				return f.damage(l.id, "has a key %q where there are only buckets", short(l.key(i)))
			}
			v := l.value(i)
			if len(v) < bucketSize {
				return f.damage(l.id, "has a bucket %q of %d bytes, which is none", short(l.key(i)), len(v))
			}
			b := Bucket{Name: name, file: f, root: binary.LittleEndian.Uint64(v), id: l.id}
			if b.root == 0 {
				b.inline = slices.Clone(v[bucketSize:])
			}
			out[name] = b
		}
		return nil
	})
	return out, err
}

// Down calls visit with every leaf of the bucket, from the last key to the first; the leaf belongs to visit. Each page is checked before, and that its keys are where the pages above it say.
//
// An error is of visit, of the context, of the reader, or wraps a *Damage; what had been visited by then was no less sound for that.
func (b Bucket) Down(ctx context.Context, visit func(*Leaf) error) error {
	if err := b.file.whole(); err != nil {
		return err
	}
	return newWalk(b.file).down(ctx, b, visit)
}

// walk is one way through a database, in which no page may come twice.
type walk struct {
	file *File
	// seen has a bit for each page.
	seen []uint64
	// leaves are pages to read into.
	leaves *sync.Pool
}

func newWalk(f *File) *walk {
	return &walk{file: f, seen: make([]uint64, f.pages/64+1), leaves: &sync.Pool{}}
}

// mark notes that a page, with those that it goes on over, is in use.
func (w *walk) mark(id, more uint64, as string) error {
	for n := id; n <= id+more; n++ {
		if w.seen[n/64]&(1<<(n%64)) != 0 {
			return w.file.damage(n, "is in use twice, the second time as %s", as)
		}
		w.seen[n/64] |= 1 << (n % 64)
	}
	return nil
}

func (w *walk) down(ctx context.Context, b Bucket, visit func(*Leaf) error) error {
	if b.root == 0 {
		l := &Leaf{page: page{id: b.id, buf: b.inline}}
		if len(b.inline) < headerSize {
			return w.file.damage(b.id, "has a bucket %q that ends before its page's header does", b.Name)
		}
		if err := w.file.look(&l.page); err != nil {
			return fmt.Errorf("bucket %q within another page: %w", b.Name, err)
		}
		if !l.leaf {
			return w.file.damage(b.id, "has a bucket %q whose only page is a branch", b.Name)
		}
		return visit(l)
	}
	err := w.pageDown(ctx, 0, b.root, nil, nil, visit)
	var d *Damage
	if errors.As(err, &d) && b.Name != "" {
		return fmt.Errorf("bucket %q: %w", b.Name, err)
	}
	return err
}

// pageDown visits what is below a page. Its keys must not be below least, and be below limit; nil for no bound.
func (w *walk) pageDown(ctx context.Context, depth int, id uint64, least, limit []byte, visit func(*Leaf) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth >= maxDepth {
		return w.file.damage(id, "is more than %d pages away from the root", maxDepth)
	}
	l, _ := w.leaves.Get().(*Leaf)
	if l == nil {
		l = &Leaf{home: w.leaves}
	}
	err := w.file.read(id, &l.page)
	if err == nil {
		err = w.mark(id, l.overflow, fmt.Sprintf("part of page %d", id))
	}
	if err == nil && l.count > 0 {
		switch first, last := l.key(0), l.key(l.count-1); {
		case least != nil && bytes.Compare(first, least) < 0:
			err = w.file.damage(id, "begins with key %x, which is below %x as the page above it has it", short(first), short(least))
		case limit != nil && bytes.Compare(last, limit) >= 0:
			err = w.file.damage(id, "ends with key %x, which is not below %x as the page above it has it", short(last), short(limit))
		}
	}
	if err != nil {
		l.Release()
		return err
	}
	if l.leaf {
		return visit(l)
	}
	defer l.Release()
	for i := l.count - 1; i >= 0; i-- {
		above := limit
		if i+1 < l.count {
			above = l.key(i + 1)
		}
		if err := w.pageDown(ctx, depth+1, l.child(i), l.key(i), above, visit); err != nil {
			return err
		}
	}
	return nil
}

// Check reads the whole database. It calls visit with every leaf of every bucket, each bucket from its last key to its first, and makes sure that no page is in use twice, that both headers are right, and,
// where the free pages are written down (etcd has them not), that every page is either free or in use. visit may be nil; the leaf belongs to it.
//
// It returns how many pages are in use. Errors are as for Down.
func (f *File) Check(ctx context.Context, visit func(Bucket, *Leaf) error) (used uint64, err error) {
	if f.beside != nil {
		return 0, f.beside
	}
	if err := f.whole(); err != nil {
		return 0, err
	}
	w := newWalk(f)
	if err := w.mark(0, 1, "a header"); err != nil {
		return 0, err
	}
	free, err := w.freeList()
	if err != nil {
		return 0, err
	}
	buckets, err := f.buckets(ctx, w)
	if err != nil {
		return 0, err
	}
	// In an order that doesn't change, so that neither does what is found first.
	names := make([]string, 0, len(buckets))
	for name := range buckets {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b := buckets[name]
		err := w.down(ctx, b, func(l *Leaf) error {
			for i := range l.count {
				if l.isBucket(i) {
					defer l.Release()
					return f.damage(l.id, "has a bucket within bucket %q, and etcd makes none there", name)
				}
			}
			if visit == nil {
				l.Release()
				return nil
			}
			return visit(b, l)
		})
		if err != nil {
			return 0, err
		}
	}
	return w.account(free)
}

// freeList reads which pages are free, where that is written down.
func (w *walk) freeList() ([]uint64, error) {
	f := w.file
	if f.freelist == noFreelist {
		return nil, nil
	}
	p := &page{}
	id := f.freelist
	if err := f.fill(id, p, 0, f.pageSize); err != nil {
		return nil, err
	}
	p.overflow = uint64(binary.LittleEndian.Uint32(p.buf[12:]))
	switch length := int64(p.overflow+1) * f.pageSize; {
	case binary.LittleEndian.Uint64(p.buf) != id || binary.LittleEndian.Uint16(p.buf[8:]) != flagFreelist:
		return nil, f.damage(id, "is not the free list that it should be")
	case id+p.overflow >= f.pages || length > maxRun:
		return nil, f.damage(id, "says that it goes on over %d pages, beyond the last one", p.overflow)
	default:
		if err := f.fill(id, p, f.pageSize, length); err != nil {
			return nil, err
		}
	}
	if err := w.mark(id, p.overflow, "the free list"); err != nil {
		return nil, err
	}
	rest, count := p.buf[headerSize:], uint64(binary.LittleEndian.Uint16(p.buf[10:]))
	if count == 0xFFFF { // more than fit there: then the first entry is their number
		count, rest = binary.LittleEndian.Uint64(rest), rest[8:]
	}
	if count > uint64(len(rest)/8) {
		return nil, f.damage(id, "says that it has %d free pages, and ends before", count)
	}
	free := make([]uint64, count)
	for i := range free {
		free[i] = binary.LittleEndian.Uint64(rest[8*i:])
		if free[i] < 2 || free[i] >= f.pages {
			return nil, f.damage(id, "says that page %d is free, and the last one is %d", free[i], f.pages-1)
		}
	}
	return free, nil
}

// account makes sure that each page is in use or free where that is known, and counts those that are in use.
func (w *walk) account(free []uint64) (used uint64, err error) {
	for n := range w.file.pages {
		if w.seen[n/64]&(1<<(n%64)) != 0 {
			used++
		}
	}
	if w.file.freelist == noFreelist {
		return used, nil
	}
	for _, n := range free {
		if err := w.mark(n, 0, "a free page"); err != nil {
			return 0, err
		}
	}
	for n := range w.file.pages {
		if w.seen[n/64]&(1<<(n%64)) == 0 {
			return 0, w.file.damage(n, "is neither in use nor free")
		}
	}
	return used, nil
}
