package inventory

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Severity is how much something hurts after a restore.
type Severity string

// Severities.
const (
	// SeverityHigh may keep the cluster from coming back.
	SeverityHigh Severity = "high"
	// SeverityMedium may keep a part of it from working, or destroy something.
	SeverityMedium Severity = "medium"
	// SeverityLow costs time, or surprises.
	SeverityLow Severity = "low"
)

// HazardKind is something in a backup that would hurt after a restore.
type HazardKind struct {
	// Name identifies it in reports.
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	// What it is, why it hurts, with the page that says so, and what to do about it.
	What   string `json:"what"`
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
}

// Hazard is a HazardKind that was found.
type Hazard struct {
	HazardKind
	// Count is how many objects it concerns; Objects are some of them, in the order of their names.
	Count   int64          `json:"count"`
	Objects []HazardObject `json:"objects"`
}

// HazardObject is an object that a hazard concerns.
type HazardObject struct {
	plan.Object
	// Detail is what of it hurts. Of a Secret it has the name of a field, and the subject and the end of the certificate there.
	Detail string `json:"detail"`
}

// Names of hazards.
const (
	hazardAlarms        = "etcd-alarms"
	hazardWebhooks      = "fail-closed-webhooks"
	hazardOtherWebhooks = "other-fail-closed-webhooks"
	hazardJobs          = "unfinished-jobs"
	hazardConversion    = "conversion-webhooks"
	hazardAggregated    = "aggregated-apis"
	hazardExpired       = "expired-certificates"
	hazardExpiring      = "expiring-certificates"
	hazardMissingNodes  = "pods-of-missing-nodes"
	hazardTerminating   = "terminating-namespaces"
	hazardFinalizers    = "finalizers-without-controller"
	hazardVolumes       = "volumes-to-be-deleted"
	hazardMasterLeases  = "old-master-leases"
	hazardLeases        = "held-leases"
	hazardUnread        = "encrypted-objects"
)

// expiringSoon is from when on before its end a certificate is named.
const expiringSoon = 30 * 24 * time.Hour

