package inventory_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/inventory"
)

// TestExplain names fields as kubectl does, and shows both values.
func TestExplain(t *testing.T) {
	const deployment = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: ns, uid: u1, annotations: {a.b/c: x}}, spec: {replicas: 2,
  template: {spec: {containers: [{name: a, image: nginx, args: [x, "y"]}]}}}, status: {replicas: 2}}`
	for _, c := range []struct {
		change change
		want   string
	}{
		{change{"replicas: 2", "replicas: 3"}, `spec.replicas: 2 / 3`},
		{change{"replicas: 2,", ""}, `spec.replicas: 2 / nothing`},
		{change{"{replicas: 2}", "{replicas: 3}"}, ``},
		{change{"image: nginx", "image: other"}, `spec.template.spec.containers[name=a].image: "nginx" / "other"`},
		{change{"args: [x,", "args: ["}, `spec.template.spec.containers[name=a].args[]: "x" / nothing`},
		{change{`args: [x, "y"]`, `args: [x, z]`}, `spec.template.spec.containers[name=a].args[1]: "y" / "z"`},
		{change{`args: [x, "y"]`, `args: ["y", x, z]`}, `spec.template.spec.containers[name=a].args[]: nothing / "z"`},
		{change{`containers: [{name: a,`, `containers: [{name: b}, {name: a,`}, `spec.template.spec.containers[name=b]: nothing / {"name":"b","resources":{}}`},
		{change{`[{name: a,`, `[{name: b,`}, `spec.template.spec.containers[name=a]: {"args":["x","y"],"image":"nginx","name":"a","resources":{}} / nothing; ` +
			`spec.template.spec.containers[name=b]: nothing / {"args":["x","y"],"image":"nginx","name":"b","resources":{}}`},
		{change{"a.b/c: x", "a.b/c: z"}, `metadata.annotations["a.b/c"]: "x" / "z"`},
		{change{", annotations: {a.b/c: x}", ""}, `metadata.annotations: {"a.b/c":"x"} / nothing`},
		{change{"uid: u1", "uid: u2"}, `metadata.uid: "u1" / "u2"`},
		{change{"a.b/c: x", "a.b/c: " + strings.Repeat("ä", 100)}, `metadata.annotations["a.b/c"]: "x" / "` + strings.Repeat("ä", 79) + `…`},
	} {
		const key = "/registry/deployments/ns/d"
		a, b := stored(t, key, deployment), stored(t, key, c.change.in(t, deployment))
		found, err := inventory.Explain(t.Context(), a.source, b.source, []string{key})
		if got := fieldText(found[key]); err != nil || got != c.want {
			t.Errorf("%q for %q: %s, %v; want %s", c.change[1], c.change[0], got, err, c.want)
		}
	}
}

func fieldText(fields []inventory.FieldDifference) string {
	var out []string
	for _, f := range fields {
		out = append(out, fmt.Sprintf("%s: %s / %s", f.Path, f.A, f.B))
	}
	return strings.Join(out, "; ")
}

// TestExplainLists tells what has a name by it, and shows of long values the part that differs.
func TestExplainLists(t *testing.T) {
	long := strings.Repeat("a", 200)
	for _, c := range []struct{ a, b, want string }{
		{`[{name: a}, {name: b}]`, `[{name: b}, {name: a}]`, `l(order): ["a","b"] / ["b","a"]`},
		{`[{name: a, v: 1}, {name: b}]`, `[{name: b}, {name: a, v: 2}]`, `l[name=a].v: 1 / 2; l(order): ["a","b"] / ["b","a"]`},
		{`[{name: a, v: 1}, {name: a, v: 2}]`, `[{name: a, v: 1}]`, `l[1]: {"name":"a","v":2} / nothing`},
		{`[{key: a, v: 1}]`, `[{key: a, v: 2}]`, `l[key=a].v: 1 / 2`},
		{`[{v: 1}]`, `[{v: 2}]`, `l[0].v: 1 / 2`},
		{`[[1]]`, `[[2, 3]]`, `l[0][]: 1 / nothing; l[0][]: nothing / 2; l[0][]: nothing / 3`},
		{`[]`, `[x]`, `l[]: nothing / "x"`},
		{`[x, x]`, `[x]`, `l[]: "x" / nothing`},
		{`[{name: a}]`, `[]`, `l[name=a]: {"name":"a"} / nothing`},
		{`"` + long + `b` + long + `"`, `"` + long + `c"`, `l: …` + strings.Repeat("a", 20) + "b" + strings.Repeat("a", 59) + `… / …` + strings.Repeat("a", 20) + `c"`},
	} {
		const key = "/registry/example.com/things/ns/a"
		of := func(list string) keys {
			return stored(t, key, `{apiVersion: example.com/v1, kind: Thing, metadata: {name: a, namespace: ns, uid: u}, l: `+list+`}`)
		}
		found, err := inventory.Explain(t.Context(), of(c.a).source, of(c.b).source, []string{key})
		if got := fieldText(found[key]); err != nil || got != c.want {
			t.Errorf("%s, %s: %s, %v; want %s", c.a, c.b, got, err, c.want)
		}
	}
}

// TestExplainOnlyWhatIsAsked leaves keys alone that weren't asked for, are on one side only, or are the same.
func TestExplainOnlyWhatIsAsked(t *testing.T) {
	a := configMap(t, "a", "1", "x").with(configMap(t, "b", "1", "x")).with(configMap(t, "c", "1", "x")).with(configMap(t, "d", "1", "x"))
	b := configMap(t, "a", "1", "y").with(configMap(t, "b", "1", "y")).with(configMap(t, "c", "1", "x"))
	const at = "/registry/configmaps/ns/"
	found, err := inventory.Explain(t.Context(), a.source, b.source, []string{at + "a", at + "c", at + "d", at + "e"})
	if err != nil || len(found) != 1 || fieldText(found[at+"a"]) != `data.d: "x" / "y"` {
		t.Errorf("%+v, %v", found, err)
	}
	if found, err := inventory.Explain(t.Context(), nil, nil, nil); err != nil || len(found) != 0 {
		t.Errorf("nothing was asked: %+v, %v", found, err)
	}
}

// TestSecretsAreNeverShown, nor what kubectl copies of them into an annotation, nor what is in a value that can't be read.
func TestSecretsAreNeverShown(t *testing.T) {
	const secret = `{apiVersion: v1, kind: Secret, type: T, metadata: {name: s, namespace: ns, uid: u1, labels: {l: a},
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "sesame"}}, data: {"in": c2VzYW1l, out: c2VzYW1l}}`
	const key = "/registry/secrets/ns/s"
	for want, c := range map[string]change{
		`data.in: (hidden) / (hidden)`: {"in\": c2VzYW1l", "in\": c2VzYW1m"},
		`data.out: (hidden) / nothing`: {", out: c2VzYW1l", ""},
		`data: (hidden) / nothing`:     {`data: {"in": c2VzYW1l, out: c2VzYW1l}`, "immutable: false"},
		`metadata.annotations["kubectl.kubernetes.io/last-applied-configuration"]: (hidden) / (hidden)`: {`"sesame"`, `"sesame, open"`},
		`metadata.labels.l: "a" / "b"`: {"l: a", "l: b"},
		`type: "T" / "U"`:              {"type: T", "type: U"},
	} {
		found, err := inventory.Explain(t.Context(), stored(t, key, secret).source, stored(t, key, c.in(t, secret)).source, []string{key})
		got := fieldText(found[key])
		if err != nil || !slices.Contains(strings.Split(got, "; "), want) || strings.Contains(got, "c2Vz") || strings.Contains(got, "sesame") {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	for name, values := range map[string][2]string{
		"encrypted": {"k8s:enc:aescbc:v1:k:sesame", "k8s:enc:aescbc:v1:k:sesame2"},
		"no object": {"sesame", "other"},
		"damaged":   {"k8s\x00sesame", "k8s\x00other"},
	} {
		found, err := inventory.Explain(t.Context(), keys{key: []byte(values[0])}.source, keys{key: []byte(values[1])}.source, []string{key})
		if got := fieldText(found[key]); err != nil || !strings.HasPrefix(got, "(value): ") || strings.Contains(got, "sesame") {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}
