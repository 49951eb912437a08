package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// FieldDifference is one field in which an object differs.
type FieldDifference struct {
	// Path is in the notation of kubectl's JSONPath. For what can't be looked into it says in parentheses what is meant.
	Path string
	// A and B are the values in the two sources, as JSON, shortened where they are long. They are Nothing where there is none, and Hidden in the
	// data of Secrets.
	A, B string
}

const (
	// Nothing stands for a value that isn't there.
	Nothing = "nothing"
	// Hidden stands for a value that must not be shown.
	Hidden = "(hidden)"
)

// Explain says in which fields the objects under the keys differ between two sources, beyond what the table of Rewrites leaves out. Both sources are read again; a key that
// is in one of them only, or is the same in both, has no entry in the answer.
func Explain(ctx context.Context, a, b Source, keys []string) (map[string][]FieldDifference, error) {
	out := map[string][]FieldDifference{}
	if len(keys) == 0 {
		return out, nil
	}
	r, err := newReader()
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, key := range keys {
		wanted[key] = true
	}
	observed, services := map[schema.GroupKind]bool{}, map[fullName]bool{}
	var sides [2]map[string]stored
	for i, from := range []Source{a, b} {
		if sides[i], err = r.gather(ctx, from, wanted, observed, services); err != nil {
			return nil, fmt.Errorf("reading %d objects again, to see what differs: %w", len(keys), err)
		}
	}
	for key, one := range sides[0] {
		other, both := sides[1][key]
		if !both {
			continue
		}
		for i := range r.rules {
			if r.rules[i].holds(one.object, observed, services) {
				r.strip(&r.rules[i], one)
				r.strip(&r.rules[i], other)
			}
		}
		if found := difference(one, other); len(found) > 0 {
			out[key] = found
		}
	}
	return out, nil
}

// gather keeps the wanted keys of a source, and notes which kinds have the status subresource, and which Services select Pods.
func (r *reader) gather(
	ctx context.Context, from Source, wanted map[string]bool, subresource map[schema.GroupKind]bool, services map[fullName]bool,
) (map[string]stored, error) {
	for attempt := 1; ; attempt++ {
		found := map[string]stored{}
		_, err := from(ctx, func(kv etcd.KeyValue) error {
			key := string(kv.Key)
			if !wanted[key] && !strings.Contains(key, "/"+groupExtensions+"/") && !strings.Contains(key, "/services/specs/") {
				return nil
			}
			s := r.decode(key, kv.Value)
			if gk := observed(s); gk.Kind != "" {
				subresource[gk] = true
			}
			if selects(s) {
				services[fullNameOf(s.object)] = true
			}
			if wanted[key] {
				found[key] = s
			}
			return nil
		})
		if !errors.Is(err, etcd.ErrCompacted) || attempt == rereads {
			return found, err
		}
	}
}

// strip takes the fields of one rule out of an object that it concerns.
func (r *reader) strip(rule *rule, s stored) {
	if s.content != nil && rule.concerns(s) {
		rule.take(s.content)
	}
}

// difference compares two objects field by field.
func difference(a, b stored) []FieldDifference {
	if a.content == nil || b.content == nil {
		return opaqueDifference(a, b)
	}
	var out []FieldDifference
	secret := groupKind(a.object) == (schema.GroupKind{Kind: "Secret"})
	walk("", a.content, b.content, func(path string, x, y any) {
		d := FieldDifference{Path: path, A: short(x), B: short(y)}
		if secret && confidential(path) {
			d.A, d.B = hide(x), hide(y)
		}
		out = append(out, d)
	})
	if string(a.opaque) != string(b.opaque) {
		out = append(out, FieldDifference{
			Path: "(fields that this build doesn't know)", A: size(a.opaque), B: size(b.opaque),
		})
	}
	return out
}

// opaqueDifference compares values that can't be looked into. Their bytes are not shown: they may be anything.
func opaqueDifference(a, b stored) []FieldDifference {
	if a.content == nil && b.content == nil && string(a.opaque) == string(b.opaque) {
		return nil
	}
	say := func(s stored) string {
		switch {
		case s.encryption != "":
			return "encrypted with " + s.encryption + ", " + size(s.opaque)
		case s.content != nil:
			return "readable"
		default:
			return size(s.opaque)
		}
	}
	return []FieldDifference{{Path: "(value)", A: say(a), B: say(b)}}
}

func size(b []byte) string { return strconv.Itoa(len(b)) + " bytes" }

// confidential says whether a field of a Secret holds its data, or a copy of it.
func confidential(path string) bool {
	return strings.HasPrefix(path, "data") || strings.HasPrefix(path, "stringData") || strings.HasPrefix(path, "metadata.annotations")
}

func hide(v any) string {
	if v == nil {
		return Nothing
	}
	return Hidden
}

// walk calls each for the smallest parts in which two values differ; a part that isn't there is nil.
func walk(path string, a, b any, each func(path string, a, b any)) {
	switch x := a.(type) {
	case map[string]any:
		if y, is := b.(map[string]any); is {
			names := maps.Clone(x)
			maps.Copy(names, y)
			for _, name := range slices.Sorted(maps.Keys(names)) {
				walk(join(path, name), x[name], y[name], each)
			}
			return
		}
	case []any:
		if y, is := b.([]any); is {
			for i := range max(len(x), len(y)) {
				walk(path+"["+strconv.Itoa(i)+"]", element(x, i), element(y, i), each)
			}
			return
		}
	}
	if text(a) != text(b) {
		each(path, a, b)
	}
}

func element(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// join adds a name to a path.
func join(path, name string) string {
	if strings.ContainsAny(name, ".[]/\" ") || name == "" {
		return path + "[" + strconv.Quote(name) + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// text is a value as JSON; "" where there is none.
func text(v any) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v) // not reached: the value was JSON
	}
	return string(b)
}

// maxShown is how many characters of a value are shown.
const maxShown = 80

func short(v any) string {
	t := text(v)
	switch {
	case t == "":
		return Nothing
	case utf8.RuneCountInString(t) > maxShown:
		return string([]rune(t)[:maxShown]) + "…"
	}
	return t
}
