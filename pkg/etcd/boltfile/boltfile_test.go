package boltfile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/etcd-drill/drill/pkg/etcd/boltfile"
)

// options of a database that is made for a test.
type options struct {
	pageSize int
	keys     int
	// most is the length of the longest value.
	most int
	// rewrite is how many keys are deleted and made again, so that pages become free.
	rewrite  int
	freelist bool
}

// build makes a database as etcd's are, with bbolt, and returns its path.
func build(t testing.TB, o options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: o.pageSize, NoFreelistSync: !o.freelist, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, uint64(o.keys)))
	put := func(tx *bolt.Tx, i int) error {
		value := bytes.Repeat([]byte{byte(i)}, random.IntN(o.most)+1)
		return tx.Bucket([]byte("key")).Put(fmt.Appendf(nil, "%012d", i), value)
	}
	update := func(do func(*bolt.Tx) error) {
		t.Helper()
		if err := db.Update(do); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *bolt.Tx) error {
		for _, name := range []string{"alarm", "key", "meta"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte("meta")).Put([]byte("consistent_index"), make([]byte, 8))
	})
	for i := 0; i < o.keys; i += 100 {
		update(func(tx *bolt.Tx) error {
			for k := i; k < min(i+100, o.keys); k++ {
				if err := put(tx, k); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range o.rewrite {
		i := random.IntN(o.keys)
		update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("key")).Delete(fmt.Appendf(nil, "%012d", i)) })
		update(func(tx *bolt.Tx) error { return put(tx, i) })
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, content []byte) (*boltfile.File, error) {
	t.Helper()
	return boltfile.Open(bytes.NewReader(content), int64(len(content)))
}

// check opens a database and checks all of it.
func check(t testing.TB, content []byte) error {
	t.Helper()
	f, err := open(t, content)
	if err != nil {
		return err
	}
	_, err = f.Check(t.Context(), nil)
	return err
}

func kinds() map[string]options {
	return map[string]options{
		"empty":              {pageSize: 4096, keys: 0, most: 1},
		"inline":             {pageSize: 4096, keys: 3, most: 10},
		"pages":              {pageSize: 4096, keys: 5000, most: 400},
		"smallest pages":     {pageSize: 1024, keys: 3000, most: 300, rewrite: 50},
		"large pages":        {pageSize: 65536, keys: 3000, most: 9000},
		"values over pages":  {pageSize: 4096, keys: 200, most: 100_000, rewrite: 100},
		"deep":               {pageSize: 1024, keys: 20_000, most: 900},
		"with the free list": {pageSize: 4096, keys: 1000, most: 2000, rewrite: 200, freelist: true},
	}
}

// What bbolt says is in a database is what this package says, from the last key to the first.
func TestSameAsBolt(t *testing.T) {
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			path := build(t, o)
			want := map[string][]string{}
			db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			var size int64
			err = db.View(func(tx *bolt.Tx) error {
				for err := range tx.Check() {
					t.Errorf("bbolt itself: %v", err)
				}
				size = tx.Size()
				return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
					want[string(name)] = []string{}
					return b.ForEach(func(k, v []byte) error {
						want[string(name)] = append(want[string(name)], string(k)+"="+string(v))
						return nil
					})
				})
			})
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}

			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := open(t, content)
			if err != nil {
				t.Fatal(err)
			}
			if f.Size() != size || f.PageSize() != int64(o.pageSize) {
				t.Errorf("size %d, page size %d, want %d and %d", f.Size(), f.PageSize(), size, o.pageSize)
			}
			collect := func(into map[string][]string) func(boltfile.Bucket, *boltfile.Leaf) error {
				return func(b boltfile.Bucket, l *boltfile.Leaf) error {
					defer l.Release()
					if into[b.Name] == nil {
						into[b.Name] = []string{}
					}
					for i := l.Len() - 1; i >= 0; i-- {
						into[b.Name] = append(into[b.Name], string(l.Key(i))+"="+string(l.Value(i)))
					}
					return nil
				}
			}
			same := func(how string, got map[string][]string) {
				t.Helper()
				for name := range got {
					slices.Reverse(got[name])
				}
				if len(got) != len(want) {
					t.Errorf("%s: %d buckets, want %d", how, len(got), len(want))
				}
				for name := range want {
					if !slices.Equal(got[name], want[name]) {
						t.Errorf("%s: bucket %s has %d entries, or others than bbolt's %d", how, name, len(got[name]), len(want[name]))
					}
				}
			}
			checked := map[string][]string{}
			if _, err := f.Check(t.Context(), collect(checked)); err != nil {
				t.Fatal(err)
			}
			same("Check", checked)
			buckets, err := f.Buckets(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			down := map[string][]string{}
			for _, b := range buckets {
				if err := b.Down(t.Context(), func(l *boltfile.Leaf) error { return collect(down)(b, l) }); err != nil {
					t.Fatal(err)
				}
			}
			same("Down", down)
		})
	}
}

