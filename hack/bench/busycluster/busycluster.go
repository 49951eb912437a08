// Package busycluster makes up what the etcd of a large and busy Kubernetes cluster holds, for measurements: nodes, workloads with their pods and replica sets, configuration, Helm's
// releases, events with their leases, and custom resources, as API servers write them and under their keys; written in the order in which such a cluster writes them, with what comes and goes
// between two compactions as history.
//
// The proportions are this project's own judgement of what clusters with Argo CD, cert-manager and Helm hold, and no one cluster's: by bytes about a third is Secrets, nearly all Helm's releases, a
// sixth each pods, and deployments with their replica sets, a seventh events, the rest ConfigMaps, a few of them large, endpoints and custom resources; by number events lead, then pods, replica sets and
// Secrets. A pod is of 6 to 7 KB, mostly managed fields and environment. Some pages of the database are free, since things come and go, and the last five minutes, which is how often API
// servers compact, are there as history: mostly heartbeats.
package busycluster

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
)

// Store is where the keys go; each call is one revision, as with etcd.
type Store interface {
	Put(key string, value []byte, lease int64) (revision int64)
	Delete(key string) (revision int64)
	Grant(lease, seconds int64)
	Compact(ctx context.Context, revision int64) error
	Revision() int64
}

const (
	// compactEach is how many bytes are added between two compactions: there are some, and not one for each five minutes of a cluster's life.
	compactEach = 128 << 20
	// writtenOf100 is how many bytes of keys and values have been written when a database has 100: measured, for what is compacted and what pages leave unused. How large the database is
	// can't be asked for: it isn't the same every time.
	writtenOf100 = 113
	// leaseSeconds is for how long an API server keeps events, and leaseObjects how many of them it attaches to one lease at most.
	leaseSeconds, leaseObjects = 3600, 1000
	// minutesKept is how long the history is that API servers leave.
	minutesKept = 5
	// renewals is how often the kubelet renews a node's lease in a minute.
	renewals = 6
)

// Fill writes to s until it has about size bytes. The same seed and size give the same calls.
func Fill(ctx context.Context, s Store, seed uint64, size int64) error {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	source := rand.NewChaCha8(key)
	c := &cluster{
		s: s, source: source, rand: rand.New(source), now: time.Date(2026, 3, 2, 4, 0, 0, 0, time.UTC),
		codec: protobuf.NewSerializer(scheme.Scheme, scheme.Scheme), encoders: map[schema.GroupVersion]runtime.Encoder{},
	}
	c.begin()
	kept := s.Revision()
	var compacted int64
	for c.err == nil && c.written < size*writtenOf100/100 {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.namespace()
		c.minute(64, 12)
		if c.written-compacted > compactEach {
			if err := s.Compact(ctx, kept); err != nil {
				return err
			}
			compacted, kept = c.written, s.Revision()
		}
	}
	if err := s.Compact(ctx, s.Revision()); err != nil {
		return err
	}
	for range minutesKept {
		c.minute(c.nodes, 60)
	}
	return c.err
}

// cluster is what has been made so far.
type cluster struct {
	s        Store
	source   *rand.ChaCha8
	rand     *rand.Rand
	now      time.Time
	codec    *protobuf.Serializer
	encoders map[schema.GroupVersion]runtime.Encoder
	// err is the first one.
	err error
	// written is how many bytes the keys and values have had.
	written int64

	nodes, namespaces int
	lease             int64
	attached          int
	apps              []app
	events            []string
}

// app is a workload that may be changed again.
type app struct{ namespace, name string }

// put writes an object of Kubernetes' own as protobuf.
func (c *cluster) put(key string, gv schema.GroupVersion, obj runtime.Object, lease int64) {
	enc := c.encoders[gv]
	if enc == nil {
		enc = scheme.Codecs.EncoderForVersion(c.codec, gv)
		c.encoders[gv] = enc
	}
	value, err := runtime.Encode(enc, obj)
	c.store(key, value, err, lease)
}

