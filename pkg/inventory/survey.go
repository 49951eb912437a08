package inventory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Survey is what a source holds, in numbers, and what of it would hurt after a restore.
type Survey struct {
	// Revision is etcd's.
	Revision int64 `json:"revision"`
	Total    Count `json:"total"`
	// Kinds are in the order of bytes, the most first.
	Kinds []KindCount `json:"kinds"`
	// Largest are the keys with the largest values, the largest first.
	Largest []Sized `json:"largest"`
	// Encryption says of each kind of which there are encrypted objects how they are encrypted.
	Encryption []Encryption `json:"encryption"`
	// Hazards are those that were found, in the order of HazardKinds.
	Hazards []Hazard `json:"hazards"`
}

// Count is how many keys there are, and how many bytes their values have together.
type Count struct {
	Keys  int64 `json:"keys"`
	Bytes int64 `json:"bytes"`
}

func (c *Count) add(d Count) { c.Keys, c.Bytes = c.Keys+d.Keys, c.Bytes+d.Bytes }

// KindCount counts the objects of one kind, whatever their version; what is no object is of the kind "Key".
type KindCount struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
	Count
	// Namespaces are in the order of bytes, the most first; that of objects without one is "".
	Namespaces []NamespaceCount `json:"namespaces"`
}

// NamespaceCount counts the objects of one kind in a namespace.
type NamespaceCount struct {
	Namespace string `json:"namespace"`
	Count
}

// Sized is a key with the size of its value in bytes.
type Sized struct {
	Key    string      `json:"key"`
	Object plan.Object `json:"object"`
	Bytes  int64       `json:"bytes"`
}

// Encryption is one way in which objects of a kind are encrypted.
type Encryption struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
	// Provider is aescbc, aesgcm, secretbox or kms, Version that of how it is stored, and Key the name of the key, for kms that of the plugin
	// (https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/). All are empty for those objects of the kind that aren't encrypted.
	Provider string `json:"provider"`
	Version  string `json:"version"`
	Key      string `json:"key"`
	Objects  int64  `json:"objects"`
}

// SurveyOptions bound a Survey.
type SurveyOptions struct {
	// Largest is how many of the largest keys are named, and PerHazard how many objects for each hazard; 0 means 10.
	Largest   int `json:"largest"`
	PerHazard int `json:"perHazard"`
	// At is the moment by which it is judged whether something has expired.
	At time.Time `json:"at"`
}

const defaultNamed = 10

// mostSurveyors bounds how many take part, whatever the machine: each holds what it has seen until the end.
const mostSurveyors = 4

// TakeSurvey reads a source once, in whatever order it gives its keys, and keeps nothing of an object but what the answer needs.
func TakeSurvey(ctx context.Context, from Source, o SurveyOptions) (Survey, error) {
	o.Largest, o.PerHazard = cmp.Or(o.Largest, defaultNamed), cmp.Or(o.PerHazard, defaultNamed)
	parts := make([]*surveyor, min(runtime.GOMAXPROCS(0), mostSurveyors))
	sees := make([]func(etcd.KeyValue) error, len(parts))
	for i := range parts {
		parts[i] = newSurveyor(o)
		sees[i] = func(kv etcd.KeyValue) error {
			parts[i].see(kv)
			return nil
		}
	}
	revision, err := divided(ctx, from, sees)
	if err != nil {
		return Survey{}, fmt.Errorf("surveying the objects: %w", err)
	}
	all := parts[0]
	for _, s := range parts[1:] {
		all.merge(s)
	}
	out := all.result()
	out.Revision = revision
	return out, nil
}

// place is what objects are counted by.
type place struct{ group, kind, namespace string }

// cipher is how objects of a kind are encrypted.
type cipher struct {
	gk     schema.GroupKind
	prefix string
}

// surveyor takes a survey of a part of the keys.
type surveyor struct {
	decoder
	options SurveyOptions
	counts  map[place]Count
	largest []Sized
	ciphers map[cipher]int64
	hazards *hazards
	// kinds are those that definitions give to the names of resources.
	kinds map[schema.GroupResource]string
}

func newSurveyor(o SurveyOptions) *surveyor {
	return &surveyor{options: o, counts: map[place]Count{}, ciphers: map[cipher]int64{}, hazards: newHazards(o), kinds: map[schema.GroupResource]string{}}
}

