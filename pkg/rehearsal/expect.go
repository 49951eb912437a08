package rehearsal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Expectations are what somebody expects of a backup. They are held against what the etcd server answers that was started on it.
type Expectations struct {
	// MaxAge is how old it may be, as in "26h"; 0 for however old.
	MaxAge time.Duration `yaml:"maxAge"`
	// MinRevision and MinKeys are the least that it has.
	MinRevision int64 `yaml:"minRevision"`
	MinKeys     int64 `yaml:"minKeys"`
	// Objects must be there, with these fields; Absent must not be there.
	Objects []ExpectedObject `yaml:"objects"`
	Absent  []ExpectedObject `yaml:"absent"`
	// AtLeast says how many there must be of a kind.
	AtLeast []ExpectedCount `yaml:"atLeast"`
}

// ExpectedObject names an object. The version in APIVersion doesn't matter: an object is there in all that are served.
type ExpectedObject struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Namespace  string `yaml:"namespace"`
	Name       string `yaml:"name"`
	// Fields are values by path, in the notation of inventory.Fields, of the object in the version in which it is stored. Where the path has several values, one of them must be it; nil is for a field that must not be there.
	Fields FieldValues `yaml:"fields"`
}

// ExpectedCount is how many there must be of a kind, in one namespace or in all.
type ExpectedCount struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Namespace  string `yaml:"namespace"`
	Count      int64  `yaml:"count"`
}

// FieldValues are values by the paths of fields.
type FieldValues map[string]any

// UnmarshalYAML takes what YAML calls a timestamp for the text that it is in Kubernetes.
func (f *FieldValues) UnmarshalYAML(n *yaml.Node) error {
	asText(n)
	return n.Decode((*map[string]any)(f))
}

func asText(n *yaml.Node) {
	if n.ShortTag() == "!!timestamp" {
		n.Tag = "!!str"
	}
	for _, within := range n.Content {
		asText(within)
	}
}

// maxExpectations is how long they may be, in bytes.
const maxExpectations = 16 << 20

// ReadExpectations reads them from YAML. What isn't known, or makes no sense, is an error.
func ReadExpectations(r io.Reader) (*Expectations, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxExpectations+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxExpectations {
		return nil, fmt.Errorf("it is longer than %d MiB", maxExpectations>>20)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return nil, err
	}
	if err := misread(&doc, ""); err != nil {
		return nil, err
	}
	var e Expectations
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	if err := d.Decode(&e); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("nothing is expected")
		}
		return nil, onOneLine(err)
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is a second document in it")
	}
	if e.MinRevision < 0 || e.MinKeys < 0 {
		return nil, errors.New("minRevision and minKeys are at least 0")
	}
	for i, o := range slices.Concat(e.Objects, e.Absent) {
		what := fmt.Sprintf("objects[%d]", i)
		if i >= len(e.Objects) {
			what = fmt.Sprintf("absent[%d]", i-len(e.Objects))
		}
		if o.APIVersion == "" || o.Kind == "" || o.Name == "" {
			return nil, fmt.Errorf("%s needs apiVersion, kind and name", what)
		}
		if i >= len(e.Objects) && len(o.Fields) > 0 {
			return nil, fmt.Errorf("%s is not to be there, and can have no fields", what)
		}
		for path := range o.Fields {
			if _, err := inventory.Fields(nil, path); err != nil || path == "" {
				return nil, fmt.Errorf("%s: field %q: %w; write it as in spec.template.spec.containers[0].image", what, path, err)
			}
		}
	}
	for i, c := range e.AtLeast {
		if c.APIVersion == "" || c.Kind == "" || c.Count < 1 {
			return nil, fmt.Errorf("atLeast[%d] needs apiVersion, kind, and a count of at least 1", i)
		}
	}
	if e.MaxAge == 0 && e.MinRevision == 0 && e.MinKeys == 0 && len(e.Objects)+len(e.Absent)+len(e.AtLeast) == 0 {
		return nil, errors.New("nothing is expected")
	}
	return &e, nil
}

// misread finds what the decoder would take for less than what is written: a number with a fraction for one without, and a name with nothing behind it, or an empty element of a list, for nothing that is expected. Within fields
// anything may stand.
func misread(n *yaml.Node, name string) error {
	n = meant(n)
	if n.Kind == yaml.ScalarNode {
		switch {
		case n.ShortTag() == "!!null" && name != "":
			return fmt.Errorf("line %d: nothing is said of %s; say what is expected, or leave it out", n.Line, name)
		case slices.Contains([]string{"minRevision", "minKeys", "count"}, name) && n.ShortTag() != "!!int":
			return fmt.Errorf("line %d: %s is a whole number, as in 500", n.Line, name)
		case name == "maxAge" && !moreThanNothing(n.Value):
			return fmt.Errorf("line %d: maxAge is a time of more than 0, written like 26h or 90m", n.Line)
		}
	}
	for i, within := range n.Content {
		of := name
		if n.Kind == yaml.MappingNode {
			if i%2 == 0 {
				continue
			}
			if of = meant(n.Content[i-1]).Value; of == "fields" && within.Kind == yaml.MappingNode {
				continue
			}
		}
		if err := misread(within, of); err != nil {
			return err
		}
	}
	return nil
}