// putJSON writes a custom resource, or a definition of one.
func (c *cluster) putJSON(key string, obj map[string]any) {
	value, err := json.Marshal(obj)
	c.store(key, append(value, '\n'), err, 0)
}

func (c *cluster) store(key string, value []byte, err error, lease int64) {
	if c.err != nil {
		return
	}
	if err != nil {
		c.err = fmt.Errorf("encode %s: %w", key, err)
		return
	}
	c.written += int64(len(key) + len(value))
	c.s.Put(key, value, lease)
}

const letters = "bcdfghjklmnpqrstvwxz2456789" // Kubernetes' own for generated names

func (c *cluster) letters(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[c.rand.IntN(len(letters))]
	}
	return string(b)
}

func (c *cluster) bytes(n int) []byte {
	b := make([]byte, n)
	_, _ = c.source.Read(b) // never fails
	return b
}

func (c *cluster) uid() types.UID {
	b := c.bytes(16)
	return types.UID(fmt.Sprintf("%x-%x-4%x-a%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16]))
}

// text is prose-like, so that it compresses as text does.
func (c *cluster) text(n int) string {
	words := []string{"listen", "upstream", "timeout", "server", "location", "level", "info", "retry", "broker", "database", "pool", "cache", "region", "tenant", "enabled", "true", "30s", "8080"}
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%s.%s: %s-%d\n", words[c.rand.IntN(len(words))], words[c.rand.IntN(len(words))], words[c.rand.IntN(len(words))], c.rand.IntN(1<<16))
	}
	return b.String()[:n]
}

func (c *cluster) meta(namespace, name string, labels map[string]string, managers ...string) metav1.ObjectMeta {
	at := metav1.NewTime(c.now.Add(time.Duration(c.rand.IntN(3600)) * -time.Second))
	m := metav1.ObjectMeta{Namespace: namespace, Name: name, UID: c.uid(), CreationTimestamp: at, Labels: labels}
	for _, who := range managers {
		m.ManagedFields = append(m.ManagedFields, metav1.ManagedFieldsEntry{Manager: who, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &at, FieldsType: "FieldsV1", FieldsV1: c.fields(who, name)})
	}
	return m
}

// fields are what a manager says that it wrote.
func (c *cluster) fields(who, name string) *metav1.FieldsV1 {
	var b strings.Builder
	b.WriteString(`{"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/instance":{},"f:pod-template-hash":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"` + name + `\"}":{".":{},"f:env":{".":{}`)
	for i := range 6 + c.rand.IntN(14) {
		fmt.Fprintf(&b, `,"k:{\"name\":\"SETTING_%02d_%s\"}":{".":{},"f:name":{},"f:value":{}}`, i, strings.ToUpper(who[:3]))
	}
	b.WriteString(`},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:resources":{".":{},"f:limits":{".":{},"f:memory":{}},"f:requests":{".":{},"f:cpu":{},"f:memory":{}}}}},"f:restartPolicy":{}}}`)
	return metav1.NewFieldsV1(b.String())
}

// begin makes what is there before any workload.
func (c *cluster) begin() {
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease", "argocd", "cert-manager", "ingress-nginx", "monitoring"} {
		c.newNamespace(name)
	}
	for _, d := range []struct{ group, kind, plural string }{
		{"argoproj.io", "Application", "applications"}, {"argoproj.io", "Rollout", "rollouts"}, {"cert-manager.io", "Certificate", "certificates"},
		{"cert-manager.io", "Issuer", "issuers"}, {"monitoring.coreos.com", "ServiceMonitor", "servicemonitors"}, {"monitoring.coreos.com", "PrometheusRule", "prometheusrules"},
	} {
		properties := map[string]any{}
		for i := range 60 {
			properties[fmt.Sprintf("field%02d", i)] = map[string]any{"type": "string", "description": c.text(300)}
		}
		c.putJSON("/registry/apiextensions.k8s.io/customresourcedefinitions/"+d.plural+"."+d.group, map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": d.plural + "." + d.group, "uid": c.uid(), "creationTimestamp": c.now.Format(time.RFC3339)},
			"spec": map[string]any{
				"group": d.group, "scope": "Namespaced", "names": map[string]any{"kind": d.kind, "plural": d.plural, "listKind": d.kind + "List", "singular": strings.ToLower(d.kind)},
				"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "properties": map[string]any{"spec": map[string]any{"type": "object", "properties": properties, "x-kubernetes-preserve-unknown-fields": true}},
				}}}},
			},
		})
	}
}