// HazardKinds are all that a survey looks for, what hurts most first.
func HazardKinds() []HazardKind {
	return []HazardKind{
		{
			hazardAlarms, SeverityHigh, "alarms of etcd that were raised",
			"an alarm is part of what is restored: with NOSPACE etcd refuses every write, and with CORRUPT it doesn't serve (https://etcd.io/docs/v3.6/op-guide/maintenance/#space-quota)",
			"see with `drill rehearse` whether etcd takes writes; after the restore, see to what it was raised for, and run `etcdctl alarm disarm`",
		}, {
			hazardWebhooks, SeverityHigh, "admission webhooks inside the cluster that fail closed, and are asked about what their own pods need to run",
			"until its pods run, every request that such a webhook is asked about is refused, those for these pods among them: where they don't run any more, the cluster doesn't come back by itself " +
				"(https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices/)",
			"have the manifests of the webhooks at hand, and delete the configurations after the restore if requests are refused; leave kube-system and the webhook's own namespace out of them",
		}, {
			hazardJobs, SeverityMedium, "Jobs that had not finished",
			"they are carried on with after the restore, also where they have finished since the backup: what they do is done once more (https://kubernetes.io/docs/concepts/workloads/controllers/job/)",
			"set spec.suspend on those that must not run twice right after the restore, or delete them",
		}, {
			hazardExpired, SeverityMedium, "certificates in Secrets that have expired",
			"what serves with them is trusted by nobody, and what was renewed since the backup is old again (https://kubernetes.io/docs/concepts/configuration/secret/#tls-secrets)",
			"renew them after the restore; where a controller does that, see that it runs",
		}, {
			hazardMissingNodes, SeverityMedium, "pods on nodes that are not in the backup",
			"nobody runs them, and nobody can say that they don't: they are removed only by the garbage collection of pods, some time after the node is known to be gone (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection)",
			"delete them after the restore, or bring the nodes back",
		}, {
			hazardVolumes, SeverityMedium, "volumes that were released, or whose removal had failed, with the reclaim policy Delete",
			"after the restore the controller deletes what is behind them, also where it was put to another use since (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#reclaiming)",
			"set persistentVolumeReclaimPolicy to Retain, right after the restore, on what must stay",
		}, {
			hazardTerminating, SeverityMedium, "namespaces that were being deleted",
			"the deletion goes on after the restore, and takes with it whatever is in them again (https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/)",
			"get out of them what must stay right after the restore: a deletion can't be taken back",
		}, {
			hazardFinalizers, SeverityMedium, "objects being deleted that wait for a finalizer whose controller isn't in the backup",
			"nobody takes the finalizer away, so that they stay for ever, and with them the namespace that they are in (https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/#how-finalizers-work)",
			"install the controller again, or remove the finalizer with `kubectl patch` once what it stands for is done",
		}, {
			hazardConversion, SeverityMedium, "custom resources that a webhook inside the cluster converts",
			"until its pods run, objects that aren't stored in the version asked for can't be read at all, and what watches them can't start (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#webhook-conversion)",
			"see after the restore that the webhook's pods run before anything that needs these resources",
		}, {
			hazardAggregated, SeverityMedium, "APIs that are served from inside the cluster",
			"until their pods run, discovery has a hole, and namespaces can't be deleted (https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/)",
			"see after the restore that `kubectl get apiservices` says that all are available",
		}, {
			hazardExpiring, SeverityLow, "certificates in Secrets that expire within 30 days",
			"they will have expired when this backup is a month old",
			"renew them, and take a newer backup",
		}, {
			hazardOtherWebhooks, SeverityLow, "admission webhooks inside the cluster that fail closed, and are asked about other things",
			"until its pods run, every request that such a webhook is asked about is refused (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#failure-policy)",
			"see after the restore that their pods run before anything that writes these resources",
		}, {
			hazardMasterLeases, SeverityLow, "addresses of API servers as they were",
			"Service kubernetes leads to them until their lease in etcd ends, 15 s after the restore at the earliest, also where there is no API server any more (reconcilers in pkg/controlplane/reconcilers of kubernetes)",
			"wait for that, or start the API servers with the addresses that they had",
		}, {
			hazardLeases, SeverityLow, "leader election Leases that somebody holds",
			"who held them may be gone, and others wait until a Lease has not been renewed for its whole duration; who still runs from before believes that it leads (https://kubernetes.io/docs/concepts/architecture/leases/)",
			"delete the Leases right after the restore, when nothing runs any more that held them",
		}, {
			hazardUnread, SeverityLow, "encrypted objects, which were not looked into",
			"what of the above is in them isn't known; and without the same EncryptionConfiguration the restored API server can't read them (https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/)",
			"keep the EncryptionConfiguration and its keys beside the backups, and not only on the control planes",
		},
	}
}

// found is what was found of one hazard.
type found struct {
	count   int64
	objects []HazardObject
}

// hazards collects them. What takes two kinds of objects to know is joined in result: the keys come in no order.
type hazards struct {
	options SurveyOptions
	found   map[string]*found
	// nodes are those there are, and onNodes some of the pods on each.
	nodes   map[string]bool
	onNodes map[string]*found
	// waits are the objects that are being deleted, by finalizer; mentions is what workloads are called and run, in lower case.
	waits    map[string]*found
	mentions map[string]bool
	// webhooks are those that fail closed, and namespaces the labels of those there are.
	webhooks   []webhook
	namespaces map[string]labels.Set
}

func newHazards(o SurveyOptions) *hazards {
	return &hazards{
		options: o, found: map[string]*found{}, nodes: map[string]bool{}, onNodes: map[string]*found{}, waits: map[string]*found{}, mentions: map[string]bool{},
		namespaces: map[string]labels.Set{},
	}
}

// enter adds an object to those found under a name.
func (h *hazards) enter(into map[string]*found, name string, o plan.Object, detail string) {
	f := into[name]
	if f == nil {
		f = &found{}
		into[name] = f
	}
	f.count++
	f.keep(h.options.PerHazard, HazardObject{o, visible(detail)})
}

// keep keeps the first few in the order of their names.
func (f *found) keep(most int, o HazardObject) {
	at, _ := slices.BinarySearchFunc(f.objects, o, byObject)
	if at == most {
		return
	}
	f.objects = slices.Insert(f.objects, at, o)
	f.objects = f.objects[:min(len(f.objects), most)]
}

func byObject(a, b HazardObject) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Detail, b.Detail))
}

