package rehearsal

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// index knows of each key of a file what it holds, by fingerprints: some 40 bytes a key, whatever its value.
type index struct {
	prints *etcd.Fingerprints
	// content is the fingerprint of all that a key holds, by that of its name. What was seen is taken out.
	content map[etcd.Fingerprint]etcd.Fingerprint
	// compared is how many keys were seen, and differences are some of those that differ, of many.
	compared    int64
	differences []Difference
	many        int64
}

func newIndex() *index {
	return &index{prints: etcd.NewFingerprints(), content: map[etcd.Fingerprint]etcd.Fingerprint{}}
}

// enter takes in a key of the file.
func (x *index) enter(key, content etcd.Fingerprint) { x.content[key] = content }

// maxDifferences is how many of the keys that differ are named.
const maxDifferences = 20

func (x *index) differs(key []byte, how string) {
	x.many++
	if len(x.differences) < maxDifferences {
		x.differences = append(x.differences, Difference{Key: string(key), How: how})
	}
}

// check compares a key that the server has.
func (x *index) check(kv etcd.KeyValue) {
	x.compared++
	name := x.prints.Key(kv)
	switch content, there := x.content[name]; {
	case !there:
		x.differs(kv.Key, Added)
	case content != x.prints.Content(kv):
		x.differs(kv.Key, Changed)
	}
	delete(x.content, name)
}

// equals says whether what the server has, by fingerprints, is what the file has.
func (x *index) equals(served map[etcd.Fingerprint]etcd.Fingerprint) bool {
	return maps.Equal(x.content, served)
}

// lacks says of a key of the file whether the server was not seen to have it.
func (x *index) lacks(kv etcd.KeyValue) bool {
	_, left := x.content[x.prints.Key(kv)]
	return left
}

// sorted are the differences in the order of their keys.
func (x *index) sorted() []Difference {
	out := append([]Difference{}, x.differences...)
	slices.SortFunc(out, func(a, b Difference) int { return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.How, b.How)) })
	return out
}
