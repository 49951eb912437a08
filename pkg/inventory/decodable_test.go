package inventory_test

import (
	"bytes"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// What a real API server stored can be read, by the same decoder one after the other.
func TestDecodable(t *testing.T) {
	var d inventory.Decoder
	for key, value := range realKeys(t) {
		if err := d.Decodable(key, value); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	for name, value := range deep(t) {
		if err := d.Decodable("/registry/example.com/widgets/ns/"+name, value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for key, value := range map[string]string{
		"/registry/secrets/default/a":          "k8s:enc:aescbc:v1:key1:\x00\x01ciphertext",
		"/registry/secrets/default/b":          "k8s:enc:kms:v2:plugin:ciphertext",
		"/registry/example.com/widgets/ns/a":   `{"apiVersion":"example.com/v1","kind":"Widget","spec":{"n":12345678901234567890}}`,
		"/registry/example.com/widgets/ns/b":   "\xd9\xd9\xf7\xa2japiVersionbv1dkindfWidget",
		"/registry/futures/default/a":          string(envelope(t, "future.k8s.io/v7", "Future", []byte("\x0a\x03\x0a\x01a\x12\x02hi"))),
		"/registry/configmaps/default/yaml":    "apiVersion: v1\ndata:\n  a: b\nkind: ConfigMap\nmetadata:\n  name: yaml\n",
		"compact_rev_key":                      "12345",
		"/calico/resources/v3/a":               "anything",
		"/other-prefix/configmaps/kube-system": "",
	} {
		if err := d.Decodable(key, []byte(value)); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestNotDecodable(t *testing.T) {
	var d inventory.Decoder
	pod := asStored(t, "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: b, labels: {app: web}}, spec: {containers: [{name: c, image: d}]}}")
	const key = "/registry/pods/b/a"
	if err := d.Decodable(key, pod); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct{ key, value, want string }{
		"nothing":                          {key, "", "it is empty"},
		"zeros":                            {key, strings.Repeat("\x00", 100), "neither protobuf, JSON, CBOR, YAML nor encrypted"},
		"text":                             {key, "hello", "neither protobuf, JSON, CBOR, YAML nor encrypted"},
		"YAML that names no kind":          {key, "apiVersion: v1\n", "names no kind"},
		"no YAML":                          {key, "apiVersion: [\n", "it begins as YAML"},
		"half an object":                   {key, string(pod[:len(pod)/2]), "its envelope: "},
		"zeros in the midst":               {key, string(pod[:30]) + strings.Repeat("\x00", len(pod)-30), ""},
		"an envelope without a kind":       {key, "k8s\x00\x0a\x04\x0a\x02v1", "names no kind"},
		"an envelope with an encoding":     {key, "k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x1a\x04gzip", `encoded as "gzip"`},
		"another kind's content":           {key, string(envelope(t, "v1", "Pod", []byte("\x0a\xff\xff\xff\xff\x0f"))), "it is no Pod of v1"},
		"a kind of the future, cut":        {key, string(envelope(t, "v9", "Future", []byte("\x0a\x05\x0a\x01"))), "it is no Future of v9"},
		"JSON that ends early":             {key, `{"apiVersion":"v1","kind":"Pod","spec":{`, "it begins as JSON"},
		"JSON with something behind it":    {key, `{"apiVersion":"v1","kind":"Pod"}x`, "it begins as JSON"},
		"JSON without a kind":              {key, `{"apiVersion":"v1"}`, "names no kind"},
		"JSON nested without end":          {key, `{"apiVersion":"v1","kind":"Pod","spec":` + strings.Repeat("[", 1<<20), "it begins as JSON"},
		"CBOR that ends early":             {key, "\xd9\xd9\xf7\xa2japiVersionbv1dkind", "it begins as CBOR"},
		"CBOR that is no object":           {key, "\xd9\xd9\xf7\x83\x01\x02\x03", "it begins as CBOR"},
		"CBOR without a kind":              {key, "\xd9\xd9\xf7\xa0", "names no kind"},
		"encrypted, nobody knows how":      {key, "k8s:enc:aescbc:v1", "doesn't say with which provider"},
		"a Secret that lost its beginning": {key, "k8s:enc:v1\x12\x06Secret\x12\x05{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"data\":{\"a\":\"b\"}}", "doesn't say with which provider"},
		"encrypted without a version":      {key, "k8s:enc:aescbc:key1:ciphertext:of:it", "doesn't say with which provider"},
		"encrypted with an odd key":        {key, "k8s:enc:aescbc:v1:\x00\x1b[31m:ciphertext", "doesn't say with which provider"},
		"protobuf under a foreign prefix":  {"/kubernetes.io/pods/b/a", string(pod[:len(pod)-3]), "its envelope"},
	} {
		err := d.Decodable(tt.key, []byte(tt.value))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", what, err, tt.want)
		}
	}
	// What was read before leaves nothing behind.
	if err := d.Decodable(key, pod); err != nil {
		t.Error(err)
	}
}

// FuzzDecodable: whatever a value is, it is read or refused, and what can be read has a place among the objects.
func FuzzDecodable(f *testing.F) {
	for key, value := range realKeys(f) {
		f.Add(key, value)
	}
	f.Add("/registry/secrets/default/a", []byte("k8s:enc:aescbc:v1:key1:\x00\x01ciphertext"))
	f.Add("/registry/example.com/widgets/ns/b", []byte("\xd9\xd9\xf7\xa2japiVersionbv1dkindfWidget"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		var d inventory.Decoder
		before := bytes.Clone(value)
		err := d.Decodable(key, value)
		if again := d.Decodable(key, value); (err == nil) != (again == nil) {
			t.Errorf("%v, and then %v", err, again)
		}
		if !bytes.Equal(before, value) {
			t.Error("the value was changed")
		}
		objects := 0
		if err := inventory.Objects(t.Context(), keys{key: value}.source, func(plan.Object, *unstructured.Unstructured) error { objects++; return nil }); err != nil || objects != 1 {
			t.Errorf("%d objects, %v", objects, err)
		}
	})
}

func BenchmarkDecodable(b *testing.B) {
	stored := realKeys(b)
	var size int64
	for _, value := range stored {
		size += int64(len(value))
	}
	b.SetBytes(size)
	var d inventory.Decoder
	for b.Loop() {
		for key, value := range stored {
			if err := d.Decodable(key, value); err != nil {
				b.Fatal(err)
			}
		}
	}
}