func (c *cluster) newNamespace(name string) {
	c.put("/registry/namespaces/"+name, corev1.SchemeGroupVersion, &corev1.Namespace{
		ObjectMeta: c.meta("", name, map[string]string{"kubernetes.io/metadata.name": name}),
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}, 0)
	c.put("/registry/serviceaccounts/"+name+"/default", corev1.SchemeGroupVersion, &corev1.ServiceAccount{ObjectMeta: c.meta(name, "default", nil)}, 0)
	c.put("/registry/configmaps/"+name+"/kube-root-ca.crt", corev1.SchemeGroupVersion, &corev1.ConfigMap{
		ObjectMeta: c.meta(name, "kube-root-ca.crt", nil), Data: map[string]string{"ca.crt": pem("CERTIFICATE", c.bytes(800))},
	}, 0)
}

func pem(kind string, der []byte) string {
	return "-----BEGIN " + kind + "-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END " + kind + "-----\n"
}

// namespace makes a team's one, with its workloads, and a node for them.
func (c *cluster) namespace() {
	teams := []string{"payments", "search", "checkout", "identity", "media", "reports", "ledger", "shipping"}
	ns := fmt.Sprintf("%s-%s", teams[c.namespaces%len(teams)], c.letters(5))
	c.namespaces++
	c.newNamespace(ns)
	c.node()
	for range 6 + c.rand.IntN(8) {
		c.workload(ns)
	}
}

func nodeName(i int) string {
	return fmt.Sprintf("ip-10-%d-%d-%d.eu-central-1.compute.internal", i>>16&255, i>>8&255, i&255)
}

func (c *cluster) node() {
	name := nodeName(c.nodes)
	c.nodes++
	n := &corev1.Node{ObjectMeta: c.meta("", name, map[string]string{"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "eu-central-1a", "node.kubernetes.io/instance-type": "m7i.4xlarge"}, "kubelet", "kube-controller-manager")}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.NewTime(c.now)}}
	n.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("110")}
	for range 40 {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{fmt.Sprintf("registry.example.com/%s/%s@sha256:%x", c.letters(6), c.letters(8), c.bytes(32))}, SizeBytes: c.rand.Int64N(1 << 30)})
	}
	c.put("/registry/minions/"+name, corev1.SchemeGroupVersion, n, 0)
	c.renew(name)
}

// renew is a node's heartbeat.
func (c *cluster) renew(node string) {
	seconds := int32(40)
	at := metav1.NewMicroTime(c.now)
	c.put("/registry/leases/kube-node-lease/"+node, coordinationv1.SchemeGroupVersion, &coordinationv1.Lease{
		ObjectMeta: c.meta("kube-node-lease", node, nil, "kubelet"), Spec: coordinationv1.LeaseSpec{HolderIdentity: &node, LeaseDurationSeconds: &seconds, RenewTime: &at},
	}, 0)
}

// minute is what happens in one: heartbeats of at most so many nodes, so many rollouts, and events that come and go. Before the last minutes not everything is told: it is compacted anyway.
func (c *cluster) minute(nodes, rollouts int) {
	c.now = c.now.Add(time.Minute)
	for range renewals {
		for i := range min(c.nodes, nodes) {
			c.renew(nodeName(c.nodes - 1 - i))
		}
	}
	for range min(len(c.apps), rollouts) {
		a := c.apps[c.rand.IntN(len(c.apps))]
		c.deployment(a, int64(2+c.rand.IntN(40)))
		c.event(a, c.letters(5))
	}
	if n := len(c.events); n > 64 { // those whose lease ends
		for _, key := range c.events[:n/8] {
			c.s.Delete(key)
		}
		c.events = c.events[n/8:]
	}
}

