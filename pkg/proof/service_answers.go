package proof

import (
	"context"
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
)

// ServiceAnswers sends HTTP requests through the real data path: from every node to the Service's cluster IP, which takes
// kube-proxy's rules, and to every pod's own IP, which takes the network between pods.
func ServiceAnswers(s *Subject) plan.Check {
	return plan.Check{
		Name:    "service-answers",
		Summary: "the workload answers over its Service, and over the IP of each of its pods",
		Phase:   plan.Prove,
		Look:    func(ctx context.Context) (plan.Finding, error) { return serviceAnswers(ctx, s) },
	}
}

func serviceAnswers(ctx context.Context, s *Subject) (plan.Finding, error) {
	targets, wrong, err := addresses(ctx, s)
	if err != nil {
		return plan.Finding{}, err
	}
	var right []string
	for _, n := range s.Cluster.Nodes() {
		for _, t := range targets {
			if err := fetch(ctx, n, t.ip, s.Workload.Port); err != nil {
				wrong = append(wrong, fmt.Sprintf("%s at %s from node %s: %v", t.name, t.ip, n.Name(), err))
			} else {
				right = append(right, fmt.Sprintf("%s at %s answers node %s", t.name, t.ip, n.Name()))
			}
		}
	}
	if len(wrong) > 0 {
		return plan.Failed(fmt.Sprintf("%d of %d requests found no answer: %s", len(wrong), len(wrong)+len(right), wrong[0]),
			"if status-backed failed too, the pods exist in etcd only; if pod IPs answer and the Service doesn't, look at kube-proxy and the EndpointSlices", append(wrong, right...)...), nil
	}
	if len(right) == 0 {
		return plan.Failed("the workload has no address to ask", "see objects-restored"), nil
	}
	return plan.Passed(fmt.Sprintf("%d of %d requests were answered", len(right), len(right)), right...), nil
}

type address struct{ name, ip string }

// addresses returns where the workload should answer, and what has no address.
func addresses(ctx context.Context, s *Subject) (found []address, missing []string, err error) {
	for _, o := range s.Workload.Objects {
		if o.Resource != pods && o.Resource != services {
			continue
		}
		u, err := get(ctx, s.Servers[0], o)
		if err != nil {
			missing = append(missing, err.Error())
			continue
		}
		var ip string
		if o.Resource == pods {
			var pod corev1.Pod
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod); err != nil {
				return nil, nil, err
			}
			ip = pod.Status.PodIP
		} else {
			var svc corev1.Service
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &svc); err != nil {
				return nil, nil, err
			}
			ip = svc.Spec.ClusterIP
		}
		if net.ParseIP(ip) == nil {
			missing = append(missing, fmt.Sprintf("%s has no IP (%q)", o, ip))
			continue
		}
		found = append(found, address{o.String(), ip})
	}
	return found, missing, nil
}

// fetch asks for / over HTTP from node n and returns nil for an answer with a status below 400. A proxy that is set up on the node
// knows nothing of the cluster's addresses.
func fetch(ctx context.Context, n cluster.Node, ip string, port int) error {
	url := "http://" + net.JoinHostPort(ip, strconv.Itoa(port)) + "/"
	_, err := cluster.Run(ctx, n, "curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "--noproxy", "*", "--max-time", "2", url)
	return err
}
