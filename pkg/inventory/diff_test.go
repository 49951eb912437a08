package inventory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// diffText writes a difference as "+ a; - b; ~ c (data.d: "x" / "y")".
func diffText(d inventory.Diff) string {
	var out []string
	for _, list := range []struct {
		sign    string
		objects []inventory.ObjectDifference
	}{{"+", d.Added}, {"-", d.Removed}, {"~", d.Changed}} {
		for _, o := range list.objects {
			line := list.sign + " " + o.Name
			if len(o.Fields) > 0 {
				line += " (" + fieldText(o.Fields) + ")"
			}
			if o.Remade() {
				line += " remade"
			}
			out = append(out, line)
		}
	}
	return strings.Join(out, "; ")
}

func TestTakeDiff(t *testing.T) {
	const (
		deployment = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: ns, uid: u1}, spec: {replicas: 2}, status: {replicas: 1}}`
		event      = `{apiVersion: v1, kind: Event, metadata: {name: e, namespace: ns, uid: u2}, reason: Because}`
		key        = "/registry/deployments/ns/d"
	)
	encrypted := func(key, text string) keys { return keys{key: []byte("k8s:enc:aescbc:v1:k:" + text)} }
	for _, c := range []struct {
		name      string
		a, b      keys
		want, all string
		leftOut   int
		partly    int
		unread    int
	}{
		{name: "the same", a: configMap(t, "a", "1", "x"), b: configMap(t, "a", "1", "x")},
		{name: "nothing", a: keys{}, b: keys{}},
		{
			name: "added, removed and changed", a: configMap(t, "a", "1", "x").with(configMap(t, "b", "2", "x")), b: configMap(t, "b", "2", "y").with(configMap(t, "c", "3", "x")),
			want: `+ c; - a; ~ b (data.d: "x" / "y")`, all: `+ c; - a; ~ b (data.d: "x" / "y")`,
		},
		{
			name: "encrypted since", a: configMap(t, "a", "1", "x"), b: keys{"/registry/configmaps/ns/a": []byte("k8s:enc:aescbc:v1:k:abc")},
			want: `~ a ((value): readable / encrypted with k8s:enc:aescbc:v1:k:, 23 bytes)`, all: `~ a ((value): readable / encrypted with k8s:enc:aescbc:v1:k:, 23 bytes)`,
		},
		{name: "made anew", a: configMap(t, "a", "1", "x"), b: configMap(t, "a", "2", "x"), want: `~ a (metadata.uid: "u1" / "u2") remade`, all: `~ a (metadata.uid: "u1" / "u2") remade`},
		{
			name: "status", a: stored(t, key, deployment), b: stored(t, key, strings.Replace(deployment, "replicas: 1", "replicas: 2", 1)),
			all: `~ d (status.replicas: 1 / 2)`, partly: 1,
		},
		{
			name: "status and spec", a: stored(t, key, deployment), b: stored(t, key, strings.NewReplacer("replicas: 1", "replicas: 2", "replicas: 2", "replicas: 3").Replace(deployment)),
			want: `~ d (spec.replicas: 2 / 3)`, all: `~ d (spec.replicas: 2 / 3; status.replicas: 1 / 2)`,
		},
		{
			name: "null, and nothing", a: stored(t, "/registry/example.com/things/ns/t", `{apiVersion: example.com/v1, kind: Thing, metadata: {name: t, namespace: ns}, spec: {x: null}}`),
			b:    stored(t, "/registry/example.com/things/ns/t", `{apiVersion: example.com/v1, kind: Thing, metadata: {name: t, namespace: ns}, spec: {}}`),
			want: `~ t (spec.x: null / nothing)`, all: `~ t (spec.x: null / nothing)`,
		},
		{
			name: "deleted in between", a: configMap(t, "a", "1", "x", `deletionTimestamp: "2026-01-01T00:00:00Z"`), b: keys{},
			want: `- a`, all: `- a`,
		},
		{
			name: "made anew in between", a: configMap(t, "a", "1", "x", `deletionTimestamp: "2026-01-01T00:00:00Z"`), b: configMap(t, "a", "2", "x"),
			want: `~ a (metadata.deletionTimestamp: "2026-01-01T00:00:00Z" / nothing; metadata.uid: "u1" / "u2") remade`,
			all:  `~ a (metadata.deletionTimestamp: "2026-01-01T00:00:00Z" / nothing; metadata.uid: "u1" / "u2") remade`,
		},
		{
			name: "a Secret where something else was", a: keys{"/k": asStored(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}`)}, b: keys{"/k": asStored(t, `{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {p: c2VzYW1l}}`)},
			want: `~ a (data: nothing / (hidden); kind: "ConfigMap" / "Secret")`, all: `~ a (data: nothing / (hidden); kind: "ConfigMap" / "Secret")`,
		},
		{name: "events", a: keys{}, b: stored(t, "/registry/events/ns/e", event), all: `+ e`, leftOut: 1},
		{
			name: "encrypted, of a kind with a status", a: encrypted(key, "one"), b: encrypted(key, "three"),
			all: `~ d ((value): encrypted with k8s:enc:aescbc:v1:k:, 23 bytes / encrypted with k8s:enc:aescbc:v1:k:, 25 bytes)`, unread: 1,
		},
		{
			name: "an encrypted Secret", a: encrypted("/registry/secrets/ns/s", "one"), b: encrypted("/registry/secrets/ns/s", "three"),
			want: `~ s ((value): encrypted with k8s:enc:aescbc:v1:k:, 23 bytes / encrypted with k8s:enc:aescbc:v1:k:, 25 bytes)`,
			all:  `~ s ((value): encrypted with k8s:enc:aescbc:v1:k:, 23 bytes / encrypted with k8s:enc:aescbc:v1:k:, 25 bytes)`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := inventory.TakeDiff(t.Context(), c.a.source, c.b.source, inventory.Options{})
			if got := diffText(d); err != nil || got != c.want || d.LeftOut != c.leftOut || d.Partly != c.partly || d.Unread != c.unread || d.None() != (c.want == "") {
				t.Errorf("%s, left out %d, partly %d, unread %d, %v; want %s", got, d.LeftOut, d.Partly, d.Unread, err, c.want)
			}
			if counted := d.Same + d.LeftOut + len(d.Removed) + len(d.Changed); counted != len(c.a) && c.leftOut == 0 {
				t.Errorf("%d keys are accounted for, of %d", counted, len(c.a))
			}
			d, err = inventory.TakeDiff(t.Context(), c.a.source, c.b.source, inventory.Options{All: true})
			if got := diffText(d); err != nil || got != c.all || d.LeftOut+d.Partly+d.Unread > 0 || len(d.Applied) > 0 {
				t.Errorf("all: %s, %+v, %v; want %s", got, d.Applied, err, c.all)
			}
		})
	}
}

