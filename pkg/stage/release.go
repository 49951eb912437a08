package stage

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// release deletes the leader election Leases of kube-system by these names that have the holder from before the break, or an older one from a snapshot that was given: it was stopped, so
// nobody renews them. One that somebody takes up in the same moment is left alone, since the deletion is for this version of it only.
// A candidate that finds no Lease makes one at once (client-go's tools/leaderelection); one that finds a stranger's waits until it runs out.
func (s *Stage) release(ctx context.Context, names ...string) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	leases := client.CoordinationV1().Leases(metav1.NamespaceSystem)
	var problems []error
	for _, name := range names {
		lease, err := leases.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			problems = append(problems, fmt.Errorf("reading Lease %s: %w", name, err))
			continue
		case lease.Spec.HolderIdentity == nil || !s.gone(name, *lease.Spec.HolderIdentity):
			continue
		}
		err = leases.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			problems = append(problems, fmt.Errorf("removing Lease %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

// holders returns who holds each Lease of kube-system.
func (s *Stage) holders(ctx context.Context) (map[string]string, error) {
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	list, err := client.CoordinationV1().Leases(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing the Leases of kube-system: %w", err)
	}
	out := map[string]string{}
	for _, l := range list.Items {
		if l.Spec.HolderIdentity != nil {
			out[l.Name] = *l.Spec.HolderIdentity
		}
	}
	return out, nil
}