// merge takes in what was collected elsewhere.
func (h *hazards) merge(o *hazards) {
	for _, m := range []struct{ to, from map[string]*found }{{h.found, o.found}, {h.onNodes, o.onNodes}, {h.waits, o.waits}} {
		for name, f := range m.from {
			if m.to[name] == nil {
				m.to[name] = &found{}
			}
			m.to[name].count += f.count
			for _, object := range f.objects {
				m.to[name].keep(h.options.PerHazard, object)
			}
		}
	}
	maps.Copy(h.nodes, o.nodes)
	maps.Copy(h.mentions, o.mentions)
	maps.Copy(h.namespaces, o.namespaces)
	h.webhooks = append(h.webhooks, o.webhooks...)
}

const groupAdmission = "admissionregistration.k8s.io"

// masterLeases is below what API servers keep their addresses in etcd (pkg/controlplane/instance.go of kubernetes).
const masterLeases = registry + "masterleases/"

// see looks for hazards in one object.
func (h *hazards) see(key string, gk schema.GroupKind, k sketch) {
	for _, f := range k.head.finalizers {
		if k.head.deleting {
			h.enter(h.waits, string(f), k.object, "waits for "+string(f))
		}
	}
	if gk == (schema.GroupKind{Kind: "Node"}) {
		h.nodes[k.object.Name] = true // the key tells it, also of an encrypted one
	}
	switch {
	case k.encryption != "":
		h.enter(h.found, hazardUnread, k.object, strings.TrimSuffix(k.encryption, ":"))
		return
	case strings.HasPrefix(key, masterLeases):
		h.enter(h.found, hazardMasterLeases, plan.Object{APIVersion: k.object.APIVersion, Kind: k.object.Kind, Name: strings.TrimPrefix(key, masterLeases)}, "")
		return
	}
	if k.raw == nil {
		k.raw = inProtobuf(k)
	}
	switch gk {
	case schema.GroupKind{Kind: "Pod"}:
		if node := nodeOf(k.raw); node != "" {
			h.enter(h.onNodes, node, k.object, "on "+node)
		}
	case schema.GroupKind{Kind: "Secret"}:
		read(k.raw, &corev1.Secret{}, func(s *corev1.Secret) { h.certificates(k.object, s.Data) })
	case schema.GroupKind{Kind: "Namespace"}:
		if k.head.deleting {
			h.enter(h.found, hazardTerminating, k.object, "")
		}
		read(k.raw, &corev1.Namespace{}, func(n *corev1.Namespace) { h.labelled(n.Name, n.Labels) })
	case schema.GroupKind{Group: "batch", Kind: "Job"}:
		read(k.raw, &batchv1.Job{}, func(j *batchv1.Job) { h.job(k.object, j) })
	case schema.GroupKind{Kind: "PersistentVolume"}:
		read(k.raw, &corev1.PersistentVolume{}, func(v *corev1.PersistentVolume) {
			if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete && (v.Status.Phase == corev1.VolumeReleased || v.Status.Phase == corev1.VolumeFailed) {
				h.enter(h.found, hazardVolumes, k.object, strings.ToLower(string(v.Status.Phase)))
			}
		})
	case schema.GroupKind{Group: "coordination.k8s.io", Kind: "Lease"}:
		// A node's own Lease says that it is alive, and nobody waits for it. The API servers' are their own, too.
		if k.object.Namespace == corev1.NamespaceNodeLease || strings.HasPrefix(k.object.Name, "apiserver-") {
			return
		}
		read(k.raw, &coordinationv1.Lease{}, func(l *coordinationv1.Lease) {
			if l.Spec.HolderIdentity != nil && *l.Spec.HolderIdentity != "" {
				h.enter(h.found, hazardLeases, k.object, "held by "+*l.Spec.HolderIdentity)
			}
		})
	case schema.GroupKind{Group: groupAdmission, Kind: "ValidatingWebhookConfiguration"}:
		read(k.raw, &admissionv1.ValidatingWebhookConfiguration{}, func(c *admissionv1.ValidatingWebhookConfiguration) {
			for _, w := range c.Webhooks {
				h.webhook(validating(k.object, w))
			}
		})
	case schema.GroupKind{Group: groupAdmission, Kind: "MutatingWebhookConfiguration"}:
		read(k.raw, &admissionv1.MutatingWebhookConfiguration{}, func(c *admissionv1.MutatingWebhookConfiguration) {
			for _, w := range c.Webhooks {
				h.webhook(mutating(k.object, w))
			}
		})
	case schema.GroupKind{Group: groupExtensions, Kind: "CustomResourceDefinition"}:
		h.definition(k)
	case schema.GroupKind{Group: groupAggregation, Kind: "APIService"}:
		var s struct {
			Spec struct {
				Service *serviceReference `json:"service"`
			} `json:"spec"`
		}
		if unmarshalOther(k.other, &s) == nil && s.Spec.Service != nil {
			h.enter(h.found, hazardAggregated, k.object, "served by Service "+s.Spec.Service.String())
		}
	case schema.GroupKind{Group: "apps", Kind: "Deployment"}, schema.GroupKind{Group: "apps", Kind: "StatefulSet"}, schema.GroupKind{Group: "apps", Kind: "DaemonSet"}:
		h.workload(k)
	}
}

