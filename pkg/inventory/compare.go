package inventory

import (
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Options change what Compare counts.
type Options struct {
	// Own are objects that somebody goes on writing on purpose. They are left out, together with what they control; for a Namespace also what is in it. The version in
	// APIVersion doesn't matter.
	Own []plan.Object
	// All says that nothing is left out because of the table of Rewrites.
	All bool
	// Only, if set, chooses what is told and counted.
	Only func(plan.Object) bool
	// moments says that two moments are compared, and no recovery with its snapshot: what was being deleted is told of as everything else is.
	moments bool
}

// Ledger is what a recovery gave up, and what it should not have.
//
// What it gave up is told by two inventories, the one before and the snapshot's, and confirmed by the third. An object that was there when the break began counts as there, though
// the break destroyed it: if the snapshot is older, its age is why it is lost. What somebody deleted between the snapshot and the break is in no inventory, and so not
// lost. Between the break and the outage, a deletion by somebody can't be told from the destruction; it is taken for the latter, since naming one object too many
// is the better mistake. Line.Before says that it was Gone.
//
// Each list is in the order of keys.
type Ledger struct {
	// Lost were made after the snapshot, and are gone. They are null, like Reverted and Revived, where it isn't known what there was before.
	Lost []Line
	// Reverted were changed after the snapshot, and the change is gone: they are again as they were in it, unless somebody has changed them once more, in which case they are Changed
	// as well.
	Reverted []Line
	// Revived were deleted after the snapshot, or had been made anew under the same name, and are back.
	Revived []Line

	// Missing are in the snapshot, and not there after it.
	Missing []Line
	// Added are there after it, and not in the snapshot.
	Added []Line
	// Changed are in both, and differ.
	Changed []Line

	// Same counts what is as in the snapshot, by kind as plan.Object writes it.
	Same map[string]int
	// Partly is how many of these differ in fields that were left out.
	Partly int
	// Unread is how many of these are encrypted, stored otherwise than in the snapshot, and of a kind that Kubernetes itself rewrites in fields: that they are there is all that
	// can be said of them.
	Unread int
	// LeftOut is how many keys were left out as a whole, and Own how many of them because of Options.Own.
	LeftOut, Own int
	// Applied are the entries of Rewrites which left something out that differs, or a whole object, in the table's order.
	Applied []Applied
}

// Line is one object in a ledger.
type Line struct {
	Key string
	plan.Object
	// Before, Snapshot and After are what the three inventories have under the key; nil for nothing.
	Before, Snapshot, After *Object
}

// Remade says whether there is another object under the name than in the snapshot.
func (l Line) Remade() bool { return l.Snapshot != nil && l.After != nil && !l.After.is(*l.Snapshot) }

// Applied is how often an entry of Rewrites mattered.
type Applied struct {
	Rewrite
	// Objects is how many keys it concerned.
	Objects int
}

// Exact says whether all is as in the snapshot.
func (l Ledger) Exact() bool { return len(l.Missing)+len(l.Added)+len(l.Changed) == 0 }

// Kept is how many keys are as in the snapshot.
func (l Ledger) Kept() int {
	n := 0
	for _, objects := range l.Same {
		n += objects
	}
	return n
}

// Compare says what a recovery made of a snapshot: before is what there was before the outage, see Merge; after is what there is now.
//
// An object that was made after the snapshot, and has been made once more after the recovery by somebody who missed it, is another one with another UID: it is both Lost and Added.
func Compare(before, snapshot, after Inventory, o Options) Ledger {
	c := newComparison(before, snapshot, after, o)
	l := Ledger{Same: map[string]int{}}
	if before.Objects != nil {
		l.Lost, l.Reverted, l.Revived = []Line{}, []Line{}, []Line{}
	}
	keys := map[string]bool{}
	for _, inv := range []Inventory{before, snapshot, after} {
		for key := range inv.Objects {
			keys[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		c.enter(&l, Line{Key: key, Before: at(before, key), Snapshot: at(snapshot, key), After: at(after, key)})
	}
	l.Own, l.Unread = c.applied[own], c.applied[unread]
	for i, r := range c.rules {
		if n := c.applied[i]; n > 0 {
			l.Applied = append(l.Applied, Applied{r, n})
		}
	}
	return l
}

func at(inv Inventory, key string) *Object {
	if o, ok := inv.Objects[key]; ok {
		return &o
	}
	return nil
}

// comparison is one call of Compare.
type comparison struct {
	rules   []Rewrite
	byName  map[string]int
	applied map[int]int
	options Options
	// now is what says whether something has expired.
	now time.Time
	// observed are kinds whose CustomResourceDefinition has the status subresource.
	observed map[schema.GroupKind]bool
	// services are those that select Pods.
	services map[fullName]bool
	own      map[plan.Object]bool
	// controllers are whole objects that are left out, by UID, and namespaces those that are, each with the place of the entry by which.
	controllers map[types.UID]int
	namespaces  map[string]int
}

// Places that are none of the table's.
const (
	counts = -1
	own    = -2
	unread = -3
)

func newComparison(before, snapshot, after Inventory, o Options) *comparison {
	c := &comparison{
		rules: Rewrites(), byName: map[string]int{}, applied: map[int]int{}, options: o, now: time.Now(), observed: map[schema.GroupKind]bool{}, services: map[fullName]bool{},
		own: map[plan.Object]bool{}, controllers: map[types.UID]int{}, namespaces: map[string]int{},
	}
	for i, r := range c.rules {
		c.byName[r.Name] = i
	}
	for _, object := range o.Own {
		c.own[versionless(object)] = true
	}
	for _, inv := range []Inventory{snapshot, after, before} {
		for _, object := range inv.Objects {
			if object.observes.Kind != "" {
				c.observed[object.observes] = true
			}
			if object.selects {
				c.services[fullNameOf(object.Object)] = true
			}
		}
	}
	// What is left out takes what it controls along, which may control something in its turn: a CronJob's Job has Pods.
	for grown := true; grown; {
		grown = false
		for i, inv := range []Inventory{snapshot, after, before} {
			for _, object := range inv.Objects {
				grown = c.spread(object, i == 0) || grown
			}
		}
	}
	return c
}

// versionless is what two names of the same object have in common.
func versionless(o plan.Object) plan.Object {
	o.APIVersion = groupKind(o).Group
	return o
}

// spread notes that what an object that is left out covers is left out, too, and says whether that is news.
func (c *comparison) spread(o Object, inSnapshot bool) bool {
	place := c.place(&o)
	if place == counts || place >= 0 && c.rules[place].Name == beingDeleted && !inSnapshot {
		return false
	}
	grown := false
	if _, known := c.controllers[o.UID]; !known && o.UID != "" {
		c.controllers[o.UID], grown = place, true
	}
	if groupKind(o.Object) == (schema.GroupKind{Kind: "Namespace"}) {
		if _, known := c.namespaces[o.Name]; !known {
			c.namespaces[o.Name], grown = place, true
		}
	}
	return grown
}

// place returns by which entry the whole object is left out; counts for most.
func (c *comparison) place(o *Object) int {
	if c.own[versionless(o.Object)] {
		return own
	}
	if place, covered := c.namespaces[o.Namespace]; covered && o.Namespace != "" {
		return place
	}
	if o.Rule != "" && !c.options.All && (!c.options.moments || o.Rule != beingDeleted) {
		return c.byName[o.Rule]
	}
	if place, covered := c.controllers[o.controller]; covered && o.controller != "" {
		return place
	}
	return counts
}

// leftOut returns by which entry a key is left out; counts if it isn't. What the snapshot has decides.
func (c *comparison) leftOut(l Line) int {
	for _, o := range []*Object{l.Snapshot, l.After, l.Before} {
		if o == nil {
			continue
		}
		place := c.place(o)
		switch {
		case place < 0:
			return place
		case c.rules[place].Name == beingDeleted && o != l.Snapshot:
			// Its deletion began later, so that it is news, and part of what is told.
			return counts
		case c.rules[place].MayGo && (o != l.Snapshot || l.After != nil || o.expires.After(c.now)):
			return counts
		}
		return place
	}
	return counts
}

// enter puts a key into the ledger.
func (c *comparison) enter(l *Ledger, line Line) {
	before, snapshot, after := line.Before, line.Snapshot, line.After
	for _, o := range []*Object{before, after, snapshot} {
		if o != nil {
			line.Object = o.Object
		}
	}
	if c.options.Only != nil && !c.options.Only(line.Object) {
		return
	}
	if place := c.leftOut(line); place != counts {
		if snapshot != nil || after != nil {
			c.applied[place]++
			l.LeftOut++
		}
		return
	}
	switch {
	case snapshot == nil && after == nil:
	case snapshot == nil:
		l.Added = append(l.Added, line)
	case after == nil:
		l.Missing = append(l.Missing, line)
	default:
		same, parts := c.same(*snapshot, *after)
		if !same {
			l.Changed = append(l.Changed, line)
			break
		}
		l.Same[kindName(line.Object)]++
		for _, place := range parts {
			c.applied[place]++
		}
		if slices.ContainsFunc(parts, func(place int) bool { return place >= 0 }) {
			l.Partly++
		}
	}
	c.enterLoss(l, line)
}

// enterLoss says what became of a key that was written after the snapshot.
func (c *comparison) enterLoss(l *Ledger, line Line) {
	before, snapshot, after := line.Before, line.Snapshot, line.After
	if l.Lost == nil {
		return
	}
	made := before != nil && (snapshot == nil || !before.is(*snapshot))
	if made && (after == nil || !after.is(*before)) {
		l.Lost = append(l.Lost, line)
	}
	if snapshot == nil || after == nil || !after.is(*snapshot) {
		return
	}
	if before == nil || before.deleted() || made {
		l.Revived = append(l.Revived, line)
		return
	}
	unchanged, _ := c.same(*snapshot, *before)
	kept, _ := c.same(*before, *after)
	if !unchanged && !kept {
		l.Reverted = append(l.Reverted, line)
	}
}

// same says whether two objects are the same but for what entries of the table leave out, and by which ones. For what is encrypted and may have been rewritten in fields, that is
// unread: nobody can tell what was.
func (c *comparison) same(a, b Object) (same bool, leftOut []int) {
	if !c.options.All && (a.Encryption != "" || b.Encryption != "") && a.Raw != b.Raw && c.rewritten(a.Object) && c.rewritten(b.Object) {
		return true, []int{unread}
	}
	if a.Digest != b.Digest {
		return false, nil
	}
	digests := map[int][2]uint64{}
	for i, parts := range [][]part{a.parts, b.parts} {
		for _, p := range parts {
			d := digests[p.rule]
			d[i] = p.digest
			digests[p.rule] = d
		}
	}
	for place, d := range digests {
		switch {
		case d[0] == d[1]:
		case c.options.All || !c.rules[place].holds(a.Object, c.observed, c.services):
			return false, nil
		default:
			leftOut = append(leftOut, place)
		}
	}
	return true, leftOut
}

// rewritten says whether Kubernetes itself rewrites fields of such objects, as far as that can be known without looking into them. A custom resource may have the status
// subresource: its definition is as unreadable. Secrets and ConfigMaps hold what people wrote, and entries of the table are about few of them, so that they count.
func (c *comparison) rewritten(o plan.Object) bool {
	gk := groupKind(o)
	if gk == (schema.GroupKind{Kind: "Secret"}) || gk == (schema.GroupKind{Kind: "ConfigMap"}) {
		return false
	}
	return strings.HasSuffix(o.APIVersion, "/") || slices.ContainsFunc(c.rules, func(r Rewrite) bool { return !r.Whole() && slices.Contains(r.kinds, gk) })
}

// kindName is the kind as plan.Object writes it.
func kindName(o plan.Object) string {
	return strings.TrimSuffix(plan.Object{APIVersion: o.APIVersion, Kind: o.Kind}.String(), " ")
}