// TestTakeDiffOfSome leaves all but what was asked for alone, and what is left out still takes along what it controls.
func TestTakeDiffOfSome(t *testing.T) {
	a := configMap(t, "a", "1", "x").with(configMap(t, "b", "2", "x"))
	b := configMap(t, "a", "1", "y").with(configMap(t, "b", "2", "y"))
	d, err := inventory.TakeDiff(t.Context(), a.source, b.source, inventory.Options{Only: func(o plan.Object) bool { return o.Name == "b" }})
	if got := diffText(d); err != nil || got != `~ b (data.d: "x" / "y")` || d.Same != 0 || d.A.Keys != 2 || d.B.Keys != 2 || d.A.Revision != 7 {
		t.Errorf("%s, %+v, %v", got, d, err)
	}
}

// TestTakeDiffTellsClustersApart by the UID of kube-system.
func TestTakeDiffTellsClustersApart(t *testing.T) {
	of := func(uid string) keys {
		return stored(t, "/registry/namespaces/kube-system", `{apiVersion: v1, kind: Namespace, metadata: {name: kube-system, uid: `+uid+`}}`)
	}
	d, err := inventory.TakeDiff(t.Context(), of("one").source, of("two").source, inventory.Options{})
	if err != nil || d.A.KubeSystemUID != "one" || d.B.KubeSystemUID != "two" {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestTakeDiffOfWhatGoesOn: a running etcd is compacted, changed and lost between one reading and the next.
func TestTakeDiffOfWhatGoesOn(t *testing.T) {
	a, b := configMap(t, "a", "1", "x").with(configMap(t, "b", "2", "x")), configMap(t, "a", "1", "y").with(configMap(t, "b", "2", "y"))
	lost := errors.New("connection lost")
	for _, c := range []struct {
		name string
		// at says what becomes of a reading, from the first on.
		at   func(reading int) (keys, error)
		want string
		err  error
	}{
		{"compacted each time at first", func(n int) (keys, error) {
			if n%2 == 1 {
				return b, fmt.Errorf("midway: %w", etcd.ErrCompacted)
			}
			return b, nil
		}, `~ a (data.d: "x" / "y"); ~ b (data.d: "x" / "y")`, nil},
		{"always compacted", func(n int) (keys, error) { return b, etcd.ErrCompacted }, "", etcd.ErrCompacted},
		{"compacted from the second reading on", func(n int) (keys, error) {
			if n > 1 {
				return b, etcd.ErrCompacted
			}
			return b, nil
		}, `~ a (data.d: "x" / "y"); ~ b (data.d: "x" / "y")`, etcd.ErrCompacted},
		{"lost in the second reading", func(n int) (keys, error) {
			if n > 1 {
				return keys{}, lost
			}
			return b, nil
		}, `~ a; ~ b`, lost},
		{"put back", func(n int) (keys, error) {
			if n > 1 {
				return a, nil
			}
			return b, nil
		}, `~ a; ~ b`, nil},
		{"deleted, and written again", func(n int) (keys, error) {
			if n > 1 {
				return configMap(t, "b", "2", "z"), nil
			}
			return b, nil
		}, `~ a; ~ b`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := 0
			live := func(ctx context.Context, each func(etcd.KeyValue) error) (int64, error) {
				n++
				now, fault := c.at(n)
				revision, err := now.source(ctx, func(kv etcd.KeyValue) error {
					if !bytes.Equal(kv.Value, b[string(kv.Key)]) {
						kv.ModRevision++ // it was written again
					}
					return each(kv)
				})
				return revision, errors.Join(err, fault)
			}
			d, err := inventory.TakeDiff(t.Context(), a.source, live, inventory.Options{})
			if got := diffText(d); got != c.want || !errors.Is(err, c.err) {
				t.Errorf("%s, %v; want %s, %v", got, err, c.want, c.err)
			}
		})
	}
}
