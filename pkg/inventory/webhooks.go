package inventory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/etcd-drill/drill/pkg/plan"
)

// webhook is one of a configuration's, of whatever kind.
type webhook struct {
	name            string
	policy          *admissionv1.FailurePolicyType
	service         *admissionv1.ServiceReference
	rules           []admissionv1.RuleWithOperations
	namespaces      *metav1.LabelSelector
	objects         *metav1.LabelSelector
	underConditions bool
	of              plan.Object
}

// maxWebhooks bounds how many are kept until all namespaces are known.
const maxWebhooks = 10_000

// webhook takes in one that fails closed and is served from inside the cluster.
func (h *hazards) webhook(w webhook) {
	if w.service == nil || w.policy != nil && *w.policy != admissionv1.Fail || len(h.webhooks) == maxWebhooks { // Fail is the default
		return
	}
	h.webhooks = append(h.webhooks, w)
}

func validating(o plan.Object, w admissionv1.ValidatingWebhook) webhook {
	return webhook{w.Name, w.FailurePolicy, w.ClientConfig.Service, w.Rules, w.NamespaceSelector, w.ObjectSelector, len(w.MatchConditions) > 0, o}
}

func mutating(o plan.Object, w admissionv1.MutatingWebhook) webhook {
	return webhook{w.Name, w.FailurePolicy, w.ClientConfig.Service, w.Rules, w.NamespaceSelector, w.ObjectSelector, len(w.MatchConditions) > 0, o}
}

// detail says what it is asked about.
func (w webhook) detail() string {
	var resources []string
	for _, r := range w.rules {
		for _, resource := range r.Resources {
			if !slices.Contains(resources, resource) {
				resources = append(resources, resource)
			}
		}
	}
	out := fmt.Sprintf("%s, served by Service %s/%s, asked about %s", w.name, w.service.Namespace, w.service.Name, strings.Join(resources, ", "))
	if w.underConditions {
		out += " under conditions"
	}
	return out
}

// hinders says whether a webhook is asked about what its own pods need to run, or those of kube-system, without which none run. namespaces are the labels of those that there are.
//
// Objects of the whole cluster other than namespaces are asked about whatever the selector of namespaces says
// (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-namespaceselector). A selector of objects that doesn't choose one without labels has been opted in for; nobody can tell who has.
func (w webhook) hinders(namespaces map[string]labels.Set) bool {
	if !matches(w.objects, labels.Set{}) {
		return false
	}
	inNamespace := slices.ContainsFunc([]string{w.service.Namespace, metav1.NamespaceSystem}, func(name string) bool {
		own := namespaces[name]
		if own == nil {
			own = labels.Set{corev1.LabelMetadataName: name} // which every namespace has
		}
		return matches(w.namespaces, own)
	})
	return slices.ContainsFunc(w.rules, func(r admissionv1.RuleWithOperations) bool {
		if !slices.ContainsFunc(r.Operations, func(o admissionv1.OperationType) bool { return o != admissionv1.Delete && o != admissionv1.Connect }) {
			return false
		}
		scope := cmp.Or(ptr(r.Scope), admissionv1.AllScopes)
		return inNamespace && scope != admissionv1.ClusterScope && concerns(r.Rule, neededInNamespaces()) || scope != admissionv1.NamespacedScope && concerns(r.Rule, neededOfCluster())
	})
}

func ptr[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// matches says whether a selector chooses labels. One that isn't there chooses all, and so does, for what it is used here, one that can't be read.
func matches(s *metav1.LabelSelector, l labels.Set) bool {
	if s == nil {
		return true
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err != nil || selector.Matches(l)
}

// What is created and updated until pods run that are in the backup already, or are made anew for what is, by resource with its group.
func neededInNamespaces() map[string]string {
	return map[string]string{
		"pods": "", "pods/status": "", "pods/binding": "", "bindings": "", "serviceaccounts/token": "", "replicasets": "apps", "replicasets/status": "apps", "deployments/status": "apps", "daemonsets/status": "apps",
		"statefulsets/status": "apps", "leases": "coordination.k8s.io", "endpointslices": "discovery.k8s.io",
	}
}

func neededOfCluster() map[string]string {
	return map[string]string{
		"nodes": "", "nodes/status": "", "volumeattachments": "storage.k8s.io", "csinodes": "storage.k8s.io", "tokenreviews": "authentication.k8s.io", "subjectaccessreviews": "authorization.k8s.io",
	}
}

// concerns says whether a rule is about any of the resources (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-rules).
func concerns(r admissionv1.Rule, resources map[string]string) bool {
	for _, named := range r.Resources {
		asked, askedSub, _ := strings.Cut(named, "/")
		for needed, group := range resources {
			resource, sub, _ := strings.Cut(needed, "/")
			if (asked == resource || asked == "*") && (askedSub == sub || askedSub == "*") && (slices.Contains(r.APIGroups, "*") || slices.Contains(r.APIGroups, group)) {
				return true
			}
		}
	}
	return false
}

// maxNamespaces bounds of how many namespaces the labels are kept; those of kube-system, in which most of what others need runs, are in any case.
const maxNamespaces = 50_000

// labelled notes the labels of a namespace.
func (h *hazards) labelled(name string, l map[string]string) {
	if len(h.namespaces) < maxNamespaces || name == metav1.NamespaceSystem {
		own := labels.Set{corev1.LabelMetadataName: name} // API servers set it when they read one (SetDefaults_Namespace in pkg/apis/core/v1/defaults.go of kubernetes), stored or not
		maps.Copy(own, l)
		h.namespaces[name] = own
	}
}

// judgeWebhooks says which of them hinder, now that all namespaces are known.
func (h *hazards) judgeWebhooks() {
	for _, w := range h.webhooks {
		name := hazardOtherWebhooks
		if w.hinders(h.namespaces) {
			name = hazardWebhooks
		}
		h.enter(h.found, name, w.of, w.detail())
	}
}
