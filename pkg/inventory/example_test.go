package inventory_test

import (
	"context"
	"fmt"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// moment is a source of custom resources, which etcd holds as JSON. A program takes FromEtcd and FromSnapshot instead.
func moment(values map[string]string) inventory.Source {
	held := keys{}
	for key, value := range values {
		held[key] = []byte(value)
	}
	return held.source
}

// Three moments of a cluster: before it was lost, in the snapshot, and after it was brought back.
func Example() {
	const at = "/registry/example.com/widgets/default/"
	object := func(name, uid string, size int) string {
		return fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"namespace":"default","name":%q,"uid":%q},"spec":{"size":%d}}`, name, uid, size)
	}
	before := moment(map[string]string{at + "kept": object("kept", "k", 1), at + "late": object("late", "l", 1), at + "grown": object("grown", "g", 2)})
	snapshot := moment(map[string]string{at + "kept": object("kept", "k", 1), at + "grown": object("grown", "g", 1), at + "gone": object("gone", "x", 1)})
	after := moment(map[string]string{at + "kept": object("kept", "k", 7), at + "grown": object("grown", "g", 1), at + "gone": object("gone", "x", 1)})

	ctx := context.Background()
	var moments []inventory.Inventory
	for _, source := range []inventory.Source{before, snapshot, after} {
		inv, err := inventory.Read(ctx, source, moments...)
		if err != nil {
			fmt.Println(err)
			return
		}
		moments = append(moments, inv)
	}
	ledger := inventory.Compare(moments[0], moments[1], moments[2], inventory.Options{})
	fmt.Println("exact:", ledger.Exact())
	for _, line := range ledger.Lost {
		fmt.Println("lost:", line.Object)
	}
	for _, line := range ledger.Reverted {
		fmt.Println("reverted:", line.Object)
	}
	for _, line := range ledger.Revived {
		fmt.Println("revived:", line.Object)
	}
	for _, line := range ledger.Changed {
		fields, err := inventory.Explain(ctx, snapshot, after, []string{line.Key})
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, f := range fields[line.Key] {
			fmt.Printf("changed: %s, %s: %s in the snapshot, %s now\n", line.Object, f.Path, f.A, f.B)
		}
	}
	// Output:
	// exact: false
	// lost: Widget.example.com default/late
	// reverted: Widget.example.com default/grown
	// revived: Widget.example.com default/gone
	// changed: Widget.example.com default/kept, spec.size: 1 in the snapshot, 7 now
}

// What a snapshot holds against what a running etcd holds, without the ConfigMap that this program itself writes to.
func ExampleCompare() {
	check := func(ctx context.Context, ep etcd.Endpoint, w etcd.Worker, path string) error {
		snapshot, err := inventory.Read(ctx, inventory.FromSnapshot(w, path))
		if err != nil {
			return err
		}
		// What is stored as in the snapshot need not be taken apart again.
		now, err := inventory.Read(ctx, inventory.FromEtcd(ep), snapshot)
		if err != nil {
			return err
		}
		ledger := inventory.Compare(inventory.Inventory{}, snapshot, now, inventory.Options{
			Own: []plan.Object{{APIVersion: "v1", Kind: "ConfigMap", Namespace: "default", Name: "mine"}},
		})
		for _, line := range ledger.Missing {
			fmt.Println(line.Object, "is missing")
		}
		return nil
	}
	_ = check
}
