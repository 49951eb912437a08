package proof

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// ledgerTimeout bounds a look at all that etcd holds.
const ledgerTimeout = 10 * time.Minute

// LedgerExact holds what etcd holds now against what the snapshot holds, on every key, and counts as equal only what is equal: nothing is
// missing, nothing was added, and no object differs, except in what Kubernetes itself rewrites (inventory.Rewrites) and in objects of drill's own.
//
// Both are read from etcd, not over the API (docs/decisions/0007-ledger-reads-etcd.md). The first member is asked; whether the others agree with it is another check's question.
func LedgerExact(s *Subject) plan.Check {
	l := &ledger{fields: map[string]explained{}}
	s.ledgerCache()
	return plan.Check{
		Name:        "ledger-exact",
		Summary:     "every key that etcd holds is as in the snapshot, none is missing and none was added, but for what Kubernetes itself rewrites",
		Phase:       plan.Prove,
		Undisturbed: true,
		Timeout:     ledgerTimeout,
		Look:        func(ctx context.Context) (plan.Finding, error) { return l.look(ctx, s) },
	}
}

// Loss says what the restore gave up: which objects were made after the snapshot and are gone, which were changed and are again as in it, and which were deleted and are back; see
// inventory.Ledger. The lists are null where it isn't known what there was before, and empty where nothing was lost. It reads the first member's etcd, and the snapshot unless
// LedgerExact has.
func Loss(ctx context.Context, s *Subject) (lost, reverted, revived []plan.Object, err error) {
	_, found, err := s.ledgerCache().compare(ctx, s)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("what was lost: %w", err)
	}
	return objectsOf(found.Lost), objectsOf(found.Reverted), objectsOf(found.Revived), nil
}

func objectsOf(lines []inventory.Line) []plan.Object {
	if lines == nil {
		return nil
	}
	out := make([]plan.Object, len(lines))
	for i, l := range lines {
		out[i] = l.Object
	}
	return out
}

// LedgerCache keeps what comparing once more need not read, or take apart, once more. Its zero value is ready to use, by several goroutines.
type LedgerCache struct {
	mu sync.Mutex
	// snapshot is the inventory of the file with that SHA-256.
	snapshot inventory.Inventory
	sha256   string
	// after is what etcd held when it was last read.
	after inventory.Inventory
}

// ledgerCache returns the subject's cache, a new one if there is none yet.
func (s *Subject) ledgerCache() *LedgerCache {
	if s.Ledger == nil {
		s.Ledger = &LedgerCache{}
	}
	return s.Ledger
}

// ledger is one LedgerExact.
type ledger struct {
	mu sync.Mutex
	// fields says of keys in what they differed when they were last looked into.
	fields map[string]explained
}

// explained is in what an object differed from the snapshot's when it was stored like that.
type explained struct {
	raw    inventory.Digest
	fields []inventory.FieldDifference
}

