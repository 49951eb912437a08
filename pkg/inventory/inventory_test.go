package inventory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// TestEveryKindOfARealCluster takes apart what a real API server stored of every kind: each value is understood wholly, and says who it is.
func TestEveryKindOfARealCluster(t *testing.T) {
	all := realKeys(t)
	inv := all.read(t)
	kinds := map[string]bool{}
	for key, o := range inv.Objects {
		kinds[o.Kind] = true
		switch {
		case key == "compact_rev_key":
			if want := (plan.Object{Kind: "Key", Name: key}); o.Object != want {
				t.Errorf("%s: %+v", key, o)
			}
		case o.Kind == "RangeAllocation" || o.Rule == "api-server-registrations":
			// Books of the API server, in the shape of objects.
			if o.UID != "" || o.Name != key || o.APIVersion != "v1" {
				t.Errorf("%s: %+v", key, o)
			}
		case o.UID == "" || o.Kind == "" || o.APIVersion == "" || !strings.HasSuffix(key, "/"+o.Name) || o.Namespace != "" && !strings.Contains(key, "/"+o.Namespace+"/"):
			t.Errorf("%s: %+v", key, o)
		}
		if o.Encryption != "" || o.Gone || o.Digest == (inventory.Digest{}) || o.Raw == o.Digest {
			t.Errorf("%s: %+v", key, o)
		}
	}
	for _, kind := range []string{
		"APIService", "CSIDriver", "CSINode", "CSIStorageCapacity", "CertificateSigningRequest", "ClusterRole", "ClusterRoleBinding", "ClusterTrustBundle", "ConfigMap",
		"ControllerRevision", "CronJob", "CustomResourceDefinition", "DaemonSet", "Deployment", "DeviceClass", "DeviceTaintRule", "EndpointSlice", "Endpoints", "Event", "FlowSchema",
		"HorizontalPodAutoscaler", "IPAddress", "Ingress", "IngressClass", "Job", "Key", "Lease", "LimitRange", "MutatingAdmissionPolicy", "MutatingWebhookConfiguration",
		"Namespace", "NetworkPolicy", "Node", "PersistentVolume", "PersistentVolumeClaim", "Plain", "Pod", "PodDisruptionBudget", "PodTemplate", "PriorityClass",
		"PriorityLevelConfiguration", "RangeAllocation", "ReplicaSet", "ReplicationController", "ResourceClaim", "ResourceClaimTemplate", "ResourceQuota", "Role", "RoleBinding",
		"RuntimeClass", "Secret", "Service", "ServiceAccount", "ServiceCIDR", "StatefulSet", "StorageClass", "StorageVersionMigration", "ValidatingAdmissionPolicy",
		"ValidatingWebhookConfiguration", "VolumeAttachment", "VolumeAttributesClass", "Widget",
	} {
		if !kinds[kind] {
			t.Errorf("no %s was recorded", kind)
		}
	}
	if l := inventory.Compare(inv, inv, inv, inventory.Options{}); !l.Exact() || len(l.Lost)+len(l.Reverted)+len(l.Revived) > 0 || l.Kept()+l.LeftOut != len(all) {
		t.Errorf("compared with itself: %+v", l)
	}
}

// TestNamesFromKeys: what is encrypted is named as it would be if it weren't, but for the version.
func TestNamesFromKeys(t *testing.T) {
	all := realKeys(t)
	hidden := keys{}
	for key := range all {
		hidden[key] = []byte("k8s:enc:secretbox:v1:k:xyz")
	}
	open := all.read(t)
	for key, got := range hidden.read(t).Objects {
		want := open.Objects[key]
		if want.Name == key {
			continue // it has no name of its own
		}
		custom := want.Kind == "Widget" || want.Kind == "Plain" || strings.HasSuffix(groupOf(want.APIVersion), "iextensions.k8s.io") || groupOf(want.APIVersion) == "apiregistration.k8s.io"
		if custom {
			want.Kind = strings.ToLower(want.Kind) + "s" // the key has the resource
		}
		if got.Kind != want.Kind || got.Namespace != want.Namespace || got.Name != want.Name || groupOf(got.APIVersion) != groupOf(want.APIVersion) {
			t.Errorf("%s: %+v, want %+v", key, got.Object, want.Object)
		}
	}
	for key, want := range map[string]plan.Object{
		"/registry/ranges/a/b/c":  {Kind: "Key", Name: "/registry/ranges/a/b/c"},
		"/elsewhere/pods/ns/a":    {Kind: "Key", Name: "/elsewhere/pods/ns/a"},
		"/registry/alone":         {Kind: "Key", Name: "/registry/alone"},
		"a\x00b":                  {Kind: "Key", Name: `"a\x00b"`},
		"/registry/newthings/n/a": {Kind: "newthings", Namespace: "n", Name: "a"},
	} {
		if got := (keys{key: []byte{0xff}}).read(t).Objects[key]; got.Object != want {
			t.Errorf("%q: %+v, want %+v", key, got.Object, want)
		}
	}
}

