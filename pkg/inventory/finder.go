package inventory

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Finder says which objects keys of etcd hold. It must not be used by two goroutines at once.
type Finder struct {
	s *surveyor
	// seen are kinds of which there were objects.
	seen map[schema.GroupKind]bool
}

// NewFinder returns a Finder.
func NewFinder() *Finder { return &Finder{newSurveyor(SurveyOptions{}), map[schema.GroupKind]bool{}} }

// Name says which object a key holds, and how it is encrypted where it is; see FoundObject. The value isn't taken apart for that.
func (f *Finder) Name(kv etcd.KeyValue) (o plan.Object, encryption string) {
	k := f.s.sketch(kv)
	f.s.learn(k)
	if len(f.seen) < maxKinds {
		f.seen[groupKind(k.object)] = true
	}
	return k.object, k.encryption
}

// Renamed gives an encrypted custom resource, of which Name can tell only the resource since nothing else is in its key, the kind that its definition gives to that. Name must have seen the definition.
func (f *Finder) Renamed(o plan.Object) plan.Object {
	f.s.rename(&o)
	return o
}

// Knows says whether there is such a kind, as far as is known: a built-in one, one of which Name has seen an object, or one that a definition which it has seen defines.
func (f *Finder) Knows(group, kind string) bool {
	gk := schema.GroupKind{Group: group, Kind: kind}
	if f.seen[gk] || group == groupExtensions && kind == "CustomResourceDefinition" || group == groupAggregation && kind == "APIService" {
		return true
	}
	for resource, defined := range f.s.kinds {
		if resource.Group == group && defined == kind {
			return true
		}
	}
	// The group extensions is of the past, and objects of its kinds are in others.
	return group != "extensions" && len(scheme.Scheme.VersionsForGroupKind(gk)) > 0
}

// Object takes an object apart.
func (f *Finder) Object(kv etcd.KeyValue) FoundObject { return foundIn(&f.s.decoder, kv) }

// Group is the group of an object's kind; "" for the core.
func Group(o plan.Object) string { return groupKind(o).Group }

// Fields returns the values that a path has in an object: none, one, or several where the path has a * or chooses several elements of a list. The path is much like kubectl's JSONPath: names joined by dots;
// ["NAME"] for a name that has dots itself; [NUMBER] for an element of a list, from 0 on, [*] for all, and [KEY=VALUE] for those whose KEY is VALUE.
func Fields(content map[string]any, path string) ([]any, error) {
	f, err := parseField(path)
	if err != nil {
		return nil, err
	}
	return f.get(content), nil
}

// get returns the values at a path.
func (f field) get(v any) (out []any) {
	if len(f) == 0 {
		return []any{v}
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range sortedNames(v) {
			if f[0].by == "" && f[0].matches(name) {
				out = append(out, f[1:].get(v[name])...)
			}
		}
	case []any:
		for i, element := range v {
			m, _ := element.(map[string]any)
			chosen := f[0].by == "" && (f[0].name == strconv.Itoa(i) || f[0].name == "*")
			switch by := m[f[0].by].(type) {
			case string:
				chosen = chosen || f[0].by != "" && f[0].matches(by)
			case int64, float64, json.Number: // a port, for example
				chosen = chosen || f[0].by != "" && f[0].matches(fmt.Sprint(by))
			}
			if chosen {
				out = append(out, f[1:].get(element)...)
			}
		}
	}
	return out
}

func sortedNames(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
