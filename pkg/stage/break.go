package stage

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// DeleteWorkload deletes the Deployment and waits until nothing of it is left, neither in the API nor on the nodes.
func (s *Stage) DeleteWorkload() plan.Step {
	w := s.Subject.Workload
	return plan.Step{
		Name:  "delete-deployment",
		Phase: plan.Break,
		Title: "Delete the Deployment, by mistake so to speak",
		Why: "This is the loss that the backup is for. The Deployment goes, its ReplicaSet and its pods with it; nobody has the manifest any more. " +
			"The containers must be gone as well before the restore, or they could be mistaken for restored ones.",
		Commands: []plan.Command{
			s.typed("kubectl", "delete", "deployment", w.Name),
			s.typed("kubectl", "wait", "--for=delete", "pod", "-l", w.Selector(), "--timeout=90s"),
			s.typed("kubectl", "get", "deployment,pods", "-l", w.Selector()),
		},
		Expect: "`No resources found in default namespace.`",
		Do:     s.deleteWorkload,
		Learn:  s.workGone,
	}
}

func (s *Stage) deleteWorkload(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	w := s.Subject.Workload
	background := metav1.DeletePropagationBackground
	if err := client.AppsV1().Deployments(w.Namespace).Delete(ctx, w.Name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil && (!s.recalled || !apierrors.IsNotFound(err)) {
		return err
	}
	return until(ctx, "the pods of Deployment "+w.Name+" are gone", func(ctx context.Context) (bool, string) {
		found, err := client.CoreV1().Pods(w.Namespace).List(ctx, metav1.ListOptions{LabelSelector: w.Selector()})
		if err != nil {
			return false, err.Error()
		}
		return len(found.Items) == 0, fmt.Sprintf("%d pods", len(found.Items))
	})
}

// workGone waits until no node runs a container of the workload.
func (s *Stage) workGone(ctx context.Context) error {
	return until(ctx, "no node runs a container of the workload", func(ctx context.Context) (bool, string) {
		running, err := s.workRunning(ctx)
		if err != nil {
			return false, err.Error()
		}
		var names []string
		for _, c := range running {
			names = append(names, c.PodName)
		}
		return len(running) == 0, strings.Join(names, ", ") + " still run"
	})
}

// workRunning returns the containers of the workload's pods that run, by pod UID.
func (s *Stage) workRunning(ctx context.Context) (map[string]controlplane.Container, error) {
	uids := workloadUIDs(s.Subject.Workload)
	out := map[string]controlplane.Container{}
	for _, n := range s.Subject.Cluster.Nodes() {
		found, err := controlplane.Containers(ctx, n, false)
		if err != nil {
			return nil, err
		}
		for _, c := range found {
			if uids[c.PodUID] {
				out[c.PodUID] = c
			}
		}
	}
	return out, nil
}