func (c *cluster) event(a app, pod string) {
	if c.lease == 0 || c.attached == leaseObjects {
		c.lease, c.attached = c.rand.Int64(), 0
		c.s.Grant(c.lease, leaseSeconds)
	}
	c.attached++
	reasons := []string{"Scheduled", "Pulled", "Created", "Started", "Unhealthy", "BackOff", "ScalingReplicaSet", "SuccessfulCreate"}
	name := fmt.Sprintf("%s-%s.%016x", a.name, pod, c.rand.Uint64())
	key := "/registry/events/" + a.namespace + "/" + name
	at := metav1.NewTime(c.now)
	c.put(key, corev1.SchemeGroupVersion, &corev1.Event{
		ObjectMeta: c.meta(a.namespace, name, nil, "kubelet"), InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: a.namespace, Name: a.name + "-" + pod, UID: c.uid(), APIVersion: "v1"},
		Reason: reasons[c.rand.IntN(len(reasons))], Message: c.text(120), Source: corev1.EventSource{Component: "kubelet", Host: nodeName(c.rand.IntN(c.nodes))},
		FirstTimestamp: at, LastTimestamp: at, Count: int32(1 + c.rand.IntN(30)), Type: corev1.EventTypeNormal,
	}, c.lease)
	if c.rand.IntN(8) == 0 {
		c.events = append(c.events, key)
	}
}

func (c *cluster) template(name string, labels map[string]string) corev1.PodTemplateSpec {
	t := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{"prometheus.io/scrape": "true", "checksum/config": fmt.Sprintf("%x", c.bytes(32))}}}
	for i, container := range []string{name, "istio-proxy"} {
		one := corev1.Container{
			Name: container, Image: fmt.Sprintf("registry.example.com/team/%s@sha256:%x", container, c.bytes(32)), ImagePullPolicy: corev1.PullIfNotPresent,
			Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: int32(8080 + i), Protocol: corev1.ProtocolTCP}},
			Resources:      corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("256Mi")}},
			VolumeMounts:   []corev1.VolumeMount{{Name: "config", MountPath: "/etc/" + container}, {Name: "tmp", MountPath: "/tmp"}},
			LivenessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}, PeriodSeconds: 10},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(8080)}}, PeriodSeconds: 5},
		}
		for k := range 8 + c.rand.IntN(12) {
			one.Env = append(one.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%02d", k), Value: c.text(20 + c.rand.IntN(40))})
		}
		t.Spec.Containers = append(t.Spec.Containers, one)
	}
	t.Spec.Volumes = []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}},
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	t.Spec.ServiceAccountName, t.Spec.RestartPolicy = name, corev1.RestartPolicyAlways
	return t
}

func labelsOf(a app) map[string]string {
	return map[string]string{"app.kubernetes.io/name": a.name, "app.kubernetes.io/instance": a.name, "app.kubernetes.io/managed-by": "Helm", "team": a.namespace}
}

// deployment writes one, for the first time or again.
func (c *cluster) deployment(a app, generation int64) {
	replicas := int32(3)
	d := &appsv1.Deployment{ObjectMeta: c.meta(a.namespace, a.name, labelsOf(a), "helm", "kube-controller-manager")}
	d.Generation = generation
	d.Spec = appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labelsOf(a)}, Template: c.template(a.name, labelsOf(a))}
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: generation, Replicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas}
	c.put("/registry/deployments/"+a.namespace+"/"+a.name, appsv1.SchemeGroupVersion, d, 0)
}

