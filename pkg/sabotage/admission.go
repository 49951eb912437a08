package sabotage

import (
	"context"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/stage"
)

// NoHeartbeat forbids, from before the snapshot on, that a node renews its Lease. kubelet runs, and everything else goes on until the controller manager
// takes the node for lost, some forty seconds later.
func NoHeartbeat() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "no-heartbeat", Summary: "nodes no longer renew their Leases"},
		Breaks: []string{"node-heartbeat"},
		Insert: at("deploy-workload", "forbid-heartbeat", "Forbid that nodes renew their Leases", forbidHeartbeat),
		Undo: func(ctx context.Context, s *stage.Stage) error {
			c, err := client(s)
			if err != nil {
				return err
			}
			admission := c.AdmissionregistrationV1()
			return errors.Join(
				gone(admission.ValidatingAdmissionPolicyBindings().Delete(ctx, name, metav1.DeleteOptions{})),
				gone(admission.ValidatingAdmissionPolicies().Delete(ctx, name, metav1.DeleteOptions{})))
		},
		Harmless: true,
	}
}

func forbidHeartbeat(ctx context.Context, s *stage.Stage) error {
	c, err := client(s)
	if err != nil {
		return err
	}
	_, err = c.AdmissionregistrationV1().ValidatingAdmissionPolicies().Create(ctx, &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: ptr(admissionv1.Fail),
			MatchConstraints: &admissionv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: corev1.NamespaceNodeLease}},
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Update},
					Rule:       admissionv1.Rule{APIGroups: []string{"coordination.k8s.io"}, APIVersions: []string{"v1"}, Resources: []string{"leases"}},
				}}},
			},
			Validations: []admissionv1.Validation{{Expression: "false", Message: "heartbeats are sabotaged"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = c.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Create(ctx, &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        name,
			ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	leases := c.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	node := s.Subject.Cluster.Nodes()[0].Name()
	return wait(ctx, "the policy is in force", func(ctx context.Context) (bool, string) {
		lease, err := leases.Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return apierrors.IsInvalid(err) || apierrors.IsForbidden(err), fmt.Sprint(err)
	})
}

// NoNewPods forbids, from before the snapshot on, any further pod in the namespace of the workload. The pods that are there stay.
func NoNewPods() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "no-new-pods", Summary: "no new pod can be made"},
		Breaks: []string{"new-work-runs"},
		Insert: at("deploy-workload", "forbid-pods", "Forbid new pods", func(ctx context.Context, s *stage.Stage) error {
			c, err := client(s)
			if err != nil {
				return err
			}
			_, err = c.CoreV1().ResourceQuotas(s.Subject.Workload.Namespace).Create(ctx, &corev1.ResourceQuota{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
			}, metav1.CreateOptions{})
			return err
		}),
		Undo: func(ctx context.Context, s *stage.Stage) error {
			c, err := client(s)
			if err != nil {
				return err
			}
			return gone(c.CoreV1().ResourceQuotas(s.Subject.Workload.Namespace).Delete(ctx, name, metav1.DeleteOptions{}))
		},
		Harmless: true,
	}
}