// meant is what an alias of a scalar stands for. What else has an anchor is looked at where that is.
func meant(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias.Kind == yaml.ScalarNode {
		return n.Alias
	}
	return n
}

// moreThanNothing says whether a text is a time of more than 0.
func moreThanNothing(text string) bool {
	d, err := time.ParseDuration(text)
	return err == nil && d > 0
}

// fieldsOf are the names of what may stand in a type of this package.
func fieldsOf(name string) []string {
	var out []string
	for _, of := range []any{Expectations{}, ExpectedObject{}, ExpectedCount{}} {
		if t := reflect.TypeOf(of); t.Name() == name {
			for i := range t.NumField() {
				out = append(out, t.Field(i).Tag.Get("yaml"))
			}
		}
	}
	return out
}

// onOneLine says what YAML finds without line breaks, and without the names of types.
func onOneLine(err error) error {
	var many *yaml.TypeError
	if !errors.As(err, &many) {
		return err
	}
	var out []string
	for _, e := range many.Errors {
		e, in, _ := strings.Cut(e, " in type ")
		if names := fieldsOf(strings.TrimPrefix(in, "rehearsal.")); len(names) > 0 {
			e += "; there are " + strings.Join(names, ", ")
		}
		// What stands there may be of a Secret.
		if line, _, is := strings.Cut(e, "cannot unmarshal "); is {
			e = line + "it is of another type than it should be"
		}
		out = append(out, e)
	}
	return errors.New(strings.Join(out, "; "))
}

// object is what it names, without the version.
func (o ExpectedObject) object() plan.Object {
	return nameOf(plan.Object{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name})
}

// nameOf is an object without the version of its kind.
func nameOf(o plan.Object) plan.Object {
	if o.APIVersion = inventory.Group(o); o.APIVersion != "" {
		o.APIVersion += "/"
	}
	return o
}

// kindIn is a kind in a namespace; "" stands for all of them.
type kindIn struct{ group, kind, namespace string }

// audience hears every key that the server has, and says what became of the expectations.
type audience struct {
	*Expectations
	finder *inventory.Finder
	wanted map[plan.Object]*inventory.FoundObject // nil until it was seen
	counts map[kindIn]int64
	// near are names of objects of a wanted kind, for what isn't there.
	near map[kindIn][]string
	keys int64
	// groups are those of what is expected, and locked are encrypted custom resources of these: which kind they are is known when all definitions are.
	groups map[string]bool
	locked []lockedObject
	// anywhere says of objects that must be absent, and for which no namespace is given, in which they are.
	anywhere map[plan.Object][]string
	// inNone and inSome say of which kinds there are objects that belong to the whole cluster, and ones in a namespace.
	inNone, inSome map[kindIn]bool
	// now is when the rehearsal began, and renewed when the newest Lease in the backup was that isn't of a time to come.
	now, renewed time.Time
}

// lockedObject is one that is encrypted, and named by its key.
type lockedObject struct {
	plan.Object
	encryption string
}

// maxNear is how many objects are named that might have been meant.
const maxNear = 5

func newAudience(e *Expectations, now time.Time) *audience {
	if e == nil {
		e = &Expectations{}
	}
	a := &audience{Expectations: e, now: now, finder: inventory.NewFinder(), wanted: map[plan.Object]*inventory.FoundObject{}, counts: map[kindIn]int64{}, near: map[kindIn][]string{}, groups: map[string]bool{}, anywhere: map[plan.Object][]string{}, inNone: map[kindIn]bool{}, inSome: map[kindIn]bool{}}
	for _, o := range slices.Concat(e.Objects, e.Absent) {
		a.wanted[o.object()] = nil
		name := o.object()
		a.near[kindIn{name.APIVersion, name.Kind, name.Namespace}] = nil
		a.groups[inventory.Group(name)] = true
	}
	for _, o := range e.Absent {
		if o.Namespace == "" {
			a.anywhere[o.object()] = nil
		}
	}
	for _, c := range e.AtLeast {
		a.counts[c.kind()] = 0
		a.groups[strings.TrimSuffix(c.kind().group, "/")] = true
	}
	return a
}

func (c ExpectedCount) kind() kindIn {
	return kindIn{nameOf(plan.Object{APIVersion: c.APIVersion, Kind: c.Kind}).APIVersion, c.Kind, c.Namespace}
}