type serviceReference struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (s serviceReference) String() string { return s.Namespace + "/" + s.Name }

// read reads protobuf into its type, and leaves what can't be read alone: whether it can is no question of a survey.
func read[T message](raw []byte, into T, then func(T)) {
	if raw != nil && into.Unmarshal(raw) == nil {
		then(into)
	}
}

// inProtobuf is a built-in object as it is usually stored, where an API server was told to store it otherwise (its flag --storage-media-type); nil for anything else.
func inProtobuf(k sketch) []byte {
	o, err := scheme.Scheme.New(schema.FromAPIVersionAndKind(k.object.APIVersion, k.object.Kind))
	m, is := o.(message)
	if err != nil || !is || unmarshalOther(k.other, o) != nil {
		return nil
	}
	raw, err := m.Marshal()
	if err != nil {
		return nil
	}
	return raw
}

// nodeOf returns the node that a Pod is bound to: field nodeName (10) of its spec (2).
func nodeOf(pod []byte) (node string) {
	_ = eachField(pod, func(field protowire.Number, spec []byte, _ uint64) error {
		if field != 2 {
			return nil
		}
		return eachField(spec, func(field protowire.Number, content []byte, _ uint64) error {
			if field == 10 {
				node = string(content)
			}
			return nil
		})
	})
	return node
}

