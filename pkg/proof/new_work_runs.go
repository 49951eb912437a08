package proof

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/etcd-drill/drill/pkg/plan"
)

// NewWorkRuns makes a Deployment and a Service that never existed before and follows them all the way: controller manager, scheduler, kubelet,
// container runtime, network, EndpointSlices, kube-proxy, DNS. What was restored may look alive for a long time without any of them.
func NewWorkRuns(s *Subject) plan.Check {
	var since time.Time // when it was first looked for
	return plan.Check{
		Name: "new-work-runs",
		Summary: "a new Deployment and a new Service, made after the recovery: the pod is scheduled, runs on a node, and answers over its IP and the Service's from every node, " +
			"and by the Service's name from inside the restored workload or, where that is not in the snapshot, from inside the new pod",
		Phase:  plan.Prove,
		Alters: true,
		Look:   func(ctx context.Context) (plan.Finding, error) { return newWorkRuns(ctx, s, &since) },
	}
}

// NewWork is the name of the Deployment and of the Service that the check makes.
func NewWork(w Workload) string { return w.Name + "-after-recovery" }

// unaware is for how long kube-proxy and the DNS servers may not have heard of a new Service though nothing is wrong with them. A reflector whose API server was away for long pauses before it watches
// again; and where etcd's revision was raised it is then told that what it knows is too old, and pauses as long once more before it lists (client-go's tools/cache: an expired watch ends
// ListAndWatch, which is begun again after the next delay).
const unaware = 2 * reflectorPause

// newWorkRuns looks for work that was first looked for at since, which the first look sets.
func newWorkRuns(ctx context.Context, s *Subject, since *time.Time) (plan.Finding, error) {
	if since.IsZero() {
		*since = time.Now()
	}
	client, err := kubernetes.NewForConfig(s.Servers[0].Config)
	if err != nil {
		return plan.Finding{}, err
	}
	deployment, svc, err := makeWork(ctx, client, s.Workload)
	if err != nil {
		return plan.Finding{}, err
	}
	name := NewWork(s.Workload)
	pod, missing, err := workPod(ctx, client, deployment)
	if err != nil {
		return plan.Finding{}, err
	}
	if missing == nil && net.ParseIP(svc.Spec.ClusterIP) == nil {
		missing = &plan.Difference{Subject: "Service " + name, Expected: "a cluster IP", Seen: fmt.Sprintf("%q", svc.Spec.ClusterIP)}
	}
	if missing != nil {
		return plan.Differs("new work does not run", "look at the controller manager (makes the pod), the scheduler (gives it a node) and that node's kubelet (runs it), in this order",
			[]plan.Difference{*missing}), nil
	}
	wrong, right, err := workAnswers(ctx, s, pod, svc)
	if err != nil {
		return plan.Finding{}, err
	}
	if n := deployment.Status.AvailableReplicas; n != 1 {
		wrong = append(wrong, plan.Difference{Subject: "Deployment " + name, Expected: "1 available replica", Seen: fmt.Sprint(n)})
	}
	if len(wrong) > 0 {
		bySubject(wrong)
		f := plan.Differs("new work runs, and is not reached everywhere",
			"where the pod's IP answers and the new Service doesn't, the controller manager makes no EndpointSlices or kube-proxy doesn't hear of them; "+
				"where only the name doesn't, CoreDNS doesn't hear of new Services: restart what is behind", wrong, right...)
		if !slices.ContainsFunc(wrong, func(d plan.Difference) bool { return !strings.HasPrefix(d.Subject, "Service ") }) {
			f.Due = since.Add(unaware)
		}
		return f, nil
	}
	return plan.Passed(fmt.Sprintf("pod %s runs on %s and answers at %s, and as Service %s", pod.Name, pod.Spec.NodeName, pod.Status.PodIP, name), right...), nil
}

