package proof

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
		Name: "status-backed",
		Summary: "every container that a pod's status calls running runs on its node with that ID and start time and the pod's UID, and none that it calls " +
			"ended or waiting does, as the node's container runtime says",
		Phase:   plan.Prove,
		Timeout: wholeTimeout,
		Look:    func(ctx context.Context) (plan.Finding, error) { return statusBacked(ctx, s) },
	}
}

func statusBacked(ctx context.Context, s *Subject) (plan.Finding, error) {
	claims, err := podsOf(ctx, s)
	if err != nil {
		return plan.Finding{}, err
	}
	running, err := onNodes(ctx, s.Cluster.Nodes(), runningByID)
	if err != nil {
		return plan.Finding{}, err
	}
	var wrong []plan.Difference
	var right []string
	for _, pod := range claims {
		w, r := holdAgainst(pod, running[pod.Spec.NodeName])
		wrong, right = append(wrong, w...), append(right, r...)
	}
	slices.Sort(right)
	if len(wrong) > 0 {
		bySubject(wrong)
		return plan.Differs(fmt.Sprintf("%d statements of pods about their containers are not true", len(wrong)),
			"kubelet still acts on what it knew before the restore, and will neither start what is missing nor write what is true: restart kubelet on the node, "+
				"after etcd was restored with a raised revision", wrong, right...), nil
	}
	if len(right) == 0 {
		return plan.Failed("no pod says that it runs", "a control plane has at least its own pods: the API server's answer is not to be believed"), nil
	}
	return plan.Passed(fmt.Sprintf("%d containers that are said to run do run", len(right)), right...), nil
}

// bySubject puts differences into an order that is the same at every look.
func bySubject(d []plan.Difference) {
	slices.SortStableFunc(d, func(a, b plan.Difference) int { return cmp.Compare(a.Subject, b.Subject) })
}

// podsOf returns every pod that a LIST shows, and those of the workload that GET finds though LIST doesn't.
func podsOf(ctx context.Context, s *Subject) ([]corev1.Pod, error) {
	items, err := listAll(ctx, s.Servers[0], pods)
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
	return typed[corev1.Pod](items)
}

// typed reads objects as the type that they are of.
func typed[T any](items []unstructured.Unstructured) ([]T, error) {
	out := make([]T, len(items))
	for i, u := range items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &out[i]); err != nil {
			return nil, fmt.Errorf("%s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
		}
	}
	return out, nil
}

