package inventory_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/inventory"
)

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(context.Background(), m)) }

// keys are a source: values by key, all written at the same revision.
type keys map[string][]byte

func (k keys) source(_ context.Context, each func(etcd.KeyValue) error) (int64, error) {
	for _, key := range slices.Sorted(maps.Keys(k)) {
		if err := each(etcd.KeyValue{Key: []byte(key), Value: k[key], CreateRevision: 7, ModRevision: 7, Version: 1}); err != nil {
			return 0, err
		}
	}
	return 7, nil
}

// with returns the keys and some more.
func (k keys) with(more keys) keys {
	out := maps.Clone(k)
	maps.Copy(out, more)
	return out
}

// read takes an inventory.
func (k keys) read(t testing.TB) inventory.Inventory {
	t.Helper()
	if k == nil {
		return inventory.Inventory{}
	}
	inv, err := inventory.Read(t.Context(), k.source)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// asStored is an object as the API server stores it: built-in ones as protobuf, others as JSON.
func asStored(t testing.TB, manifest string) []byte {
	t.Helper()
	asJSON := inJSON(t, manifest)
	object, gvk, err := scheme.Codecs.UniversalDeserializer().Decode(asJSON, nil, nil)
	if runtime.IsNotRegisteredError(err) {
		return asJSON
	}
	if err != nil {
		t.Fatalf("%v:\n%s", err, manifest)
	}
	raw, err := object.(interface{ Marshal() ([]byte, error) }).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return envelope(t, gvk.GroupVersion().String(), gvk.Kind, raw)
}

// inJSON is a manifest in JSON.
func inJSON(t testing.TB, manifest string) []byte {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatalf("%v:\n%s", err, manifest)
	}
	return asJSON
}

// envelope puts the protobuf of a type into what is stored.
func envelope(t testing.TB, apiVersion, kind string, raw []byte) []byte {
	t.Helper()
	whole, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: raw}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("k8s\x00"), whole...)
}

// recorded is what a real API server stored: one object of each kind, and of each kind that an entry of the table leaves out. See TestRecord.
const recorded = "testdata/stored.jsonl"

type storedKey struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

func realKeys(t testing.TB) keys {
	t.Helper()
	f, err := os.Open(recorded)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := keys{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var kv storedKey
		if err := json.Unmarshal(lines.Bytes(), &kv); err != nil {
			t.Fatal(err)
		}
		out[kv.Key] = kv.Value
	}
	if err := lines.Err(); err != nil || len(out) == 0 {
		t.Fatalf("%d keys, %v", len(out), err)
	}
	return out
}

var record = flag.String("record", "", "a snapshot from which "+recorded+" is written anew")

// TestRecord writes the recorded values from a snapshot, when it is asked to. The data of Secrets is masked. The snapshot should be of a cluster without a life of its own, that has
// one object of every kind that can be made.
func TestRecord(t *testing.T) {
	if *record == "" {
		t.Skip("nothing to record from: -record is not set")
	}
	from := inventory.FromSnapshot(etcdtest.Worker(t), *record)
	inv, err := inventory.Read(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	enough := map[string]bool{}
	_, err = from(t.Context(), func(kv etcd.KeyValue) error {
		o := inv.Objects[string(kv.Key)]
		what := o.Kind + o.APIVersion + o.Rule
		if o.Kind == "Endpoints" || o.Kind == "CustomResourceDefinition" {
			what += o.Name
		}
		if enough[what] {
			return nil
		}
		enough[what] = true
		if o.Kind == "Secret" {
			kv.Value = masked(t, kv.Value)
		}
		if bytes.Contains(kv.Value, []byte("PRIVATE KEY")) {
			return errors.New("private key in " + string(kv.Key))
		}
		return json.NewEncoder(&out).Encode(storedKey{string(kv.Key), kv.Value})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(recorded, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// masked is a Secret as it is stored, without what is secret.
func masked(t *testing.T, value []byte) []byte {
	t.Helper()
	var whole runtime.Unknown
	var secret corev1.Secret
	if err := errors.Join(whole.Unmarshal(value[4:]), secret.Unmarshal(whole.Raw)); err != nil {
		t.Fatal(err)
	}
	for name := range secret.Data {
		if name != "expiration" {
			secret.Data[name] = []byte("masked")
		}
	}
	delete(secret.Annotations, corev1.LastAppliedConfigAnnotation)
	raw, err := secret.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return envelope(t, whole.APIVersion, whole.Kind, raw)
}