// workload makes all that one consists of.
func (c *cluster) workload(ns string) {
	kinds := []string{"api", "worker", "web", "cron", "gateway", "cache", "consumer"}
	a := app{ns, kinds[c.rand.IntN(len(kinds))] + "-" + c.letters(4)}
	c.apps = append(c.apps, a)
	labels := labelsOf(a)
	at := "/" + a.namespace + "/" + a.name
	core := corev1.SchemeGroupVersion
	c.put("/registry/serviceaccounts"+at, core, &corev1.ServiceAccount{ObjectMeta: c.meta(ns, a.name, labels)}, 0)
	size := 1<<10 + c.rand.IntN(4<<10)
	if c.rand.IntN(250) == 0 {
		size = 200<<10 + c.rand.IntN(600<<10) // a dashboard, or somebody's data
	}
	c.put("/registry/configmaps"+at, core, &corev1.ConfigMap{ObjectMeta: c.meta(ns, a.name, labels, "helm"), Data: map[string]string{"config.yaml": c.text(size)}}, 0)
	c.put("/registry/secrets"+at+"-tls", core, &corev1.Secret{
		ObjectMeta: c.meta(ns, a.name+"-tls", labels, "cert-manager"), Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: []byte(pem("CERTIFICATE", c.bytes(1100))), corev1.TLSPrivateKeyKey: []byte(pem("EC PRIVATE KEY", c.bytes(120)))},
	}, 0)
	c.deployment(a, 1)
	c.put("/registry/services/specs"+at, core, &corev1.Service{
		ObjectMeta: c.meta(ns, a.name, labels, "helm"), Spec: corev1.ServiceSpec{Selector: labels, ClusterIP: fmt.Sprintf("10.%d.%d.%d", 96+c.rand.IntN(16), c.rand.IntN(256), c.rand.IntN(256)), Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}, 0)
	for old := range 3 {
		hash := c.letters(10)
		replicas := int32(0)
		if old == 2 {
			replicas = 3
		}
		with := map[string]string{"pod-template-hash": hash}
		for k, v := range labels {
			with[k] = v
		}
		name := a.name + "-" + hash
		c.put("/registry/replicasets/"+ns+"/"+name, appsv1.SchemeGroupVersion, &appsv1.ReplicaSet{
			ObjectMeta: c.meta(ns, name, with, "kube-controller-manager"), Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: with}, Template: c.template(a.name, with)},
		}, 0)
		if replicas > 0 {
			c.pods(a, name, with)
		}
	}
	if c.rand.IntN(3) == 0 { // Helm keeps a few releases of each chart
		for release := range 2 + c.rand.IntN(5) {
			name := fmt.Sprintf("sh.helm.release.v1.%s.v%d", a.name, release+1)
			c.put("/registry/secrets/"+ns+"/"+name, core, &corev1.Secret{
				ObjectMeta: c.meta(ns, name, map[string]string{"name": a.name, "owner": "helm", "status": "superseded"}), Type: "helm.sh/release.v1",
				Data: map[string][]byte{"release": []byte(base64.StdEncoding.EncodeToString(c.bytes(8<<10 + c.rand.IntN(24<<10))))},
			}, 0)
		}
	}
	c.custom(a)
}

