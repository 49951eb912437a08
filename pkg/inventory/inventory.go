package inventory

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"runtime"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Inventory is what etcd held at one revision.
type Inventory struct {
	// Revision is etcd's.
	Revision int64
	// Objects are what it held, by key; nil if that is not known.
	Objects map[string]Object
}

// Digest is a SHA-256.
type Digest [sha256.Size]byte

// Object is what is kept of one key.
type Object struct {
	// Object names it. What is no object of Kubernetes has the kind "Key" and its key as its name, and an object that has no name of its own has its key in
	// place of one. The version of an encrypted custom resource is empty: the key doesn't tell it.
	plan.Object
	// UID is empty for what has none, and for what is encrypted.
	UID types.UID
	// CreateRevision and ModRevision are etcd's, of the key.
	CreateRevision, ModRevision int64
	// Digest is of what counts: the content without what the table of Rewrites leaves out.
	Digest Digest
	// Raw is of the value as it is stored.
	Raw Digest
	// Encryption is how an encrypted value begins, k8s:enc:PROVIDER:VERSION:KEYNAME:, and empty for others. Encrypted values are compared as they are stored. The API server encrypts
	// with another random number at every write, so that an object which was written again differs, whatever was written. Of kinds that Kubernetes itself rewrites in fields only
	// the existence is compared; see Ledger.Unread.
	Encryption string
	// Rule is the entry of Rewrites that leaves the whole object out; empty for most.
	Rule string
	// Writer is who wrote it last, by its own account: the manager in the newest entry of metadata.managedFields that isn't about the status.
	Writer string
	// Gone says, in a merged inventory, that it was there at the first moment and no longer at the second; see Merge.
	Gone bool

	// controller is the UID of the object that controls this one.
	controller types.UID
	// parts are of what entries of Rewrites take out of the content.
	parts []part
	// observes is set for a CustomResourceDefinition with the status subresource: the kind that it defines.
	observes schema.GroupKind
	// selects says of a Service that it selects Pods: the controller manager keeps its Endpoints.
	selects bool
	// expires is when a bootstrap token does; zero for everything else.
	expires time.Time
}

// part is what one entry of Rewrites takes out of one object.
type part struct {
	// rule is the entry's place in the table.
	rule   int
	digest uint64
}

// is says whether o and p are the same object, and not another one under the same key.
func (o Object) is(p Object) bool {
	if o.UID != "" && p.UID != "" {
		return o.UID == p.UID
	}
	// Nothing but the creation tells what has no UID apart, or can't be read on one side: encryption may have been turned on in between. Two histories may count alike, therefore the other question.
	return o.CreateRevision == p.CreateRevision || o.Raw == p.Raw
}

// deleted says whether the object had been deleted when it was last looked at, or as good as.
func (o Object) deleted() bool { return o.Gone || o.Rule == beingDeleted }

func groupKind(o plan.Object) schema.GroupKind {
	group, _, found := strings.Cut(o.APIVersion, "/")
	if !found {
		group = ""
	}
	return schema.GroupKind{Group: group, Kind: o.Kind}
}

// rereads is how often a source is read again because etcd was compacted meanwhile. The API server compacts every 5 minutes, up to where it was 5 minutes
// before.
const rereads = 3

// Read takes the inventory of a source. Objects that are stored like in one of the known inventories are not taken apart again: most of what a cluster holds is as it was
// before.
func Read(ctx context.Context, from Source, known ...Inventory) (Inventory, error) {
	readers := make([]*reader, runtime.GOMAXPROCS(0))
	for i := range readers {
		var err error
		if readers[i], err = newReader(); err != nil {
			return Inventory{}, err
		}
	}
	for attempt := 1; ; attempt++ {
		out := Inventory{Objects: map[string]Object{}}
		var mu sync.Mutex
		sees := make([]func(etcd.KeyValue) error, len(readers))
		for i, r := range readers {
			sees[i] = func(kv etcd.KeyValue) error {
				o, err := r.object(kv, known)
				mu.Lock()
				defer mu.Unlock()
				out.Objects[string(kv.Key)] = o
				return err
			}
		}
		var err error
		out.Revision, err = divided(ctx, from, sees)
		switch {
		case err == nil:
			return out, nil
		case !errors.Is(err, etcd.ErrCompacted) || attempt == rereads:
			return Inventory{}, fmt.Errorf("taking the inventory: %w", err)
		}
	}
}

// reader turns keys into objects.
type reader struct {
	decoder
	rules []rule
	hash  hash.Hash
}

// rule is an entry of Rewrites, with its fields read.
type rule struct {
	Rewrite
	fields []field
}

func newReader() (*reader, error) {
	r := &reader{hash: sha256.New()}
	for _, entry := range Rewrites() {
		fields := make([]field, len(entry.Fields))
		for i, path := range entry.Fields {
			var err error
			if fields[i], err = parseField(path); err != nil {
				return nil, fmt.Errorf("table of rewrites, %s: %w", entry.Name, err)
			}
		}
		r.rules = append(r.rules, rule{entry, fields})
	}
	return r, nil
}

