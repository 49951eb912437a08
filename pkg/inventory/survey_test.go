package inventory_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"sigs.k8s.io/yaml"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

func survey(t testing.TB, from inventory.Source, o inventory.SurveyOptions) inventory.Survey {
	t.Helper()
	if o.At.IsZero() {
		o.At = time.Now()
	}
	s, err := inventory.TakeSurvey(t.Context(), from, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What a survey takes from a value without taking it apart is what it would find there otherwise.
func TestSurveyNamesWhatIsThere(t *testing.T) {
	real := realKeys(t)
	want, got := map[string]int64{}, map[string]int64{}
	err := inventory.Objects(t.Context(), real.source, func(o plan.Object, _ *unstructured.Unstructured) error {
		group, _, _ := strings.Cut(o.APIVersion, "/")
		if !strings.Contains(o.APIVersion, "/") {
			group = ""
		}
		want[o.Kind+"."+group+"/"+o.Namespace]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s := survey(t, real.source, inventory.SurveyOptions{Largest: 3})
	var all inventory.Count
	for _, k := range s.Kinds {
		var sum int64
		for _, n := range k.Namespaces {
			got[k.Kind+"."+k.Group+"/"+n.Namespace] += n.Keys
			sum += n.Keys
			all.Bytes += n.Bytes
		}
		if sum != k.Keys {
			t.Errorf("%s has %d objects, and %d in its namespaces", k.Kind, k.Keys, sum)
		}
		all.Keys += sum
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	if s.Total != all || s.Total.Keys != int64(len(real)) || s.Revision != 7 || len(s.Largest) != 3 {
		t.Errorf("total %+v of %+v in %d keys, revision %d, %d largest", s.Total, all, len(real), s.Revision, len(s.Largest))
	}
	sizes := slices.SortedFunc(maps.Values(real), func(a, b []byte) int { return len(b) - len(a) })
	for i, l := range s.Largest {
		if l.Bytes != int64(len(sizes[i])) || int64(len(real[l.Key])) != l.Bytes {
			t.Errorf("%s with %d bytes is number %d, and %d are as many", l.Key, l.Bytes, i+1, len(sizes[i]))
		}
	}
}

// The answer depends neither on the order of the keys nor on who takes which of them.
func TestSurveyInAnyOrder(t *testing.T) {
	many := keys{}
	for i := range 3000 {
		many[fmt.Sprintf("/registry/namespaces/ns-%d", i)] = asStored(t, fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: ns-%d, deletionTimestamp: '2026-01-01T00:00:00Z'}}", i))
	}
	backwards := func(ctx context.Context, each func(etcd.KeyValue) error) (int64, error) {
		var all []etcd.KeyValue
		rev, err := many.source(ctx, func(kv etcd.KeyValue) error { all = append(all, kv); return nil })
		slices.Reverse(all)
		for _, kv := range all {
			if err := each(kv); err != nil {
				return 0, err
			}
		}
		return rev, err
	}
	at := time.Now()
	var texts []string
	for range 3 {
		for _, from := range []inventory.Source{many.source, backwards} {
			b, err := json.Marshal(survey(t, from, inventory.SurveyOptions{At: at}))
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(b))
		}
	}
	if texts = slices.Compact(texts); len(texts) != 1 {
		t.Errorf("%d answers", len(texts))
	}
}

func TestSurveyEndsWithItsSource(t *testing.T) {
	broken := errors.New("broken off")
	_, err := inventory.TakeSurvey(t.Context(), func(_ context.Context, each func(etcd.KeyValue) error) (int64, error) {
		for range 1000 {
			if err := each(etcd.KeyValue{Key: []byte("a")}); err != nil {
				return 0, err
			}
		}
		return 0, broken
	}, inventory.SurveyOptions{})
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func TestSurveyOfEncryption(t *testing.T) {
	s := survey(t, keys{
		"/registry/secrets/a/1":             []byte("k8s:enc:aescbc:v1:old:\x00\x01"),
		"/registry/secrets/a/2":             []byte("k8s:enc:kms:v2:vault:\x00\x01"),
		"/registry/secrets/a/3":             []byte("k8s:enc:kms:v2:vault:\x00\x01"),
		"/registry/secrets/a/4":             asStored(t, "{apiVersion: v1, kind: Secret, metadata: {namespace: a, name: '4'}}"),
		"/registry/configmaps/a/1":          asStored(t, "{apiVersion: v1, kind: ConfigMap, metadata: {namespace: a, name: '1'}}"),
		"/registry/example.com/widgets/a/1": []byte("k8s:enc:secretbox:v1:k:\x00\x01"),
	}.source, inventory.SurveyOptions{})
	want := []inventory.Encryption{
		{Kind: "Secret", Provider: "kms", Version: "v2", Key: "vault", Objects: 2},
		{Kind: "Secret", Provider: "aescbc", Version: "v1", Key: "old", Objects: 1},
		{Kind: "Secret", Objects: 1},
		{Group: "example.com", Kind: "widgets", Provider: "secretbox", Version: "v1", Key: "k", Objects: 1},
	}
	if !slices.Equal(s.Encryption, want) {
		t.Errorf("%+v", s.Encryption)
	}
}

// Of an encrypted custom resource, the key tells the resource alone: the definition says which kind that is, wherever it comes.
func TestSurveyJoinsEncryptedCustomResources(t *testing.T) {
	const definition = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"oxen.farm.io"},` +
		`"spec":{"group":"farm.io","names":{"plural":"oxen","singular":"ox","kind":"Ox","shortNames":["bov"]}}}`
	k := keys{
		"/registry/apiextensions.k8s.io/customresourcedefinitions/oxen.farm.io": []byte(definition),
		"/registry/farm.io/oxen/a/1": []byte(`{"apiVersion":"farm.io/v1","kind":"Ox","metadata":{"namespace":"a","name":"1"}}`),
		"/registry/farm.io/oxen/a/2": []byte("k8s:enc:secretbox:v1:k:\x00\x01" + strings.Repeat("x", 5000)),
	}
	s := survey(t, k.source, inventory.SurveyOptions{})
	want := []inventory.Encryption{{Group: "farm.io", Kind: "Ox", Provider: "secretbox", Version: "v1", Key: "k", Objects: 1}, {Group: "farm.io", Kind: "Ox", Objects: 1}}
	if !slices.Equal(s.Encryption, want) {
		t.Errorf("%+v", s.Encryption)
	}
	if ox := s.Kinds[0]; ox.Kind != "Ox" || ox.Keys != 2 || s.Largest[0].Object.Kind != "Ox" {
		t.Errorf("%+v, %+v", ox, s.Largest)
	}
	for _, h := range s.Hazards {
		if h.Name == "encrypted-objects" && h.Objects[0].Kind != "Ox" {
			t.Errorf("%+v", h)
		}
	}
	// And so they are found by each of its names.
	for query, keyFound := range map[string]string{"ox/a/1": "1", "oxen/a/2": "2", "bov/a/1": "1", "Ox/a/2": "2", "bov.farm.io/a/1": "1", "oxen.farm.io/a/1": "1"} {
		for _, from := range []inventory.Source{k.source, backwards(k)} {
			q, err := inventory.ParseQuery(query)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := inventory.Find(t.Context(), from, q, false); err != nil || len(got) != 1 || got[0].Object.Name != keyFound {
				t.Errorf("%s: %+v, %v", query, got, err)
			}
		}
	}
	q, _ := inventory.ParseQuery("bov.other.io/a/1")
	if _, err := inventory.Find(t.Context(), k.source, q, false); !errors.Is(err, inventory.ErrNoObject) {
		t.Errorf("%v", err)
	}
}

// backwards gives the keys from the last to the first.
func backwards(k keys) inventory.Source {
	return func(_ context.Context, each func(etcd.KeyValue) error) (int64, error) {
		names := slices.Sorted(maps.Keys(k))
		slices.Reverse(names)
		for _, name := range names {
			if err := each(etcd.KeyValue{Key: []byte(name), Value: k[name]}); err != nil {
				return 0, err
			}
		}
		return 1, nil
	}
}

// TestNamesAgree: what is read of an object without taking it apart is what the whole object says, for everything that an API server stored, and in the forms in which custom resources are.
func TestNamesAgree(t *testing.T) {
	f := inventory.NewFinder()
	all := realKeys(t)
	for name, content := range deep(t) {
		all["/registry/example.com/widgets/ns/"+name] = content
	}
	for key, value := range all {
		kv := etcd.KeyValue{Key: []byte(key), Value: value}
		name, encryption := f.Name(kv)
		if whole := f.Object(kv); name != whole.Object || encryption != whole.Encryption {
			t.Errorf("%s: %+v, %q; taken apart it is %+v, %q", key, name, encryption, whole.Object, whole.Encryption)
		}
	}
}

// deep are custom resources that are nested as deeply as an API server would store them, as JSON and as CBOR.
func deep(t testing.TB) keys {
	t.Helper()
	var spec any = "x"
	for range 200 {
		spec = []any{map[string]any{"a": spec}}
	}
	o := map[string]any{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"namespace": "ns", "name": "w", "uid": "u", "finalizers": []any{"f"}}, "spec": spec}
	asJSON, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	asCBOR, err := direct.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return keys{"json": asJSON, "cbor": append([]byte("\xd9\xd9\xf7"), asCBOR...)}
}

// FuzzSurvey: whatever stands in a value, a survey ends, and says of it what it says when it is taken apart.
func FuzzSurvey(f *testing.F) {
	for key, value := range realKeys(f) {
		f.Add(key, value)
	}
	for _, value := range deep(f) {
		f.Add("/registry/example.com/widgets/ns/w", value)
	}
	f.Add("/registry/secrets/a/1", []byte("k8s:enc:aescbc:v1:old:\x00\x01"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		s, err := inventory.TakeSurvey(t.Context(), keys{key: value}.source, inventory.SurveyOptions{})
		if err != nil || s.Total.Keys != 1 || s.Total.Bytes != int64(len(value)) || len(s.Kinds) != 1 || len(s.Largest) != 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		finder, kv := inventory.NewFinder(), etcd.KeyValue{Key: []byte(key), Value: value}
		name, encryption := finder.Name(kv)
		whole := finder.Object(kv)
		if whole.Encryption != encryption {
			t.Fatalf("%q, and %q", encryption, whole.Encryption)
		}
		// Where the metadata can't be read, by one or by the other, the key tells what it is.
		byKey, _ := finder.Name(etcd.KeyValue{Key: kv.Key})
		if _, readable := whole.Content["metadata"]; readable && name != byKey && name != whole.Object {
			t.Fatalf("%+v, and taken apart it is %+v", name, whole.Object)
		}
	})
}

// certificate is a PEM block of one that ends then.
func certificate(t testing.TB, end time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web"}, NotBefore: end.Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Each hazard is found where it is, on the object that it is about, and on nothing that is much alike and does no harm.
func TestHazards(t *testing.T) {
	now := time.Now()
	secret := func(end time.Time) string {
		return "{apiVersion: v1, kind: Secret, metadata: {namespace: a, name: tls}, type: kubernetes.io/tls, data: {tls.crt: " + certificate(t, end) + "}}"
	}
	webhook := func(rest string) string {
		return "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: w}, webhooks: [{name: w.example.com, admissionReviewVersions: [v1], sideEffects: None, " +
			"rules: [{operations: ['*'], apiGroups: ['*'], apiVersions: ['*'], resources: [pods, leases]}], " + rest + "}]}"
	}
	inside, outside := "clientConfig: {service: {namespace: b, name: hook}}", "clientConfig: {url: 'https://hook.example.com'}"
	definition := func(version, conversion string) string {
		return "{apiVersion: apiextensions.k8s.io/" + version + ", kind: CustomResourceDefinition, metadata: {name: widgets.example.com}, spec: {group: example.com, conversion: " + conversion + "}}"
	}
	widget := "{apiVersion: example.com/v1, kind: Widget, metadata: {namespace: a, name: w, deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [FINALIZER]}}"
	running := func(image string) string {
		return "{apiVersion: apps/v1, kind: Deployment, metadata: {namespace: b, name: controller}, spec: {template: {spec: {containers: [{name: c, image: '" + image + "'}]}}}}"
	}
	waiting := func(finalizer string) string { return strings.Replace(widget, "FINALIZER", finalizer, 1) }
	volume := func(policy, phase string) string {
		return "{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {persistentVolumeReclaimPolicy: " + policy + "}, status: {phase: " + phase + "}}"
	}
	lease := func(namespace, name, holder string) string {
		return "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {namespace: " + namespace + ", name: " + name + "}, spec: {holderIdentity: '" + holder + "'}}"
	}
	job := func(spec, status string) string {
		return "{apiVersion: batch/v1, kind: Job, metadata: {namespace: a, name: j}, spec: {" + spec + "}, status: {" + status + "}}"
	}
	pod := "{apiVersion: v1, kind: Pod, metadata: {namespace: a, name: p}, spec: {nodeName: node-1, containers: [{name: c, image: i}]}}"
	covered := map[string]bool{}
	for name, tt := range map[string]struct {
		hazard    string
		here      []string // each is enough
		detail    string
		elsewhere [][]string // all of them together do no harm
	}{
		"webhooks": {"fail-closed-webhooks",
			[]string{webhook(inside), webhook("failurePolicy: Fail, " + inside), strings.Replace(webhook(inside), "Validating", "Mutating", 1)}, "w.example.com, served by Service b/hook, asked about pods, leases",
			[][]string{
				{webhook("failurePolicy: Ignore, " + inside)}, {webhook(outside)},
				// It leaves its own namespace and kube-system out, or asks for objects with a label.
				{webhook("namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [b, kube-system]}]}, " + inside)},
				{webhook("namespaceSelector: {matchLabels: {checked: 'yes'}}, " + inside), "{apiVersion: v1, kind: Namespace, metadata: {name: b, labels: {checked: 'no'}}}"},
				{webhook("objectSelector: {matchLabels: {checked: 'yes'}}, " + inside)},
				// It is asked about something else, or when something goes away.
				{strings.Replace(webhook(inside), "[pods, leases]", "[namespaces]", 1)}, {strings.Replace(webhook(inside), "[pods, leases]", "[pods/eviction, '*/scale', services]", 1)},
				{strings.Replace(webhook(inside), "[pods, leases]", "[ingresses]", 1)}, {strings.Replace(webhook(inside), "apiGroups: ['*']", "apiGroups: [metrics.k8s.io]", 1)},
				{strings.Replace(webhook(inside), "operations: ['*']", "operations: [DELETE]", 1)}, {strings.Replace(webhook(inside), "resources: [pods", "scope: Cluster, resources: [pods", 1)},
			}},
		"webhooks that leave out where they run, whatever labels are stored": {"fail-closed-webhooks",
			[]string{strings.Replace(webhook("namespaceSelector: {matchLabels: {checked: 'yes'}}, "+inside), "[pods, leases]", "[nodes]", 1)}, "w.example.com", [][]string{{
				webhook("namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system, b]}]}, " + inside),
				"{apiVersion: v1, kind: Namespace, metadata: {name: b, labels: {old: 'yes'}}}", "{apiVersion: v1, kind: Namespace, metadata: {name: kube-system, labels: {old: 'yes'}}}",
			}}},
		"webhooks in a namespace that is asked about": {"fail-closed-webhooks", []string{
			webhook("namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [b]}]}, " + inside), // kube-system is
			webhook("objectSelector: {matchExpressions: [{key: unchecked, operator: DoesNotExist}]}, " + inside),
			strings.Replace(webhook("namespaceSelector: {matchLabels: {checked: 'yes'}}, "+inside), "[pods, leases]", "[nodes]", 1), // which are in none
			strings.Replace(webhook(inside), "[pods, leases]", "['*/*']", 1), strings.Replace(webhook(inside), "[pods, leases]", "[pods/binding]", 1), strings.Replace(webhook(inside), "[pods, leases]", "['*']", 1),
		}, "w.example.com, served by Service b/hook, asked about ", [][]string{{webhook("namespaceSelector: {matchLabels: {checked: 'yes'}}, " + inside)}}},
		"other webhooks": {"other-fail-closed-webhooks", []string{strings.Replace(webhook(inside), "[pods, leases]", "[ingresses]", 1), webhook("objectSelector: {matchLabels: {checked: 'yes'}}, " + inside)}, "served by Service b/hook",
			[][]string{{webhook(inside)}, {strings.Replace(webhook("failurePolicy: Ignore, "+inside), "[pods, leases]", "[ingresses]", 1)}}},
		"jobs": {"unfinished-jobs", []string{job("", ""), job("", "active: 1, succeeded: 2")}, " succeeded, 0 failed",
			[][]string{{job("suspend: true", "")}, {job("", "conditions: [{type: Complete, status: 'True'}]")}, {job("", "conditions: [{type: Failed, status: 'True'}]")}}},
		"expired":  {"expired-certificates", []string{secret(now.Add(-time.Hour))}, "tls.crt: CN=web until ", [][]string{{secret(now.Add(time.Hour))}, {secret(now.Add(365 * 24 * time.Hour))}}},
		"expiring": {"expiring-certificates", []string{secret(now.Add(time.Hour))}, "tls.crt: CN=web until ", [][]string{{secret(now.Add(-time.Hour))}, {secret(now.Add(365 * 24 * time.Hour))}}},
		"nodes": {"pods-of-missing-nodes", []string{pod}, "on node-1",
			[][]string{{pod, "{apiVersion: v1, kind: Node, metadata: {name: node-1}}"}, {strings.Replace(pod, "nodeName: node-1, ", "", 1)}}},
		"namespaces": {"terminating-namespaces", []string{"{apiVersion: v1, kind: Namespace, metadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}}"}, "", [][]string{{"{apiVersion: v1, kind: Namespace, metadata: {name: a}}"}}},
		"finalizers": {"finalizers-without-controller", []string{
			waiting("finalizer.acme.example.com"), waiting("acme.example.com/cleanup"), waiting("snapshot.storage.k8s.io/bound"), waiting("external-attacher/disk-csi"), waiting("service.kubernetes.io/load-balancer-cleanup"),
			waiting("external-provisioner.volume.kubernetes.io/finalizer"), waiting("machine.cluster.x-k8s.io"),
		}, "waits for ",
			[][]string{
				{waiting("foregroundDeletion")}, {waiting("kubernetes.io/pvc-protection")}, {waiting("batch.kubernetes.io/job-tracking")}, {waiting("customresourcecleanup.apiextensions.k8s.io")},
				{waiting("external-attacher/disk-csi"), "{apiVersion: apps/v1, kind: StatefulSet, metadata: {namespace: b, name: csi-attacher}}"},
				{waiting("external-provisioner.volume.kubernetes.io/finalizer"), running("registry.k8s.io/sig-storage/csi-provisioner:v5")},
				{waiting("service.kubernetes.io/load-balancer-cleanup"), running("registry.k8s.io/provider-aws/cloud-controller-manager:v1")},
				{waiting("machine.cluster.x-k8s.io"), running("registry.k8s.io/cluster-api/cluster-api-controller:v1")},
				{strings.Replace(waiting("acme.example.com/cleanup"), "deletionTimestamp: '2026-01-01T00:00:00Z', ", "", 1)},
				{waiting("acme.example.com/cleanup"), "{apiVersion: apps/v1, kind: Deployment, metadata: {namespace: b, name: operator}, spec: {template: {spec: {containers: [{name: c, image: registry/acme-operator:1}]}}}}"},
				{waiting("acme.example.com/cleanup"), "{apiVersion: apps/v1, kind: DaemonSet, metadata: {namespace: b, name: operator}, spec: {template: {spec: {containers: [{name: c, image: registry/acme-operator:1}]}}}}"},
				{waiting("acme.example.com/cleanup"), "{apiVersion: apps/v1, kind: StatefulSet, metadata: {namespace: b, name: acme-operator}}"},
			}},
		"volumes":                           {"volumes-to-be-deleted", []string{volume("Delete", "Released")}, "released", [][]string{{volume("Retain", "Failed")}, {volume("Retain", "Released")}, {volume("Delete", "Bound")}}},
		"volumes that could not be deleted": {"volumes-to-be-deleted", []string{volume("Delete", "Failed")}, "failed", [][]string{{volume("Retain", "Failed")}}},
		"conversion": {"conversion-webhooks", []string{
			definition("v1", "{strategy: Webhook, webhook: {clientConfig: {service: {namespace: b, name: c}}}}"), definition("v1beta1", "{strategy: Webhook, webhookClientConfig: {service: {namespace: b, name: c}}}"),
		}, "converted by Service b/c", [][]string{{definition("v1", "{strategy: None}")}, {definition("v1", "{strategy: Webhook, webhook: {clientConfig: {url: 'https://a'}}}")}}},
		"aggregated": {"aggregated-apis", []string{"{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: v1.a}, spec: {service: {namespace: b, name: c}}}"}, "served by Service b/c",
			[][]string{{"{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: v1.a}, spec: {group: a}}"}}},
		"leases": {"held-leases", []string{lease("kube-system", "kube-scheduler", "me"), lease("a", "operator", "me")}, "held by me",
			[][]string{{lease("kube-node-lease", "node-1", "node-1")}, {lease("kube-system", "apiserver-abc", "me")}, {lease("a", "operator", "")}}},
	} {
		t.Run(name, func(t *testing.T) {
			covered[tt.hazard] = true
			// API servers store built-in types in protobuf unless they are told to do it otherwise.
			stored := func(manifest string) []byte { return asStored(t, manifest) }
			find := func(manifests []string) *inventory.Hazard {
				t.Helper()
				k := keys{}
				for i, m := range manifests {
					k[fmt.Sprintf("/registry/things/%d", i)] = stored(m)
				}
				for _, h := range survey(t, k.source, inventory.SurveyOptions{At: now}).Hazards {
					if h.Name == tt.hazard {
						return &h
					}
				}
				return nil
			}
			look := func(how string) {
				for _, manifest := range tt.here {
					h := find([]string{manifest})
					if h == nil || h.Count != 1 || len(h.Objects) != 1 || !strings.Contains(h.Objects[0].Detail, tt.detail) || h.Objects[0].Name == "" {
						t.Errorf("%s: %+v of %s", how, h, manifest)
					}
				}
				for _, manifests := range tt.elsewhere {
					if h := find(manifests); h != nil {
						t.Errorf("%s: %+v of %q", how, h, manifests)
					}
				}
			}
			look("protobuf")
			stored = func(manifest string) []byte { return inJSON(t, manifest) }
			look("JSON")
			stored = func(manifest string) []byte {
				y, err := yaml.JSONToYAML(inJSON(t, manifest))
				if err != nil {
					t.Fatal(err)
				}
				return y
			}
			look("YAML")
		})
	}
	for _, h := range survey(t, keys{
		"/registry/masterleases/10.0.0.1": asStored(t, "{apiVersion: v1, kind: Endpoints, metadata: {}}"),
		"/registry/secrets/a/b":           []byte("k8s:enc:kms:v2:vault:\x00"),
	}.source, inventory.SurveyOptions{}).Hazards {
		covered[h.Name] = h.Count == 1 && (h.Objects[0].Name == "10.0.0.1" || h.Objects[0].Detail == "k8s:enc:kms:v2:vault")
	}
	covered["etcd-alarms"] = true // see TestAlarm in package rehearsal
	for _, kind := range inventory.HazardKinds() {
		if !covered[kind.Name] {
			t.Errorf("nothing shows that %s is found", kind.Name)
		}
		if kind.What == "" || kind.Why == "" || kind.Remedy == "" {
			t.Errorf("%+v", kind)
		}
	}
}

func TestHazardsNameSomeAndCountAll(t *testing.T) {
	k := keys{}
	for i := range 50 {
		k[fmt.Sprintf("/registry/namespaces/n%02d", i)] = asStored(t, fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: n%02d, deletionTimestamp: '2026-01-01T00:00:00Z'}}", i))
	}
	h := survey(t, k.source, inventory.SurveyOptions{PerHazard: 3}).Hazards
	if len(h) != 1 || h[0].Count != 50 || len(h[0].Objects) != 3 || h[0].Objects[2].Name != "n02" {
		t.Errorf("%+v", h)
	}
}

func TestFind(t *testing.T) {
	k := keys{
		"/registry/deployments/a/web":          asStored(t, "{apiVersion: apps/v1, kind: Deployment, metadata: {namespace: a, name: web}, spec: {replicas: 2}}"),
		"/registry/namespaces/a":               asStored(t, "{apiVersion: v1, kind: Namespace, metadata: {name: a}}"),
		"/registry/secrets/a/tls":              asStored(t, "{apiVersion: v1, kind: Secret, metadata: {namespace: a, name: tls, annotations: {last: c2VjcmV0}}, data: {key: c2VjcmV0}}"),
		"/registry/secrets/a/locked":           []byte("k8s:enc:kms:v2:vault:\x00"),
		"/registry/example.com/services/a/web": []byte(`{"apiVersion":"example.com/v1","kind":"Service","metadata":{"namespace":"a","name":"web"}}`),
		"/registry/services/specs/a/web":       asStored(t, "{apiVersion: v1, kind: Service, metadata: {namespace: a, name: web}}"),
	}
	for query, want := range map[string]int{
		"Deployment/a/web": 1, "deployments/a/web": 1, "deploy/a/web": 1, "deployment.apps/a/web": 1, "ns/a": 1, "Service/a/web": 2, "service.example.com/a/web": 1, "secret/a/locked": 1,
		"/registry/deployments/a/web": 1, "/registry/secrets/a/locked": 1,
	} {
		q, err := inventory.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := inventory.Find(t.Context(), k.source, q, false)
		if err != nil || len(got) != want {
			t.Errorf("%s: %d, %v", query, len(got), err)
		}
	}
	for query, hint := range map[string]string{
		"deployment/a/wbe": "Deployment.apps a/web", "deployment/b/web": "Deployment.apps a/web", "pod/a/web": "Service a/web", "pod/x/y": "nothing of that kind", "deployment.batch/a/web": "there are",
		"/registry/deployments/a/wbe": "there is no key /registry/deployments/a/wbe",
	} {
		q, _ := inventory.ParseQuery(query)
		if _, err := inventory.Find(t.Context(), k.source, q, false); !errors.Is(err, inventory.ErrNoObject) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v", query, err)
		}
	}
	for _, bad := range []string{"", "pod", "pod/", "/a", "pod//a", "a/b/c/d"} {
		if _, err := inventory.ParseQuery(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	q, _ := inventory.ParseQuery("secret/a/tls")
	for _, show := range []bool{false, true} {
		got, err := inventory.Find(t.Context(), k.source, q, show)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(got[0].Content)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b, []byte("c2VjcmV0")); (n == 2) != show || (n == 0) == show {
			t.Errorf("show %t: %s", show, b)
		}
	}
}
