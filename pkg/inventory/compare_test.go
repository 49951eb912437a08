package inventory_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// configMap is a ConfigMap by its UID, with whatever else is to be in its metadata, as a key and what is stored there.
func configMap(t testing.TB, name, uid, data string, metadata ...string) keys {
	t.Helper()
	return keys{"/registry/configmaps/ns/" + name: asStored(t, fmt.Sprintf(
		"{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, namespace: ns, uid: u%s%s}, data: {d: %q}}", name, uid, strings.Join(append([]string{""}, metadata...), ", "), data))}
}

// ledgerText writes a ledger as "lost a; changed b".
func ledgerText(l inventory.Ledger) string {
	var out []string
	for _, list := range []struct {
		name  string
		lines []inventory.Line
	}{
		{"lost", l.Lost}, {"reverted", l.Reverted}, {"revived", l.Revived}, {"missing", l.Missing}, {"added", l.Added}, {"changed", l.Changed},
	} {
		for _, line := range list.lines {
			out = append(out, list.name+" "+line.Name)
		}
	}
	return strings.Join(out, "; ")
}

// TestCompare has an object a in all the states in which three inventories can see it.
func TestCompare(t *testing.T) {
	const deleting = `deletionTimestamp: "2026-01-01T00:00:00Z"`
	cm := func(uid, data string, metadata ...string) keys { return configMap(t, "a", uid, data, metadata...) }
	none := keys{}
	for _, c := range []struct {
		name string
		// atBreak and atOutage are merged to what there was before.
		atBreak, atOutage, snapshot, after keys
		want                               string
	}{
		{"untouched", cm("1", "x"), cm("1", "x"), cm("1", "x"), cm("1", "x"), ""},
		{"nothing at all", none, none, none, none, ""},

		{"made after the snapshot", cm("1", "x"), cm("1", "x"), none, none, "lost a"},
		{"made between the break and the outage", none, cm("1", "x"), none, none, "lost a"},
		{"made after the snapshot, and destroyed by the break", cm("1", "x"), none, none, none, "lost a"},
		{"made after the snapshot, and being deleted at the outage", cm("1", "x"), cm("1", "x", deleting), none, none, "lost a"},
		{"made and deleted between the snapshot and the break", none, none, none, none, ""},
		{"made after the snapshot, and again after the recovery", cm("1", "x"), cm("1", "x"), none, cm("2", "x"), "lost a; added a"},
		{"made after the snapshot, and never lost", cm("1", "x"), cm("1", "x"), none, cm("1", "x"), "added a"},

		{"changed after the snapshot", cm("1", "y"), cm("1", "y"), cm("1", "x"), cm("1", "x"), "reverted a"},
		{"changed between the break and the outage", cm("1", "x"), cm("1", "y"), cm("1", "x"), cm("1", "x"), "reverted a"},
		{"changed and changed back", cm("1", "y"), cm("1", "x"), cm("1", "x"), cm("1", "x"), ""},
		{"changed after the snapshot, and never reverted", cm("1", "y"), cm("1", "y"), cm("1", "x"), cm("1", "y"), "changed a"},
		{"changed after the snapshot, and otherwise after the recovery", cm("1", "y"), cm("1", "y"), cm("1", "x"), cm("1", "z"), "reverted a; changed a"},
		{"changed after the snapshot, and being deleted after the recovery", cm("1", "y"), cm("1", "y"), cm("1", "x"), cm("1", "x", deleting), "reverted a; changed a"},

		{"deleted by the break", cm("1", "x"), none, cm("1", "x"), cm("1", "x"), "revived a"},
		{"deleted between the snapshot and the break", none, none, cm("1", "x"), cm("1", "x"), "revived a"},
		{"changed, then deleted by the break", cm("1", "y"), none, cm("1", "x"), cm("1", "x"), "revived a"},
		{"being deleted at the outage", cm("1", "x"), cm("1", "x", deleting), cm("1", "x"), cm("1", "x"), "revived a"},
		{"deleted, and back with another content", none, none, cm("1", "x"), cm("1", "y"), "revived a; changed a"},
		{"deleted, and made anew under the same name", cm("2", "x"), cm("2", "x"), cm("1", "x"), cm("1", "x"), "lost a; revived a"},
		{"deleted, made anew, and never lost", cm("2", "x"), cm("2", "x"), cm("1", "x"), cm("2", "x"), "changed a"},

		{"missing", cm("1", "x"), cm("1", "x"), cm("1", "x"), none, "missing a"},
		{"deleted, and missing", none, none, cm("1", "x"), none, "missing a"},
		{"added", none, none, none, cm("1", "x"), "added a"},
		{"added while it is being deleted", none, none, none, cm("1", "x", deleting), "added a"},
		{"changed after the recovery", cm("1", "x"), cm("1", "x"), cm("1", "x"), cm("1", "y"), "changed a"},
		{"deleted after the recovery, but not gone yet", cm("1", "x"), cm("1", "x"), cm("1", "x"), cm("1", "x", deleting), "changed a"},
		{"made anew after the recovery", cm("1", "x"), cm("1", "x"), cm("1", "x"), cm("2", "x"), "changed a"},

		{"being deleted in the snapshot, and gone", none, none, cm("1", "x", deleting), none, ""},
		{"being deleted in the snapshot, and still there", none, none, cm("1", "x", deleting, "finalizers: [f]"), cm("1", "x", deleting), ""},
		{"being deleted in the snapshot, and replaced", none, none, cm("1", "x", deleting), cm("2", "x"), ""},
		{"being deleted at the outage, and in no snapshot", none, cm("1", "x", deleting), none, none, "lost a"},

		{"nothing is known of before", nil, nil, cm("1", "x"), cm("1", "y"), "changed a"},
		{"nothing is known of the moment of the outage", cm("2", "x"), nil, none, none, "lost a"},
		{"nothing is known of the moment of the break", nil, cm("2", "x"), none, none, "lost a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := inventory.Merge(c.atBreak.read(t), c.atOutage.read(t))
			l := inventory.Compare(before, c.snapshot.read(t), c.after.read(t), inventory.Options{})
			if got := ledgerText(l); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if known := c.atBreak != nil || c.atOutage != nil; (l.Lost != nil) != known || (l.Reverted != nil) != known || (l.Revived != nil) != known {
				t.Errorf("known before: %t; %+v", known, l)
			}
			if bad := strings.Contains(c.want, "missing") || strings.Contains(c.want, "added") || strings.Contains(c.want, "changed"); l.Exact() == bad {
				t.Errorf("exact: %t", l.Exact())
			}
			for _, line := range l.Changed {
				if line.Remade() != (line.Snapshot.UID != line.After.UID) {
					t.Errorf("%+v", line)
				}
			}
		})
	}
}