// pods makes three, with what shows where they are and what happened to them.
func (c *cluster) pods(a app, replicaSet string, labels map[string]string) {
	core := corev1.SchemeGroupVersion
	var addresses []corev1.EndpointAddress
	var endpoints []discoveryv1.Endpoint
	for range 3 {
		suffix := c.letters(5)
		name := replicaSet + "-" + suffix
		node := nodeName(c.rand.IntN(c.nodes))
		ip := fmt.Sprintf("10.%d.%d.%d", 128+c.rand.IntN(64), c.rand.IntN(256), c.rand.IntN(256))
		t := c.template(a.name, labels)
		p := &corev1.Pod{ObjectMeta: c.meta(a.namespace, name, labels, "kube-controller-manager", "kubelet"), Spec: t.Spec}
		p.Annotations = t.Annotations
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: replicaSet, UID: c.uid(), Controller: &yes, BlockOwnerDeletion: &yes}}
		p.Spec.NodeName = node
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, QOSClass: corev1.PodQOSBurstable}
		for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(c.now)})
		}
		for _, one := range p.Spec.Containers {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: one.Name, Ready: true, Image: one.Image, ImageID: one.Image, ContainerID: fmt.Sprintf("containerd://%x", c.bytes(32))})
		}
		c.put("/registry/pods/"+a.namespace+"/"+name, core, p, 0)
		for range 3 {
			c.event(a, suffix)
		}
		addresses = append(addresses, corev1.EndpointAddress{IP: ip, NodeName: &node, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: a.namespace, Name: name, UID: p.UID}})
		endpoints = append(endpoints, discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: &node, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: a.namespace, Name: name, UID: p.UID}})
	}
	c.put("/registry/services/endpoints/"+a.namespace+"/"+a.name, core, &corev1.Endpoints{ //nolint:staticcheck // clusters still hold them
		ObjectMeta: c.meta(a.namespace, a.name, labels, "kube-controller-manager"), Subsets: []corev1.EndpointSubset{{Addresses: addresses, Ports: []corev1.EndpointPort{{Name: "http", Port: 8080}}}}, //nolint:staticcheck // as above
	}, 0)
	name := a.name + "-" + c.letters(5)
	http, port := "http", int32(8080)
	c.put("/registry/endpointslices/"+a.namespace+"/"+name, discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{
		ObjectMeta: c.meta(a.namespace, name, labels, "kube-controller-manager"), AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints, Ports: []discoveryv1.EndpointPort{{Name: &http, Port: &port}},
	}, 0)
}

// custom makes the custom resources of a workload.
func (c *cluster) custom(a app) {
	metadata := func(namespace, name string) map[string]any {
		return map[string]any{
			"name": name, "namespace": namespace, "uid": c.uid(), "generation": 1 + c.rand.IntN(9), "creationTimestamp": c.now.Format(time.RFC3339), "labels": labelsOf(a),
			"managedFields": []any{map[string]any{"manager": "argocd-controller", "operation": "Update", "fieldsType": "FieldsV1", "time": c.now.Format(time.RFC3339), "fieldsV1": map[string]any{"f:spec": map[string]any{"f:project": map[string]any{}}}}},
		}
	}
	if c.rand.IntN(2) == 0 {
		var resources, history []any
		for range 8 {
			resources = append(resources, map[string]any{"kind": "Deployment", "group": "apps", "version": "v1", "namespace": a.namespace, "name": a.name, "status": "Synced", "health": map[string]any{"status": "Healthy"}})
		}
		for i := range 10 {
			history = append(history, map[string]any{"id": i, "revision": fmt.Sprintf("%x", c.bytes(20)), "deployedAt": c.now.Format(time.RFC3339), "source": map[string]any{"repoURL": "https://git.example.com/deploy.git", "path": "apps/" + a.name, "helm": map[string]any{"values": c.text(300)}}})
		}
		c.putJSON("/registry/argoproj.io/applications/argocd/"+a.namespace+"-"+a.name, map[string]any{
			"apiVersion": "argoproj.io/v1", "kind": "Application", "metadata": metadata("argocd", a.namespace+"-"+a.name),
			"spec":   map[string]any{"project": a.namespace, "destination": map[string]any{"server": "https://kubernetes.default.svc", "namespace": a.namespace}},
			"status": map[string]any{"resources": resources, "history": history, "sync": map[string]any{"status": "Synced"}},
		})
	}
	c.putJSON("/registry/cert-manager.io/certificates/"+a.namespace+"/"+a.name, map[string]any{
		"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": metadata(a.namespace, a.name),
		"spec":   map[string]any{"secretName": a.name + "-tls", "dnsNames": []string{a.name + "." + a.namespace + ".svc"}, "issuerRef": map[string]any{"name": "internal", "kind": "ClusterIssuer"}},
		"status": map[string]any{"notAfter": c.now.Add(90 * 24 * time.Hour).Format(time.RFC3339), "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}},
	})
}