func groupOf(apiVersion string) string {
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return ""
	}
	return group
}

// TestTypesThatAreNotKnown: of a kind that this build doesn't have, the metadata are understood, and the rest counts byte by byte.
func TestTypesThatAreNotKnown(t *testing.T) {
	thing := func(name, manager string, spec string) keys {
		meta := metav1.ObjectMeta{Name: name, Namespace: "ns", UID: "u1"}
		if manager != "" {
			meta.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: manager}}
		}
		m, err := meta.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		raw := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), m)
		raw = protowire.AppendBytes(protowire.AppendTag(raw, 2, protowire.BytesType), []byte(spec))
		return keys{"/registry/future.k8s.io/things/ns/a": envelope(t, "future.k8s.io/v1", "Thing", raw)}
	}
	snapshot := thing("a", "x", "spec").read(t)
	o := snapshot.Objects["/registry/future.k8s.io/things/ns/a"]
	if want := (plan.Object{APIVersion: "future.k8s.io/v1", Kind: "Thing", Namespace: "ns", Name: "a"}); o.Object != want || o.UID != "u1" {
		t.Errorf("%+v", o)
	}
	for _, c := range []struct {
		name  string
		after keys
		want  string
		field string
	}{
		{"the same", thing("a", "x", "spec"), "", ""},
		{"managed fields", thing("a", "y", "spec"), "", ""},
		{"metadata", thing("b", "x", "spec"), "changed a", "metadata.name"},
		{"the rest", thing("a", "x", "ceps"), "changed a", "(fields that this build doesn't know)"},
	} {
		l := inventory.Compare(inventory.Inventory{}, snapshot, c.after.read(t), inventory.Options{})
		if got := ledgerText(l); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		fields, err := inventory.Explain(t.Context(), thing("a", "x", "spec").source, c.after.source, []string{"/registry/future.k8s.io/things/ns/a"})
		if err != nil || (c.field != "") != (len(fields) == 1) {
			t.Errorf("%s: %+v, %v", c.name, fields, err)
		}
		for _, f := range fields {
			if f[0].Path != c.field {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
	}
}

// TestFieldsThatAreNotKnown: a later Kubernetes may have given a type fields that this build would drop.
func TestFieldsThatAreNotKnown(t *testing.T) {
	pod := func(phase, later string) keys {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: "u1"}, Status: corev1.PodStatus{Phase: corev1.PodPhase(phase)}}
		raw, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if later != "" {
			raw = protowire.AppendString(protowire.AppendTag(raw, 99, protowire.BytesType), later)
		}
		return keys{"/registry/pods/ns/a": envelope(t, "v1", "Pod", raw)}
	}
	snapshot := pod("Pending", "x").read(t)
	for want, after := range map[string]keys{"": pod("Running", "x"), "changed a": pod("Pending", "y")} {
		if got := ledgerText(inventory.Compare(inventory.Inventory{}, snapshot, after.read(t), inventory.Options{})); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := ledgerText(inventory.Compare(inventory.Inventory{}, snapshot, pod("Pending", "").read(t), inventory.Options{})); got != "changed a" {
		t.Errorf("%q", got)
	}
}

