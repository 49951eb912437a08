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
	"unicode"
	"unicode/utf16"

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
		r.stripBoth(one, other, observed, services)
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

// stripBoth takes out of two values of a key what the rules leave out.
func (r *reader) stripBoth(one, other stored, observed map[schema.GroupKind]bool, services map[fullName]bool) {
	for i := range r.rules {
		if r.rules[i].holds(one.object, observed, services) {
			r.strip(&r.rules[i], one)
			r.strip(&r.rules[i], other)
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
	secret := a.object.Kind == "Secret" || b.object.Kind == "Secret"
	walk("", a.content, b.content, func(path string, x, y any) {
		d := FieldDifference{Path: path}
		d.A, d.B = short(x, y)
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
	if v == notThere {
		return Nothing
	}
	return Hidden
}

// notThere stands for a part that isn't there, which is something else than null.
const notThere = absent("")

type absent string

// in returns what a map has under a name.
func in(m map[string]any, name string) any {
	if v, has := m[name]; has {
		return v
	}
	return notThere
}

// walk calls each for the smallest parts in which two values differ.
func walk(path string, a, b any, each func(path string, a, b any)) {
	switch x := a.(type) {
	case map[string]any:
		if y, is := b.(map[string]any); is {
			names := maps.Clone(x)
			maps.Copy(names, y)
			for _, name := range slices.Sorted(maps.Keys(names)) {
				walk(join(path, name), in(x, name), in(y, name), each)
			}
			return
		}
	case []any:
		if y, is := b.([]any); is {
			walkLists(path, x, y, each)
			return
		}
	}
	if text(a) != text(b) {
		each(path, a, b)
	}
}

// walkLists compares two lists. What has a name is compared with what has the same name, wherever that is. Of single values, where there are more or fewer than before, only those are told that are
// not in both: after the first that is missing, each of the others would be in another place.
func walkLists(path string, x, y []any, each func(path string, a, b any)) {
	if by := nameOfElements(x, y); by != "" {
		walkNamed(path, by, x, y, each)
		return
	}
	if len(x) != len(y) && single(x) && single(y) {
		gone, come := without(x, y), without(y, x)
		for _, v := range gone {
			each(path+"[]", v, notThere)
		}
		for _, v := range come {
			each(path+"[]", notThere, v)
		}
		return
	}
	for i := range max(len(x), len(y)) {
		walk(path+"["+strconv.Itoa(i)+"]", element(x, i), element(y, i), each)
	}
}

// walkNamed compares lists whose elements have a name.
func walkNamed(path, by string, x, y []any, each func(path string, a, b any)) {
	names := func(list []any) (out []any) {
		for _, e := range list {
			out = append(out, e.(map[string]any)[by])
		}
		return out
	}
	ours, theirs := names(x), names(y)
	for i, name := range ours {
		walk(path+"["+by+"="+visible(name.(string))+"]", x[i], element(y, slices.Index(theirs, name)), each)
	}
	for i, name := range theirs {
		if !slices.Contains(ours, name) {
			each(path+"["+by+"="+visible(name.(string))+"]", notThere, y[i])
		}
	}
	inBoth := func(list, other []any) []any {
		return slices.DeleteFunc(slices.Clone(list), func(name any) bool { return !slices.Contains(other, name) })
	}
	if a, b := inBoth(ours, theirs), inBoth(theirs, ours); !slices.Equal(a, b) {
		each(path+"(order)", a, b)
	}
}

// nameOfElements returns by which field every element of two lists of objects can be told from the others of its list; "" where there is none. They are those by which Kubernetes itself merges lists
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy), as far as they are texts.
func nameOfElements(lists ...[]any) string {
	for _, by := range []string{"name", "key", "type", "mountPath", "devicePath", "uid", "ip", "topologyKey"} {
		if !slices.ContainsFunc(lists, func(list []any) bool { return !toldBy(list, by) }) {
			return by
		}
	}
	return ""
}

func toldBy(list []any, by string) bool {
	seen := map[string]bool{}
	for _, e := range list {
		m, _ := e.(map[string]any)
		name, _ := m[by].(string)
		if name == "" || seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

// single says whether there are neither lists nor objects in a list.
func single(list []any) bool {
	return !slices.ContainsFunc(list, func(v any) bool {
		switch v.(type) {
		case []any, map[string]any:
			return true
		}
		return false
	})
}

// without returns what is left of a list when each value of another is taken out of it once.
func without(list, other []any) (out []any) {
	times := map[any]int{}
	for _, v := range other {
		times[v]++
	}
	for _, v := range list {
		if times[v]--; times[v] < 0 {
			out = append(out, v)
		}
	}
	return out
}

// element returns an element of a list; nil where there is none.
func element(list []any, i int) any {
	if i >= 0 && i < len(list) {
		return list[i]
	}
	return notThere
}

// join adds a name to a path.
func join(path, name string) string {
	if strings.ContainsAny(name, ".[]/\" ") || name == "" || visible(name) != name {
		return path + "[" + strconv.Quote(name) + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// text is a value as JSON; "" where there is none.
func text(v any) string {
	if v == notThere {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v) // not reached: the value was JSON
	}
	return escaped(string(b))
}

// escaped is JSON of which a terminal is shown: characters that control one, or can't be seen, are written as JSON may have them, too.
func escaped(text string) string {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if strings.IndexFunc(text, hidden) < 0 {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		if !hidden(r) {
			out.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&out, `\u%04x`, unit)
		}
	}
	return out.String()
}

// maxShown is how many characters of a value are shown, and before is how many of these come before the first in which two values differ.
const (
	maxShown = 80
	before   = 20
)

// short shows two values that differ: of long ones, the part in which they begin to.
func short(a, b any) (string, string) {
	x, y := []rune(text(a)), []rune(text(b))
	same := 0
	for same < min(len(x), len(y)) && x[same] == y[same] {
		same++
	}
	from := 0
	if max(len(x), len(y)) > maxShown && same > before {
		from = same - before
	}
	return window(x, from), window(y, from)
}

// window shows a part of a text.
func window(t []rune, from int) string {
	if len(t) == 0 {
		return Nothing
	}
	from = min(from, len(t))
	out := string(t[from:min(len(t), from+maxShown)])
	if from > 0 {
		out = "…" + out
	}
	if len(t) > from+maxShown {
		out += "…"
	}
	return out
}