// makeWork makes the Deployment and the Service, or returns those that an earlier look made.
func makeWork(ctx context.Context, client kubernetes.Interface, w Workload) (*appsv1.Deployment, *corev1.Service, error) {
	name, create := NewWork(w), metav1.CreateOptions{FieldManager: "drill"}
	deployment, err := client.AppsV1().Deployments(w.Namespace).Create(ctx, newDeployment(w), create)
	if apierrors.IsAlreadyExists(err) {
		deployment, err = client.AppsV1().Deployments(w.Namespace).Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("making Deployment %s: %w", name, err)
	}
	svc, err := client.CoreV1().Services(w.Namespace).Create(ctx, newService(w), create)
	if apierrors.IsAlreadyExists(err) {
		svc, err = client.CoreV1().Services(w.Namespace).Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("making Service %s: %w", name, err)
	}
	return deployment, svc, nil
}

// workPod returns the Deployment's pod, or the first thing that keeps it from having one with a node and an IP.
func workPod(ctx context.Context, client kubernetes.Interface, d *appsv1.Deployment) (corev1.Pod, *plan.Difference, error) {
	if d.Status.ObservedGeneration < d.Generation {
		return corev1.Pod{}, &plan.Difference{Subject: "Deployment " + d.Name, Expected: "taken up by the controller manager", Seen: "nothing of it"}, nil
	}
	found, err := client.CoreV1().Pods(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + d.Name})
	if err != nil {
		return corev1.Pod{}, nil, fmt.Errorf("listing the pods of Deployment %s: %w", d.Name, err)
	}
	if n := len(found.Items); n != 1 {
		return corev1.Pod{}, &plan.Difference{Subject: "Deployment " + d.Name, Expected: "1 pod", Seen: fmt.Sprint(n)}, nil
	}
	pod := found.Items[0]
	switch {
	case pod.Spec.NodeName == "":
		return pod, &plan.Difference{Subject: "pod " + pod.Name, Expected: "a node, given by the scheduler", Seen: "none"}, nil
	case net.ParseIP(pod.Status.PodIP) == nil:
		return pod, &plan.Difference{Subject: "pod " + pod.Name, Expected: "an IP, told by kubelet on " + pod.Spec.NodeName, Seen: fmt.Sprintf("%q", pod.Status.PodIP)}, nil
	default:
		return pod, nil, nil
	}
}

// workAnswers finds the pod's container in the runtime of its node, and asks it from every node and from inside the restored workload.
func workAnswers(ctx context.Context, s *Subject, pod corev1.Pod, svc *corev1.Service) (wrong []plan.Difference, right []string, err error) {
	running, err := onNodes(ctx, s.Cluster.Nodes(), runningOn)
	if err != nil {
		return nil, nil, err
	}
	t := target{namespace: pod.Namespace, name: svc.Name, port: s.Workload.Port, nodes: addresses(s.Cluster)}
	t.addPod(pod)
	t.addService(*svc)
	missing, within := t.place(s.Cluster, running)
	if at := t.pods[0].node; at != nil && at.Name() != pod.Spec.NodeName {
		missing = append(missing, plan.Difference{Subject: "pod " + pod.Name, Expected: "on node " + pod.Spec.NodeName + ", as the scheduler said", Seen: "on node " + at.Name()})
	}
	if len(missing) > 0 { // who isn't there need not be asked
		return missing, nil, nil
	}
	old, _, err := workloadNow(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	_, from := old.place(s.Cluster, running)
	switch {
	case len(from) > 0:
	case s.Workload.Absent() != "": // no pod of the run's was restored, so that its new one has to ask for its own Service
		from = within
	default:
		wrong = append(wrong, plan.Difference{Subject: "restored workload that asks for Service " + svc.Name, Expected: "a running container to ask from", Seen: "none"})
	}
	for _, n := range s.Cluster.Nodes() {
		from = append(from, vantage{name: "node " + n.Name(), node: n})
	}
	w, right, err := t.ask(ctx, from)
	return append(wrong, w...), right, err
}

func newDeployment(w Workload) *appsv1.Deployment {
	name := NewWork(w)
	labels := map[string]string{"app": name}
	replicas := int32(1)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "nginx", Image: w.Image, ImagePullPolicy: corev1.PullIfNotPresent,
					Ports: []corev1.ContainerPort{{ContainerPort: int32(w.Port)}},
				}}},
			},
		},
	}
}

func newService(w Workload) *corev1.Service {
	name := NewWork(w)
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace, Labels: map[string]string{"app": name}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Port: int32(w.Port), TargetPort: intstr.FromInt(w.Port), Protocol: corev1.ProtocolTCP}},
		},
	}
}