// pages finds pages of a kind in a database: their numbers.
func pages(content []byte, pageSize int, flag uint16, least int) (ids []int) {
	for id := 2; (id+1)*pageSize <= len(content); {
		p := content[id*pageSize:]
		overflow := int(binary.LittleEndian.Uint32(p[12:]))
		if binary.LittleEndian.Uint64(p) == uint64(id) && binary.LittleEndian.Uint16(p[8:]) == flag && int(binary.LittleEndian.Uint16(p[10:])) >= least {
			ids = append(ids, id)
		}
		id += overflow + 1
	}
	return ids
}

// seal makes the checksums of both headers anew.
func seal(content []byte, pageSize int) {
	for _, at := range []int{16, pageSize + 16} {
		if len(content) < at+64 {
			return
		}
		sum := fnv.New64a()
		_, _ = sum.Write(content[at : at+56])
		binary.LittleEndian.PutUint64(content[at+56:], sum.Sum64())
	}
}

// Every way in which a page can be wrong is found, and the page is named. Each is also what bbolt would have followed blindly, or not have noticed.
func TestDamage(t *testing.T) {
	const pageSize = 4096
	plain := build(t, options{pageSize: pageSize, keys: 5000, most: 400})
	listed := build(t, options{pageSize: pageSize, keys: 1000, most: 2000, rewrite: 200, freelist: true})
	type place struct {
		c            []byte
		branch, leaf []int
	}
	u16, u32, u64 := binary.LittleEndian.PutUint16, binary.LittleEndian.PutUint32, binary.LittleEndian.PutUint64
	for name, tt := range map[string]struct {
		path  string
		spoil func(p place) (page int)
		want  string
	}{
		"leaf says it is another page":           {plain, func(p place) int { u64(p.c[p.leaf[3]*pageSize:], 9999); return p.leaf[3] }, "says that it is page 9999"},
		"leaf is zeros":                          {plain, func(p place) int { clear(p.c[p.leaf[5]*pageSize:][:pageSize]); return p.leaf[5] }, "says that it is page 0"},
		"leaf is marked as a header":             {plain, func(p place) int { u16(p.c[p.leaf[3]*pageSize+8:], 4); return p.leaf[3] }, "neither branch nor leaf"},
		"leaf is marked as branch":               {plain, func(p place) int { u16(p.c[p.leaf[3]*pageSize+8:], 1); return p.leaf[3] }, ""},
		"branch is marked as leaf":               {plain, func(p place) int { u16(p.c[p.branch[0]*pageSize+8:], 2); return p.branch[0] }, ""},
		"branch has no elements":                 {plain, func(p place) int { u16(p.c[p.branch[0]*pageSize+10:], 0); return p.branch[0] }, "leads nowhere"},
		"leaf has more elements than fit":        {plain, func(p place) int { u16(p.c[p.leaf[3]*pageSize+10:], 0xFFFE); return p.leaf[3] }, "ends before"},
		"leaf has one element less":              {plain, func(p place) int { p.c[p.leaf[3]*pageSize+10]--; return p.leaf[3] }, "where the one before ends"},
		"leaf goes on beyond the end":            {plain, func(p place) int { u32(p.c[p.leaf[3]*pageSize+12:], 1<<31); return p.leaf[3] }, "beyond the last one"},
		"leaf goes on over the next":             {plain, func(p place) int { u32(p.c[p.leaf[3]*pageSize+12:], 1); return -1 }, "in use twice"},
		"an element's place is moved":            {plain, func(p place) int { p.c[p.leaf[3]*pageSize+16+4]++; return p.leaf[3] }, "where the one before ends"},
		"a key is longer than it is":             {plain, func(p place) int { p.c[p.leaf[3]*pageSize+16+8]++; return p.leaf[3] }, "where the one before ends"},
		"a value is as long as can be":           {plain, func(p place) int { u32(p.c[p.leaf[3]*pageSize+16+12:], 1<<32-1); return p.leaf[3] }, "where the one before ends"},
		"an element is of no kind":               {plain, func(p place) int { p.c[p.leaf[3]*pageSize+16] = 8; return p.leaf[3] }, "unknown kind"},
		"an element is a bucket":                 {plain, func(p place) int { p.c[p.leaf[3]*pageSize+16] = 1; return p.leaf[3] }, "a bucket within bucket"},
		"keys fall":                              {plain, func(p place) int { at := firstKey(p.c, p.leaf[3], pageSize); p.c[at] = '9'; return p.leaf[3] }, "don't rise"},
		"first key is below what the branch has": {plain, func(p place) int { at := firstKey(p.c, p.leaf[3], pageSize); p.c[at] = '!'; return p.leaf[3] }, "as the page above it has it"},
		"branch leads to itself":                 {plain, func(p place) int { u64(p.c[p.branch[0]*pageSize+24:], uint64(p.branch[0])); return p.branch[0] }, "in use twice"},
		"branch leads to a header":               {plain, func(p place) int { u64(p.c[p.branch[0]*pageSize+24:], 1); return 1 }, "which has the pages 2 to"},
		"branch leads beyond the end":            {plain, func(p place) int { u64(p.c[p.branch[0]*pageSize+24:], 1<<60); return 1 << 60 }, "which has the pages 2 to"},
		"branch leads to the same leaf twice": {plain, func(p place) int {
			copy(p.c[p.branch[0]*pageSize+24:][:8], p.c[p.branch[0]*pageSize+40:][:8])
			return -1
		}, ""},
		"two leaves are exchanged": {plain, func(p place) int { exchange(p.c, p.leaf[3], p.leaf[4], pageSize); return -1 }, "says that it is page"},
		"a leaf is the one before": {plain, func(p place) int {
			copy(p.c[p.leaf[4]*pageSize:][:pageSize], p.c[p.leaf[3]*pageSize:][:pageSize])
			return p.leaf[4]
		}, "says that it is page"},
		"first header is damaged":           {plain, func(p place) int { p.c[16+50]++; return 0 }, "checksum"},
		"second header is damaged":          {plain, func(p place) int { p.c[pageSize+16+50]++; return 1 }, "checksum"},
		"second header is zeros":            {plain, func(p place) int { clear(p.c[pageSize : 2*pageSize]); return 1 }, "doesn't begin as"},
		"free list is none":                 {listed, func(p place) int { id := freelist(p.c, pageSize); u16(p.c[id*pageSize+8:], 2); return id }, "not the free list"},
		"free list is longer than its page": {listed, func(p place) int { id := freelist(p.c, pageSize); u16(p.c[id*pageSize+10:], 0xFFFE); return id }, "ends before"},
		"free list names a page twice": {listed, func(p place) int {
			id := freelist(p.c, pageSize)
			copy(p.c[id*pageSize+16:][:8], p.c[id*pageSize+24:][:8])
			return -1
		}, "in use twice"},
		"free list names a page beyond": {listed, func(p place) int { id := freelist(p.c, pageSize); u64(p.c[id*pageSize+16:], 1<<40); return id }, "is free, and the last one is"},
		"free list names one less":      {listed, func(p place) int { id := freelist(p.c, pageSize); p.c[id*pageSize+10]--; return -1 }, "neither in use nor free"},
	} {
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			page := tt.spoil(place{content, pages(content, pageSize, 1, 3), pages(content, pageSize, 2, 3)})
			err = check(t, content)
			var d *boltfile.Damage
			if !errors.As(err, &d) {
				t.Fatalf("%v, want damage", err)
			}
			if page >= 0 && d.Page != uint64(page) {
				t.Errorf("it names page %d, want %d: %v", d.Page, page, err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want it to say %q", err, tt.want)
			}
		})
	}
}