// compare reads what etcd holds now, and returns the snapshot's inventory with what came of it. The snapshot is read once.
func (c *LedgerCache) compare(ctx context.Context, s *Subject) (snapshot inventory.Inventory, found inventory.Ledger, err error) {
	if s.Snapshot == nil || len(s.Endpoints) == 0 {
		return snapshot, found, errors.New("no snapshot or no etcd is known that could be read")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sha256 != s.Snapshot.SHA256 || c.snapshot.Objects == nil {
		inv, err := inventory.Read(ctx, SnapshotSource(s.Worker, *s.Snapshot), s.Before.AtBreak, s.Before.AtOutage)
		if err != nil {
			return snapshot, found, err
		}
		c.snapshot, c.sha256 = inv, s.Snapshot.SHA256
	}
	after, err := inventory.Read(ctx, inventory.FromEtcd(s.Endpoints[0]), c.snapshot, c.after, s.Before.AtOutage, s.Before.AtBreak)
	if err != nil {
		return snapshot, found, err
	}
	c.after = after
	before := inventory.Merge(s.Before.AtBreak, s.Before.AtOutage)
	return c.snapshot, inventory.Compare(before, c.snapshot, after, inventory.Options{Own: s.Own}), nil
}

func (l *ledger) look(ctx context.Context, s *Subject) (plan.Finding, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Snapshot == nil {
		return plan.Failed("there is no snapshot to compare with", "the step that takes it did not record one").ForGood(), nil
	}
	if len(s.Endpoints) == 0 {
		return plan.Failed("it is not known how to reach etcd", "the stage sets the endpoints of the members").ForGood(), nil
	}
	snapshot, found, err := s.ledgerCache().compare(ctx, s)
	if err != nil {
		return plan.Finding{}, err
	}
	if len(snapshot.Objects) == 0 {
		return plan.Failed("the snapshot holds no key at all, so that nothing can be proven by it", "find out from which etcd it was taken").ForGood(), nil
	}
	evidence := ledgerEvidence(found)
	if found.Exact() {
		return plan.Passed(ledgerDetail(found), evidence...), nil
	}
	differences, more, err := l.differences(ctx, s, found)
	if err != nil {
		return plan.Finding{}, err
	}
	all := found.Kept() + len(found.Missing) + len(found.Changed) + len(found.Added)
	summary := fmt.Sprintf("%d of %s not as in the snapshot (%d missing, %d added, %d changed)",
		all-found.Kept(), several(all, "key"), len(found.Missing), len(found.Added), len(found.Changed))
	return plan.Differs(summary, ledgerRemedy(found), differences, append(more, evidence...)...), nil
}

// ledgerDetail says in one line how much is as in the snapshot.
func ledgerDetail(l inventory.Ledger) string {
	whole, partly := 0, 0
	for _, a := range l.Applied {
		if a.Whole() {
			whole++
		} else {
			partly++
		}
	}
	detail := several(l.Kept(), "key") + " as in the snapshot"
	if l.Partly > 0 {
		detail += fmt.Sprintf(", %d of them but for fields that %s out", l.Partly, leave(partly))
	}
	if l.Unread > 0 {
		detail += fmt.Sprintf(", %d of them encrypted and only known to be there", l.Unread)
	}
	detail += fmt.Sprintf("; %d left out by %s", l.LeftOut-l.Own, several(whole, "rule"))
	if l.Own > 0 {
		detail += fmt.Sprintf(", %d as drill's own", l.Own)
	}
	return detail
}

// ledgerEvidence counts by kind, and names every rule that mattered.
func ledgerEvidence(l inventory.Ledger) []string {
	var same []string
	for _, kind := range slices.Sorted(maps.Keys(l.Same)) {
		same = append(same, fmt.Sprintf("%d %s", l.Same[kind], kind))
	}
	out := []string{"as in the snapshot: " + strings.Join(same, ", ")}
	for _, a := range l.Applied {
		what := several(a.Objects, "key") + " left out"
		if !a.Whole() {
			what = several(a.Objects, "key") + " without " + strings.Join(a.Fields, ", ")
		}
		out = append(out, fmt.Sprintf("rule %s: %s: %s", a.Name, what, a.Reason))
	}
	if l.Unread > 0 {
		out = append(out, several(l.Unread, "key")+" encrypted and written again since: of these kinds Kubernetes itself rewrites fields, which can't be told from the rest, so that nothing but "+
			"their existence was compared")
	}
	if l.Own > 0 {
		out = append(out, several(l.Own, "key")+" left out as drill's own, or what such ones control")
	}
	return out
}

func several(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func leave(rules int) string {
	if rules == 1 {
		return "1 rule leaves"
	}
	return fmt.Sprintf("%d rules leave", rules)
}

// maxFields is how many fields of one object are told apart.
const maxFields = 5

// differences names all that is not as in the snapshot, and says what there was no room for.
func (l *ledger) differences(ctx context.Context, s *Subject, found inventory.Ledger) (out []plan.Difference, more []string, err error) {
	if err := l.explain(ctx, s, found.Changed); err != nil {
		return nil, nil, err
	}
	for _, line := range found.Missing {
		out = append(out, plan.Difference{Subject: line.String(), Expected: identity(line.Snapshot), Seen: inventory.Nothing})
	}
	for _, line := range found.Added {
		out = append(out, plan.Difference{Subject: line.String(), Expected: inventory.Nothing, Seen: identity(line.After) + writtenBy(line)})
	}
	for _, line := range found.Changed {
		if line.Remade() {
			out = append(out, plan.Difference{
				Subject: line.String(), Expected: identity(line.Snapshot), Seen: identity(line.After) + ", another object under the same name" + writtenBy(line),
			})
			continue
		}
		fields := l.fields[line.Key].fields
		if len(fields) == 0 {
			out = append(out, plan.Difference{Subject: line.String(), Expected: "as in the snapshot", Seen: "something else, and written again while it was looked at" + writtenBy(line)})
		}
		for i, f := range fields {
			if i == maxFields {
				more = append(more, fmt.Sprintf("%s differs in %s more", line.Object, several(len(fields)-maxFields, "field")))
				break
			}
			out = append(out, plan.Difference{Subject: line.String(), Expected: f.Path + ": " + f.A, Seen: f.Path + ": " + f.B + writtenBy(line)})
		}
	}
	return out, more, nil
}

// explain finds out in which fields objects differ, unless that is known from the last look.
func (l *ledger) explain(ctx context.Context, s *Subject, changed []inventory.Line) error {
	var unknown []string
	raw := map[string]inventory.Digest{}
	for _, line := range changed {
		if known, ok := l.fields[line.Key]; (!ok || known.raw != line.After.Raw) && !line.Remade() {
			unknown = append(unknown, line.Key)
			raw[line.Key] = line.After.Raw
		}
	}
	fields, err := inventory.Explain(ctx, SnapshotSource(s.Worker, *s.Snapshot), inventory.FromEtcd(s.Endpoints[0]), unknown)
	for _, key := range unknown {
		l.fields[key] = explained{raw[key], fields[key]}
	}
	return err
}

// identity tells an object from others of its name.
func identity(o *inventory.Object) string {
	if o.UID == "" {
		return fmt.Sprintf("what was made at revision %d", o.CreateRevision) // it has none, or is encrypted
	}
	return "UID " + string(o.UID)
}

func writtenBy(l inventory.Line) string {
	if l.After.Writer == "" {
		return ""
	}
	return " (last written by " + l.After.Writer + ")"
}

// ledgerRemedy names the likeliest cause of what was found.
func ledgerRemedy(l inventory.Ledger) string {
	survived := func(line inventory.Line) bool {
		return line.Before != nil && line.After.Raw == line.Before.Raw && (line.Snapshot == nil || line.Before.Raw != line.Snapshot.Raw)
	}
	switch {
	case slices.ContainsFunc(slices.Concat(l.Added, l.Changed), survived):
		return "what was written after the snapshot is still there: etcd does not run on what was restored from it; compare the data directory that etcd's manifest names with " +
			"the restored one, and whether kubelet started etcd anew"
	case len(l.Missing) > l.Kept():
		return "most of the snapshot is not there: etcd runs on another snapshot or on an empty directory, or the restore was cut short"
	case len(l.Missing) > 0 && len(l.Added)+len(l.Changed) == 0:
		return "somebody deleted it after the recovery: a controller that acted on what it remembered from before (restore with --bump-revision and --mark-compacted, and start " +
			"every component anew), the garbage collector if its owner is not in the snapshot, or a person"
	default:
		return "somebody wrote after the recovery: a controller that acted on what it remembered from before (restore with --bump-revision and --mark-compacted, and start every " +
			"component anew), an autoscaler or operator doing its work, or a person; who wrote an object last is in its metadata.managedFields"
	}
}
