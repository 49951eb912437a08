package rehearsal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/rehearsal"
)

func expectations(t *testing.T, text string) *rehearsal.Expectations {
	t.Helper()
	e, err := rehearsal.ReadExpectations(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return e
}

func TestExpectationsAreMet(t *testing.T) {
	r := rehearse(t, t.Context(), rehearsal.Options{Path: realSnapshot("3.7"), TakenAt: time.Now().Add(-time.Hour), Expect: expectations(t, `
maxAge: 2h
minRevision: 4550
minKeys: 387
objects:
- {apiVersion: v1, kind: Namespace, name: kube-system}
- apiVersion: apps/v1
  kind: Deployment
  namespace: shop
  name: nginx
  fields:
    spec.replicas: 2
    spec.selector.matchLabels: {app: nginx}
    spec.template.spec.containers[0].image: docker.io/library/nginx:1.22.1
    spec.template.spec.containers[name=nginx].ports[0].containerPort: 80
    metadata.annotations["deployment.kubernetes.io/revision"]: "1"
- apiVersion: shop.example.com/v1
  kind: Order
  namespace: shop
  name: second
  fields: {"spec.items[0].count": 12345678901234567}
- {apiVersion: v1, kind: Secret, namespace: shop, name: door, fields: {type: Opaque}}
absent:
- {apiVersion: v1, kind: Namespace, name: scratch}
atLeast:
- {apiVersion: v1, kind: Pod, namespace: shop, count: 2}
- {apiVersion: v1, kind: Pod, count: 10}
- {apiVersion: v1, kind: Namespace, count: 5}
`)})
	if r.Verdict != plan.VerdictPassed || len(r.Expectations) != 15 {
		t.Errorf("%s: %s, %d expectations", r.Verdict, r.Reason, len(r.Expectations))
	}
	for _, c := range r.Expectations {
		if c.Status != plan.StatusPassed {
			t.Errorf("%+v", c)
		}
	}
	if r.KeysCompared != 387 {
		t.Errorf("%d keys", r.KeysCompared)
	}
}

// What isn't as expected fails the rehearsal, and it is said what there is.
func TestExpectationsThatAreNotMet(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"age":       {"maxAge: 30m", "it is 1h0m0s old"},
		"revision":  {"minRevision: 4551", "it is of revision 4550, and should be of 4551"},
		"keys":      {"minKeys: 388", "it has 387 keys"},
		"object":    {"objects: [{apiVersion: v1, kind: ConfigMap, namespace: shop, name: shopp}]", "there are kube-root-ca.crt, shop"},
		"nothing":   {"objects: [{apiVersion: v1, kind: ConfigMap, namespace: gone, name: shop}]", "nothing of that kind is in its place"},
		"field":     {"objects: [{apiVersion: apps/v1, kind: Deployment, namespace: shop, name: nginx, fields: {spec.replicas: 3}}]", "it is 2, and should be 3"},
		"type":      {"objects: [{apiVersion: apps/v1, kind: Deployment, namespace: shop, name: nginx, fields: {spec.replicas: '2'}}]", `it is 2, and should be "2"`},
		"a time":    {"objects: [{apiVersion: apps/v1, kind: Deployment, namespace: shop, name: nginx, fields: {metadata.creationTimestamp: 2026-01-01T00:00:00Z}}]", `Z", and should be "2026-01-01T00:00:00Z"`},
		"a list":    {"objects: [{apiVersion: apps/v1, kind: Deployment, namespace: shop, name: nginx, fields: {spec.replicas: [2026-01-01]}}]", `it is 2, and should be ["2026-01-01"]`},
		"no field":  {"objects: [{apiVersion: apps/v1, kind: Deployment, namespace: shop, name: nginx, fields: {spec.paused: true}}]", "there is no such field"},
		"a Secret":  {"objects: [{apiVersion: v1, kind: Secret, namespace: shop, name: door, fields: {data.code: aGVsbG8=}}]", "it is another one; neither is shown"},
		"other API": {"objects: [{apiVersion: example.com/v1, kind: Deployment, namespace: shop, name: nginx}]", "there is no such kind"},
		"absent":    {"absent: [{apiVersion: v1, kind: Namespace, name: shop}]", "it is there"},
		"anywhere":  {"absent: [{apiVersion: apps/v1, kind: Deployment, name: nginx}]", "it is there, in namespace shop"},
		"mistaken":  {"absent: [{apiVersion: v1, kind: Deployment, namespace: shop, name: gone}]", "there is no such kind"},
		"case":      {"absent: [{apiVersion: apps/v1, kind: deployment, namespace: shop, name: gone}]", "there is no such kind"},
		"of old":    {"absent: [{apiVersion: extensions/v1beta1, kind: Deployment, namespace: shop, name: gone}]", "there is no such kind"},
		"null":      {"objects: [{apiVersion: apps/v1, kind: Deployment, namespace: shop, name: nginx, fields: {spec.replicas: null}}]", "it is 2, and should be null"},
		"escaped":   {"objects: [{apiVersion: apps/v1, kind: Deployment, namespace: shop, name: nginx, fields: {'metadata.labels.a\\.b': x}}]", `a name with dots is written ["like.this"]`},
		"count":     {"atLeast: [{apiVersion: v1, kind: Pod, namespace: shop, count: 3}]", "there are 2, and there should be 3"},
		"no such":   {"atLeast: [{apiVersion: v1, kind: Widget, count: 1}]", "there are 0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rehearse(t, t.Context(), rehearsal.Options{Path: realSnapshot("3.7"), TakenAt: time.Now().Add(-time.Hour), Expect: expectations(t, tt.text)})
			if r.Verdict != plan.VerdictFailed || len(r.Expectations) != 1 || r.Expectations[0].Status != plan.StatusFailed || !strings.Contains(r.Expectations[0].Detail, tt.want) || !strings.Contains(r.Reason, tt.want) {
				t.Errorf("%s: %s; %+v", r.Verdict, r.Reason, r.Expectations)
			}
			for name, status := range statuses(r) {
				if status != plan.StatusPassed {
					t.Errorf("%s is %s", name, status)
				}
			}
		})
	}
}

