package stage

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/etcd-drill/drill/pkg/proof"
)

// Close stops the probe, closes the watches and, with tidy, removes what the run made on the cluster: by name, since nothing had these names when the run
// began. What a snapshot that was given has brought back under such a name stays.
func (s *Stage) Close(ctx context.Context, tidy bool) error {
	if s.probe != nil {
		s.probe.Stop()
	}
	if s.Subject.Watchers != nil {
		s.Subject.Watchers.Close()
	}
	if !tidy || !s.vacated {
		return nil
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	w, o := s.Subject.Workload, metav1.DeleteOptions{}
	var problems []error
	for _, err := range []error{
		client.AppsV1().Deployments(w.Namespace).Delete(ctx, w.Name, s.mine("deployments")),
		client.AppsV1().Deployments(w.Namespace).Delete(ctx, proof.NewWork(w), o),
		client.CoreV1().Services(w.Namespace).Delete(ctx, w.Name, s.mine("services")),
		client.CoreV1().Services(w.Namespace).Delete(ctx, proof.NewWork(w), o),
		client.CoreV1().ConfigMaps(w.Namespace).Delete(ctx, probeConfigMapName, o),
		s.sweepLate(ctx, client),
	} {
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // which is another one of that name
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	return s.swept(ctx, client)
}

// Clear removes what a check has made to see whether new work runs, when the process that looked was killed; the ledger would find it otherwise.
func (s *Stage) Clear(ctx context.Context) error {
	if !s.vacated {
		return nil
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	name, namespace, o := proof.NewWork(s.Subject.Workload), s.Subject.Workload.Namespace, metav1.DeleteOptions{}
	found := false
	for _, err := range []error{client.AppsV1().Deployments(namespace).Delete(ctx, name, o), client.CoreV1().Services(namespace).Delete(ctx, name, o)} {
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		found = found || err == nil
	}
	if !found {
		return nil
	}
	return until(ctx, "the pods of "+name+" are gone", func(ctx context.Context) (bool, string) {
		pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return false, err.Error()
		}
		return len(pods.Items) == 0, fmt.Sprintf("%d pods", len(pods.Items))
	})
}

// swept waits until the pods of what was deleted are gone, too: who looks at the cluster next, a further run for one, must find nothing of
// this one.
func (s *Stage) swept(ctx context.Context, client kubernetes.Interface) error {
	w := s.Subject.Workload
	selector := "app in (" + w.Name + "," + proof.NewWork(w) + ")"
	if len(w.Namesakes) > 0 { // they came with a snapshot, and stay
		selector = "app=" + proof.NewWork(w)
	}
	return until(ctx, "the pods of the run are gone", func(ctx context.Context) (bool, string) {
		found, err := client.CoreV1().Pods(w.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return false, err.Error()
		}
		return len(found.Items) == 0, fmt.Sprintf("%d pods", len(found.Items))
	})
}
