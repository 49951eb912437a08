package proof

import (
	"net/http"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/plan"
)

// backdated is what is known of a workload that an old snapshot doesn't hold, which holds a Service of its name instead; and what an API server has after its restore.
func backdated() (*Subject, map[string][]object) {
	w, _ := nginx()
	w.Beyond, w.Objects = w.Objects, nil
	w.Namesakes = []Object{{Resource: services, Namespace: "default", Name: "nginx", UID: "u-old"}}
	s := &Subject{Workload: w, Anchors: []Object{{Resource: namespaces, Name: "default", UID: "u-default"}, {Resource: namespaces, Name: "kube-system", UID: "u-system"}}}
	return s, map[string][]object{
		"services":   {newObject(services, "nginx", "u-old")},
		"namespaces": {newObject(namespaces, "default", "u-default"), newObject(namespaces, "kube-system", "u-system")},
	}
}

// TestNothingOfTheWorkloadInTheSnapshot: what no restore can bring back proves nothing, and that is said.
func TestNothingOfTheWorkloadInTheSnapshot(t *testing.T) {
	s, _ := backdated()
	for _, c := range []plan.Check{ObjectsRestored(s), ServiceAnswers(s)} {
		f, err := c.Look(t.Context())
		if err != nil || f.Status != plan.StatusSkipped || !strings.Contains(f.Detail, "5 of the 5 objects that the run deployed are not in the snapshot that was given") {
			t.Errorf("%s: %+v, %v", c.Name, f, err)
		}
	}
}

// TestPartOfTheWorkloadInTheSnapshot: what is in it must be back.
func TestPartOfTheWorkloadInTheSnapshot(t *testing.T) {
	s, live := backdated()
	s.Workload.Objects, s.Workload.Beyond, s.Workload.Namesakes = s.Workload.Beyond[:1], s.Workload.Beyond[1:], nil
	s.Servers = []Server{serve(t, "cp-a", &apiServer{objects: live})}
	f, err := objectsRestored(t.Context(), s)
	differs(t, f, err, "deployments default/nginx", "UID u-deployment", "nothing")
}

// TestReadsOfAnOldSnapshot: all ways to read must show what the snapshot holds, and nothing of what it doesn't.
func TestReadsOfAnOldSnapshot(t *testing.T) {
	s, live := backdated()
	s.Servers = []Server{serve(t, "cp-a", &apiServer{objects: live})}
	f, err := readsAgree(t.Context(), s)
	if err != nil || f.Status != plan.StatusPassed || len(f.Evidence) != allReads+4 || !holds(f.Evidence, "cached LIST namespaces", "default (u-default), kube-system (u-system)") {
		t.Fatalf("%+v, %v", f, err)
	}
	for name, c := range map[string]struct {
		change                  func(live map[string][]object)
		subject, expected, seen string
	}{
		"the workload lives on": {func(live map[string][]object) {
			live["deployments"] = []object{newObject(deployments, "nginx", "u-deployment")}
		}, "deployments nginx", "nothing", "UID u-deployment"},
		"its Service does":  {func(live map[string][]object) { meta(live["services"][0])["uid"] = "u-service" }, "services nginx", "UID u-old", "UID u-service"},
		"another cluster's": {func(live map[string][]object) { meta(live["namespaces"][1])["uid"] = "u-other" }, "namespaces kube-system", "UID u-system", "UID u-other"},
	} {
		t.Run(name, func(t *testing.T) {
			s, live := backdated()
			c.change(live)
			s.Servers = []Server{serve(t, "cp-a", &apiServer{objects: live})}
			f, err := readsAgree(t.Context(), s)
			if err != nil || f.Status != plan.StatusFailed {
				t.Fatalf("%+v, %v", f, err)
			}
			found := false
			for _, d := range f.Differences {
				found = found || strings.HasSuffix(d.Subject, c.subject) && d.Expected == c.expected && d.Seen == c.seen
			}
			if !found {
				t.Errorf("%+v", f.Differences)
			}
		})
	}
}

// TestSpecsAreLearnt: where nobody knows what a spec was, all ways to read must say the same of it.
func TestSpecsAreLearnt(t *testing.T) {
	s, live := backdated()
	api := &apiServer{objects: live, lie: func(w http.ResponseWriter, _ *http.Request, c call) bool {
		if c.verb != "LIST" || c.resource != "services" || c.resourceVersion != "0" {
			return false
		}
		stale := newObject(services, "nginx", "u-old")
		stale["spec"] = object{"of": "before"}
		reply(w, http.StatusOK, listOf(stale))
		return true
	}}
	s.Servers = []Server{serve(t, "cp-a", api)}
	f, err := readsAgree(t.Context(), s)
	differs(t, f, err, "API server on cp-a, cached LIST services nginx spec.of", `"nginx"`, `"before"`)
}
