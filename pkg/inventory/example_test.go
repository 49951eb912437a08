package inventory_test

import (
	"context"
	"fmt"
	"time"

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

// A backup of a real cluster.
const backup = "../../testdata/kubeadm-v1.37-etcd-3.7.db"

// Whether a backup is sound, down to each value of its history.
func ExampleVerifyHere() {
	v, err := inventory.VerifyHere(context.Background(), backup, false)
	condition, _ := etcd.ConditionOf(err)
	fmt.Println(condition, "with", v.Values, "values, of the cluster", v.KubeSystemUID)
	// Output: sound with 1081 values, of the cluster 818a490a-9490-490d-b98c-1cc254fb9bc3
}

// What is in a backup, and what of it would hurt after a restore.
func ExampleTakeSurvey() {
	ctx := context.Background()
	f, err := etcd.OpenFile(ctx, backup, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = f.Close() }()
	s, err := inventory.TakeSurvey(ctx, inventory.FromFile(f), inventory.SurveyOptions{At: time.Now()})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Total.Keys, "keys, most of them", s.Kinds[0].Kind)
	for _, h := range s.Hazards {
		if h.Severity == inventory.SeverityMedium {
			fmt.Println(h.Name+":", h.Objects[0].Object)
		}
	}
	// Output:
	// 387 keys, most of them ClusterRole
	// finalizers-without-controller: Order.shop.example.com shop/second
}

// One object, as people name it.
func ExampleFind() {
	ctx := context.Background()
	f, err := etcd.OpenFile(ctx, backup, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = f.Close() }()
	q, err := inventory.ParseQuery("deploy/shop/nginx")
	if err != nil {
		fmt.Println(err)
		return
	}
	found, err := inventory.Find(ctx, inventory.FromFile(f), q, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	replicas, err := inventory.Fields(found[0].Content, "spec.replicas")
	fmt.Println(found[0].Object, "has replicas", replicas, err)
	// Output: Deployment.apps shop/nginx has replicas [2] <nil>
}

// What differs between two moments, and in which fields. A program takes FromSnapshot and FromEtcd.
func ExampleTakeDiff() {
	const at = "/registry/example.com/widgets/default/"
	a := moment(map[string]string{at + "old": `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"namespace":"default","name":"old"}}`,
		at + "kept": `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"namespace":"default","name":"kept"},"spec":{"size":1}}`})
	b := moment(map[string]string{at + "new": `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"namespace":"default","name":"new"}}`,
		at + "kept": `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"namespace":"default","name":"kept"},"spec":{"size":2}}`})
	d, err := inventory.TakeDiff(context.Background(), a, b, inventory.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, o := range d.Added {
		fmt.Println("+", o.Object)
	}
	for _, o := range d.Removed {
		fmt.Println("-", o.Object)
	}
	for _, o := range d.Changed {
		for _, f := range o.Fields {
			fmt.Printf("~ %s %s: %s, and then %s\n", o.Object, f.Path, f.A, f.B)
		}
	}
	// Output:
	// + Widget.example.com default/new
	// - Widget.example.com default/old
	// ~ Widget.example.com default/kept spec.size: 1, and then 2
}