// TestMergeKeepsWhatTheBreakDestroyed, and says so.
func TestMergeKeepsWhatTheBreakDestroyed(t *testing.T) {
	a, b, c := configMap(t, "a", "1", "x"), configMap(t, "b", "2", "x"), configMap(t, "c", "3", "x")
	merged := inventory.Merge(a.with(b).read(t), b.with(c).read(t))
	var got []string
	for _, o := range merged.Objects {
		got = append(got, fmt.Sprint(o.Name, o.Gone))
	}
	slices.Sort(got)
	if want := []string{"atrue", "bfalse", "cfalse"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	l := inventory.Compare(merged, keys{}.read(t), keys{}.read(t), inventory.Options{})
	if len(l.Lost) != 3 || !l.Lost[0].Before.Gone || l.Lost[1].Before.Gone {
		t.Errorf("%+v", l.Lost)
	}
}

// TestOwn leaves out what somebody writes on purpose, and what belongs to it, and nothing that merely looks like it.
func TestOwn(t *testing.T) {
	owned := func(kind, name, uid, ownerKind, ownerUID string) keys {
		return keys{"/registry/" + strings.ToLower(kind) + "s/ns/" + name: asStored(t, fmt.Sprintf(`{apiVersion: %s, kind: %s, metadata: {name: %s, namespace: ns, uid: %s,
  ownerReferences: [{apiVersion: apps/v1, kind: %s, name: o, uid: %s, controller: true}]}}`,
			map[string]string{"ReplicaSet": "apps/v1", "Pod": "v1"}[kind], kind, name, uid, ownerKind, ownerUID))}
	}
	deployment := keys{"/registry/deployments/ns/mine": asStored(t, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: mine, namespace: ns, uid: d}}")}
	tree := deployment.with(owned("ReplicaSet", "rs", "r", "Deployment", "d")).with(owned("Pod", "p", "p", "ReplicaSet", "r"))
	stranger := owned("Pod", "q", "q", "ReplicaSet", "other")
	namespace := keys{"/registry/namespaces/ns": asStored(t, "{apiVersion: v1, kind: Namespace, metadata: {name: ns, uid: nn}}")}
	own := func(apiVersion, kind, namespace, name string) inventory.Options {
		return inventory.Options{Own: []plan.Object{{APIVersion: apiVersion, Kind: kind, Namespace: namespace, Name: name}}}
	}
	for _, c := range []struct {
		name            string
		snapshot, after keys
		options         inventory.Options
		want            string
		own             int
	}{
		{"made", keys{}, tree.with(stranger), own("apps/v1", "Deployment", "ns", "mine"), "added q", 3},
		{"removed", tree.with(stranger), keys{}, own("apps/v1beta1", "Deployment", "ns", "mine"), "missing q", 3},
		{"another group", deployment, keys{}, own("extensions/v1beta1", "Deployment", "ns", "mine"), "missing mine", 0},
		{"another namespace", deployment, keys{}, own("apps/v1", "Deployment", "other", "mine"), "missing mine", 0},
		{"a namespace", namespace.with(stranger), tree, own("v1", "Namespace", "", "ns"), "", 5},
	} {
		l := inventory.Compare(c.snapshot.with(c.after).read(t), c.snapshot.read(t), c.after.read(t), c.options)
		l.Lost = nil
		if got := ledgerText(l); got != c.want || l.Own != c.own || l.LeftOut != c.own {
			t.Errorf("%s: %q, %d own, %d left out; want %q, %d", c.name, got, l.Own, l.LeftOut, c.want, c.own)
		}
	}
}

// TestWhatIsLeftOutTakesItsOwnAlong: a CronJob's Job with its Pod, a Job that may go with its Pod, and all that is in a Namespace which was being deleted.
func TestWhatIsLeftOutTakesItsOwnAlong(t *testing.T) {
	job := func(metadata, spec string) keys {
		return keys{"/registry/jobs/ns/j": asStored(t, "{apiVersion: batch/v1, kind: Job, metadata: {name: j, namespace: ns, uid: j"+metadata+"}, spec: {"+spec+"}, status: {conditions: [{type: Complete, status: \"True\"}]}}")}
	}
	pod := keys{"/registry/pods/ns/p": asStored(t, `{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ns, uid: p,
  ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: j, controller: true}]}, spec: {nodeName: a}}`)}
	scheduled := job(", ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: c, uid: c, controller: true}]", "").with(pod)
	brief := job("", "ttlSecondsAfterFinished: 5").with(pod)
	namespace := keys{"/registry/namespaces/ns": asStored(t, `{apiVersion: v1, kind: Namespace, metadata: {name: ns, uid: "n", deletionTimestamp: "2026-01-01T00:00:00Z"}}`)}
	for _, c := range []struct {
		name            string
		snapshot, after keys
		want            string
	}{
		{"a scheduled Job is gone", scheduled, keys{}, ""},
		{"a scheduled Job is new", keys{}, scheduled, ""},
		{"a Job with a time to live is gone", brief, keys{}, ""},
		{"a Job with a time to live is new", keys{}, brief, "added j; added p"},
		{"any other Job is gone", job("", "").with(pod), keys{}, "missing j; missing p"},
		{"a Namespace that was being deleted is gone", namespace.with(brief), keys{}, ""},
		{"a Namespace is being deleted after the recovery", brief, namespace.with(brief), "added ns"},
	} {
		l := inventory.Compare(inventory.Inventory{}, c.snapshot.read(t), c.after.read(t), inventory.Options{})
		if got := ledgerText(l); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestEncrypted values are compared as they are stored, and named by their keys.
func TestEncrypted(t *testing.T) {
	const key = "/registry/secrets/ns/s"
	enc := func(provider, text string) keys { return keys{key: []byte("k8s:enc:" + provider + ":" + text)} }
	o := enc("aescbc:v1:key1", "\x00\x8a:\xff").read(t).Objects[key]
	if want := (plan.Object{APIVersion: "v1", Kind: "Secret", Namespace: "ns", Name: "s"}); o.Object != want || o.Encryption != "k8s:enc:aescbc:v1:key1:" || o.UID != "" {
		t.Errorf("%+v", o)
	}
	if o := enc("kms:v2:my-provider", "x").read(t).Objects[key]; o.Encryption != "k8s:enc:kms:v2:my-provider:" {
		t.Errorf("%+v", o)
	}
	plainSecret := keys{key: asStored(t, "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: ns, uid: u}, data: {d: c2VjcmV0}}")}
	lease := func(text string) keys {
		return keys{"/registry/events/ns/e": []byte("k8s:enc:aescbc:v1:key1:" + text)}
	}
	for _, c := range []struct {
		name            string
		snapshot, after keys
		want            string
		says            string
	}{
		{"the same", enc("aescbc:v1:key1", "abc"), enc("aescbc:v1:key1", "abc"), "", ""},
		{"written again", enc("aescbc:v1:key1", "abc"), enc("aescbc:v1:key1", "abcd"), "changed s", "encrypted with k8s:enc:aescbc:v1:key1:, 27 bytes"},
		{"another key", enc("aescbc:v1:key1", "abc"), enc("aescbc:v1:key2", "abc"), "changed s", "encrypted with k8s:enc:aescbc:v1:key2:, 26 bytes"},
		{"no longer", enc("aescbc:v1:key1", "abc"), plainSecret, "changed s", "readable"},
		{"gone", enc("aescbc:v1:key1", "abc"), keys{}, "missing s", ""},
		{"of a kind that is left out", lease("abc"), lease("def"), "", ""},
	} {
		l := inventory.Compare(inventory.Inventory{}, c.snapshot.read(t), c.after.read(t), inventory.Options{})
		if got := ledgerText(l); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		fields, err := inventory.Explain(t.Context(), c.snapshot.source, c.after.source, []string{key})
		if says := fields[key]; err != nil || (len(says) > 0) != (c.says != "") || len(says) > 0 && says[0].B != c.says {
			t.Errorf("%s: %+v, %v; want %s", c.name, says, err, c.says)
		}
	}
}

// TestEncryptedAndRewritten: an encrypted Lease differs at every renewal, whatever was in it, so that only its existence is compared. That holds for no kind which nobody but
// people writes.
func TestEncryptedAndRewritten(t *testing.T) {
	enc := func(text string) []byte { return []byte("k8s:enc:aescbc:v1:key1:" + text) }
	for key, want := range map[string]string{
		"/registry/leases/ns/a":                      "",
		"/registry/minions/a":                        "",
		"/registry/pods/ns/a":                        "",
		"/registry/services/endpoints/ns/a":          "",
		"/registry/example.com/widgets/ns/a":         "",
		"/registry/secrets/ns/a":                     "changed a",
		"/registry/configmaps/ns/a":                  "changed a",
		"/registry/roles/ns/a":                       "changed a",
		"/registry/configmaps/kube-public/a":         "changed a",
		"/registry/serviceaccounts/ns/a":             "changed a",
		"/registry/persistentvolumeclaims/ns/a":      "",
		"/registry/apiregistration.k8s.io/x/v1.b.io": "",
	} {
		snapshot, same, other := keys{key: enc("x")}, keys{key: enc("x")}, keys{key: enc("y")}
		unread := 0
		if want == "" {
			unread = 1
		}
		l := inventory.Compare(inventory.Inventory{}, snapshot.read(t), other.read(t), inventory.Options{})
		if got := ledgerText(l); got != want || l.Unread != unread || l.Partly != 0 || l.Kept() != unread {
			t.Errorf("%s: %q, %d unread of %d, %d partly", key, got, l.Unread, l.Kept(), l.Partly)
		}
		if l := inventory.Compare(inventory.Inventory{}, snapshot.read(t), same.read(t), inventory.Options{}); !l.Exact() || l.Unread != 0 {
			t.Errorf("%s: as it was, and %+v", key, l)
		}
		for what, l := range map[string]inventory.Ledger{
			"missing": inventory.Compare(inventory.Inventory{}, snapshot.read(t), keys{}.read(t), inventory.Options{}),
			"added":   inventory.Compare(inventory.Inventory{}, keys{}.read(t), other.read(t), inventory.Options{}),
		} {
			if got := ledgerText(l); !strings.HasPrefix(got, what) {
				t.Errorf("%s: %q, want %s", key, got, what)
			}
		}
	}
}

// TestReadFromWhatIsKnown gives the same inventory as without.
func TestReadFromWhatIsKnown(t *testing.T) {
	all := realKeys(t)
	want := all.read(t)
	changed := all.with(configMap(t, "a", "1", "x"))
	changed["compact_rev_key"] = []byte("8")
	got, err := inventory.Read(t.Context(), changed.source, want)
	if err != nil || !reflect.DeepEqual(got, changed.read(t)) {
		t.Errorf("%v", err)
	}
}
