package inventory

import (
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/etcd-drill/drill/pkg/plan"
)

// storedInventory is an inventory in JSON. It holds digests and names, and nothing of what objects held.
type storedInventory struct {
	Revision int64          `json:"revision"`
	Objects  []storedObject `json:"objects"` // null if that is not known
}

type storedObject struct {
	Key            string           `json:"key"`
	Object         plan.Object      `json:"object"`
	UID            types.UID        `json:"uid,omitempty"`
	CreateRevision int64            `json:"createRevision"`
	ModRevision    int64            `json:"modRevision"`
	Digest         []byte           `json:"digest"`
	Raw            []byte           `json:"raw"`
	Encryption     string           `json:"encryption,omitempty"`
	Rule           string           `json:"rule,omitempty"`
	Writer         string           `json:"writer,omitempty"`
	Gone           bool             `json:"gone,omitempty"`
	Controller     types.UID        `json:"controller,omitempty"`
	Parts          []storedPart     `json:"parts,omitempty"`
	Observes       schema.GroupKind `json:"observes,omitzero"`
	Selects        bool             `json:"selects,omitempty"`
	Expires        time.Time        `json:"expires,omitzero"`
}

// storedPart names the rule, whose place in the table another version of drill may have changed.
type storedPart struct {
	Rule   string `json:"rule"`
	Digest uint64 `json:"digest,string"` // 64 bits don't fit into JSON's numbers
}

// MarshalJSON writes an inventory so that UnmarshalJSON brings it back: whoever carries a run on needs to know what there was before.
func (i Inventory) MarshalJSON() ([]byte, error) {
	rules := Rewrites()
	out := storedInventory{Revision: i.Revision}
	if i.Objects != nil {
		out.Objects = []storedObject{}
	}
	for key, o := range i.Objects {
		s := storedObject{
			Key: key, Object: o.Object, UID: o.UID, CreateRevision: o.CreateRevision, ModRevision: o.ModRevision, Digest: o.Digest[:], Raw: o.Raw[:],
			Encryption: o.Encryption, Rule: o.Rule, Writer: o.Writer, Gone: o.Gone, Controller: o.controller, Observes: o.observes, Selects: o.selects, Expires: o.expires,
		}
		for _, p := range o.parts {
			s.Parts = append(s.Parts, storedPart{Rule: rules[p.rule].Name, Digest: p.digest})
		}
		out.Objects = append(out.Objects, s)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote. It is an error if a rule of Rewrites is named that there isn't.
func (i *Inventory) UnmarshalJSON(b []byte) error {
	var in storedInventory
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	places := map[string]int{}
	for place, r := range Rewrites() {
		places[r.Name] = place
	}
	*i = Inventory{Revision: in.Revision}
	if in.Objects != nil {
		i.Objects = make(map[string]Object, len(in.Objects))
	}
	for _, s := range in.Objects {
		o := Object{
			Object: s.Object, UID: s.UID, CreateRevision: s.CreateRevision, ModRevision: s.ModRevision, Encryption: s.Encryption, Rule: s.Rule, Writer: s.Writer, Gone: s.Gone,
			controller: s.Controller, observes: s.Observes, selects: s.Selects, expires: s.Expires,
		}
		if _, ok := places[s.Rule]; s.Rule != "" && !ok {
			return unknownRule(in.Revision, s.Rule)
		}
		if copy(o.Digest[:], s.Digest) != len(o.Digest) || copy(o.Raw[:], s.Raw) != len(o.Raw) {
			return fmt.Errorf("inventory of revision %d: the digests of %s are cut short", in.Revision, s.Key)
		}
		for _, p := range s.Parts {
			place, ok := places[p.Rule]
			if !ok {
				return unknownRule(in.Revision, p.Rule)
			}
			o.parts = append(o.parts, part{place, p.Digest})
		}
		i.Objects[s.Key] = o
	}
	return nil
}

func unknownRule(revision int64, name string) error {
	return fmt.Errorf("inventory of revision %d: it was taken with rule %q, which this drill doesn't have; use the version that took it", revision, name)
}
