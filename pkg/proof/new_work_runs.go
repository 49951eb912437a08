package proof

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// NewWorkRuns makes a Deployment that never existed before and follows it all the way: controller manager, scheduler,
// kubelet, container runtime, network. What was restored may look alive for a long time without any of them.
func NewWorkRuns(s *Subject) plan.Check {
	return plan.Check{
		Name:    "new-work-runs",
		Summary: "a new Deployment, made after the recovery, is scheduled, runs on a node and answers",
		Phase:   plan.Prove,
		Look:    func(ctx context.Context) (plan.Finding, error) { return newWorkRuns(ctx, s) },
	}
}

// NewWork is the name of the Deployment that the check makes.
func NewWork(w Workload) string { return w.Name + "-after-recovery" }

func newWorkRuns(ctx context.Context, s *Subject) (plan.Finding, error) {
	client, err := kubernetes.NewForConfig(s.Servers[0].Config)
	if err != nil {
		return plan.Finding{}, err
	}
	name := NewWork(s.Workload)
	deployment, err := client.AppsV1().Deployments(s.Workload.Namespace).Create(ctx, newDeployment(s.Workload), metav1.CreateOptions{FieldManager: "drill"})
	if apierrors.IsAlreadyExists(err) { // made by an earlier look
		deployment, err = client.AppsV1().Deployments(s.Workload.Namespace).Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return plan.Finding{}, fmt.Errorf("making Deployment %s: %w", name, err)
	}
	const remedy = "look at the controller manager (makes the pod), the scheduler (gives it a node) and that node's kubelet (runs it), in this order"
	if deployment.Status.ObservedGeneration < deployment.Generation {
		return plan.Failed(fmt.Sprintf("expected the controller manager to take up Deployment %s, seen nothing of it", name), remedy), nil
	}
	found, err := client.CoreV1().Pods(s.Workload.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		return plan.Finding{}, fmt.Errorf("listing the pods of Deployment %s: %w", name, err)
	}
	if len(found.Items) != 1 {
		return plan.Failed(fmt.Sprintf("expected 1 pod of Deployment %s, seen %d", name, len(found.Items)), remedy), nil
	}
	container, err := workOnNode(ctx, s, found.Items[0])
	if err != nil {
		return plan.Failed(err.Error(), remedy), nil
	}
	if deployment.Status.AvailableReplicas != 1 {
		return plan.Failed(fmt.Sprintf("expected Deployment %s to have 1 available replica, seen %d", name, deployment.Status.AvailableReplicas), remedy), nil
	}
	return plan.Passed(fmt.Sprintf("pod %s runs on %s and answers at %s", found.Items[0].Name, found.Items[0].Spec.NodeName, found.Items[0].Status.PodIP),
		fmt.Sprintf("container %s, started %s", short(container.ID), container.StartedAt.UTC().Format("15:04:05.000"))), nil
}

// workOnNode finds the pod's container in the runtime of its node, and asks it over the network.
func workOnNode(ctx context.Context, s *Subject, pod corev1.Pod) (controlplane.Container, error) {
	if pod.Spec.NodeName == "" {
		return controlplane.Container{}, fmt.Errorf("expected the scheduler to give pod %s a node, seen none", pod.Name)
	}
	node, err := nodeNamed(s.Cluster, pod.Spec.NodeName)
	if err != nil {
		return controlplane.Container{}, err
	}
	running, err := runningOn(ctx, node)
	if err != nil {
		return controlplane.Container{}, err
	}
	for _, c := range running {
		if c.PodUID != string(pod.UID) {
			continue
		}
		if pod.Status.PodIP == "" {
			return c, fmt.Errorf("expected pod %s to have an IP, seen none", pod.Name)
		}
		return c, fetch(ctx, node, pod.Status.PodIP, s.Workload.Port)
	}
	return controlplane.Container{}, fmt.Errorf("expected a running container of pod %s on node %s, seen none", pod.Name, node.Name())
}

func nodeNamed(c cluster.Cluster, name string) (cluster.Node, error) {
	for _, n := range c.Nodes() {
		if n.Name() == name {
			return n, nil
		}
	}
	return nil, errors.New("the API names node " + name + ", which the cluster's provider doesn't know")
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
