package kind

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	readyPoll = 500 * time.Millisecond
	// requestTimeout bounds one question to an API server, which may accept a connection and never answer.
	requestTimeout = 10 * time.Second
	// controlPlaneLabel is what kubeadm puts on control planes.
	controlPlaneLabel = "node-role.kubernetes.io/control-plane"
)

// waitReady returns once a workload can run: every node is Ready, ordinary pods may be scheduled, CoreDNS is
// available, and the ServiceAccount exists without which no pod is admitted. kind's own wait for the nodes only warns when
// its time is over.
func waitReady(ctx context.Context, kubeconfig []byte, s shape, limit time.Duration) error {
	cfg, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig of the new cluster: %w", err)
	}
	cfg.Timeout = requestTimeout
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("connecting to the new cluster: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := "nothing"
	err = wait.PollUntilContextCancel(bounded, readyPoll, true, func(ctx context.Context) (bool, error) {
		missing := whatIsMissing(ctx, client, s)
		if missing != "" && ctx.Err() == nil {
			last = missing // once the time is over, each question fails for that reason alone
		}
		return missing == "", nil
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("waiting for the new cluster: %w (last seen: %s)", ctx.Err(), last)
	default:
		return fmt.Errorf("the new cluster is not ready after %s: %s; hint: --wait gives it longer, --retain keeps it to look at",
			limit, last)
	}
}

// whatIsMissing says what keeps the cluster from being ready, or nothing.
func whatIsMissing(ctx context.Context, client kubernetes.Interface, s shape) string {
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "listing nodes: " + err.Error()
	}
	if missing := nodesMissing(list.Items, s); missing != "" {
		return missing
	}
	dns, err := client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		return "looking for CoreDNS: " + err.Error()
	}
	if missing := deploymentMissing(dns); missing != "" {
		return missing
	}
	if _, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return "looking for the default ServiceAccount: " + err.Error()
	}
	return ""
}

// nodesMissing says which nodes are missing, not Ready, or closed to ordinary pods though they should take them: the
// workers, or where there are none, the control planes.
func nodesMissing(all []corev1.Node, s shape) string {
	if want := s.controlPlanes + s.workers; len(all) < want {
		return fmt.Sprintf("%d of %d nodes have registered", len(all), want)
	}
	var unready []string
	for _, n := range all {
		_, controlPlane := n.Labels[controlPlaneLabel]
		why := notReady(n)
		if why == "" && (!controlPlane || s.workers == 0) {
			// A node is Ready some seconds before the taint goes that kept pods away until then.
			why = repels(n)
		}
		if why != "" {
			unready = append(unready, n.Name+": "+why)
		}
	}
	if len(unready) > 0 {
		return "nodes are not ready: " + strings.Join(unready, "; ")
	}
	return ""
}

func notReady(n corev1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				return ""
			}
			return strings.TrimSpace(c.Reason + " " + c.Message)
		}
	}
	return "no Ready condition yet"
}

// repels says what keeps ordinary pods away from the node, or nothing.
func repels(n corev1.Node) string {
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute {
			return "tainted " + t.ToString()
		}
	}
	if n.Spec.Unschedulable {
		return "unschedulable"
	}
	return ""
}

func deploymentMissing(d *appsv1.Deployment) string {
	if d.Status.ObservedGeneration < d.Generation {
		return "CoreDNS: the Deployment has not been looked at by its controller yet"
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentAvailable {
			if c.Status == corev1.ConditionTrue {
				return ""
			}
			return fmt.Sprintf("CoreDNS is not available: %d of %d replicas; %s", d.Status.AvailableReplicas, d.Status.Replicas, c.Message)
		}
	}
	return "CoreDNS has no Available condition yet"
}