// hear takes in a key.
func (a *audience) hear(kv etcd.KeyValue) {
	a.keys++
	if len(a.wanted)+len(a.counts) == 0 && a.MaxAge == 0 {
		return
	}
	object, encryption := a.finder.Name(kv)
	if encryption != "" && strings.HasSuffix(object.APIVersion, "/") {
		if a.groups[inventory.Group(object)] {
			a.locked = append(a.locked, lockedObject{object, encryption})
		}
		return
	}
	if a.MaxAge > 0 && object.Kind == "Lease" && encryption == "" {
		a.renewal(a.finder.Object(kv))
	}
	a.enter(nameOf(object), func() inventory.FoundObject { return a.finder.Object(kv) })
}

// renewal notes when a Lease was renewed.
func (a *audience) renewal(lease inventory.FoundObject) {
	values, _ := inventory.Fields(lease.Content, "spec.renewTime") // the path is right
	for _, v := range values {
		text, _ := v.(string)
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil && at.After(a.renewed) && !at.After(a.now.Add(skew)) {
			a.renewed = at
		}
	}
}

// skew is by how much clocks may differ.
const skew = 5 * time.Minute

// age says whether the backup is young enough. noted says that when it was taken is known otherwise than by the file's time, which copying it changes in either direction: it is as old as the newest Lease in it, or younger by no more
// than it takes to renew one, which on a cluster that runs are some seconds. A Lease that says to be of a time to come doesn't count.
func (a *audience) age(taken time.Time, noted bool) (fulfilled bool, detail string) {
	how := "as was noted when it was taken"
	if !noted {
		how = "by the file's own time"
		if !a.renewed.IsZero() {
			taken, how = a.renewed, "when the newest Lease in it was renewed"
		}
	}
	age := a.now.Sub(taken).Round(time.Second)
	if age < -skew {
		return false, fmt.Sprintf("it is of %s, %s, which is yet to come", taken.Local().Format(time.DateTime), how)
	}
	return age <= a.MaxAge, fmt.Sprintf("it is %s old, of %s, %s, and may be %s old", max(0, age), taken.Local().Format(time.DateTime), how, a.MaxAge)
}

// enter takes in an object.
func (a *audience) enter(name plan.Object, whole func() inventory.FoundObject) {
	if _, is := a.wanted[name]; is {
		found := whole()
		a.wanted[name] = &found
	}
	wide := name
	wide.Namespace = ""
	if in, is := a.anywhere[wide]; is && name.Namespace != "" && len(in) < maxNear {
		a.anywhere[wide] = append(in, name.Namespace)
	}
	in := kindIn{name.APIVersion, name.Kind, name.Namespace}
	if kind := (kindIn{in.group, in.kind, ""}); in.namespace == "" {
		a.inNone[kind] = true
	} else {
		a.inSome[kind] = true
	}
	if near, is := a.near[in]; is && len(near) < maxNear {
		a.near[in] = append(near, name.Name)
	}
	for _, k := range []kindIn{in, {in.group, in.kind, ""}} {
		if n, is := a.counts[k]; is {
			a.counts[k] = n + 1
		}
		if k.namespace == "" && in.namespace == "" {
			break // it is the same
		}
	}
}