// sketch is what is taken of a value without taking it apart.
type sketch struct {
	object plan.Object
	head   head
	// raw is the protobuf of the object behind its envelope, and other the whole value where it is JSON or CBOR; nil for what is encrypted or no object.
	raw, other []byte
	encryption string
}

// sketch takes what is needed of every value.
func (s *surveyor) sketch(kv etcd.KeyValue) (k sketch) {
	var apiVersion, kind string
	byKey := func() sketch {
		return sketch{object: s.nameOf(string(kv.Key)), encryption: k.encryption}
	}
	switch value := kv.Value; {
	case strings.HasPrefix(string(value[:min(len(value), len(beginsEncrypted))]), beginsEncrypted):
		k.encryption = encryptionOf(value)
		return byKey()
	case strings.HasPrefix(string(value[:min(len(value), len(beginsProtobuf))]), beginsProtobuf):
		e, err := openEnvelope(value[len(beginsProtobuf):])
		if err != nil {
			return byKey()
		}
		if k.head, err = readHead(e.raw); err != nil {
			return byKey()
		}
		apiVersion, kind, k.raw = string(e.apiVersion), string(e.kind), e.raw
	default:
		o, ok := readOther(value)
		if !ok {
			return byKey()
		}
		apiVersion, kind, k.other, k.head = o.APIVersion, o.Kind, value, o.head()
	}
	k.object = named(apiVersion, kind, string(k.head.namespace), string(k.head.name))
	if k.object.Name == "" {
		k.object.Name = printable(string(kv.Key)) // what the API server keeps in the shape of objects for itself
	}
	return k
}

// otherObject is what is taken of an object in JSON or CBOR.
type otherObject struct {
	typed
	Metadata struct {
		Name              string   `json:"name"`
		Namespace         string   `json:"namespace"`
		UID               string   `json:"uid"`
		DeletionTimestamp string   `json:"deletionTimestamp"`
		Finalizers        []string `json:"finalizers"`
	} `json:"metadata"`
}

func (o otherObject) head() head {
	h := head{namespace: []byte(o.Metadata.Namespace), name: []byte(o.Metadata.Name), uid: []byte(o.Metadata.UID), deleting: o.Metadata.DeletionTimestamp != ""}
	for _, f := range o.Metadata.Finalizers {
		h.finalizers = append(h.finalizers, []byte(f))
	}
	return h
}

// readOther reads an object in JSON or CBOR; false for anything else.
func readOther(value []byte) (o otherObject, ok bool) {
	err := unmarshalOther(value, &o)
	return o, err == nil && o.check() == nil
}

// see takes in one key.
func (s *surveyor) see(kv etcd.KeyValue) {
	k := s.sketch(kv)
	gk := groupKind(k.object)
	p, c := place{gk.Group, gk.Kind, k.object.Namespace}, Count{Keys: 1, Bytes: int64(len(kv.Value))}
	c.add(s.counts[p])
	s.counts[p] = c
	s.size(Sized{Key: string(kv.Key), Object: k.object, Bytes: int64(len(kv.Value))})
	s.ciphers[cipher{gk, k.encryption}]++
	s.hazards.see(string(kv.Key), gk, k)
	s.learn(k)
}

// learn notes which kind a definition gives to a resource.
func (s *surveyor) learn(k sketch) {
	if d, is := definitionIn(k); is && len(s.kinds) < maxKinds {
		s.kinds[schema.GroupResource{Group: d.Group, Resource: d.Names.Plural}] = d.Names.Kind
	}
}

// definition is what a CustomResourceDefinition calls what it defines, and how that is converted. It is stored as v1beta1 or v1.
type definition struct {
	Group string `json:"group"`
	Names struct {
		Plural     string   `json:"plural"`
		Singular   string   `json:"singular"`
		Kind       string   `json:"kind"`
		ShortNames []string `json:"shortNames"`
	} `json:"names"`
	Conversion struct {
		Strategy            string        `json:"strategy"`
		WebhookClientConfig webhookClient `json:"webhookClientConfig"` // v1beta1
		Webhook             struct {
			ClientConfig webhookClient `json:"clientConfig"`
		} `json:"webhook"`
	} `json:"conversion"`
}

type webhookClient struct {
	Service *serviceReference `json:"service"`
}

