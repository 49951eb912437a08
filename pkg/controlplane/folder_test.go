package controlplane_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/controlplane"
)

func TestManifestFiles(t *testing.T) {
	files := map[string]string{
		"/etc/kubernetes/manifests/etcd.yaml":     "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system}\nspec: {containers: [{name: etcd}]}\n",
		"/etc/kubernetes/manifests/etcd.yaml.bak": "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system}\nspec: {containers: [{name: etcd}, {name: side}], unknown: 1}\n",
		"/etc/kubernetes/manifests/two.yaml":      "kind: Pod\nmetadata: {name: first}\n---\nkind: Pod\nmetadata: {name: second}\n",
		"/etc/kubernetes/manifests/svc.yaml":      "kind: Service\nmetadata: {name: x}\n",
		"/etc/kubernetes/manifests/empty":         "",
		"/etc/kubernetes/manifests/torn.yaml":     "kind: Pod\nmetadata: {name: [",
	}
	n := newScripted(t, func(argv string) (string, int) {
		if !strings.HasPrefix(argv, "find /etc/kubernetes/manifests") {
			return "unexpected " + argv, 1
		}
		var names []string
		for name := range files {
			names = append(names, name)
		}
		return strings.Join(names, "\n") + "\n", 0
	})
	for name, text := range files {
		n.files[name] = []byte(text)
	}
	got, err := controlplane.ManifestFiles(t.Context(), n)
	if err != nil || len(got) != len(files) {
		t.Fatalf("%+v, %v", got, err)
	}
	if !slices.IsSortedFunc(got, func(a, b controlplane.ManifestFile) int { return strings.Compare(a.Path, b.Path) }) {
		t.Errorf("%+v: not ordered", got)
	}
	want := map[string]string{"etcd.yaml": "kube-system/etcd", "etcd.yaml.bak": "kube-system/etcd", "two.yaml": "default/first"}
	for _, f := range got {
		pod := want[strings.TrimPrefix(f.Path, "/etc/kubernetes/manifests/")]
		if f.Pod != pod || (pod == "") != errors.Is(f.Err, controlplane.ErrNotManifest) {
			t.Errorf("%s: pod %q, %v; want %q", f.Path, f.Pod, f.Err, pod)
		}
		if strings.HasSuffix(f.Path, ".bak") && !slices.Equal(f.Containers, []string{"etcd", "side"}) {
			t.Errorf("%s: containers %q", f.Path, f.Containers)
		}
	}
}

func TestManifestFilesThatCannotBeRead(t *testing.T) {
	for name, answer := range map[string]struct {
		text string
		code int
	}{
		"no folder": {"find: No such file or directory", 1}, "a file that went away": {"/etc/kubernetes/manifests/etcd.yaml", 0}, "no node": {"", -1},
	} {
		n := newScripted(t, func(string) (string, int) { return answer.text, answer.code })
		if got, err := controlplane.ManifestFiles(t.Context(), n); err == nil || !strings.Contains(err.Error(), "of node cp-a") {
			t.Errorf("%s: %+v, %v; want an error that names the node", name, got, err)
		}
	}
}
