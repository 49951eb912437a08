package proof

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// NoPhantoms is StatusBacked the other way round: it begins with what runs. After a restore, containers of pods that were made after the
// snapshot may go on, hold ports, volumes and locks, and nothing that asks the API ever learns of them.
//
// kubelet ends what belongs to no pod that it knows; it doesn't where it still remembers the pod, or was told to run it by a manifest on
// the node, or where somebody made the container by hand.
func NoPhantoms(s *Subject) plan.Check {
	return plan.Check{
		Name: "no-phantoms",
		Summary: "every container that runs, and every sandbox that is ready, on any node belongs to a pod that the API knows on that node, is in the pod's spec, and is the " +
			"one that the pod's status names",
		Phase:   plan.Prove,
		Timeout: wholeTimeout,
		Look:    func(ctx context.Context) (plan.Finding, error) { return noPhantoms(ctx, s) },
	}
}

func noPhantoms(ctx context.Context, s *Subject) (plan.Finding, error) {
	// First what runs, then who is known: what is made in between is known, and what ended in between may be taken for a phantom, but not at
	// the next look.
	found, err := onNodes(ctx, s.Cluster.Nodes(), actualOn)
	if err != nil {
		return plan.Finding{}, err
	}
	known, err := podsOf(ctx, s)
	if err != nil {
		return plan.Finding{}, err
	}
	byUID := map[string]corev1.Pod{}
	for _, p := range known {
		byUID[runtimeUID(p)] = p
	}
	var wrong []plan.Difference
	var right []string
	for _, n := range s.Cluster.Nodes() {
		d, r := phantoms(n.Name(), found[n.Name()], byUID)
		wrong, right = append(wrong, d...), append(right, r...)
	}
	slices.Sort(right)
	if len(wrong) > 0 {
		bySubject(wrong)
		return plan.Differs(fmt.Sprintf("%d containers or sandboxes run that are not those that the API knows", len(wrong)),
			"what belongs to a pod from before the restore ends when kubelet is started anew; what a file in the node's manifests folder asks for ends when that file is taken away; "+
				"what was made by hand ends by `crictl stop` or, a sandbox, by `crictl stopp`", wrong, right...), nil
	}
	if len(right) == 0 {
		return plan.Failed("nothing runs on any node", "a control plane has at least its own containers: the container runtime's answer is not to be believed"), nil
	}
	return plan.Passed(fmt.Sprintf("%d containers run, each for a pod that the API knows", len(right)), right...), nil
}

// actual is what a node's container runtime has.
type actual struct {
	// running are the containers that run.
	running []controlplane.Container
	// sandboxes are all, by ID.
	sandboxes map[string]controlplane.Sandbox
}

func actualOn(ctx context.Context, n cluster.Node) (actual, error) {
	a := actual{sandboxes: map[string]controlplane.Sandbox{}}
	asking, ctx := errgroup.WithContext(ctx)
	asking.Go(func() (err error) {
		a.running, err = runningOn(ctx, n)
		return err
	})
	asking.Go(func() error {
		all, err := controlplane.Sandboxes(ctx, n)
		for _, s := range all {
			a.sandboxes[s.ID] = s
		}
		return err
	})
	return a, asking.Wait()
}

// phantoms holds what a node runs against the pods that the API knows, by the UID that nodes know them by.
func phantoms(node string, a actual, known map[string]corev1.Pod) (wrong []plan.Difference, right []string) {
	told := map[string]bool{} // sandboxes whose container is told of
	for _, c := range a.running {
		owner := a.ownerOf(c)
		subject := fmt.Sprintf("container %s %q of %s on node %s", short(c.ID), c.Name, owner, node)
		seen := fmt.Sprintf("runs %s since %s", c.Image, moment(c.StartedAt))
		if expected := owner.unknown(node, known); expected != "" {
			told[c.SandboxID] = true
			wrong = append(wrong, plan.Difference{Subject: subject, Expected: expected, Seen: seen})
			continue
		}
		pod := known[owner.uid]
		if expected := notIn(pod, c); expected != "" {
			wrong = append(wrong, plan.Difference{Subject: subject, Expected: expected, Seen: seen})
			continue
		}
		right = append(right, fmt.Sprintf("node %s: %s %s of pod %s/%s", node, short(c.ID), c.Name, pod.Namespace, pod.Name))
	}
	for _, s := range a.sandboxes {
		if s.State != controlplane.SandboxReady || told[s.ID] {
			continue
		}
		owner := ownerOf(s)
		if expected := owner.unknown(node, known); expected != "" {
			wrong = append(wrong, plan.Difference{
				Subject: fmt.Sprintf("sandbox %s of %s on node %s", short(s.ID), owner, node), Expected: expected, Seen: "ready since " + moment(s.CreatedAt),
			})
		}
	}
	return wrong, right
}

// owner is the pod that something says it belongs to. Nothing in it is known to be true.
type owner struct{ namespace, name, uid string }

// String names the pod for people.
func (o owner) String() string {
	if o == (owner{}) {
		return "no pod"
	}
	return fmt.Sprintf("pod %s/%s", o.namespace, o.name)
}

// ownerOf is told by kubelet's labels or, for a container that somebody else made, by the sandbox that it is in.
func (a actual) ownerOf(c controlplane.Container) owner {
	if c.PodUID != "" {
		return owner{c.PodNamespace, c.PodName, c.PodUID}
	}
	return ownerOf(a.sandboxes[c.SandboxID])
}

func ownerOf(s controlplane.Sandbox) owner { return owner{s.PodNamespace, s.PodName, s.PodUID} }

// unknown says what should be true if the API doesn't know the owner on the node; "" if it does.
func (o owner) unknown(node string, known map[string]corev1.Pod) string {
	pod, ok := known[o.uid]
	switch {
	case o.uid == "":
		return "to belong to a pod"
	case !ok:
		return "a pod with UID " + o.uid + " in the API"
	case pod.Spec.NodeName != node:
		return fmt.Sprintf("on node %s, where the API has pod %s/%s", pod.Spec.NodeName, pod.Namespace, pod.Name)
	default:
		return ""
	}
}

// notIn says what should be true if the container isn't one of the pod's; "" if it is.
func notIn(pod corev1.Pod, c controlplane.Container) string {
	if !slices.Contains(containersOf(pod.Spec), c.Name) {
		return fmt.Sprintf("a container named %q in the spec of pod %s/%s", c.Name, pod.Namespace, pod.Name)
	}
	named := ""
	for _, st := range statusesOf(pod) {
		if st.Name == c.Name {
			named = idOf(st.ContainerID)
		}
	}
	if named != c.ID {
		return "what the pod's status names, " + short(named)
	}
	return ""
}

// containersOf returns the names of all containers of a pod, whatever their kind.
func containersOf(spec corev1.PodSpec) []string {
	var out []string
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		out = append(out, c.Name)
	}
	for _, c := range spec.EphemeralContainers {
		out = append(out, c.Name)
	}
	return out
}
