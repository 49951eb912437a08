package proof

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// StatusBacked holds what pods say of themselves against the container runtime of the node that they are on. A pod's status is what
// kubelet wrote at some time; after a restore it is what kubelet wrote before the snapshot, until kubelet looks again.
func StatusBacked(s *Subject) plan.Check {
	return plan.Check{
		Name:    "status-backed",
		Summary: "every container that a pod's status calls running does run on its node with that ID and the pod's UID, as the node's container runtime says",
		Phase:   plan.Prove,
		Look:    func(ctx context.Context) (plan.Finding, error) { return statusBacked(ctx, s) },
	}
}

func statusBacked(ctx context.Context, s *Subject) (plan.Finding, error) {
	claims, err := podsOf(ctx, s)
	if err != nil {
		return plan.Finding{}, err
	}
	running, err := runningContainers(ctx, s)
	if err != nil {
		return plan.Finding{}, err
	}
	var wrong, right []string
	for _, pod := range claims {
		w, r := holdAgainst(pod, running[pod.Spec.NodeName])
		wrong, right = append(wrong, w...), append(right, r...)
	}
	slices.Sort(wrong)
	slices.Sort(right)
	if len(wrong) > 0 {
		return plan.Failed(fmt.Sprintf("%d containers are said to run and don't: %s", len(wrong), wrong[0]),
			"kubelet still acts on what it knew before the restore and will not start these containers: restart kubelet on the node, after etcd was restored with a raised revision",
			append(wrong, right...)...), nil
	}
	if len(right) == 0 {
		return plan.Failed("no pod says that it runs", "a control plane has at least its own pods: the API server's answer is not to be believed"), nil
	}
	return plan.Passed(fmt.Sprintf("%d containers that are said to run do run", len(right)), right...), nil
}

// podsOf returns every pod that a LIST shows, and those of the workload that GET finds though LIST doesn't.
func podsOf(ctx context.Context, s *Subject) ([]corev1.Pod, error) {
	items, err := list(ctx, s.Servers[0], pods, metav1.NamespaceAll, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	seen := map[types.UID]bool{}
	for _, u := range items {
		seen[u.GetUID()] = true
	}
	for _, o := range s.Workload.Objects {
		if o.Resource != pods || seen[o.UID] {
			continue
		}
		u, err := get(ctx, s.Servers[0], o)
		if apierrors.IsNotFound(err) {
			continue // objects-restored says so
		}
		if err != nil {
			return nil, err
		}
		items = append(items, *u)
	}
	return typedPods(items)
}

func typedPods(items []unstructured.Unstructured) ([]corev1.Pod, error) {
	out := make([]corev1.Pod, len(items))
	for i, u := range items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &out[i]); err != nil {
			return nil, fmt.Errorf("pod %s/%s: %w", u.GetNamespace(), u.GetName(), err)
		}
	}
	return out, nil
}

// runningContainers returns what each node's container runtime has running, by container ID.
func runningContainers(ctx context.Context, s *Subject) (map[string]map[string]controlplane.Container, error) {
	out := map[string]map[string]controlplane.Container{}
	for _, n := range s.Cluster.Nodes() {
		found, err := runningOn(ctx, n)
		if err != nil {
			return nil, err
		}
		byID := map[string]controlplane.Container{}
		for _, c := range found {
			byID[c.ID] = c
		}
		out[n.Name()] = byID
	}
	return out, nil
}

// runningOn returns the containers that the node's runtime has running. One may end between being listed and being inspected.
func runningOn(ctx context.Context, n cluster.Node) ([]controlplane.Container, error) {
	found, err := controlplane.Containers(ctx, n, false)
	return slices.DeleteFunc(found, func(c controlplane.Container) bool { return c.State != controlplane.ContainerRunning }), err
}

// holdAgainst compares the containers that a pod says are running with those that are. A pod whose containers all wait for their next
// try is of phase Running too, and says so of them; one that is Running and says nothing of any container makes an empty claim.
func holdAgainst(pod corev1.Pod, running map[string]controlplane.Container) (wrong, right []string) {
	for _, st := range pod.Status.ContainerStatuses {
		if st.State.Running == nil && !st.Ready {
			continue
		}
		id := st.ContainerID[strings.LastIndex(st.ContainerID, "/")+1:]
		name := fmt.Sprintf("pod %s/%s container %s", pod.Namespace, pod.Name, st.Name)
		c, ok := running[id]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%s: expected %s running on node %s, seen no such running container", name, short(id), pod.Spec.NodeName))
		case c.PodUID != runtimeUID(pod):
			wrong = append(wrong, fmt.Sprintf("%s: expected %s to be of pod UID %s, seen %s", name, short(id), runtimeUID(pod), c.PodUID))
		default:
			right = append(right, fmt.Sprintf("%s: %s on node %s", name, short(id), pod.Spec.NodeName))
		}
	}
	if pod.Status.Phase == corev1.PodRunning && len(pod.Status.ContainerStatuses) == 0 {
		wrong = append(wrong, fmt.Sprintf("pod %s/%s: expected to name the containers that run, seen phase Running and none", pod.Namespace, pod.Name))
	}
	return wrong, right
}

// runtimeUID is the UID by which the node knows the pod. For a static pod that is the hash that kubelet made of the
// manifest; the mirror pod in the API carries it in an annotation (kubernetes.io/config.hash) and has a UID of its own.
func runtimeUID(pod corev1.Pod) string {
	if hash, ok := pod.Annotations["kubernetes.io/config.hash"]; ok && pod.Annotations[corev1.MirrorPodAnnotationKey] != "" {
		return hash
	}
	return string(pod.UID)
}

// short is a container ID as people read it.
func short(id string) string {
	if id == "" {
		return "a container without an ID"
	}
	return id[:min(len(id), 12)]
}