func (r *reader) object(kv etcd.KeyValue, known []Inventory) (Object, error) {
	raw := Digest(sha256.Sum256(kv.Value))
	for _, inv := range known {
		if o, ok := inv.Objects[string(kv.Key)]; ok && o.Raw == raw {
			o.CreateRevision, o.ModRevision, o.Gone = kv.CreateRevision, kv.ModRevision, false
			return o, nil
		}
	}
	s := r.decode(string(kv.Key), kv.Value)
	o := Object{Object: s.object, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Raw: raw, Encryption: s.encryption}
	if s.content != nil {
		u := &unstructured.Unstructured{Object: s.content}
		o.UID, o.Writer = u.GetUID(), writer(s)
		if owner := metav1.GetControllerOf(u); owner != nil {
			o.controller = owner.UID
		}
		o.observes, o.selects = observed(s), selects(s)
		o.expires = expiry(s)
	}
	for i, rule := range r.rules {
		switch {
		case !rule.concerns(s):
		case rule.Whole() && o.Rule == "":
			o.Rule = rule.Name
		case s.content != nil:
			if taken := rule.take(s.content); taken != nil {
				d, err := r.digest(taken, nil)
				if err != nil {
					return o, fmt.Errorf("%s: %w", s.object, err)
				}
				o.parts = append(o.parts, part{i, binary.BigEndian.Uint64(d[:])})
			}
		}
	}
	var err error
	if o.Digest, err = r.digest(s.content, s.opaque); err != nil {
		return o, fmt.Errorf("%s: %w", s.object, err)
	}
	return o, nil
}

// take takes the rule's fields out of the content and returns them; nil if there are none.
func (r rule) take(content map[string]any) any {
	var all []any
	found := false
	for _, f := range r.fields {
		_, taken := f.cut(content)
		all, found = append(all, taken), found || taken != nil
	}
	if !found {
		return nil
	}
	return all
}

// digest is of JSON with sorted keys, and what follows it.
func (r *reader) digest(content any, opaque []byte) (d Digest, err error) {
	r.hash.Reset()
	if err := json.NewEncoder(r.hash).Encode(content); err != nil {
		return d, err
	}
	_, _ = r.hash.Write(opaque) // a hash never fails
	r.hash.Sum(d[:0])
	return d, nil
}

// writer returns the manager in the newest of the managed fields. Who wrote the status is of no interest: it is left out of most objects.
func writer(s stored) (manager string) {
	v, _, _ := unstructured.NestedFieldNoCopy(s.content, "metadata", "managedFields")
	entries, _ := v.([]any)
	newest := ""
	for _, e := range entries {
		m, _ := e.(map[string]any)
		if m["subresource"] == "status" {
			continue
		}
		name, _ := m["manager"].(string)
		if at, _ := m["time"].(string); at >= newest { // RFC 3339 in UTC sorts like the time
			manager, newest = visible(name), at
		}
	}
	return manager
}

// observed returns the kind that a CustomResourceDefinition with the status subresource defines; for everything else nothing. The API server stores definitions as v1beta1, where what all
// versions have in common is not said of each.
func observed(s stored) schema.GroupKind {
	none := schema.GroupKind{}
	if groupKind(s.object) != (schema.GroupKind{Group: groupExtensions, Kind: "CustomResourceDefinition"}) {
		return none
	}
	spec, _ := s.content["spec"].(map[string]any)
	versions, _ := spec["versions"].([]any)
	for _, part := range append(versions, spec) {
		m, _ := part.(map[string]any)
		if _, has, err := unstructured.NestedFieldNoCopy(m, "subresources", "status"); has && err == nil {
			return schema.GroupKind{Group: s.text("spec", "group"), Kind: s.text("spec", "names", "kind")}
		}
	}
	return none
}

// selects says whether it is a Service that selects Pods.
func selects(s stored) bool {
	if groupKind(s.object) != (schema.GroupKind{Kind: "Service"}) {
		return false
	}
	v, _, _ := unstructured.NestedFieldNoCopy(s.content, "spec", "selector")
	selector, _ := v.(map[string]any)
	return len(selector) > 0
}

// fullName is what objects of different kinds in the same namespace can have in common.
type fullName struct{ namespace, name string }

func fullNameOf(o plan.Object) fullName { return fullName{o.Namespace, o.Name} }

// Merge returns what there was at two moments, the first before the second. Where a key was there at both, the second counts; what was there at the first only is kept
// and marked as Gone. A moment of which nothing is known changes nothing.
//
// It is for the moments before the break and before the outage. What the break destroys is part of what the snapshot has to bring back, and what it doesn't bring back is
// lost; see Ledger.
func Merge(first, second Inventory) Inventory {
	switch {
	case second.Objects == nil:
		return first
	case first.Objects == nil:
		return second
	}
	out := Inventory{Revision: second.Revision, Objects: make(map[string]Object, len(second.Objects))}
	for key, o := range first.Objects {
		o.Gone = true
		out.Objects[key] = o
	}
	for key, o := range second.Objects {
		out.Objects[key] = o
	}
	return out
}
