package inventory

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Diff is what differs between two sources, A and B.
type Diff struct {
	A, B Side
	// Added are in B only, Removed in A only, and Changed in both. Each list is in the order of keys, and never nil.
	Added, Removed, Changed []ObjectDifference
	// Same is how many keys are the same in both, and Partly how many of these differ in fields that were left out.
	Same, Partly int
	// Unread is how many of these are encrypted, stored otherwise, and of a kind that Kubernetes itself rewrites in fields: that they are there is all that can be said of them.
	Unread int
	// LeftOut is how many keys were left out as a whole.
	LeftOut int
	// Applied are the entries of Rewrites which left something out that differs, or a whole object, in the table's order.
	Applied []Applied
}

// Side is one of the two sources of a Diff.
type Side struct {
	// Revision is etcd's at which the source was read.
	Revision int64
	// Keys is how many keys there were.
	Keys int
	// KubeSystemUID is the UID of Namespace kube-system, by which clusters are told apart; empty where there is none, or it is encrypted.
	KubeSystemUID string
}

// ObjectDifference is an object in which two sources differ.
type ObjectDifference struct {
	Key string
	plan.Object
	// A and B are what the sources have; nil for nothing.
	A, B *Object
	// Fields are those in which an object that is in both differs. There are none where the source could not be read again as it was: a running etcd goes on.
	Fields []FieldDifference
}

// Remade says whether the object was deleted and made anew under the same name.
func (d ObjectDifference) Remade() bool { return d.A != nil && d.B != nil && !d.A.is(*d.B) }

// None says whether nothing differs that counts.
func (d Diff) None() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// TakeDiff says what differs between two sources, by the same rules as Compare, but that what was being deleted counts; the Own of its options are left out on both sides. Each source must give its keys in their order, and is read twice: first for what differs, of which digests are kept, and then
// for the fields, one object after the other. So the memory that it takes grows with the number of the objects and not with their size.
func TakeDiff(ctx context.Context, a, b Source, o Options) (Diff, error) {
	o.moments = true
	one, err := Read(ctx, a)
	if err != nil {
		return Diff{}, err
	}
	other, err := Read(ctx, b, one)
	if err != nil {
		return Diff{}, err
	}
	l := Compare(Inventory{}, one, other, o)
	d := Diff{
		A: side(one), B: side(other), Same: l.Kept(), Partly: l.Partly, Unread: l.Unread, LeftOut: l.LeftOut, Applied: l.Applied,
		Added: differences(l.Added), Removed: differences(l.Missing), Changed: differences(l.Changed),
	}
	x := newExplainer(one, other, o)
	wanted := map[string]*ObjectDifference{}
	for i := range d.Changed {
		wanted[d.Changed[i].Key] = &d.Changed[i]
	}
	return d, x.explain(ctx, a, b, wanted)
}

func side(i Inventory) Side {
	return Side{Revision: i.Revision, Keys: len(i.Objects), KubeSystemUID: string(i.Objects[kubeSystem].UID)}
}

func differences(lines []Line) []ObjectDifference {
	out := make([]ObjectDifference, len(lines))
	for i, l := range lines {
		out[i] = ObjectDifference{Key: l.Key, Object: l.Object, A: l.Snapshot, B: l.After}
	}
	return out
}

// explainer says in which fields objects differ.
type explainer struct {
	reader   *reader
	observed map[schema.GroupKind]bool
	services map[fullName]bool
	// all says that nothing is left out.
	all bool
}

func newExplainer(a, b Inventory, o Options) *explainer {
	c := newComparison(Inventory{}, a, b, o)
	return &explainer{observed: c.observed, services: c.services, all: o.All}
}

// explain enters the fields, which it reads from both sources at once.
func (x *explainer) explain(ctx context.Context, a, b Source, wanted map[string]*ObjectDifference) (err error) {
	if len(wanted) == 0 {
		return nil
	}
	if x.reader, err = newReader(); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err = x.pass(ctx, a, b, wanted)
		if err == nil || !errors.Is(err, etcd.ErrCompacted) || attempt == rereads {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("reading %d objects again, to see what differs: %w", len(wanted), err)
	}
	return nil
}

// pass goes through both sources once, side by side.
func (x *explainer) pass(ctx context.Context, a, b Source, wanted map[string]*ObjectDifference) error {
	group, ctx := errgroup.WithContext(ctx)
	var sides [2]chan etcd.KeyValue
	for i, from := range []Source{a, b} {
		sides[i] = make(chan etcd.KeyValue)
		group.Go(func() error {
			defer close(sides[i])
			_, err := from(ctx, func(kv etcd.KeyValue) error {
				if wanted[string(kv.Key)] == nil {
					return nil
				}
				select {
				case sides[i] <- kv:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			return err
		})
	}
	group.Go(func() error {
		one, more := <-sides[0]
		other, too := <-sides[1]
		for more && too {
			switch order := bytes.Compare(one.Key, other.Key); {
			case order < 0:
				one, more = <-sides[0]
			case order > 0:
				other, too = <-sides[1]
			default:
				if d := wanted[string(one.Key)]; one.ModRevision == d.A.ModRevision && other.ModRevision == d.B.ModRevision {
					d.Fields = x.fields(one, other)
				}
				one, more = <-sides[0]
				other, too = <-sides[1]
			}
		}
		// Each source is read to its end: what is wrong with it may be said there.
		for range sides[0] {
		}
		for range sides[1] {
		}
		return nil
	})
	return group.Wait()
}

// fields says in which fields two values of a key differ.
func (x *explainer) fields(a, b etcd.KeyValue) []FieldDifference {
	one, other := x.reader.decode(string(a.Key), a.Value), x.reader.decode(string(b.Key), b.Value)
	if !x.all {
		x.reader.stripBoth(one, other, x.observed, x.services)
	}
	return difference(one, other)
}