// TestCBOR: an API server may be told to store custom resources like that.
func TestCBOR(t *testing.T) {
	value, err := cbor.Marshal(cbor.Tag{Number: 55799, Content: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": "w", "namespace": "ns", "uid": "u1"}, "spec": map[string]any{"size": 3},
	}})
	if err != nil {
		t.Fatal(err)
	}
	o := keys{"/registry/example.com/widgets/ns/w": value}.read(t).Objects["/registry/example.com/widgets/ns/w"]
	if want := (plan.Object{APIVersion: "example.com/v1", Kind: "Widget", Namespace: "ns", Name: "w"}); o.Object != want || o.UID != "u1" {
		t.Errorf("%+v", o)
	}
}

// TestDamagedValues: whatever is stored is read, and never counts as what it was.
func TestDamagedValues(t *testing.T) {
	all := realKeys(t)
	whole := all.read(t)
	for _, damage := range []func(value []byte, at int) []byte{
		func(value []byte, at int) []byte { return value[:at] },
		func(value []byte, at int) []byte { value[at] ^= 0x15; return value },
		func(value []byte, at int) []byte { return append(value, value[at:]...) },
	} {
		for part := range 7 {
			damaged := keys{}
			for key, value := range all {
				damaged[key] = damage(slices.Clone(value), part*len(value)/7)
			}
			for key, o := range damaged.read(t).Objects {
				if o.Name == "" || o.Kind == "" || o.Raw == whole.Objects[key].Raw {
					t.Errorf("%s: %+v", key, o)
				}
			}
		}
	}
}

