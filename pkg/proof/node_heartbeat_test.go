package proof

import (
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/plan"
)

// refusing is an API server that lets nobody read a resource.
func refusing(resource string) *apiServer {
	return &apiServer{lie: func(w http.ResponseWriter, _ *http.Request, c call) bool {
		if c.resource == resource {
			status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		}
		return c.resource == resource
	}}
}

func TestNodeHeartbeat(t *testing.T) {
	outage := map[string]time.Time{ // the clock of cp-b is an hour slow
		"cp-a": time.Date(2026, 11, 23, 8, 0, 0, 500e6, time.UTC), "cp-b": time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC),
	}
	node := func(name, ready, message string) object {
		return object{
			"apiVersion": "v1", "kind": "Node", "metadata": object{"name": name},
			"status": object{"conditions": []object{{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready, "message": message}}},
		}
	}
	lease := func(name, holder, renewed string) object {
		spec := object{"holderIdentity": holder}
		if renewed != "" {
			spec["renewTime"] = renewed
		}
		return object{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": object{"name": name, "namespace": "kube-node-lease"}, "spec": spec}
	}
	nodes := func(a, b object) []object { return []object{a, b} }
	good := nodes(node("cp-a", "True", "kubelet is posting ready status"), node("cp-b", "True", ""))
	const later = "2026-11-23T08:00:00.500001Z"
	beating := nodes(lease("cp-a", "cp-a", later), lease("cp-b", "cp-b", "2026-11-23T07:00:10.000000Z"))

	for name, c := range map[string]struct {
		nodes, leases           []object
		subject, expected, seen string // empty where it passes
	}{
		"every node, by its own clock": {nodes: good, leases: beating},
		"a Lease from before": {
			nodes: good, leases: nodes(lease("cp-a", "cp-a", "2026-11-23T08:00:00.500000Z"), beating[1]),
			subject: "Lease kube-node-lease/cp-a", expected: "renewed after 2026-11-23 08:00:00.500", seen: "renewed at 2026-11-23 08:00:00.500",
		},
		"a Lease that is late by another node's clock only": {
			nodes: good, leases: nodes(lease("cp-a", "cp-a", "2026-11-23T07:30:00.000000Z"), beating[1]),
			subject: "Lease kube-node-lease/cp-a", expected: "renewed after", seen: "renewed at 2026-11-23 07:30:00.000",
		},
		"a Lease never renewed": {
			nodes: good, leases: nodes(lease("cp-a", "cp-a", ""), beating[1]), subject: "Lease kube-node-lease/cp-a", expected: "renewed after", seen: "never renewed",
		},
		"no Lease": {nodes: good, leases: beating[:1], subject: "Lease kube-node-lease/cp-b", expected: "to exist", seen: "nothing"},
		"a Lease of somebody else": {
			nodes: good, leases: nodes(lease("cp-a", "cp-b", later), beating[1]), subject: "Lease kube-node-lease/cp-a", expected: "held by cp-a", seen: "held by cp-b",
		},
		"a node that isn't Ready": {
			nodes: nodes(node("cp-a", "Unknown", "Kubelet stopped posting node status."), good[1]), leases: beating,
			subject: "node cp-a", expected: "condition Ready True", seen: "Unknown: Kubelet stopped posting node status.",
		},
		"a node that says nothing of it": {
			nodes: nodes(object{"apiVersion": "v1", "kind": "Node", "metadata": object{"name": "cp-a"}}, good[1]), leases: beating,
			subject: "node cp-a", expected: "condition Ready True", seen: "not said",
		},
		"a node that the API doesn't know": {nodes: good[:1], leases: beating, subject: "node cp-b", expected: "a Node object", seen: "none"},
		"a node that was removed after the snapshot": {
			nodes: append(nodes(good[0], good[1]), node("cp-old", "Unknown", "gone")), leases: beating,
			subject: "node cp-old", expected: "no such Node", seen: "Node object, Ready Unknown: gone",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Subject{
				Cluster: machines{{name: "cp-a"}, {name: "cp-b"}},
				Servers: []Server{serve(t, "cp-a", &apiServer{objects: map[string][]object{"nodes": c.nodes, "leases": c.leases}})},
				Before:  Before{Clocks: outage},
			}
			f, err := nodeHeartbeat(t.Context(), s)
			if c.subject != "" {
				differs(t, f, err, c.subject, c.expected, c.seen)
				if len(f.Differences) != 1 || f.Final {
					t.Errorf("final %v, %v", f.Final, f.Differences)
				}
			} else if err != nil || f.Status != plan.StatusPassed || len(f.Evidence) != 2 || !holds(f.Evidence, "node cp-b is Ready", "07:00:10.000, after 2026-11-23 07:00:00.000") {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
	cluster := machines{{name: "cp-a"}, {name: "cp-b"}}
	stale := nodes(lease("cp-a", "cp-a", "2026-11-23T07:59:00.000000Z"), beating[1])
	current := &apiServer{objects: map[string][]object{"nodes": good, "leases": beating}}
	for name, c := range map[string]struct {
		second *apiServer
		seen   string
	}{
		// LISTs come from the watch cache, as it was before the outage; GETs from etcd.
		"a LIST of what was before": {&apiServer{objects: map[string][]object{"nodes": good, "leases": stale}, lie: func(w http.ResponseWriter, _ *http.Request, c call) bool {
			if c.resource == "leases" && c.verb == "LIST" {
				reply(w, http.StatusOK, listOf(beating...))
				return true
			}
			return false
		}}, "renewed at 2026-11-23 07:59:00.000, says the API server on cp-b"},
		"another API server lies": {&apiServer{objects: map[string][]object{"nodes": good, "leases": stale}}, "renewed at 2026-11-23 07:59:00.000, says the API server on cp-b"},
	} {
		s := &Subject{Cluster: cluster, Servers: []Server{serve(t, "cp-a", current), serve(t, "cp-b", c.second)}, Before: Before{Clocks: outage}}
		f, err := nodeHeartbeat(t.Context(), s)
		if differs(t, f, err, "Lease kube-node-lease/cp-a", "renewed after", c.seen); len(f.Differences) != 1 {
			t.Errorf("%s: %v", name, f.Differences)
		}
	}
	s := &Subject{Cluster: cluster, Servers: []Server{serve(t, "cp-a", &apiServer{objects: map[string][]object{"nodes": good, "leases": stale}}), serve(t, "cp-b", &apiServer{objects: map[string][]object{"nodes": good, "leases": stale}})}, Before: Before{Clocks: outage}}
	if f, err := nodeHeartbeat(t.Context(), s); err != nil || len(f.Differences) != 1 || strings.Contains(f.Differences[0].Seen, "API server") {
		t.Errorf("what all API servers say is told once: %+v, %v", f, err)
	}
	s = &Subject{Cluster: machines{{name: "cp-a"}, {name: "cp-b"}}, Before: Before{Clocks: map[string]time.Time{"cp-a": outage["cp-a"]}}}
	if f, err := nodeHeartbeat(t.Context(), s); err != nil || f.Status != plan.StatusFailed || !f.Final || !strings.Contains(f.Detail, "the clock of node cp-b") {
		t.Errorf("no clock: %+v, %v", f, err)
	}
	s.Before.Clocks = outage
	if f, err := nodeHeartbeat(t.Context(), s); err != nil || f.Status != plan.StatusFailed || !f.Final {
		t.Errorf("no API server: %+v, %v", f, err)
	}
	for _, resource := range []string{"nodes", "leases"} {
		s.Servers = []Server{serve(t, "cp-a", refusing(resource))}
		if f, err := nodeHeartbeat(t.Context(), s); err == nil {
			t.Errorf("%s can't be read: %+v", resource, f)
		}
	}
}
