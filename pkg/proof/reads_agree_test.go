package proof

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/etcd-drill/drill/pkg/plan"
)

// nginx is a workload, and the objects that an API server has of it.
func nginx() (Workload, map[string][]object) {
	w := Workload{Namespace: "default", Name: "nginx", Port: 80}
	live := map[string][]object{}
	for _, o := range []Object{
		{Resource: deployments, Name: "nginx", UID: "u-deployment"},
		{Resource: replicaSets, Name: "nginx-1", UID: "u-replicaset"},
		{Resource: pods, Name: "nginx-1-a", UID: "u-a"},
		{Resource: pods, Name: "nginx-1-b", UID: "u-b"},
		{Resource: services, Name: "nginx", UID: "u-service"},
	} {
		o.Namespace = "default"
		o.Spec = object{"of": o.Name}
		w.Objects = append(w.Objects, o)
		live[o.Resource.Resource] = append(live[o.Resource.Resource], newObject(o.Resource, o.Name, o.UID))
	}
	return w, live
}

const allReads = 16 // of 4 resources, in 4 ways

func TestReadsAgree(t *testing.T) {
	w, live := nginx()
	s := &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live}), serve(t, "cp-b", &apiServer{objects: live})}}
	f, err := readsAgree(t.Context(), s)
	if err != nil || f.Status != plan.StatusPassed || len(f.Evidence) != 2*allReads {
		t.Fatalf("%+v, %v", f, err)
	}
	if !holds(f.Evidence, "API server on cp-b", "new WATCH pods", "nginx-1-a (u-a), nginx-1-b (u-b)") {
		t.Errorf("evidence %q", f.Evidence)
	}
}

func TestReadsThatDisagree(t *testing.T) {
	stranger := newObject(pods, "nginx-1-c", "u-c")
	for name, c := range map[string]struct {
		// lie is told of one kind of call only: that of the verb, resource and resource version.
		verb, resource, version string
		lie                     func(w http.ResponseWriter, r *http.Request, stop func())
		// want are the differences: what, expected, seen.
		want [][3]string
	}{
		"GET finds nothing": {
			"GET", "services", "", func(w http.ResponseWriter, _ *http.Request, _ func()) {
				status(w, http.StatusNotFound, metav1.StatusReasonNotFound)
			}, [][3]string{{"GET services nginx", "UID u-service", "nothing"}},
		},
		"GET finds another one": {
			"GET", "services", "", func(w http.ResponseWriter, _ *http.Request, _ func()) {
				reply(w, http.StatusOK, newObject(services, "nginx", "u-other"))
			}, [][3]string{{"GET services nginx", "UID u-service", "UID u-other"}},
		},
		"the tutorials' lie: LIST is empty while GET answers": {
			"LIST", "deployments", "", func(w http.ResponseWriter, _ *http.Request, _ func()) { reply(w, http.StatusOK, listOf()) },
			[][3]string{{"quorum LIST deployments nginx", "UID u-deployment", "nothing"}},
		},
		"the cache has it as it was before": {
			"LIST", "services", "0", func(w http.ResponseWriter, _ *http.Request, _ func()) {
				old := newObject(services, "nginx", "u-service")
				old["spec"] = object{"clusterIP": "10.0.0.99"}
				reply(w, http.StatusOK, listOf(old))
			}, [][3]string{{"cached LIST services nginx spec.clusterIP", "no such field", `"10.0.0.99"`}, {"cached LIST services nginx spec.of", `"nginx"`, "no such field"}},
		},
		"the cache is from before the restore": {
			"LIST", "pods", "0", func(w http.ResponseWriter, _ *http.Request, _ func()) {
				reply(w, http.StatusOK, listOf(stranger))
			}, [][3]string{
				{"cached LIST pods nginx-1-a", "UID u-a", "nothing"}, {"cached LIST pods nginx-1-b", "UID u-b", "nothing"}, {"cached LIST pods nginx-1-c", "nothing", "UID u-c"},
			},
		},
		"the cache has one too many": {
			"LIST", "pods", "0", func(w http.ResponseWriter, _ *http.Request, _ func()) {
				reply(w, http.StatusOK, listOf(stranger, newObject(pods, "nginx-1-a", "u-a"), newObject(pods, "nginx-1-b", "u-b")))
			}, [][3]string{{"cached LIST pods nginx-1-c", "nothing", "UID u-c"}},
		},
		"LIST is gone": {
			"LIST", "pods", "", func(w http.ResponseWriter, _ *http.Request, _ func()) {
				status(w, http.StatusGone, metav1.StatusReasonExpired)
			}, [][3]string{{"quorum LIST pods", "nginx-1-a (u-a), nginx-1-b (u-b)", "the server says Expired"}},
		},
		"WATCH says less": {
			"WATCH", "pods", "", func(w http.ResponseWriter, _ *http.Request, _ func()) {
				sendInitial(w, newObject(pods, "nginx-1-a", "u-a"), stranger)
				event(w, "DELETED", stranger)
				bookmark(w, true)
			}, [][3]string{{"new WATCH pods nginx-1-b", "UID u-b", "nothing"}},
		},
		"WATCH never says that it has sent everything": {
			"WATCH", "services", "", func(w http.ResponseWriter, r *http.Request, stop func()) {
				sendInitial(w, newObject(services, "nginx", "u-service"))
				bookmark(w, false)
				stop()
				<-r.Context().Done()
			}, [][3]string{{"new WATCH services", "nginx (u-service)", "enough waited"}},
		},
		"WATCH ends early": {
			"WATCH", "pods", "", func(w http.ResponseWriter, _ *http.Request, _ func()) {
				sendInitial(w, newObject(pods, "nginx-1-a", "u-a"))
			}, [][3]string{{"new WATCH pods", "nginx-1-a (u-a), nginx-1-b (u-b)", "the API server ended the watch early; seen until then: nginx-1-a (u-a)"}},
		},
		"WATCH is refused": {
			"WATCH", "pods", "", func(w http.ResponseWriter, _ *http.Request, _ func()) {
				status(w, http.StatusGone, metav1.StatusReasonExpired)
			}, [][3]string{{"new WATCH pods", "nginx-1-a (u-a)", "opening the watch: the server says Expired"}},
		},
		"WATCH sends an error": {
			"WATCH", "pods", "", func(w http.ResponseWriter, _ *http.Request, _ func()) {
				event(w, "ERROR", statusOf(http.StatusGone, metav1.StatusReasonExpired))
			}, [][3]string{{"new WATCH pods", "nginx-1-a (u-a)", "the server says Expired"}},
		},
		"WATCH never begins": {
			"WATCH", "services", "", func(_ http.ResponseWriter, r *http.Request, stop func()) {
				stop()
				<-r.Context().Done()
			}, [][3]string{{"new WATCH services", "nginx (u-service)", "an error: "}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, live := nginx()
			ctx, stop := context.WithCancelCause(t.Context())
			defer stop(nil)
			liar := &apiServer{objects: live, lie: func(w http.ResponseWriter, r *http.Request, got call) bool {
				if got.verb != c.verb || got.resource != c.resource || got.resourceVersion != c.version {
					return false
				}
				c.lie(w, r, func() { stop(errors.New("enough waited")) })
				return true
			}}
			s := &Subject{Workload: w, Servers: []Server{serve(t, "cp-b", liar)}}
			f, err := readsAgree(ctx, s)
			if err != nil || f.Status != plan.StatusFailed || f.Remedy == "" {
				t.Fatalf("%+v, %v", f, err)
			}
			// Exactly that view is told as the wrong one, and stands in the one line that people read.
			if !strings.HasPrefix(f.Detail, "1 of 16 reads disagree with the snapshot: API server on cp-b, "+c.want[0][0]) || len(f.Differences) != len(c.want) {
				t.Errorf("%s, with %d differences, want %q", f.Detail, len(f.Differences), c.want)
			}
			for _, d := range c.want {
				differs(t, f, err, "API server on cp-b, "+d[0], d[1], d[2])
			}
			if len(f.Evidence) != allReads-1 {
				t.Errorf("%d lines of evidence", len(f.Evidence))
			}
		})
	}
}

