package etcdtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
)

// mutation is a way in which a file comes to differ from what it was. It may change c and returns what became of it; where that is the same as before, it is tried again.
type mutation struct {
	name string
	do   func(random *rand.Rand, c []byte) []byte
}

// pageSize is that of the snapshots that tests make.
const pageSize = 4096

func mutations() []mutation {
	place := func(random *rand.Rand, c []byte) int { return random.IntN(len(c)) }
	page := func(random *rand.Rand, c []byte) []byte { return c[random.IntN(len(c)/pageSize)*pageSize:][:pageSize] }
	return []mutation{
		{"a bit is flipped", func(r *rand.Rand, c []byte) []byte { c[place(r, c)] ^= 1 << r.IntN(8); return c }},
		{"some bits are flipped", func(r *rand.Rand, c []byte) []byte {
			for range 2 + r.IntN(50) {
				c[place(r, c)] ^= 1 << r.IntN(8)
			}
			return c
		}},
		{"it is cut anywhere", func(r *rand.Rand, c []byte) []byte { return c[:place(r, c)] }},
		{"it is cut at a page", func(r *rand.Rand, c []byte) []byte { return c[:place(r, c)/pageSize*pageSize] }},
		{"it is cut near its end", func(r *rand.Rand, c []byte) []byte { return c[:len(c)-1-r.IntN(64)] }},
		{"two pages are swapped", func(r *rand.Rand, c []byte) []byte {
			a, b := page(r, c), page(r, c)
			kept := bytes.Clone(a)
			copy(a, b)
			copy(b, kept)
			return c
		}},
		{"a page is another one", func(r *rand.Rand, c []byte) []byte { copy(page(r, c), page(r, c)); return c }},
		{"a range is zeros", func(r *rand.Rand, c []byte) []byte {
			at := place(r, c)
			clear(c[at:min(len(c), at+1+r.IntN(3*pageSize))])
			return c
		}},
		{"a page is zeros", func(r *rand.Rand, c []byte) []byte { clear(page(r, c)); return c }},
		{"its end is zeros", func(r *rand.Rand, c []byte) []byte { clear(c[place(r, c):]); return c }},
		{"a range is noise", func(r *rand.Rand, c []byte) []byte {
			at := place(r, c)
			for i := at; i < min(len(c), at+1+r.IntN(pageSize)); i++ {
				c[i] = byte(r.Uint32())
			}
			return c
		}},
		{"bytes are missing", func(r *rand.Rand, c []byte) []byte {
			at := place(r, c)
			return slices.Delete(c, at, min(len(c), at+1+r.IntN(pageSize)))
		}},
		{"bytes are too many", func(r *rand.Rand, c []byte) []byte {
			return slices.Insert(c, place(r, c), make([]byte, 1+r.IntN(pageSize))...)
		}},
		{"the trailer is another one", func(r *rand.Rand, c []byte) []byte {
			sum := sha256.Sum256([]byte(fmt.Sprint(r.Uint64())))
			copy(c[len(c)-sha256.Size:], sum[:])
			return c
		}},
		{"the trailer is that of a part", func(r *rand.Rand, c []byte) []byte {
			sum := sha256.Sum256(c[:place(r, c)])
			copy(c[len(c)-sha256.Size:], sum[:])
			return c
		}},
		{"the trailer is twice there", func(_ *rand.Rand, c []byte) []byte { return append(c, c[len(c)-sha256.Size:]...) }},
	}
}

// Mutate returns a file that differs from the snapshot in content, and in what way. The same seed makes the same.
func Mutate(seed uint64, content []byte) (mutant []byte, how string) {
	random := rand.New(rand.NewPCG(seed, 0))
	all := mutations()
	m := all[int(seed%uint64(len(all)))]
	for {
		if out := m.do(random, bytes.Clone(content)); !bytes.Equal(out, content) {
			return out, m.name
		}
	}
}

// Seal makes the trailer of a snapshot anew, so that nothing but its own pages and records tells that it was changed; of what is shorter than one it returns nil.
func Seal(content []byte) []byte {
	if len(content) < sha256.Size {
		return nil
	}
	body := content[:len(content)-sha256.Size]
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}