func firstKey(content []byte, page, pageSize int) int {
	element := page*pageSize + 16
	return element + int(binary.LittleEndian.Uint32(content[element+4:]))
}

func exchange(content []byte, a, b, pageSize int) {
	x, y := content[a*pageSize:][:pageSize], content[b*pageSize:][:pageSize]
	kept := bytes.Clone(x)
	copy(x, y)
	copy(y, kept)
}

// freelist is the page that the newer header names.
func freelist(content []byte, pageSize int) int {
	at := 16
	if binary.LittleEndian.Uint64(content[pageSize+16+48:]) > binary.LittleEndian.Uint64(content[16+48:]) {
		at += pageSize
	}
	return int(binary.LittleEndian.Uint64(content[at+32:]))
}

func TestOpenOfWhatIsNone(t *testing.T) {
	content, err := os.ReadFile(build(t, options{pageSize: 4096, keys: 10, most: 10}))
	if err != nil {
		t.Fatal(err)
	}
	header := func(change func(meta []byte)) []byte {
		c := bytes.Clone(content)
		change(c[16:])
		change(c[4096+16:])
		seal(c, 4096)
		return c
	}
	var d *boltfile.Damage
	for name, tt := range map[string]struct {
		content []byte
		is      error
		damage  bool
	}{
		"nothing":                      {nil, boltfile.ErrNotBolt, false},
		"text":                         {[]byte(strings.Repeat("apiVersion: v1\n", 1000)), boltfile.ErrNotBolt, false},
		"one page":                     {content[:4096], boltfile.ErrShort, false},
		"its first bytes":              {content[:100], boltfile.ErrShort, false},
		"both headers damaged":         {func() []byte { c := bytes.Clone(content); c[16+50]++; c[4096+16+50]++; return c }(), nil, true},
		"another version":              {header(func(m []byte) { m[4] = 3 }), boltfile.ErrVersion, false},
		"pages of no size":             {header(func(m []byte) { m[8] = 1 }), nil, true},
		"more pages than there can be": {header(func(m []byte) { m[47] = 0xFF }), nil, true},
		"a root beyond the end":        {header(func(m []byte) { m[22] = 0xFF }), nil, true},
		"a free list beyond the end":   {header(func(m []byte) { m[39] = 0x0F }), nil, true},
	} {
		_, err := open(t, tt.content)
		if tt.damage != errors.As(err, &d) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The first header may be the damaged one, whatever the size of the pages.
	for _, size := range []int{1024, 4096, 65536} {
		content, err := os.ReadFile(build(t, options{pageSize: size, keys: 10, most: 10}))
		if err != nil {
			t.Fatal(err)
		}
		clear(content[:100])
		f, err := open(t, content)
		if err != nil {
			t.Errorf("pages of %d bytes: %v", size, err)
			continue
		}
		if _, err := f.Buckets(t.Context()); err != nil {
			t.Errorf("pages of %d bytes: %v", size, err)
		}
		if _, err := f.Check(t.Context(), nil); !errors.As(err, &d) || d.Page != 0 {
			t.Errorf("pages of %d bytes: %v", size, err)
		}
	}
}

// breaking is a reader that fails behind some place.
type breaking struct {
	io.ReaderAt
	behind int64
}

func (b breaking) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > b.behind {
		return 0, os.ErrDeadlineExceeded
	}
	return b.ReaderAt.ReadAt(p, at)
}