// TestServerThatHangs: it is named, and nobody else.
func TestServerThatHangs(t *testing.T) {
	t.Parallel()
	w, live := nginx()
	hangs := &apiServer{lie: func(_ http.ResponseWriter, r *http.Request, _ call) bool { <-r.Context().Done(); return true }}
	s := &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", hangs), serve(t, "cp-b", &apiServer{objects: live})}}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	f, err := readsAgree(ctx, s)
	if err != nil || f.Status != plan.StatusFailed || !strings.HasPrefix(f.Detail, "16 of 32 reads disagree with the snapshot: API server on cp-a, GET deployments: ") {
		t.Fatalf("%+v, %v", f, err)
	}
	if len(f.Differences) != allReads || len(f.Evidence) != allReads || holds(f.Evidence, "on cp-a") {
		t.Errorf("the other server is blamed too: %+v", f)
	}
}

// TestNothingToCompare: views that agree about nothing prove nothing.
func TestNothingToCompare(t *testing.T) {
	w, _ := nginx()
	for name, s := range map[string]*Subject{
		"no objects": {Workload: Workload{Namespace: "default", Name: "nginx"}, Servers: []Server{serve(t, "cp-a", &apiServer{})}},
		"no servers": {Workload: w},
	} {
		if f, err := readsAgree(t.Context(), s); err != nil || f.Status != plan.StatusFailed {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

func TestTake(t *testing.T) {
	o := func(name, uid string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: object{"metadata": object{"name": name, "uid": uid}}}
	}
	end := o("", "")
	end.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	gone := statusOf(http.StatusGone, metav1.StatusReasonExpired)
	seen := sightings{}
	for i, c := range []struct {
		event watch.Event
		done  bool
		err   string
		seen  string
	}{
		{watch.Event{Type: watch.Added, Object: o("b", "2")}, false, "", "b (2)"},
		{watch.Event{Type: watch.Added, Object: o("a", "1")}, false, "", "a (1), b (2)"},
		{watch.Event{Type: watch.Bookmark, Object: o("", "")}, false, "", "a (1), b (2)"},
		{watch.Event{Type: watch.Modified, Object: o("a", "3")}, false, "", "a (3), b (2)"},
		{watch.Event{Type: watch.Deleted, Object: o("b", "2")}, false, "", "a (3)"},
		{watch.Event{Type: watch.Error, Object: &gone}, false, "the server says Expired", "a (3)"},
		{watch.Event{Type: watch.Added, Object: &gone}, false, "the watch sent a *v1.Status", "a (3)"},
		{watch.Event{Type: watch.Bookmark, Object: end}, true, "", "a (3)"},
		{watch.Event{Type: watch.Deleted, Object: o("a", "3")}, false, "", "nothing"},
	} {
		done, err := seen.take(c.event)
		if done != c.done || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err || seen.String() != c.seen {
			t.Errorf("event %d: done %v, error %v, seen %s", i, done, err, seen)
		}
	}
}
