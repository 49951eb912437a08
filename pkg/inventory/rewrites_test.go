package inventory_test

import (
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/inventory"
)

// change is an old and a new text in a manifest.
type change [2]string

func (c change) in(t *testing.T, manifest string) string {
	t.Helper()
	if !strings.Contains(manifest, c[0]) {
		t.Fatalf("there is no %q in\n%s", c[0], manifest)
	}
	return strings.Replace(manifest, c[0], c[1], 1)
}

// partly is an object of which an entry of the table leaves out a part.
type partly struct {
	key, manifest string
	// left are changes that the entry leaves out, and counts are some beside it.
	left, counts []change
	// also are objects that have to be there, too.
	also map[string]string
}

// whole is an object that an entry of the table leaves out, and another one that looks like it and isn't.
type whole struct {
	key, manifest string
	// other makes another object of it.
	other change
	// mayGo says that only its absence is left out; changed, where set, is what counts while it is there.
	mayGo   bool
	changed change
}

const pod = `{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: ns, uid: u1, generation: 1, labels: {l: "1"},
  managedFields: [{manager: kubelet, operation: Update, apiVersion: v1, time: "2026-01-01T00:00:00Z"}]},
  spec: {nodeName: cp, containers: [{name: c, image: nginx}]}, status: {phase: Pending}}`

const widgets = `{apiVersion: apiextensions.k8s.io/v1beta1, kind: CustomResourceDefinition, metadata: {name: widgets.example.com, uid: crd},
  spec: {group: example.com, names: {kind: Widget, plural: widgets}, versions: [{name: v1}], subresources: {status: {}}}}`

const widget = `{apiVersion: example.com/v1, kind: Widget, metadata: {name: w, namespace: ns, uid: u1}, spec: {size: 9007199254740993}, status: {seen: 1}}`

const service = `{apiVersion: v1, kind: Service, metadata: {name: s, namespace: ns, uid: svc}, spec: {selector: {app: s}}}`

