package proof

import (
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

func TestObjectsRestored(t *testing.T) {
	for name, c := range map[string]struct {
		change func(live map[string][]object)
		status plan.Status
		want   string // part of the detail
	}{
		"all are back": {func(map[string][]object) {}, plan.StatusPassed, "5 objects have their UIDs and specs"},
		"one is missing": {
			func(live map[string][]object) { live["services"] = nil }, plan.StatusFailed,
			"1 of 5 objects are not back: services default/nginx: expected UID u-service, seen nothing",
		},
		"one was made anew": {
			func(live map[string][]object) { meta(live["deployments"][0])["uid"] = "u-new" }, plan.StatusFailed,
			"deployments default/nginx: expected UID u-deployment, seen u-new",
		},
		"one is about to go": {
			func(live map[string][]object) { meta(live["pods"][0])["deletionTimestamp"] = "2026-11-23T04:46:38Z" }, plan.StatusFailed,
			"pods default/nginx-1-a: expected to stay, seen being deleted since 2026-11-23",
		},
		"one has changed": {
			func(live map[string][]object) { live["deployments"][0]["spec"] = object{"of": "else"} }, plan.StatusFailed,
			"deployments default/nginx: the spec differs from the snapshot's",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, live := nginx()
			c.change(live)
			f, err := objectsRestored(t.Context(), &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live})}})
			if err != nil || f.Status != c.status || !strings.Contains(f.Detail, c.want) {
				t.Errorf("%+v, %v; want %s: %s", f, err, c.status, c.want)
			}
		})
	}
	if f, err := objectsRestored(t.Context(), &Subject{}); err != nil || f.Status != plan.StatusFailed {
		t.Errorf("without a workload: %+v, %v", f, err)
	}
	refuses := &apiServer{lie: func(w http.ResponseWriter, _ *http.Request, _ call) bool {
		status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		return true
	}}
	w, _ := nginx()
	if f, err := objectsRestored(t.Context(), &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", refuses)}}); err == nil {
		t.Errorf("an API server that refuses: %+v", f)
	}
}

func TestServiceAnswers(t *testing.T) {
	workload := func() (Workload, map[string][]object) {
		w, live := nginx()
		live["services"][0]["spec"] = object{"clusterIP": "10.96.0.7"}
		for i, ip := range []string{"10.244.0.5", "10.244.0.6"} {
			live["pods"][i]["status"] = object{"podIP": ip}
		}
		return w, live
	}
	for name, c := range map[string]struct {
		change func(live map[string][]object)
		silent []string
		status plan.Status
		want   string // part of the detail
	}{
		"all answer": {func(map[string][]object) {}, nil, plan.StatusPassed, "3 of 3 requests were answered"},
		"a pod doesn't": {
			func(map[string][]object) {}, []string{"10.244.0.6"}, plan.StatusFailed,
			"1 of 3 requests found no answer: pods default/nginx-1-b at 10.244.0.6 from node cp-a: ",
		},
		"the Service doesn't": {
			func(map[string][]object) {}, []string{"10.96.0.7"}, plan.StatusFailed,
			"1 of 3 requests found no answer: services default/nginx at 10.96.0.7",
		},
		"a pod has no address": {
			func(live map[string][]object) { live["pods"][0]["status"] = object{} }, nil, plan.StatusFailed, `pods default/nginx-1-a has no IP ("")`,
		},
		"a Service without one": {
			func(live map[string][]object) { live["services"][0]["spec"] = object{"clusterIP": "None"} }, nil, plan.StatusFailed, `services default/nginx has no IP ("None")`,
		},
		"a pod isn't there": {
			func(live map[string][]object) { live["pods"] = live["pods"][:1] }, nil, plan.StatusFailed, "GET pods default/nginx-1-b",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, live := workload()
			c.change(live)
			s := &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live})}, Cluster: machines{{name: "cp-a", unreachable: c.silent}}}
			f, err := serviceAnswers(t.Context(), s)
			if err != nil || f.Status != c.status || !strings.Contains(f.Detail, c.want) {
				t.Errorf("%+v, %v; want %s: %s", f, err, c.status, c.want)
			}
		})
	}
	w, live := workload()
	w.Objects = w.Objects[:2] // neither pods nor a Service
	s := &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live})}, Cluster: machines{{name: "cp-a"}}}
	if f, err := serviceAnswers(t.Context(), s); err != nil || f.Status != plan.StatusFailed || !strings.Contains(f.Detail, "no address to ask") {
		t.Errorf("without an address: %+v, %v", f, err)
	}
}

