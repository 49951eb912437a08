package proof

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/etcd-drill/drill/pkg/plan"
)

var (
	nodes  = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	leases = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
)

// NodeHeartbeat looks at each node's Lease, which kubelet renews every 10 seconds: after a restore, what a Node says of itself is what it said
// before the snapshot, until kubelet says more, or until the controller manager has missed it for 40 seconds
// (https://kubernetes.io/docs/reference/node/node-status/#heartbeats).
//
// kubelet writes its own clock into the Lease. So it is compared with what that clock said just before the control plane was taken down.
func NodeHeartbeat(s *Subject) plan.Check {
	return plan.Check{
		Name:    "node-heartbeat",
		Summary: "each node renewed its Lease after the control plane was taken down, by the node's own clock, and is Ready; the API knows all nodes and no other",
		Phase:   plan.Prove,
		Look:    func(ctx context.Context) (plan.Finding, error) { return nodeHeartbeat(ctx, s) },
	}
}

func nodeHeartbeat(ctx context.Context, s *Subject) (plan.Finding, error) {
	for _, n := range s.Cluster.Nodes() {
		if s.Before.Clocks[n.Name()].IsZero() {
			return plan.Failed("it is not known what the clock of node "+n.Name()+" said before the outage", "the step that notes it was not carried out").ForGood(), nil
		}
	}
	if len(s.Servers) == 0 {
		return plan.Failed("no API server is known that could be asked", "a step that finds them was not carried out").ForGood(), nil
	}
	told := map[plan.Difference][]string{} // API servers by what they say
	right := map[string]string{}
	for _, server := range s.Servers {
		wrong, good, err := heartbeatsOf(ctx, s, server)
		if err != nil {
			return plan.Finding{}, err
		}
		for _, d := range wrong {
			told[d] = append(told[d], server.Node)
		}
		for node, line := range good {
			right[node] = line
		}
	}
	var wrong []plan.Difference
	for d, servers := range told {
		if len(servers) < len(s.Servers) {
			d.Seen += ", says the API server on " + strings.Join(servers, " and ")
		}
		wrong = append(wrong, d)
	}
	if len(wrong) > 0 {
		slices.SortFunc(wrong, func(a, b plan.Difference) int { return cmp.Compare(a.String(), b.String()) })
		return plan.Differs(fmt.Sprintf("%d things that nodes say are not so, or from before the outage", len(wrong)),
			"a node whose Lease stays as it was has no kubelet that reaches the API server: look at `journalctl --unit kubelet` on it, for expired or foreign credentials above all; "+
				"a Node that shouldn't be there was removed after the snapshot: `kubectl delete node`; where API servers disagree, restart the one that says what the others don't",
			wrong, slices.Sorted(maps.Values(right))...), nil
	}
	return plan.Passed(fmt.Sprintf("%d of %d nodes renewed their Leases after the outage began", len(right), len(right)), slices.Sorted(maps.Values(right))...), nil
}

// heartbeatsOf holds what one API server says of the nodes against them. Each Node and Lease is read by its name: a GET is answered from etcd, a LIST may come
// from the watch cache, in which an API server that was not restarted keeps what there was before the restore
// (https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list). Only what else there is must be listed.
func heartbeatsOf(ctx context.Context, s *Subject, server Server) (wrong []plan.Difference, right map[string]string, err error) {
	listed, err := listAll(ctx, server, nodes)
	if err != nil {
		return nil, nil, err
	}
	known, err := typed[corev1.Node](listed)
	if err != nil {
		return nil, nil, err
	}
	right = map[string]string{}
	for _, n := range s.Cluster.Nodes() {
		known = slices.DeleteFunc(known, func(o corev1.Node) bool { return o.Name == n.Name() })
		node, exists, err := readByName[corev1.Node](ctx, server, Object{Resource: nodes, Name: n.Name()})
		if err != nil {
			return nil, nil, err
		}
		lease, _, err := readByName[coordinationv1.Lease](ctx, server, Object{Resource: leases, Namespace: corev1.NamespaceNodeLease, Name: n.Name()})
		if err != nil {
			return nil, nil, err
		}
		d := append(notReady(n.Name(), node, exists), notRenewed(n.Name(), lease, s.Before.Clocks[n.Name()])...)
		if wrong = append(wrong, d...); len(d) == 0 {
			right[n.Name()] = fmt.Sprintf("node %s is Ready and renewed its Lease at %s, after %s", n.Name(), moment(lease.Spec.RenewTime.Time), moment(s.Before.Clocks[n.Name()]))
		}
	}
	for _, node := range known {
		wrong = append(wrong, plan.Difference{
			Subject: "node " + node.Name, Expected: "no such Node: the cluster has none of that name", Seen: fmt.Sprintf("Node object, Ready %s", readiness(node)),
		})
	}
	return wrong, right, nil
}

// readByName reads an object as the type that it is of; the zero value if there is none.
func readByName[T any](ctx context.Context, s Server, o Object) (object T, exists bool, err error) {
	u, err := get(ctx, s, o)
	if apierrors.IsNotFound(err) {
		return object, false, nil
	}
	if err != nil {
		return object, false, err
	}
	objects, err := typed[T]([]unstructured.Unstructured{*u})
	if err != nil {
		return object, false, err
	}
	return objects[0], true, nil
}

func notReady(name string, node corev1.Node, exists bool) []plan.Difference {
	switch {
	case !exists:
		return []plan.Difference{{Subject: "node " + name, Expected: "a Node object", Seen: "none"}}
	case readiness(node) != string(corev1.ConditionTrue):
		return []plan.Difference{{Subject: "node " + name, Expected: "condition Ready True", Seen: readiness(node)}}
	default:
		return nil
	}
}

// readiness is the status of a node's condition Ready, and why if it isn't True.
func readiness(node corev1.Node) string {
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	if i < 0 {
		return "not said"
	}
	c := node.Status.Conditions[i]
	if c.Status == corev1.ConditionTrue {
		return string(c.Status)
	}
	return fmt.Sprintf("%s: %s", c.Status, c.Message)
}

// notRenewed holds a node's Lease against the clock of that node.
func notRenewed(name string, lease coordinationv1.Lease, outage time.Time) []plan.Difference {
	subject := "Lease " + corev1.NamespaceNodeLease + "/" + name
	switch {
	case lease.Name == "":
		return []plan.Difference{{Subject: subject, Expected: "to exist", Seen: "nothing"}}
	case lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != name:
		holder := "nobody"
		if lease.Spec.HolderIdentity != nil {
			holder = *lease.Spec.HolderIdentity
		}
		return []plan.Difference{{Subject: subject, Expected: "held by " + name, Seen: "held by " + holder}}
	case lease.Spec.RenewTime == nil:
		return []plan.Difference{{Subject: subject, Expected: "renewed after " + moment(outage), Seen: "never renewed"}}
	case !lease.Spec.RenewTime.After(outage):
		return []plan.Difference{{Subject: subject, Expected: "renewed after " + moment(outage), Seen: "renewed at " + moment(lease.Spec.RenewTime.Time)}}
	default:
		return nil
	}
}