// definitionIn reads a CustomResourceDefinition; false for anything else.
func definitionIn(k sketch) (d definition, is bool) {
	if k.other == nil || groupKind(k.object) != (schema.GroupKind{Group: groupExtensions, Kind: "CustomResourceDefinition"}) {
		return d, false
	}
	o := struct {
		Spec *definition `json:"spec"`
	}{&d}
	err := unmarshalOther(k.other, &o)
	return d, err == nil
}

// rename gives an encrypted custom resource, of which the key tells only the resource, the kind that its definition gives to that.
func (s *surveyor) rename(o *plan.Object) {
	if gk := groupKind(*o); strings.HasSuffix(o.APIVersion, "/") {
		o.Kind = s.kindOf(gk)
	}
}

// kindOf is the kind that a definition gives to a resource; the name as it is where there is no definition.
func (s *surveyor) kindOf(gk schema.GroupKind) string {
	return cmp.Or(s.kinds[schema.GroupResource{Group: gk.Group, Resource: gk.Kind}], gk.Kind)
}

// size enters a key among the largest ones, if it is.
func (s *surveyor) size(z Sized) {
	if len(s.largest) == s.options.Largest && bySize(s.largest[len(s.largest)-1], z) <= 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(s.largest, z, bySize)
	s.largest = slices.Insert(s.largest, at, z)
	s.largest = s.largest[:min(len(s.largest), s.options.Largest)]
}

func bySize(a, b Sized) int {
	return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Key, b.Key))
}

// merge takes in what another surveyor has seen.
func (s *surveyor) merge(o *surveyor) {
	for p, c := range o.counts {
		c.add(s.counts[p])
		s.counts[p] = c
	}
	for _, z := range o.largest {
		s.size(z)
	}
	for c, n := range o.ciphers {
		s.ciphers[c] += n
	}
	s.hazards.merge(o.hazards)
	maps.Copy(s.kinds, o.kinds)
}

// renamed joins what was counted under the name of a resource with what was under its kind.
func (s *surveyor) renamed() {
	counts, ciphers := map[place]Count{}, map[cipher]int64{}
	for p, c := range s.counts {
		p.kind = s.kindOf(schema.GroupKind{Group: p.group, Kind: p.kind})
		c.add(counts[p])
		counts[p] = c
	}
	for c, n := range s.ciphers {
		c.gk.Kind = s.kindOf(c.gk)
		ciphers[c] += n
	}
	s.counts, s.ciphers = counts, ciphers
	for i := range s.largest {
		s.rename(&s.largest[i].Object)
	}
}

// result makes the survey of what was seen; its revision is to be filled in.
func (s *surveyor) result() Survey {
	s.renamed()
	out := Survey{Kinds: []KindCount{}, Largest: s.largest, Encryption: []Encryption{}, Hazards: s.hazards.result()}
	for _, h := range out.Hazards {
		for i := range h.Objects {
			s.rename(&h.Objects[i].Object)
		}
	}
	if out.Largest == nil {
		out.Largest = []Sized{}
	}
	kinds := map[schema.GroupKind]*KindCount{}
	for p, c := range s.counts {
		out.Total.add(c)
		gk := schema.GroupKind{Group: p.group, Kind: p.kind}
		if kinds[gk] == nil {
			kinds[gk] = &KindCount{Group: p.group, Kind: p.kind}
		}
		kinds[gk].add(c)
		kinds[gk].Namespaces = append(kinds[gk].Namespaces, NamespaceCount{p.namespace, c})
	}
	encrypted := map[schema.GroupKind]bool{}
	for c := range s.ciphers {
		encrypted[c.gk] = encrypted[c.gk] || c.prefix != ""
	}
	for c, n := range s.ciphers {
		if !encrypted[c.gk] {
			continue
		}
		e := Encryption{Group: c.gk.Group, Kind: c.gk.Kind, Objects: n}
		if parts := strings.Split(c.prefix, ":"); len(parts) > 4 {
			e.Provider, e.Version, e.Key = parts[2], parts[3], parts[4]
		}
		out.Encryption = append(out.Encryption, e)
	}
	for _, k := range kinds {
		slices.SortFunc(k.Namespaces, func(a, b NamespaceCount) int {
			return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Namespace, b.Namespace))
		})
		out.Kinds = append(out.Kinds, *k)
	}
	slices.SortFunc(out.Kinds, func(a, b KindCount) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group))
	})
	slices.SortFunc(out.Encryption, func(a, b Encryption) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group), cmp.Compare(b.Provider, a.Provider), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Key, b.Key))
	})
	return out
}