// say says what became of each expectation.
func (a *audience) say(info plan.SnapshotInfo, noted bool) []Check {
	for _, l := range a.locked {
		a.enter(nameOf(a.finder.Renamed(l.Object)), func() inventory.FoundObject { return inventory.FoundObject{Object: l.Object, Encryption: l.encryption} })
	}
	a.locked = nil
	out := []Check{}
	enter := func(name string, fulfilled bool, detail string, args ...any) {
		c := Check{Name: name, Status: plan.StatusFailed, Detail: fmt.Sprintf(detail, args...)}
		if fulfilled {
			c.Status = plan.StatusPassed
		}
		out = append(out, c)
	}
	if a.MaxAge > 0 {
		fulfilled, detail := a.age(info.TakenAt, noted)
		enter("maxAge", fulfilled, "%s", detail)
	}
	if a.MinRevision > 0 {
		enter("minRevision", info.Revision >= a.MinRevision, "it is of revision %d, and should be of %d at least", info.Revision, a.MinRevision)
	}
	if a.MinKeys > 0 {
		enter("minKeys", a.keys >= a.MinKeys, "it has %d keys, and should have %d at least", a.keys, a.MinKeys)
	}
	for _, o := range a.Objects {
		name := o.object()
		found := a.wanted[name]
		what := (plan.Object{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}).String()
		switch {
		case found == nil && !a.known(name):
			enter(what, false, "%s", unknownKind)
			continue
		case found == nil && a.misplaced(name) != "":
			enter(what, false, "it isn't there; %s", a.misplaced(name))
			continue
		case found == nil:
			enter(what, false, "it isn't there; %s", a.others(name))
			continue
		}
		if len(o.Fields) == 0 {
			enter(what, true, "it is there")
		}
		for _, path := range slices.Sorted(maps.Keys(o.Fields)) {
			fulfilled, detail := fieldIs(found, path, o.Fields[path])
			if stored := found.Object.APIVersion; !fulfilled && stored != o.APIVersion && found.Content != nil {
				detail += fmt.Sprintf("; it is stored as %s, in which fields may be elsewhere than in %s", stored, o.APIVersion)
			}
			enter(what+" "+path, fulfilled, "%s", detail)
		}
	}
	for _, o := range a.Absent {
		what := (plan.Object{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}).String()
		switch {
		case a.wanted[o.object()] != nil:
			enter("no "+what, false, "it is there")
		case !a.known(o.object()):
			enter("no "+what, false, "%s", unknownKind)
		case len(a.anywhere[o.object()]) > 0:
			enter("no "+what, false, "it is there, in namespace %s", strings.Join(a.anywhere[o.object()], ", "))
		case a.misplaced(o.object()) != "":
			enter("no "+what, false, "%s", a.misplaced(o.object()))
		default:
			enter("no "+what, true, "it isn't there")
		}
	}
	for _, c := range a.AtLeast {
		what := strings.TrimSpace((plan.Object{APIVersion: c.APIVersion, Kind: c.Kind, Namespace: c.Namespace}).String())
		n, hint := a.counts[c.kind()], ""
		if misplaced := a.misplaced(plan.Object{APIVersion: c.kind().group, Kind: c.Kind, Namespace: c.Namespace}); misplaced != "" && n < c.Count {
			hint = "; " + misplaced
		}
		enter(strings.TrimSuffix(what, "/"), n >= c.Count, "there are %d, and there should be %d at least%s", n, c.Count, hint)
	}
	return out
}

// unknownKind is said of a mistake in what is expected: with it, nothing would ever be found.
const unknownKind = "there is no such kind, neither a built-in one nor one that the backup defines; is its apiVersion the right one, and is it written as in a manifest?"

// misplaced says of an object for which a namespace is named that its kind has none, as far as there are objects of it; "" otherwise. With that mistake, nothing would ever be found.
func (a *audience) misplaced(name plan.Object) string {
	kind := kindIn{name.APIVersion, name.Kind, ""}
	if name.Namespace == "" || !a.inNone[kind] || a.inSome[kind] {
		return ""
	}
	return fmt.Sprintf("objects of kind %s belong to the whole cluster: leave the namespace out", name.Kind)
}

// known says whether there is a kind.
func (a *audience) known(name plan.Object) bool {
	return a.finder.Knows(inventory.Group(name), name.Kind)
}

func (a *audience) others(name plan.Object) string {
	near := a.near[kindIn{name.APIVersion, name.Kind, name.Namespace}]
	if len(near) == 0 && name.Namespace == "" && a.inSome[kindIn{name.APIVersion, name.Kind, ""}] {
		return "objects of that kind are in namespaces: say in which"
	}
	if len(near) == 0 {
		return "nothing of that kind is in its place"
	}
	return "there are " + strings.Join(near, ", ")
}

// fieldIs compares a field of an object.
func fieldIs(o *inventory.FoundObject, path string, want any) (bool, string) {
	if o.Content == nil {
		if o.Encryption != "" {
			return false, fmt.Sprintf("it is there, but encrypted (%s), and can't be looked into", strings.TrimSuffix(o.Encryption, ":"))
		}
		return false, "it is there, and no object"
	}
	values, err := inventory.Fields(o.Content, path)
	if err != nil {
		return false, err.Error()
	}
	expected := asJSON(want)
	if want == nil && len(values) == 0 {
		return true, "there is none"
	}
	var seen []string
	for _, v := range values {
		if asJSON(v) == expected {
			return true, "it is " + shown(o, expected)
		}
		seen = append(seen, shown(o, asJSON(v)))
	}
	if len(seen) == 0 {
		hint := ""
		if strings.ContainsAny(path, `\?@`) {
			hint = `; a name with dots is written ["like.this"], and an element of a list [0], [*] or [name=like-this]`
		}
		return false, fmt.Sprintf("there is no such field, and it should be %s%s", shown(o, expected), hint)
	}
	if o.Object.Kind == "Secret" {
		return false, "it is another one; neither is shown, as it is of a Secret"
	}
	return false, fmt.Sprintf("it is %s, and should be %s", strings.Join(seen, " and "), shown(o, expected))
}

// shown hides what a Secret holds.
func shown(o *inventory.FoundObject, value string) string {
	if o.Object.Kind == "Secret" {
		return inventory.Hidden
	}
	const most = 200
	if len(value) > most {
		return value[:most] + "…"
	}
	return value
}

// asJSON makes values comparable, wherever they come from.
func asJSON(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}
