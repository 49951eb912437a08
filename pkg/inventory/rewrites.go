package inventory

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Rewrite is one thing that Kubernetes itself writes, removes or makes anew while nobody asks for it. That it differs proves nothing about a recovery.
type Rewrite struct {
	// Name identifies the entry in reports.
	Name string
	// Objects says which objects it is about.
	Objects string
	// Fields are left out, in the notation of kubectl's JSONPath, with [KEY=VALUE] for the elements of a list, and a * at the end of a name for all that
	// begin like it. Without any, the whole object is left out.
	Fields []string
	// MayGo says of a whole object that only its absence is left out: while it is there, it counts.
	MayGo bool
	// Reason says who writes it, and when.
	Reason string

	// kinds and applies choose the objects; both have to, where they are set.
	kinds   []schema.GroupKind
	applies func(s stored) bool
	// needsStatusSubresource says that the entry holds only for kinds whose CustomResourceDefinition has one, and needsService that it holds only for what has the name of a
	// Service that selects Pods.
	needsStatusSubresource, needsService bool
}

// Whole says whether it is about whole objects.
func (r Rewrite) Whole() bool { return len(r.Fields) == 0 }

func (r Rewrite) concerns(s stored) bool {
	return (r.kinds == nil || slices.Contains(r.kinds, groupKind(s.object))) && (r.applies == nil || r.applies(s))
}

// holds says whether what the entry needs beside the object is there: kinds with the status subresource, and Services that select Pods.
func (r Rewrite) holds(o plan.Object, observed map[schema.GroupKind]bool, services map[fullName]bool) bool {
	return (!r.needsStatusSubresource || observed[groupKind(o)]) && (!r.needsService || services[fullNameOf(o)])
}

// Rewrites is the table of what is left out when inventories are compared. It comes from reading what writes to etcd, and from measuring what changes on a cluster that nobody
// uses, and across recoveries. Each entry is as narrow as its reason. What a person may have written always counts.
//
// Whole objects are left out together with what they control: a Job with its Pods.
func Rewrites() []Rewrite {
	return slices.Concat(passing(), derivations(), observations())
}

func core(kinds ...string) []schema.GroupKind { return of("", kinds...) }

func of(group string, kinds ...string) []schema.GroupKind {
	var out []schema.GroupKind
	for _, k := range kinds {
		out = append(out, schema.GroupKind{Group: group, Kind: k})
	}
	return out
}