func TestNewWorkRuns(t *testing.T) {
	deployment := func(observed, available int) object {
		o := newObject(deployments, "nginx-after-recovery", "u-fresh")
		meta(o)["generation"] = 1
		o["kind"] = "Deployment"
		o["status"] = object{"observedGeneration": observed, "availableReplicas": available}
		return o
	}
	pod := newPod("default", "nginx-after-recovery-1-a", "u-pod", "cp-a", "nginx=c-fresh")
	runs := []controlplane.Container{{ID: "c-fresh", Name: "nginx", PodUID: "u-pod"}}
	for name, c := range map[string]struct {
		deployment object
		pods       []object
		containers []controlplane.Container
		silent     []string
		status     plan.Status
		want       string // part of the detail
	}{
		"it runs": {deployment(1, 1), []object{pod}, runs, nil, plan.StatusPassed, "pod nginx-after-recovery-1-a runs on cp-a and answers at 10.244.0.9"},
		"nobody takes it up": {
			deployment(0, 0), nil, nil, nil, plan.StatusFailed, "expected the controller manager to take up Deployment nginx-after-recovery, seen nothing of it",
		},
		"no pod": {deployment(1, 0), nil, nil, nil, plan.StatusFailed, "expected 1 pod of Deployment nginx-after-recovery, seen 0"},
		"no node": {
			deployment(1, 0), []object{newPod("default", "p", "u-pod", "")}, nil, nil, plan.StatusFailed, "expected the scheduler to give pod p a node, seen none",
		},
		"an unknown node": {
			deployment(1, 0), []object{newPod("default", "p", "u-pod", "cp-z")}, nil, nil, plan.StatusFailed, "the API names node cp-z, which the cluster's provider doesn't know",
		},
		"the lie: available, and no container": {
			deployment(1, 1), []object{pod}, nil, nil, plan.StatusFailed, "expected a running container of pod nginx-after-recovery-1-a on node cp-a, seen none",
		},
		"it doesn't answer": {deployment(1, 1), []object{pod}, runs, []string{"10.244.0.9"}, plan.StatusFailed, "Connection timed out"},
		"not yet available": {deployment(1, 0), []object{pod}, runs, nil, plan.StatusFailed, "expected Deployment nginx-after-recovery to have 1 available replica, seen 0"},
	} {
		t.Run(name, func(t *testing.T) {
			made := 0
			server := &apiServer{
				objects: map[string][]object{"deployments": {c.deployment}, "pods": c.pods},
				lie: func(w http.ResponseWriter, _ *http.Request, got call) bool {
					if got.verb != "POST" {
						return false
					}
					if made++; made == 1 {
						reply(w, http.StatusCreated, c.deployment)
					} else {
						status(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
					}
					return true
				},
			}
			w, _ := nginx()
			s := &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", server)}, Cluster: machines{{name: "cp-a", containers: c.containers, unreachable: c.silent}}}
			for range 2 { // the second look finds what the first one made
				f, err := newWorkRuns(t.Context(), s)
				if err != nil || f.Status != c.status || !strings.Contains(f.Detail, c.want) {
					t.Errorf("%+v, %v; want %s: %s", f, err, c.status, c.want)
				}
			}
		})
	}
}

// TestChecks: every check is complete, and none looks at anything before it is evaluated.
func TestChecks(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Checks(&Subject{}) {
		if c.Name == "" || c.Summary == "" || c.Look == nil || seen[c.Name] {
			t.Errorf("check %+v", c)
		}
		if want := map[bool]plan.Phase{true: plan.Protect, false: plan.Prove}[c.Name == "snapshot-intact"]; c.Phase != want {
			t.Errorf("check %s is of phase %s, want %s", c.Name, c.Phase, want)
		}
		seen[c.Name] = true
	}
	if len(seen) != 7 {
		t.Errorf("%d checks", len(seen))
	}
}