// onNodes asks all nodes at once and returns their answers by the node's name.
func onNodes[T any](ctx context.Context, nodes []cluster.Node, ask func(context.Context, cluster.Node) (T, error)) (map[string]T, error) {
	answers := make([]T, len(nodes))
	asking, ctx := errgroup.WithContext(ctx)
	for i, n := range nodes {
		asking.Go(func() (err error) {
			answers[i], err = ask(ctx, n)
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		return nil, err
	}
	out := map[string]T{}
	for i, n := range nodes {
		out[n.Name()] = answers[i]
	}
	return out, nil
}

// runningByID returns what the node's container runtime has running, by container ID.
func runningByID(ctx context.Context, n cluster.Node) (map[string]controlplane.Container, error) {
	found, err := runningOn(ctx, n)
	if err != nil {
		return nil, err
	}
	out := map[string]controlplane.Container{}
	for _, c := range found {
		out[c.ID] = c
	}
	return out, nil
}

// runningOn returns the containers that the node's runtime has running. One may end between being listed and being inspected.
func runningOn(ctx context.Context, n cluster.Node) ([]controlplane.Container, error) {
	found, err := controlplane.Containers(ctx, n, false)
	return slices.DeleteFunc(found, func(c controlplane.Container) bool { return c.State != controlplane.ContainerRunning }), err
}

// holdAgainst compares what a pod says of its containers with those that run on its node. A pod whose containers all wait for their next
// try is of phase Running too, and says so of them; one that is Running and says nothing of any container makes an empty claim.
func holdAgainst(pod corev1.Pod, running map[string]controlplane.Container) (wrong []plan.Difference, right []string) {
	for _, st := range statusesOf(pod) {
		subject := fmt.Sprintf("pod %s/%s container %s", pod.Namespace, pod.Name, st.Name)
		if st.runs {
			d := runsAsSaid(pod, st.ContainerStatus, running)
			if d == nil {
				right = append(right, fmt.Sprintf("%s: %s on node %s", subject, short(idOf(st.ContainerID)), pod.Spec.NodeName))
			} else {
				d.Subject = subject
				wrong = append(wrong, *d)
			}
		}
		for _, id := range endedIDs(st) {
			if c, runs := running[id]; runs {
				wrong = append(wrong, plan.Difference{Subject: subject, Expected: short(id) + " not to run: the status says that it " + stateOf(st), Seen: "running since " + moment(c.StartedAt)})
			}
		}
	}
	if pod.Status.Phase == corev1.PodRunning && len(pod.Status.ContainerStatuses) == 0 {
		wrong = append(wrong, plan.Difference{
			Subject: fmt.Sprintf("pod %s/%s", pod.Namespace, pod.Name), Expected: "to name the containers that run", Seen: "phase Running and none",
		})
	}
	return wrong, right
}

// containerStatus is what a pod says of one container.
type containerStatus struct {
	corev1.ContainerStatus
	// runs tells whether that is that it runs.
	runs bool
}

// statusesOf returns what a pod says of its containers, whatever their kind. A container that is ready runs; one that has to do its work
// before the others is called ready too when it has ended well.
func statusesOf(pod corev1.Pod) []containerStatus {
	var out []containerStatus
	for _, st := range pod.Status.ContainerStatuses {
		out = append(out, containerStatus{st, st.State.Running != nil || st.Ready})
	}
	for _, st := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses) {
		out = append(out, containerStatus{st, st.State.Running != nil || st.Ready && st.State.Terminated == nil})
	}
	return out
}

// runsAsSaid returns nil if the container that the status names runs as it says, else the difference, without its subject.
func runsAsSaid(pod corev1.Pod, st corev1.ContainerStatus, running map[string]controlplane.Container) *plan.Difference {
	id := idOf(st.ContainerID)
	c, ok := running[id]
	switch {
	case !ok:
		return &plan.Difference{Expected: short(id) + " running on node " + pod.Spec.NodeName, Seen: "no such running container"}
	case c.PodUID != runtimeUID(pod):
		return &plan.Difference{Expected: short(id) + " of pod UID " + runtimeUID(pod), Seen: "of pod UID " + c.PodUID}
	case c.Name != st.Name:
		return &plan.Difference{Expected: short(id) + " named " + st.Name, Seen: "named " + c.Name}
	case st.State.Running == nil:
		return &plan.Difference{Expected: short(id) + " in the state that the status says: " + stateOf(containerStatus{ContainerStatus: st}), Seen: "running since " + moment(c.StartedAt)}
	case !st.State.Running.StartedAt.Time.Equal(c.StartedAt.Truncate(time.Second)): // kubelet writes what CRI says, in whole seconds
		return &plan.Difference{
			Expected: fmt.Sprintf("%s started at %s", short(id), st.State.Running.StartedAt.UTC().Format(time.DateTime)),
			Seen:     "started at " + c.StartedAt.UTC().Format(time.DateTime),
		}
	}
	return nil
}

// endedIDs are the containers that, says the status, don't run.
func endedIDs(st containerStatus) []string {
	ids := []string{idOf(st.ContainerID)}
	for _, state := range []corev1.ContainerState{st.State, st.LastTerminationState} {
		if state.Terminated != nil {
			ids = append(ids, idOf(state.Terminated.ContainerID))
		}
	}
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return id == "" || st.runs && id == idOf(st.ContainerID) })
}

// stateOf says what a status says of a container that doesn't run now.
func stateOf(st containerStatus) string {
	switch {
	case st.State.Terminated != nil:
		return "ended (" + st.State.Terminated.Reason + ")"
	case st.State.Waiting != nil:
		return "waits (" + st.State.Waiting.Reason + ")"
	default:
		return "ended"
	}
}

// idOf is the ID in a status's runtime://ID.
func idOf(containerID string) string { return containerID[strings.LastIndex(containerID, "/")+1:] }

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