// snapshotOf is one of an etcd that has these keys.
func snapshotOf(t *testing.T, values map[string]string) string {
	t.Helper()
	server := etcdtest.Serve(t, t.TempDir(), nil)
	for key, value := range values {
		if _, err := server.Client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "made.db")
	if _, err := etcd.Save(t.Context(), server.Endpoint, path, etcd.InAnyFolder()); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	return path
}

// An encrypted custom resource is known by the name of its resource alone, and what is expected names its kind.
func TestExpectationsOfEncryptedCustomResources(t *testing.T) {
	path := snapshotOf(t, map[string]string{
		"/registry/apiextensions.k8s.io/customresourcedefinitions/oxen.farm.io": definitionOfOxen(""),
		"/registry/farm.io/oxen/a/1": "k8s:enc:aescbc:v1:k:xxxxxxxxxxxx",
		"/registry/farm.io/oxen/a/2": `{"apiVersion":"farm.io/v1","kind":"Ox","metadata":{"namespace":"a","name":"2","annotations":{"a":null}},"spec":{"legs":[{"side":"left"},{"side":"right"}]}}`,
	})
	r := rehearse(t, t.Context(), rehearsal.Options{Path: path, Expect: expectations(t, `
objects:
- {apiVersion: farm.io/v1, kind: Ox, namespace: a, name: "1"}
- {apiVersion: farm.io/v1, kind: Ox, namespace: a, name: "2", fields: {"spec.legs[*].side": right, "spec.legs[side=left].side": left, spec.horns: null, metadata.annotations.a: null}}
absent: [{apiVersion: farm.io/v1, kind: Ox, name: "3"}]
atLeast: [{apiVersion: farm.io/v1, kind: Ox, count: 2}]
`)})
	if r.Verdict != plan.VerdictPassed {
		t.Errorf("%s: %s", r.Verdict, r.Reason)
	}
	for expected, reason := range map[string]string{
		`absent: [{apiVersion: farm.io/v1, kind: Ox, namespace: a, name: "1"}]`:                                              "it is there",
		`objects: [{apiVersion: farm.io/v1, kind: Ox, name: "1"}]`:                                                           "objects of that kind are in namespaces: say in which",
		`objects: [{apiVersion: farm.io/v1beta1, kind: Ox, namespace: a, name: "2", fields: {spec.horns: 2}}]`:               "it is stored as farm.io/v1, in which fields may be elsewhere than in farm.io/v1beta1",
		`absent: [{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, namespace: a, name: oxen.farm.io}]`:  "belong to the whole cluster: leave the namespace out",
		`objects: [{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, namespace: a, name: oxen.farm.io}]`: "belong to the whole cluster: leave the namespace out",
		`atLeast: [{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, namespace: a, count: 1}]`:           "belong to the whole cluster: leave the namespace out",
	} {
		r = rehearse(t, t.Context(), rehearsal.Options{Path: path, Expect: expectations(t, expected)})
		if r.Verdict != plan.VerdictFailed || !strings.Contains(r.Reason, reason) {
			t.Errorf("%s: %s: %s", expected, r.Verdict, r.Reason)
		}
	}
}

