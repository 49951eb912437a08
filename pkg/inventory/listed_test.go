package inventory_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/etcd-drill/drill/pkg/inventory"
)

func key(resource, namespace, name string) inventory.Key {
	return inventory.Key{Resource: schema.ParseGroupResource(resource), Namespace: namespace, Name: name}
}

func TestKeyString(t *testing.T) {
	for want, k := range map[string]inventory.Key{
		"pods default/a":                 key("pods", "default", "a"),
		"deployments.apps default/nginx": key("deployments.apps", "default", "nginx"),
		"nodes cp-a":                     key("nodes", "", "cp-a"),
		"clusterroles.rbac.authorization.k8s.io admin": key("clusterroles.rbac.authorization.k8s.io", "", "admin"),
	} {
		if got := k.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMissing(t *testing.T) {
	a, b, c, node := key("pods", "default", "a"), key("pods", "default", "b"), key("pods", "default", "c"), key("nodes", "", "cp-a")
	for name, test := range map[string]struct {
		before, after inventory.Listed
		want          []inventory.Key
	}{
		"nothing before":              {nil, inventory.Listed{a: "1"}, nil},
		"the same":                    {inventory.Listed{a: "1", node: "2"}, inventory.Listed{a: "1", node: "2"}, nil},
		"more than before":            {inventory.Listed{a: "1"}, inventory.Listed{a: "1", b: "2"}, nil},
		"gone, in order":              {inventory.Listed{c: "3", b: "2", node: "4", a: "1"}, inventory.Listed{b: "2"}, []inventory.Key{node, a, c}},
		"made anew by the same name":  {inventory.Listed{a: "1"}, inventory.Listed{a: "2"}, []inventory.Key{a}},
		"the same name elsewhere":     {inventory.Listed{a: "1"}, inventory.Listed{key("pods", "other", "a"): "1"}, []inventory.Key{a}},
		"everything":                  {inventory.Listed{a: "1"}, nil, []inventory.Key{a}},
		"what never had a UID is not": {inventory.Listed{a: ""}, nil, nil},
	} {
		if got := inventory.Missing(test.before, test.after); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// api is what an API server says, by path; anything else is not found.
type api map[string]any

func (a api) config(t *testing.T) *rest.Config {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := a[r.URL.Path]
		if code, is := answer.(int); is || !ok {
			if !is {
				code = http.StatusNotFound
			}
			w.WriteHeader(code)
			return
		}
		if r.URL.Query().Has("resourceVersion") {
			t.Errorf("%s is read with a resource version, so maybe from a cache", r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	return &rest.Config{Host: s.URL, QPS: -1}
}

func resources(groupVersion string, list ...metav1.APIResource) metav1.APIResourceList {
	return metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: groupVersion, APIResources: list}
}

var readable = metav1.Verbs{"get", "list", "watch"}

func objects(metas ...metav1.ObjectMeta) metav1.PartialObjectMetadataList {
	l := metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: "meta.k8s.io/v1"}}
	for _, m := range metas {
		l.Items = append(l.Items, metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"}, ObjectMeta: m})
	}
	return l
}

func newAPI() api {
	v1 := metav1.GroupVersionForDiscovery{GroupVersion: "apps/v1", Version: "v1"}
	return api{
		"/api": metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}},
		"/apis": metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{
			{Name: "apps", Versions: []metav1.GroupVersionForDiscovery{v1}, PreferredVersion: v1},
		}},
		"/api/v1": resources("v1",
			metav1.APIResource{Name: "pods", Kind: "Pod", Namespaced: true, Verbs: readable},
			metav1.APIResource{Name: "pods/log", Kind: "Pod", Namespaced: true, Verbs: metav1.Verbs{"get"}},
			metav1.APIResource{Name: "nodes", Kind: "Node", Verbs: readable},
			metav1.APIResource{Name: "events", Kind: "Event", Namespaced: true, Verbs: readable},
			metav1.APIResource{Name: "bindings", Kind: "Binding", Namespaced: true, Verbs: metav1.Verbs{"create"}}),
		"/apis/apps/v1": resources("apps/v1",
			metav1.APIResource{Name: "deployments", Kind: "Deployment", Namespaced: true, Verbs: readable}),
		"/api/v1/pods": objects(
			metav1.ObjectMeta{Namespace: "default", Name: "nginx-1", UID: "u-pod"},
			metav1.ObjectMeta{Namespace: "kube-system", Name: "etcd-cp-a", UID: "u-mirror", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "hash"}}),
		"/api/v1/nodes":             objects(metav1.ObjectMeta{Name: "cp-a", UID: "u-node"}),
		"/apis/apps/v1/deployments": objects(metav1.ObjectMeta{Namespace: "default", Name: "nginx", UID: "u-deployment"}),
	}
}

func TestLive(t *testing.T) {
	got, err := inventory.Live(t.Context(), newAPI().config(t))
	if err != nil {
		t.Fatal(err)
	}
	want := inventory.Listed{
		key("pods", "default", "nginx-1"):           "u-pod",
		key("nodes", "", "cp-a"):                    "u-node",
		key("deployments.apps", "default", "nginx"): "u-deployment",
	}
	if len(got) != len(want) || len(inventory.Missing(want, got)) > 0 {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestLiveWithoutAnAggregatedServer: what a metrics server that is away would serve is not in etcd.
func TestLiveWithoutAnAggregatedServer(t *testing.T) {
	a := newAPI()
	a["/apis/apps/v1"] = http.StatusServiceUnavailable
	a["/apis/apiregistration.k8s.io/v1/apiservices"] = map[string]any{"items": []any{
		map[string]any{"spec": map[string]any{"group": "apps", "version": "v1", "service": map[string]any{"name": "elsewhere"}}},
	}}
	got, err := inventory.Live(t.Context(), a.config(t))
	if err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestLiveIsWholeOrAnError: an inventory that lacks a resource would report all its objects as lost, or as never there.
func TestLiveIsWholeOrAnError(t *testing.T) {
	for want, change := range map[string]func(a api){
		"listing deployments.apps": func(a api) { a["/apis/apps/v1/deployments"] = http.StatusForbidden },
		"listing nodes":            func(a api) { delete(a, "/api/v1/nodes") },
		"apps/v1":                  func(a api) { a["/apis/apps/v1"] = http.StatusServiceUnavailable },
		"names no resource that can be listed": func(a api) {
			a["/api/v1"], a["/apis"] = resources("v1"), metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		},
	} {
		t.Run(want, func(t *testing.T) {
			a := newAPI()
			change(a)
			if got, err := inventory.Live(t.Context(), a.config(t)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	if got, err := inventory.Live(t.Context(), &rest.Config{Host: "http://127.0.0.1:1"}); err == nil {
		t.Errorf("no server, and %v", got)
	}
}

func TestTransientHasReasons(t *testing.T) {
	for r, why := range inventory.Transient() {
		if r.Resource == "" || why == "" {
			t.Errorf("%v: %q", r, why)
		}
	}
}
