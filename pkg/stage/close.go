package stage

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/proof"
)

// Close stops the probe and, with tidy, removes what the run made on the cluster: by name, since nothing had these names when the run
// began.
func (s *Stage) Close(ctx context.Context, tidy bool) error {
	if s.probe != nil {
		s.probe.Stop()
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
		client.AppsV1().Deployments(w.Namespace).Delete(ctx, w.Name, o),
		client.AppsV1().Deployments(w.Namespace).Delete(ctx, proof.NewWork(w), o),
		client.CoreV1().Services(w.Namespace).Delete(ctx, w.Name, o),
		client.CoreV1().ConfigMaps(w.Namespace).Delete(ctx, probeConfigMapName, o),
	} {
		if err != nil && !apierrors.IsNotFound(err) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}