// certificates looks at every certificate in a Secret, whatever its type; one that is not the first of a chain counts as well.
func (h *hazards) certificates(o plan.Object, data map[string][]byte) {
	expired, expiring := "", ""
	for _, name := range slices.Sorted(maps.Keys(data)) {
		for rest := data[name]; bytes.Contains(rest, []byte("-----BEGIN CERTIFICATE-----")); {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if block.Type != "CERTIFICATE" || err != nil {
				continue
			}
			said := fmt.Sprintf("%s: %s until %s", name, c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
			switch {
			case !c.NotAfter.After(h.options.At):
				expired = cmp.Or(expired, said)
			case c.NotAfter.Before(h.options.At.Add(expiringSoon)):
				expiring = cmp.Or(expiring, said)
			}
		}
	}
	switch {
	case expired != "":
		h.enter(h.found, hazardExpired, o, expired)
	case expiring != "":
		h.enter(h.found, hazardExpiring, o, expiring)
	}
}

// job looks at one that is carried on with after a restore.
func (h *hazards) job(o plan.Object, j *batchv1.Job) {
	done := slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
	if done || ptr(j.Spec.Suspend) || j.DeletionTimestamp != nil {
		return
	}
	h.enter(h.found, hazardJobs, o, fmt.Sprintf("%d active, %d succeeded, %d failed", j.Status.Active, j.Status.Succeeded, j.Status.Failed))
}

// definition looks at a CustomResourceDefinition.
func (h *hazards) definition(k sketch) {
	d, is := definitionIn(k)
	service := cmp.Or(d.Conversion.WebhookClientConfig.Service, d.Conversion.Webhook.ClientConfig.Service)
	if is && d.Conversion.Strategy == "Webhook" && service != nil {
		h.enter(h.found, hazardConversion, k.object, "converted by Service "+service.String())
	}
}

// workload notes what a workload is called and what it runs.
func (h *hazards) workload(k sketch) {
	note := func(text string) {
		if len(h.mentions) < maxMentions {
			h.mentions[strings.ToLower(text)] = true
		}
	}
	note(k.object.Name)
	var images func(b []byte, path ...protowire.Number)
	images = func(b []byte, path ...protowire.Number) {
		_ = eachField(b, func(field protowire.Number, content []byte, _ uint64) error {
			switch {
			case field != path[0]:
			case len(path) == 1:
				note(string(content))
			default:
				images(content, path[1:]...)
			}
			return nil
		})
	}
	// spec.template.spec.containers[].image: the template is field 3 of the spec of a Deployment or StatefulSet, and 2 of that of a DaemonSet (k8s.io/api/apps/v1/generated.proto).
	template := protowire.Number(3)
	if k.object.Kind == "DaemonSet" {
		template = 2
	}
	images(k.raw, 2, template, 2, 2, 2)
}

// maxMentions bounds how many names and images of workloads are kept.
const maxMentions = 50_000

// result joins what takes two kinds of objects.
func (h *hazards) result() []Hazard {
	h.judgeWebhooks()
	for node, pods := range h.onNodes {
		if h.nodes[node] {
			continue
		}
		h.take(hazardMissingNodes, pods)
	}
	for finalizer, waiting := range h.waits {
		if !ownFinalizer(finalizer) && !h.mentioned(finalizer) {
			h.take(hazardFinalizers, waiting)
		}
	}
	out := []Hazard{}
	for _, kind := range HazardKinds() {
		if f := h.found[kind.Name]; f != nil {
			out = append(out, Hazard{kind, f.count, f.objects})
		}
	}
	return out
}

// raised puts the alarms of etcd in front of what was found in its keys.
func raised(alarms []string, found []Hazard) []Hazard {
	if len(alarms) == 0 {
		return found
	}
	i := slices.IndexFunc(HazardKinds(), func(k HazardKind) bool { return k.Name == hazardAlarms })
	h := Hazard{HazardKind: HazardKinds()[i], Count: int64(len(alarms))}
	for _, alarm := range alarms {
		h.Objects = append(h.Objects, HazardObject{Object: plan.Object{Kind: "Alarm", Name: alarm}})
	}
	return append([]Hazard{h}, found...)
}

// take counts what was found under one name to another.
func (h *hazards) take(name string, f *found) {
	if h.found[name] == nil {
		h.found[name] = &found{}
	}
	h.found[name].count += f.count
	for _, o := range f.objects {
		h.found[name].keep(h.options.PerHazard, o)
	}
}

// ownFinalizer says whether what every cluster runs takes a finalizer away: the API server, the controller manager, kubelet. That of load balancers is the cloud's controller manager's, and those of volumes that a driver
// has are its own.
func ownFinalizer(finalizer string) bool {
	domain, _, _ := strings.Cut(finalizer, "/")
	return slices.Contains([]string{"kubernetes", "orphan", "foregroundDeletion", "customresourcecleanup.apiextensions.k8s.io", "networking.k8s.io/service-cidr-finalizer"}, finalizer) ||
		slices.Contains([]string{"kubernetes.io", "batch.kubernetes.io", "resource.kubernetes.io"}, domain)
}

// generic are parts of finalizers that say nothing of whose they are.
func generic() []string {
	return []string{"cluster", "finalizer", "finalizers", "x-k8s", "cloud", "controller", "kubernetes", "external", "volume", "storage", "protection", "cleanup", "bound", "service", "load", "balancer"}
}

// controllers are parts of the names and images of what takes finalizers away whose own parts say nothing of it, by parts of these.
func controllers() map[string][]string {
	return map[string][]string{
		"external-provisioner.volume.kubernetes.io/":  {"csi", "provisioner"}, // a sidecar of each CSI driver
		"service.kubernetes.io/load-balancer-cleanup": {"cloud-controller-manager", "cloud-provider", "metallb", "kube-vip", "servicelb", "load-balancer", "loadbalancer"},
		".cluster.x-k8s.io":                           {"capi-", "cluster-api"},
	}
}

// mentioned says whether the name or an image of a workload has a part in common with a finalizer that isn't just any, or is known to take it away.
func (h *hazards) mentioned(finalizer string) bool {
	for part, names := range controllers() {
		if !strings.Contains(finalizer, part) {
			continue
		}
		for text := range h.mentions {
			if slices.ContainsFunc(names, func(name string) bool { return strings.Contains(text, name) }) {
				return true
			}
		}
	}
	domain, rest, _ := strings.Cut(strings.ToLower(finalizer), "/")
	parts := strings.Split(domain, ".")
	if len(parts) == 1 { // external-attacher/DRIVER, for example
		parts = strings.FieldsFunc(domain+"/"+rest, func(r rune) bool { return strings.ContainsRune("./-", r) })
	}
	for _, part := range parts {
		if len(part) < 4 || slices.Contains(generic(), part) {
			continue
		}
		for text := range h.mentions {
			if strings.Contains(text, part) {
				return true
			}
		}
	}
	return false
}