// definitionOfOxen is a CustomResourceDefinition, with whatever else is to be in its metadata.
func definitionOfOxen(metadata string) string {
	return `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"oxen.farm.io","uid":"6e1a9e5b-7a3c-4c55-9d0a-3c2f6b6f0a01"` + metadata + `},` +
		`"spec":{"group":"farm.io","scope":"Namespaced","names":{"plural":"oxen","singular":"ox","kind":"Ox","listKind":"OxList"},"conversion":{"strategy":"None"},` +
		`"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]},` +
		`"status":{"conditions":[{"type":"NamesAccepted","status":"True","reason":"NoConflicts","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"},` +
		`{"type":"Established","status":"True","reason":"InitialNamesAccepted","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}],` +
		`"acceptedNames":{"plural":"oxen","singular":"ox","kind":"Ox","listKind":"OxList"},"storedVersions":["v1"]}}`
}

// How old a backup is isn't taken from the file's time where something in it tells that it is older.
func TestAgeByWhatIsInIt(t *testing.T) {
	path := snapshotOf(t, map[string]string{
		"/registry/leases/kube-node-lease/old": `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":"kube-node-lease","name":"old"},"spec":{"renewTime":"2026-01-01T00:00:00.000000Z"}}`,
		"/registry/leases/kube-node-lease/new": `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":"kube-node-lease","name":"new"},"spec":{"renewTime":"2026-01-02T00:00:00.000000Z"}}`,
		"/registry/leases/default/odd":         `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":"default","name":"odd"},"spec":{"renewTime":"2999-01-02T00:00:00.000000Z"}}`,
	})
	for name, tt := range map[string]struct {
		noted, file time.Time
		says        string
		passed      bool
	}{
		"copied just now":        {says: "when the newest Lease in it was renewed"},
		"noted":                  {noted: time.Now().Add(-time.Minute), says: "as was noted when it was taken", passed: true},
		"a file of the future":   {noted: time.Now().Add(time.Hour), says: "which is yet to come"},
		"a file older than that": {file: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), says: "when the newest Lease in it was renewed"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.file.IsZero() {
				tt.file = time.Now()
			}
			if err := os.Chtimes(path, tt.file, tt.file); err != nil {
				t.Fatal(err)
			}
			r := rehearse(t, t.Context(), rehearsal.Options{Path: path, TakenAt: tt.noted, Expect: expectations(t, "maxAge: 1h")})
			if len(r.Expectations) != 1 || (r.Expectations[0].Status == plan.StatusPassed) != tt.passed || !strings.Contains(r.Expectations[0].Detail, tt.says) {
				t.Errorf("%s: %s; %+v", r.Verdict, r.Reason, r.Expectations)
			}
		})
	}
}