// An error of the reader is no damage of the file.
func TestReaderFails(t *testing.T) {
	content, err := os.ReadFile(build(t, options{pageSize: 4096, keys: 500, most: 1000}))
	if err != nil {
		t.Fatal(err)
	}
	for behind := int64(0); behind < int64(len(content))/2; behind += 4096 { // pages at the end may be free
		f, err := boltfile.Open(breaking{bytes.NewReader(content), behind}, int64(len(content)))
		if err == nil {
			_, err = f.Check(t.Context(), nil)
		}
		var d *boltfile.Damage
		if !errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &d) {
			t.Fatalf("fails behind %d: %v", behind, err)
		}
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	content, err := os.ReadFile(build(t, options{pageSize: 4096, keys: 5000, most: 100}))
	if err != nil {
		t.Fatal(err)
	}
	f, err := open(t, content)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	visited := 0
	_, err = f.Check(ctx, func(_ boltfile.Bucket, l *boltfile.Leaf) error {
		l.Release()
		if visited++; visited == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || visited > 4 {
		t.Errorf("%v after %d leaves", err, visited)
	}
}

// FuzzCheck: whatever a file holds, reading it ends with an answer. The checksums of its headers are made anew, since otherwise nothing behind them would ever be reached.
func FuzzCheck(f *testing.F) {
	for _, o := range []options{
		{pageSize: 1024, keys: 0, most: 1},
		{pageSize: 1024, keys: 40, most: 100},
		{pageSize: 1024, keys: 20, most: 2000, rewrite: 5, freelist: true},
	} {
		content, err := os.ReadFile(build(f, o))
		if err != nil {
			f.Fatal(err)
		}
		file, err := open(f, content)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content[:file.Size()])
	}
	f.Fuzz(func(t *testing.T, fuzzed []byte) {
		content := bytes.Clone(fuzzed)
		seal(content, 1024)
		file, err := boltfile.Open(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return
		}
		before := 0
		_, err = file.Check(t.Context(), func(b boltfile.Bucket, l *boltfile.Leaf) error {
			defer l.Release()
			for i := range l.Len() {
				before += len(l.Key(i)) + len(l.Value(i))
			}
			return nil
		})
		if err == nil && before > len(content) {
			t.Errorf("%d bytes of keys and values in a file of %d", before, len(content))
		}
	})
}
