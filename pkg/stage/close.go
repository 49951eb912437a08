package stage

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/proof"
)

// Close stops the probe and, with tidy, removes what the run made on the cluster. What was there before is not touched: objects are
// deleted only if they are those that the run made.
func (s *Stage) Close(ctx context.Context, tidy bool) error {
	if s.probe != nil {
		s.probe.Stop()
	}
	if !tidy {
		return nil
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	w := s.Subject.Workload
	var problems []error
	remove := func(err error) {
		if err != nil && !apierrors.IsNotFound(err) {
			problems = append(problems, err)
		}
	}
	for _, o := range w.Objects {
		only := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &o.UID}}
		switch o.Resource.Resource {
		case "deployments":
			remove(client.AppsV1().Deployments(o.Namespace).Delete(ctx, o.Name, only))
		case "services":
			remove(client.CoreV1().Services(o.Namespace).Delete(ctx, o.Name, only))
		}
	}
	if s.probe != nil {
		remove(client.AppsV1().Deployments(w.Namespace).Delete(ctx, proof.NewWork(w), metav1.DeleteOptions{}))
		remove(client.CoreV1().ConfigMaps(w.Namespace).Delete(ctx, probeConfigMapName, metav1.DeleteOptions{}))
	}
	return errors.Join(problems...)
}