func TestBadExpectations(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "nothing is expected",
		"{}":                                "nothing is expected",
		"maxage: 1h":                        "line 1: field maxage not found; there are maxAge, minRevision, minKeys, objects, absent, atLeast",
		"minKeys: 1\nobject: []":            "line 2: field object not found",
		"maxAge: yesterday":                 "line 1",
		"maxAge: -1h":                       "line 1: maxAge is a time of more than 0",
		"minKeys: 1\nmaxAge: 0s":            "line 2: maxAge is a time of more than 0",
		"minKeys: -1":                       "at least 0",
		"minKeys: 387.9":                    "line 1: minKeys is a whole number",
		"minKeys: '5'":                      "line 1: minKeys is a whole number",
		"minRevision: 99999999999999999999": "line 1: minRevision is a whole number",
		"minKeys: 1\nmaxAge:":               "line 2: nothing is said of maxAge",
		"minKeys: 1\nobjects:\n-":           "line 3: nothing is said of objects",
		"minKeys: 1\nabsent:":               "line 2: nothing is said of absent",
		"atLeast: [{apiVersion: v1, kind: Pod, count: 11.9}]":                                "line 1: count is a whole number",
		"objects: [{apiVersion: v1, kind: Pod, name: a, fields:}]":                           "line 1: nothing is said of fields",
		"objects: [{apiVersion: v1, kind: Pod, name: a, fields: {x: &n 11.9}}]\nminKeys: *n": "minKeys is a whole number",
		"objects: [{apiVersion: v1, kind: Pod, name: a, fields: {x: &n null}}]\nmaxAge: *n":  "nothing is said of maxAge",
		"objects: [{apiVersion: v1, kind: Pod, name: a, fields: {x: &k minKeys}}]\n*k : 5.5": "minKeys is a whole number",
		"objects: [{apiVersion: v1, kind: Pod, name: }]":                                     "line 1: nothing is said of name",
		"minKeys: 1\n---\nminKeys: 2":                                                        "second document",
		"objects: [{kind: Pod, name: a}]":                                                    "objects[0] needs apiVersion, kind and name",
		"absent: [{apiVersion: v1, kind: Pod}]":                                              "absent[0] needs",
		"absent: [{apiVersion: v1, kind: Pod, name: a, fields: {x: 1}}]":                     "can have no fields",
		"objects: [{apiVersion: v1, kind: Pod, name: a, fields: {'spec.': 1}}]":              `field "spec."`,
		"objects: [{apiVersion: v1, kind: Pod, name: a, fields: {'spec.containers[0': 1}}]":  "field",
		"objects: [{apiVersion: v1, kind: Pod, name: a, fields: {'': 1}}]":                   `field ""`,
		"atLeast: [{apiVersion: v1, kind: Pod}]":                                             "count of at least 1",
		"- a":                                                                                "line 1: it is of another type",
		"maxAge: 1d":                                                                         "line 1: maxAge is a time of more than 0, written like 26h or 90m",
	} {
		if _, err := rehearsal.ReadExpectations(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzExpectations: whatever a file says, it is read or refused.
func FuzzExpectations(f *testing.F) {
	f.Add("maxAge: 2h\nobjects:\n- {apiVersion: v1, kind: Pod, name: a, fields: {'spec.containers[0].image': x}}\natLeast: [{apiVersion: v1, kind: Pod, count: 1}]\n")
	f.Add("objects: &a\n- {apiVersion: v1, kind: Pod, name: a, fields: {x: &n 1.5, y: null}}\nabsent: *a\nminKeys: *n\n")
	f.Add("objects: &a [*a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := rehearsal.ReadExpectations(strings.NewReader(text))
		if (e == nil) == (err == nil) {
			t.Errorf("%+v, %v", e, err)
		}
	})
}