// TestReadAgainAfterCompaction: what was read before counts for nothing then.
func TestReadAgainAfterCompaction(t *testing.T) {
	early, late := configMap(t, "early", "1", "x"), configMap(t, "late", "2", "x")
	reads := 0
	source := func(fail int) inventory.Source {
		reads = 0
		return func(ctx context.Context, each func(etcd.KeyValue) error) (int64, error) {
			if reads++; reads <= fail {
				if _, err := early.source(ctx, each); err != nil {
					return 0, err
				}
				return 0, fmt.Errorf("after a key: %w", etcd.ErrCompacted)
			}
			return late.source(ctx, each)
		}
	}
	inv, err := inventory.Read(t.Context(), source(2))
	if err != nil || !reflect.DeepEqual(inv, late.read(t)) {
		t.Errorf("%+v, %v", inv, err)
	}
	if inv, err := inventory.Read(t.Context(), source(99)); !errors.Is(err, etcd.ErrCompacted) || inv.Objects != nil || reads != 3 {
		t.Errorf("%+v, %v after %d reads", inv, err, reads)
	}
	fields, err := inventory.Explain(t.Context(), source(1), configMap(t, "late", "2", "y").source, []string{"/registry/configmaps/ns/late"})
	if err != nil || len(fields) != 1 {
		t.Errorf("%+v, %v", fields, err)
	}
	broken := errors.New("broken")
	fails := func(context.Context, func(etcd.KeyValue) error) (int64, error) { return 0, broken }
	if _, err := inventory.Read(t.Context(), fails); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := inventory.Explain(t.Context(), late.source, fails, []string{"k"}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// TestFiftyLateObjects has 50 objects made after the snapshot, among much that happens all the time; they are named, and nothing else is. It goes through a real etcd and a real snapshot, on
// what a real API server stored.
func TestFiftyLateObjects(t *testing.T) {
	member := etcdtest.Serve(t, t.TempDir(), nil)
	ep, cli := member.Endpoint, member.Client
	write := func(k keys) {
		t.Helper()
		for key, value := range k {
			if _, err := cli.Put(t.Context(), key, string(value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(key string) {
		t.Helper()
		if _, err := cli.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	live := func(known ...inventory.Inventory) inventory.Inventory {
		t.Helper()
		inv, err := inventory.Read(t.Context(), inventory.FromEtcd(ep), known...)
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	all := realKeys(t)
	write(all)
	path := filepath.Join(t.TempDir(), "vault", "snap.db")
	if _, err := etcd.Save(t.Context(), ep, path); err != nil {
		t.Fatal(err)
	}
	from := inventory.FromSnapshot(etcdtest.Worker(t), path)
	snapshot, err := inventory.Read(t.Context(), from)
	if err != nil || len(snapshot.Objects) != len(all) {
		t.Fatalf("%d keys of %d, %v", len(snapshot.Objects), len(all), err)
	}
	if now := live(); !reflect.DeepEqual(now, snapshot) {
		t.Error("the snapshot and what it was taken of differ")
	}

	var want []string
	for i := range 50 {
		name := fmt.Sprintf("late-%02d", i)
		want = append(want, "ConfigMap ns/"+name)
		write(configMap(t, name, name, "late"))
		write(keys{"/registry/events/ns/" + name: asStored(t, "{apiVersion: v1, kind: Event, metadata: {name: "+name+", namespace: ns, uid: "+name+"}}")})
	}
	const widget, settings = "/registry/example.com/widgets/sample/one", "/registry/limitranges/sample/l"
	atBreak := live(snapshot)
	write(keys{"compact_rev_key": []byte("99"), widget: bytes.Replace(all[widget], []byte(`"spec":{`), []byte(`"status":{"seen":1},"spec":{`), 1)})
	remove(settings)
	atOutage := live(snapshot)

	// What a restore does: everything is again as it was in the snapshot. Events go on.
	if _, err := cli.Delete(t.Context(), "/registry/configmaps/ns/late-", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	write(all)
	write(keys{"/registry/events/ns/new": asStored(t, "{apiVersion: v1, kind: Event, metadata: {name: new, namespace: ns, uid: new}}")})
	l := inventory.Compare(inventory.Merge(atBreak, atOutage), snapshot, live(snapshot), inventory.Options{})
	var lost []string
	for _, line := range l.Lost {
		lost = append(lost, line.String())
	}
	if !slices.Equal(lost, want) {
		t.Errorf("lost %v", lost)
	}
	if len(l.Revived) != 1 || l.Revived[0].Key != settings || len(l.Reverted) > 0 || !l.Exact() {
		t.Errorf("%s", ledgerText(l))
	}

	// And what it must not do.
	remove(settings)
	write(configMap(t, "late-07", "another", "late"))
	write(keys{widget: bytes.Replace(all[widget], []byte(`"size":9007199254740993`), []byte(`"size":9007199254740992`), 1)})
	l = inventory.Compare(inventory.Merge(atBreak, atOutage), snapshot, live(snapshot), inventory.Options{})
	if len(l.Missing) != 1 || l.Missing[0].Key != settings || len(l.Added) != 1 || l.Added[0].Name != "late-07" || len(l.Changed) != 1 || l.Changed[0].Key != widget || len(l.Lost) != 50 {
		t.Errorf("%s", ledgerText(l))
	}
	fields, err := inventory.Explain(t.Context(), from, inventory.FromEtcd(ep), []string{widget})
	if want := []inventory.FieldDifference{{Path: "spec.size", A: "9007199254740993", B: "9007199254740992"}}; err != nil || !slices.Equal(fields[widget], want) {
		t.Errorf("%+v, %v", fields, err)
	}
}

// TestSourcesThatFail: an inventory is whole or an error.
func TestSourcesThatFail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snap.db")
	if err := os.WriteFile(path, []byte("no snapshot"), 0o600); err != nil {
		t.Fatal(err)
	}
	if inv, err := inventory.Read(t.Context(), inventory.FromSnapshot(etcdtest.Worker(t), path)); !errors.Is(err, etcd.ErrNotSnapshot) || inv.Objects != nil {
		t.Errorf("%+v, %v", inv, err)
	}
	if inv, err := inventory.Read(t.Context(), inventory.FromEtcd(etcd.Endpoint{URL: "http://127.0.0.1:1"})); err == nil || inv.Objects != nil {
		t.Errorf("nobody answers, and %+v", inv)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if inv, err := inventory.Read(ctx, inventory.FromSnapshot(etcdtest.Worker(t), path)); !errors.Is(err, context.Canceled) || inv.Objects != nil {
		t.Errorf("%+v, %v", inv, err)
	}
}

func BenchmarkRead(b *testing.B) {
	all := realKeys(b)
	known := all.read(b)
	for name, inv := range map[string][]inventory.Inventory{"new": nil, "known": {known}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := inventory.Read(b.Context(), all.source, inv...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(all)), "µs/key")
		})
	}
}