// withStatus are the built-in kinds whose status a controller, kubelet or the API server fills in.
//
// Left out of this list, so that their status counts, are those in which it is more than an observation: a ResourceClaim's holds the devices that were given out, which
// nothing but etcd remembers.
func withStatus() []schema.GroupKind {
	return slices.Concat(
		core("Namespace", "Node", "PersistentVolume", "PersistentVolumeClaim", "Pod", "ReplicationController", "ResourceQuota", "Service"),
		of("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
		of(groupExtensions, "CustomResourceDefinition"),
		of(groupAggregation, "APIService"),
		of("apps", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"),
		of("autoscaling", "HorizontalPodAutoscaler"),
		of("batch", "CronJob", "Job"),
		of("flowcontrol.apiserver.k8s.io", "FlowSchema", "PriorityLevelConfiguration"),
		of("networking.k8s.io", "Ingress", "ServiceCIDR"),
		of("policy", "PodDisruptionBudget"),
		of("resource.k8s.io", "DeviceTaintRule"),
		of("storage.k8s.io", "VolumeAttachment"),
		of("storagemigration.k8s.io", "StorageVersionMigration"),
	)
}

// observations are fields in which somebody writes what it saw or did, time and again.
func observations() []Rewrite {
	builtIn := withStatus()
	return []Rewrite{{
		Name:    "managed-fields",
		Objects: "every object",
		Fields:  []string{"metadata.managedFields"},
		Reason:  "with every write, also of a status, the API server notes there who wrote which fields and when",
	}, {
		Name:    "status",
		Objects: "built-in kinds whose status says what was last seen",
		Fields:  []string{"status"},
		Reason: "it can be observed again, and is, by definition " +
			"(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#spec-and-status); " +
			"whether it is true is asked of the nodes by other checks",
		kinds: builtIn,
	}, {
		Name:                   "custom-resource-status",
		Objects:                "custom resources whose definition has the status subresource",
		Fields:                 []string{"status"},
		Reason:                 "by that the definition says that a controller observes it (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#status-subresource)",
		applies:                func(s stored) bool { return !slices.Contains(builtIn, groupKind(s.object)) },
		needsStatusSubresource: true,
	}, {
		Name:    "lease-renewal",
		Objects: "Leases",
		Fields:  []string{"spec"},
		Reason:  "holders renew their Lease every few seconds, and another holder may take it over",
		kinds:   of("coordination.k8s.io", "Lease", "LeaseCandidate"),
	}, {
		Name:    "leader-annotation",
		Objects: "ConfigMaps and Endpoints by which a leader is elected",
		Fields:  []string{`metadata.annotations["` + leaderAnnotation + `"]`},
		Reason:  "those that don't use Leases write there who leads, and renew it every few seconds",
		kinds:   core("ConfigMap", "Endpoints"),
	}, {
		Name:    "node-conditions",
		Objects: "Nodes",
		Fields: []string{
			"spec.taints[key=" + corev1.TaintNodeNotReady + "]", "spec.taints[key=" + corev1.TaintNodeUnreachable + "]",
			"spec.taints[key=" + corev1.TaintNodeMemoryPressure + "]", "spec.taints[key=" + corev1.TaintNodeDiskPressure + "]",
			"spec.taints[key=" + corev1.TaintNodePIDPressure + "]", "spec.taints[key=" + corev1.TaintNodeNetworkUnavailable + "]",
		},
		Reason: "the controller manager taints a node by its conditions, each time that they change",
		kinds:  core("Node"),
	}, {
		Name:    "token-use",
		Objects: "Secrets with a service account's token",
		Fields:  []string{`metadata.labels["kubernetes.io/legacy-token-last-used"]`},
		Reason:  "the API server writes the date when such a token is first used on a day",
		kinds:   core("Secret"),
		applies: func(s stored) bool { return s.text("type") == string(corev1.SecretTypeServiceAccountToken) },
	}}
}

// derivations are made from other things, which count.
func derivations() []Rewrite {
	return []Rewrite{{
		Name:    "api-server-addresses",
		Objects: "Endpoints default/kubernetes",
		Fields:  []string{"subsets", "metadata.generation"},
		Reason:  "each API server puts its own address in when it starts, and takes it out when it ends",
		kinds:   core("Endpoints"),
		applies: apiServers,
	}, {
		Name:    "api-server-slice",
		Objects: "EndpointSlice default/kubernetes",
		Reason: "API servers copy these Endpoints into it; the last one that ends leaves neither addresses nor ports, which looks like IPv4 to it: on a cluster with IPv6 it makes the " +
			"slice anew under the same name (EnsureEndpointSliceFromEndpoints in kubernetes' pkg/controlplane/reconcilers)",
		kinds:   of("discovery.k8s.io", "EndpointSlice"),
		applies: apiServers,
	}, {
		Name:    "endpoints",
		Objects: "Endpoints that the controller manager keeps",
		Fields:  []string{"subsets", `metadata.annotations["` + corev1.EndpointsLastChangeTriggerTime + `"]`},
		Reason:  "they follow from Services and from which Pods are ready at the moment",
		kinds:   core("Endpoints"),
		applies: func(s stored) bool { return s.label(managedBy) == "endpoint-controller" },
	}, {
		Name:         "endpoints-of-services",
		Objects:      "Endpoints that have the name of a Service which selects Pods, and don't say who keeps them",
		Fields:       []string{"subsets", `metadata.annotations["` + corev1.EndpointsLastChangeTriggerTime + `"]`},
		Reason:       "they are the controller manager's as well: older ones don't label what they keep",
		kinds:        core("Endpoints"),
		applies:      func(s stored) bool { return s.label(managedBy) == "" },
		needsService: true,
	}, {
		Name:    "endpoint-slices",
		Objects: "EndpointSlices that the controller manager keeps",
		Reason:  "they follow likewise, or from Endpoints; they are split, merged and made anew under other names",
		kinds:   of("discovery.k8s.io", "EndpointSlice"),
		applies: func(s stored) bool {
			return slices.Contains([]string{"endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"}, s.label(discoveryv1.LabelManagedBy))
		},
	}, {
		Name:    "mirror-pods",
		Objects: "Pods that show static ones",
		Reason:  "kubelet makes them anew whenever the file on the node changes, which is what counts and is not in etcd",
		kinds:   core("Pod"),
		applies: func(s stored) bool { return s.annotated(corev1.MirrorPodAnnotationKey) },
	}, {
		Name:    "resource-slices",
		Objects: "ResourceSlices of a node",
		Reason:  "kubelet removes them when it starts and finds no driver for them, and drivers publish them again",
		kinds:   of("resource.k8s.io", "ResourceSlice"),
		applies: func(s stored) bool { return s.text("spec", "nodeName") != "" },
	}}
}

// passing are objects that come and go by themselves.
func passing() []Rewrite {
	return []Rewrite{{
		Name:    beingDeleted,
		Objects: "objects whose deletion had begun when the snapshot was taken, and all that is in such a Namespace",
		Reason:  "whoever was to finish it does so after the recovery",
		applies: func(s stored) bool { return s.text("metadata", "deletionTimestamp") != "" },
	}, {
		Name:    "events",
		Objects: "Events",
		Reason:  "everybody writes them, and they expire, after an hour by default",
		kinds:   slices.Concat(core("Event"), of("events.k8s.io", "Event")),
	}, {
		Name:    "control-plane-leases",
		Objects: "Leases of kube-controller-manager, kube-scheduler and the API servers, and LeaseCandidates of kube-system",
		Reason: "a procedure may remove the first two so that nobody waits for a leader that is gone; API servers make theirs when they start, and old ones are cleared away, and so it is " +
			"with those who stand for election (https://kubernetes.io/docs/concepts/cluster-administration/coordinated-leader-election/)",
		kinds: of("coordination.k8s.io", "Lease", "LeaseCandidate"),
		applies: func(s stored) bool {
			return s.object.Namespace == metav1.NamespaceSystem &&
				(s.object.Kind == "LeaseCandidate" || s.object.Name == "kube-controller-manager" || s.object.Name == "kube-scheduler" || s.label("apiserver.kubernetes.io/identity") != "")
		},
	}, {
		Name:    "node-leases",
		Objects: "Leases of " + corev1.NamespaceNodeLease + " that a node of the same name holds",
		Reason: "kubelet makes its Lease where there is none, some time after its Node, and renews it every 10 s (https://kubernetes.io/docs/concepts/architecture/leases/#node-heart-beats); " +
			"whether each Node has one that is renewed is asked by another check",
		kinds: of("coordination.k8s.io", "Lease"),
		applies: func(s stored) bool {
			holder := s.text("spec", "holderIdentity")
			return s.object.Namespace == corev1.NamespaceNodeLease && (holder == s.object.Name || s.encryption != "")
		},
	}, {
		Name:    "api-server-registrations",
		Objects: "keys below " + registry + "masterleases/ and " + registry + "peerserverleases/",
		Reason:  "each API server writes its address there every few seconds, with a lease of etcd of 15 s",
		applies: func(s stored) bool {
			return strings.HasPrefix(s.key, registry+"masterleases/") || strings.HasPrefix(s.key, registry+"peerserverleases/")
		},
	}, {
		Name:    "compaction",
		Objects: "the key compact_rev_key",
		Reason:  "the API servers agree by it on who compacts etcd, every 5 minutes",
		applies: func(s stored) bool { return s.key == "compact_rev_key" },
	}, {
		Name:    "certificate-requests",
		Objects: "CertificateSigningRequests and PodCertificateRequests",
		Reason:  "kubelets ask when a certificate is about to expire; answered and forgotten requests are cleared away, some after an hour",
		kinds:   of("certificates.k8s.io", "CertificateSigningRequest", "PodCertificateRequest"),
	}, {
		Name:    "scheduled-jobs",
		Objects: "Jobs of CronJobs",
		Reason:  "the clock makes them, and only so many are kept",
		kinds:   of("batch", "Job"),
		applies: func(s stored) bool {
			owner := metav1.GetControllerOf(&unstructured.Unstructured{Object: s.content})
			return owner != nil && owner.Kind == "CronJob"
		},
	}, {
		Name:    "jobs-with-time-to-live",
		Objects: "Jobs that had finished when the snapshot was taken, and say for how many seconds they are kept then",
		MayGo:   true,
		Reason:  "the controller manager removes them after that time",
		kinds:   of("batch", "Job"),
		applies: func(s stored) bool {
			_, has, err := unstructured.NestedFieldNoCopy(s.content, "spec", "ttlSecondsAfterFinished")
			return has && err == nil && finished(s)
		},
	}, {
		Name:    "bootstrap-tokens",
		Objects: "bootstrap tokens that have expired",
		MayGo:   true,
		Reason:  "the controller manager removes them then; kubeadm's live for a day",
		kinds:   core("Secret"),
		applies: func(s stored) bool {
			return s.text("type") == string(corev1.SecretTypeBootstrapToken) && s.text("data", "expiration") != ""
		},
	}, {
		Name:    "bootstrap-signatures",
		Objects: "ConfigMap kube-public/cluster-info",
		Fields:  []string{`data["jws-kubeconfig-*"]`},
		Reason:  "the controller manager signs it with each bootstrap token there is",
		kinds:   core("ConfigMap"),
		applies: func(s stored) bool {
			return s.object.Namespace == metav1.NamespacePublic && s.object.Name == "cluster-info"
		},
	}}
}

// apiServers says whether it has the name of the Service of the API servers, which no controller but they themselves keeps.
func apiServers(s stored) bool {
	return s.object.Namespace == metav1.NamespaceDefault && s.object.Name == "kubernetes"
}

// managedBy is the label of Endpoints with the name of who keeps them.
const managedBy = "endpoints.kubernetes.io/managed-by"

// leaderAnnotation is LeaderElectionRecordAnnotationKey in client-go's tools/leaderelection/resourcelock, which has no other use for ConfigMaps and Endpoints any more;
// programs that were built with an older one have.
const leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"

// finished says whether a Job has, by either of the conditions that end one (https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions).
func finished(s stored) bool {
	v, _, _ := unstructured.NestedFieldNoCopy(s.content, "status", "conditions")
	conditions, _ := v.([]any)
	return slices.ContainsFunc(conditions, func(c any) bool {
		m, _ := c.(map[string]any)
		return (m["type"] == string(batchv1.JobComplete) || m["type"] == string(batchv1.JobFailed)) && m["status"] == string(corev1.ConditionTrue)
	})
}

// expiry is when a bootstrap token expires; zero for other objects, and for a time that can't be read, which Kubernetes takes for one that is past
// (GetExpiration in k8s.io/cluster-bootstrap's util/secrets).
func expiry(s stored) time.Time {
	if s.text("type") != string(corev1.SecretTypeBootstrapToken) || groupKind(s.object) != (schema.GroupKind{Kind: "Secret"}) {
		return time.Time{}
	}
	text, _ := base64.StdEncoding.DecodeString(s.text("data", "expiration"))
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return time.Time{}
	}
	return at
}

// beingDeleted is the entry that also says that an object is as good as gone.
const beingDeleted = "being-deleted"

// text returns the string in that field; "" where there is none.
func (s stored) text(field ...string) string {
	v, _, _ := unstructured.NestedFieldNoCopy(s.content, field...)
	t, _ := v.(string)
	return t
}

func (s stored) label(name string) string { return s.text("metadata", "labels", name) }

func (s stored) annotated(name string) bool {
	_, has, err := unstructured.NestedFieldNoCopy(s.content, "metadata", "annotations", name)
	return has && err == nil
}