func partlyLeftOut() map[string]partly {
	return map[string]partly{
		"managed-fields": {
			key: "/registry/pods/ns/a", manifest: pod,
			left: []change{{"manager: kubelet", "manager: scheduler"}, {`managedFields: [{manager: kubelet, operation: Update, apiVersion: v1, time: "2026-01-01T00:00:00Z"}]`, ""}},
			counts: []change{
				{"uid: u1", "uid: u2"}, {"generation: 1", "generation: 2"}, {`l: "1"`, `l: "2"`}, {`{l: "1"}`, `{}`}, {"labels", "annotations"},
				{"uid: u1", `uid: u1, finalizers: [x]`}, {"uid: u1", `uid: u1, ownerReferences: [{apiVersion: v1, kind: Node, name: cp, uid: u}]`},
				{"uid: u1", `uid: u1, deletionTimestamp: "2026-01-01T00:00:00Z"`}, {"uid: u1", `uid: u1, creationTimestamp: "2026-01-01T00:00:00Z"`},
				{"image: nginx", "image: other"}, {"nodeName: cp", "nodeName: other"},
			},
		},
		"status": {
			key: "/registry/pods/ns/a", manifest: pod,
			left:   []change{{"phase: Pending", "phase: Running, podIP: 10.0.0.1"}},
			counts: []change{{"name: c", "name: d"}},
		},
		"custom-resource-status": {
			key: "/registry/example.com/widgets/ns/w", manifest: widget,
			also:   map[string]string{"/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.com": widgets},
			left:   []change{{"seen: 1", "seen: 2"}, {", status: {seen: 1}", ""}},
			counts: []change{{"9007199254740993", "9007199254740992"}, {"spec", "other"}, {"uid: u1", "uid: u2"}, {"spec", "extra: 1, spec"}},
		},
		"lease-renewal": {
			key:      "/registry/leases/ns/l",
			manifest: `{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l, namespace: ns, uid: u1}, spec: {holderIdentity: a}}`,
			left:     []change{{"holderIdentity: a", "holderIdentity: b, leaseTransitions: 4"}},
			counts:   []change{{"uid: u1", "uid: u2"}, {"uid: u1", "uid: u1, labels: {a: b}"}},
		},
		"leader-annotation": {
			key: "/registry/configmaps/ns/l",
			manifest: `{apiVersion: v1, kind: ConfigMap, metadata: {name: l, namespace: ns, uid: u1,
      annotations: {control-plane.alpha.kubernetes.io/leader: '{"holderIdentity":"a"}'}}, data: {d: x}}`,
			left:   []change{{`"a"`, `"b"`}, {`control-plane.alpha.kubernetes.io/leader: '{"holderIdentity":"a"}'`, ""}},
			counts: []change{{"d: x", "d: z"}, {"uid: u1", "uid: u2"}, {"annotations: {", "annotations: {a: b, "}, {"alpha.kubernetes.io/leader", "alpha.kubernetes.io/other"}},
		},
		"node-conditions": {
			key: "/registry/minions/cp",
			manifest: `{apiVersion: v1, kind: Node, metadata: {name: cp, uid: u1}, spec: {podCIDR: 10.0.0.0/24, taints: [
      {key: node-role.kubernetes.io/control-plane, effect: NoSchedule}, {key: node.kubernetes.io/not-ready, effect: NoSchedule}]}}`,
			left: []change{
				{", {key: node.kubernetes.io/not-ready, effect: NoSchedule}", ""}, {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"},
				{"not-ready, effect: NoSchedule", `not-ready, effect: NoExecute, timeAdded: "2026-01-01T00:00:00Z"`},
			},
			counts: []change{
				{"{key: node-role.kubernetes.io/control-plane, effect: NoSchedule},", ""}, {"not-ready", "unschedulable"},
				{"podCIDR: 10.0.0.0/24", "podCIDR: 10.0.0.0/24, unschedulable: true"}, {"uid: u1", "uid: u1, annotations: {a: b}"},
			},
		},
		"token-use": {
			key: "/registry/secrets/ns/t",
			manifest: `{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token, data: {token: YQ==}, metadata: {name: t, namespace: ns, uid: u1,
      labels: {kubernetes.io/legacy-token-last-used: "2026-01-01"}}}`,
			left:   []change{{"2026-01-01", "2026-01-02"}, {`kubernetes.io/legacy-token-last-used: "2026-01-01"`, ""}},
			counts: []change{{"token: YQ==", "token: Yg=="}, {"legacy-token-last-used", "legacy-token-invalid-since"}, {"2026-01-01", `2026-01-01", a: "b`}},
		},
		"api-server-addresses": {
			key: "/registry/services/endpoints/default/kubernetes",
			manifest: `{apiVersion: v1, kind: Endpoints, metadata: {name: kubernetes, namespace: default, uid: u1, generation: 1, labels: {endpointslice.kubernetes.io/skip-mirror: "true"}},
      subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 6443}]}]}`,
			left:   []change{{"10.0.0.1", "10.0.0.2"}, {"generation: 1", "generation: 2"}, {"{addresses: [{ip: 10.0.0.1}], ports: [{port: 6443}]}", ""}},
			counts: []change{{"uid: u1", "uid: u2"}, {"skip-mirror", "other"}},
		},
		"endpoints": {
			key: "/registry/services/endpoints/ns/s",
			manifest: `{apiVersion: v1, kind: Endpoints, metadata: {name: s, namespace: ns, uid: u1, labels: {endpoints.kubernetes.io/managed-by: endpoint-controller},
      annotations: {endpoints.kubernetes.io/last-change-trigger-time: "2026-01-01T00:00:00Z"}}, subsets: [{addresses: [{ip: 10.0.0.1}]}]}`,
			left:   []change{{"10.0.0.1", "10.0.0.2"}, {"2026-01-01", "2026-01-02"}, {`endpoints.kubernetes.io/last-change-trigger-time: "2026-01-01T00:00:00Z"`, ""}},
			counts: []change{{"uid: u1", "uid: u2"}, {"annotations: {", "annotations: {a: b, "}, {"endpoint-controller", "me"}},
		},
		"endpoints-of-services": {
			key: "/registry/services/endpoints/ns/s",
			manifest: `{apiVersion: v1, kind: Endpoints, metadata: {name: s, namespace: ns, uid: u1,
      annotations: {endpoints.kubernetes.io/last-change-trigger-time: "2026-01-01T00:00:00Z"}}, subsets: [{addresses: [{ip: 10.0.0.1}]}]}`,
			also: map[string]string{"/registry/services/specs/ns/s": service},
			left: []change{
				{"10.0.0.1", "10.0.0.2"}, {"2026-01-01", "2026-01-02"}, {`endpoints.kubernetes.io/last-change-trigger-time: "2026-01-01T00:00:00Z"`, ""},
				{"{addresses: [{ip: 10.0.0.1}]}", ""},
			},
			counts: []change{{"uid: u1", "uid: u2"}, {"annotations: {", "annotations: {a: b, "}, {"uid: u1", "uid: u1, labels: {endpoints.kubernetes.io/managed-by: me}"}},
		},
		"bootstrap-signatures": {
			key: "/registry/configmaps/kube-public/cluster-info",
			manifest: `{apiVersion: v1, kind: ConfigMap, metadata: {name: cluster-info, namespace: kube-public, uid: u1},
      data: {kubeconfig: "x", jws-kubeconfig-abcdef: sig}}`,
			left:   []change{{"sig", "other"}, {", jws-kubeconfig-abcdef: sig", ""}, {"sig", "sig, jws-kubeconfig-second: more"}},
			counts: []change{{`kubeconfig: "x"`, `kubeconfig: "y"`}, {"jws-kubeconfig-abcdef", "other"}},
		},
	}
}

func wholeLeftOut() map[string]whole {
	return map[string]whole{
		"events": {
			key:      "/registry/events/ns/e",
			manifest: `{apiVersion: v1, kind: Event, metadata: {name: e, namespace: ns, uid: u1}, involvedObject: {name: a}, message: m}`,
			other:    change{"v1, kind: Event", "example.com/v1, kind: Event"},
		},
		"control-plane-leases": {
			key:      "/registry/leases/kube-system/kube-scheduler",
			manifest: `{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: kube-scheduler, namespace: kube-system, uid: u1}}`,
			other:    change{"kube-scheduler", "somebody"},
		},
		"node-leases": {
			key:      "/registry/leases/kube-node-lease/cp",
			manifest: `{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: cp, namespace: kube-node-lease, uid: u1}, spec: {holderIdentity: cp}}`,
			other:    change{"holderIdentity: cp", "holderIdentity: somebody"},
		},
		"api-server-registrations": {
			key:      "/registry/masterleases/10.0.0.1",
			manifest: `{apiVersion: v1, kind: Endpoints, metadata: {}, subsets: [{addresses: [{ip: 10.0.0.1}]}]}`,
			other:    change{"/registry/masterleases/", "/registry/elsewhere/"},
		},
		"compaction": {
			key:      "compact_rev_key",
			manifest: `"7"`,
			other:    change{"compact_rev_key", "other_key"},
		},
		"certificate-requests": {
			key:      "/registry/certificatesigningrequests/c",
			manifest: `{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: c, uid: u1}, spec: {request: YQ==, signerName: s}}`,
			other:    change{"CertificateSigningRequest", "ClusterTrustBundle"},
		},
		"scheduled-jobs": {
			key: "/registry/jobs/ns/j",
			manifest: `{apiVersion: batch/v1, kind: Job, metadata: {name: j, namespace: ns, uid: u1, ownerReferences: [
      {apiVersion: batch/v1, kind: CronJob, name: c, uid: u, controller: true}]}}`,
			other: change{"kind: CronJob", "kind: Other"},
		},
		"jobs-with-time-to-live": {
			key: "/registry/jobs/ns/j",
			manifest: `{apiVersion: batch/v1, kind: Job, metadata: {name: j, namespace: ns, uid: u1}, spec: {parallelism: 1, ttlSecondsAfterFinished: 5},
      status: {conditions: [{type: Failed, status: "True"}]}}`,
			other: change{", ttlSecondsAfterFinished: 5", ""},
			mayGo: true, changed: change{"parallelism: 1", "parallelism: 2"},
		},
		"bootstrap-tokens": {
			key: "/registry/secrets/kube-system/bootstrap-token-a",
			manifest: `{apiVersion: v1, kind: Secret, type: bootstrap.kubernetes.io/token, metadata: {name: bootstrap-token-a, namespace: kube-system, uid: u1},
      data: {expiration: MjAyMC0wMS0wMVQwMDowMDowMFo=}}`, // 2020-01-01T00:00:00Z
			other: change{"expiration", "never"},
			mayGo: true, changed: change{"MjAyMC", "MjAyMS"},
		},
		"being-deleted": {
			key:      "/registry/configmaps/ns/c",
			manifest: `{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: ns, uid: u1, deletionTimestamp: "2026-01-01T00:00:00Z", finalizers: [x]}}`,
			other:    change{`deletionTimestamp: "2026-01-01T00:00:00Z", `, ""},
			mayGo:    true, // what was not in the snapshot counts, whatever becomes of it
		},
		"api-server-slice": {
			key: "/registry/endpointslices/default/kubernetes",
			manifest: `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: kubernetes, namespace: default, uid: u1},
      addressType: IPv6, endpoints: [{addresses: ["fd00::1"]}], ports: [{port: 6443}]}`,
			other: change{"namespace: default", "namespace: other"},
		},
		"endpoint-slices": {
			key: "/registry/endpointslices/ns/s-abcde",
			manifest: `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: s-abcde, namespace: ns, uid: u1,
      labels: {endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}}}`,
			other: change{"endpointslice-controller.k8s.io", "staff"},
		},
		"mirror-pods": {
			key:      "/registry/pods/kube-system/etcd-cp",
			manifest: `{apiVersion: v1, kind: Pod, metadata: {name: etcd-cp, namespace: kube-system, uid: u1, annotations: {kubernetes.io/config.mirror: x}}}`,
			other:    change{"config.mirror", "config.hash"},
		},
		"resource-slices": {
			key: "/registry/resourceslices/s",
			manifest: `{apiVersion: resource.k8s.io/v1, kind: ResourceSlice, metadata: {name: s, uid: u1}, spec: {driver: d, nodeName: cp,
      pool: {name: p, generation: 1, resourceSliceCount: 1}}}`,
			other: change{"nodeName: cp", "allNodes: true"},
		},
	}
}

func stored(t *testing.T, key, manifest string) keys {
	t.Helper()
	if strings.HasPrefix(manifest, `"`) {
		return keys{key: []byte(manifest)}
	}
	return keys{key: asStored(t, manifest)}
}

// appliedOnce says whether the entry, and no other, concerned one key.
func appliedOnce(l inventory.Ledger, name string) bool {
	return len(l.Applied) == 1 && l.Applied[0].Name == name && l.Applied[0].Objects == 1
}

// TestRewritesOfFields shows of every entry about fields that an object which differs only in them counts as the same, and that one which differs beside them doesn't.
func TestRewritesOfFields(t *testing.T) {
	for name, p := range partlyLeftOut() {
		t.Run(name, func(t *testing.T) {
			also := keys{}
			for key, manifest := range p.also {
				also[key] = asStored(t, manifest)
			}
			snapshot := stored(t, p.key, p.manifest).with(also).read(t)
			for _, c := range p.left {
				l := inventory.Compare(inventory.Inventory{}, snapshot, stored(t, p.key, c.in(t, p.manifest)).with(also).read(t), inventory.Options{})
				if !l.Exact() || !appliedOnce(l, name) || l.Kept() != 1+len(also) || l.Partly != 1 {
					t.Errorf("%q for %q: %+v", c[1], c[0], l)
				}
			}
			for _, c := range p.counts {
				l := inventory.Compare(inventory.Inventory{}, snapshot, stored(t, p.key, c.in(t, p.manifest)).with(also).read(t), inventory.Options{})
				if len(l.Changed) != 1 || l.Changed[0].Key != p.key || l.Kept() != len(also) || len(l.Missing)+len(l.Added) > 0 {
					t.Errorf("%q for %q: %+v", c[1], c[0], l)
				}
			}
		})
	}
}

// TestRewritesOfObjects shows of every entry about whole objects that one may be gone, and be there anew, and that another one which looks like it may not.
func TestRewritesOfObjects(t *testing.T) {
	for name, w := range wholeLeftOut() {
		t.Run(name, func(t *testing.T) {
			none, there := keys{}.read(t), stored(t, w.key, w.manifest).read(t)
			if l := inventory.Compare(inventory.Inventory{}, there, none, inventory.Options{}); !l.Exact() || !appliedOnce(l, name) || l.LeftOut != 1 {
				t.Errorf("gone: %+v", l)
			}
			l := inventory.Compare(inventory.Inventory{}, none, there, inventory.Options{})
			if want := !w.mayGo; l.Exact() != want || want && !appliedOnce(l, name) || !want && len(l.Added) != 1 {
				t.Errorf("there anew: %+v", l)
			}
			if w.changed != (change{}) {
				l := inventory.Compare(inventory.Inventory{}, there, stored(t, w.key, w.changed.in(t, w.manifest)).read(t), inventory.Options{})
				if len(l.Changed) != 1 || len(l.Applied) > 0 {
					t.Errorf("changed: %+v", l)
				}
			}
			key, manifest := w.key, w.manifest
			if strings.Contains(key, w.other[0]) && !strings.Contains(manifest, w.other[0]) {
				key = w.other.in(t, key)
			} else {
				manifest = w.other.in(t, manifest)
			}
			if l := inventory.Compare(inventory.Inventory{}, stored(t, key, manifest).read(t), none, inventory.Options{}); len(l.Missing) != 1 || len(l.Applied) > 0 {
				t.Errorf("another one: %+v", l)
			}
		})
	}
}

// TestRewritesAreAllTested: an entry without a test, or without a reason, has no place in the table.
func TestRewritesAreAllTested(t *testing.T) {
	parts, objects := partlyLeftOut(), wholeLeftOut()
	seen := map[string]bool{}
	for _, r := range inventory.Rewrites() {
		_, isPart := parts[r.Name]
		_, isWhole := objects[r.Name]
		if isPart == r.Whole() || isWhole != r.Whole() {
			t.Errorf("%s: whole %t, but tested as part %t and as whole %t", r.Name, r.Whole(), isPart, isWhole)
		}
		if seen[r.Name] || r.Objects == "" || r.Reason == "" {
			t.Errorf("%+v", r)
		}
		seen[r.Name] = true
	}
	if len(seen) != len(parts)+len(objects) {
		t.Errorf("%d entries, %d tests", len(seen), len(parts)+len(objects))
	}
}

// TestStatusCountsWithoutSubresource: whether a custom resource's status is an observation is said by its definition. Of built-in kinds it is said by the table, and a
// ResourceClaim's is none.
func TestStatusCountsWithoutSubresource(t *testing.T) {
	plain := change{", subresources: {status: {}}", ""}.in(t, widgets)
	definition := "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.com"
	claim := `{apiVersion: resource.k8s.io/v1, kind: ResourceClaim, metadata: {name: c, namespace: ns, uid: u1}, status: {allocation: {devices: {}}}}`
	for name, c := range map[string]struct {
		key, manifest string
		change        change
		also          keys
	}{
		"no definition":                      {"/registry/example.com/widgets/ns/w", widget, change{"seen: 1", "seen: 2"}, nil},
		"a definition without a subresource": {"/registry/example.com/widgets/ns/w", widget, change{"seen: 1", "seen: 2"}, keys{definition: asStored(t, plain)}},
		"a ResourceClaim":                    {"/registry/resourceclaims/ns/c", claim, change{"allocation: {devices: {}}", ""}, nil},
	} {
		before, after := stored(t, c.key, c.manifest).with(c.also), stored(t, c.key, c.change.in(t, c.manifest)).with(c.also)
		l := inventory.Compare(inventory.Inventory{}, before.read(t), after.read(t), inventory.Options{})
		if len(l.Changed) != 1 || len(l.Applied) > 0 {
			t.Errorf("%s: %+v", name, l)
		}
		fields, err := inventory.Explain(t.Context(), before.source, after.source, []string{c.key})
		if err != nil || len(fields[c.key]) != 1 || !strings.HasPrefix(fields[c.key][0].Path, "status.") {
			t.Errorf("%s: %+v, %v", name, fields, err)
		}
	}
}

// TestEndpointsCountWithoutTheirService: Endpoints that nobody labelled are a person's where no Service has their name, or one that selects nothing.
func TestEndpointsCountWithoutTheirService(t *testing.T) {
	const key = "/registry/services/endpoints/ns/s"
	endpoints := `{apiVersion: v1, kind: Endpoints, metadata: {name: s, namespace: ns, uid: u1}, subsets: [{addresses: [{ip: 10.0.0.1}]}]}`
	of := func(name, manifest string) keys {
		return keys{"/registry/services/specs/" + name: asStored(t, manifest)}
	}
	for name, c := range map[string]struct {
		also    keys
		changed int
	}{
		"no Service":                        {nil, 1},
		"one that selects nothing":          {of("ns/s", change{"selector: {app: s}", ""}.in(t, service)), 1},
		"one of another name":               {of("ns/r", change{"name: s", "name: r"}.in(t, service)), 1},
		"one of another namespace":          {of("other/s", change{"namespace: ns", "namespace: other"}.in(t, service)), 1},
		"a ConfigMap of that name":          {configMap(t, "s", "1", "x"), 1},
		"one that selects Pods by the name": {of("ns/s", service), 0},
	} {
		before, after := stored(t, key, endpoints).with(c.also), stored(t, key, change{"10.0.0.1", "10.0.0.2"}.in(t, endpoints)).with(c.also)
		l := inventory.Compare(inventory.Inventory{}, before.read(t), after.read(t), inventory.Options{})
		fields, err := inventory.Explain(t.Context(), before.source, after.source, []string{key})
		if len(l.Changed) != c.changed || err != nil || len(fields) != c.changed {
			t.Errorf("%s: %+v, %+v, %v", name, l.Changed, fields, err)
		}
	}
}

// TestWhatMayNotGoYet: a Job that runs is not removed for being old, and neither is a token before it expires.
func TestWhatMayNotGoYet(t *testing.T) {
	job, token := wholeLeftOut()["jobs-with-time-to-live"], wholeLeftOut()["bootstrap-tokens"]
	for name, c := range map[string]struct {
		key, manifest string
		missing       int
	}{
		"a Job that runs":                 {job.key, change{`{type: Failed, status: "True"}`, ""}.in(t, job.manifest), 1},
		"a Job that is suspended":         {job.key, change{"Failed", "Suspended"}.in(t, job.manifest), 1},
		"a Job that has not failed":       {job.key, change{`"True"`, `"False"`}.in(t, job.manifest), 1},
		"a Job that has succeeded":        {job.key, change{"Failed", "Complete"}.in(t, job.manifest), 0},
		"a token of the future":           {token.key, change{"MjAyMC", "OTk5MC"}.in(t, token.manifest), 1}, // 9990-01-01T00:00:00Z
		"a token whose time is no time":   {token.key, change{"MjAyMC0wMS0wMVQwMDowMDowMFo=", "YQ=="}.in(t, token.manifest), 0},
		"a token that expired long since": {token.key, token.manifest, 0},
	} {
		l := inventory.Compare(inventory.Inventory{}, stored(t, c.key, c.manifest).read(t), keys{}.read(t), inventory.Options{})
		if len(l.Missing) != c.missing || l.LeftOut != 1-c.missing {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// TestEncryptedNodeLeases are told by their key, since nobody can read who holds them.
func TestEncryptedNodeLeases(t *testing.T) {
	for key, added := range map[string]int{"/registry/leases/kube-node-lease/cp": 0, "/registry/leases/ns/cp": 1} {
		there := keys{key: []byte("k8s:enc:aescbc:v1:key1:x")}
		if l := inventory.Compare(inventory.Inventory{}, keys{}.read(t), there.read(t), inventory.Options{}); len(l.Added) != added {
			t.Errorf("%s: %+v", key, l)
		}
	}
}

// TestLeaseCandidates of the control plane come and go with it, whether they can be read or not; others count.
func TestLeaseCandidates(t *testing.T) {
	candidate := `{apiVersion: coordination.k8s.io/v1beta1, kind: LeaseCandidate, metadata: {name: c, namespace: kube-system, uid: u1}, spec: {leaseName: kube-scheduler}}`
	for name, c := range map[string]struct {
		there   keys
		missing int
	}{
		"of the control plane":            {stored(t, "/registry/leasecandidates/kube-system/c", candidate), 0},
		"of the control plane, encrypted": {keys{"/registry/leasecandidates/kube-system/c": []byte("k8s:enc:aescbc:v1:key1:x")}, 0},
		"of somebody else":                {stored(t, "/registry/leasecandidates/ns/c", change{"kube-system", "ns"}.in(t, candidate)), 1},
	} {
		gone := inventory.Compare(inventory.Inventory{}, c.there.read(t), keys{}.read(t), inventory.Options{})
		made := inventory.Compare(inventory.Inventory{}, keys{}.read(t), c.there.read(t), inventory.Options{})
		if len(gone.Missing) != c.missing || len(made.Added) != c.missing {
			t.Errorf("%s: %+v, %+v", name, gone, made)
		}
	}
}
