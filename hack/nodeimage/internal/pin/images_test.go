package pin_test

import (
	"strings"
	"testing"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/pin"
)

const list = `
# a comment
registry.k8s.io/kube-apiserver:v1.37.2
registry.k8s.io/kube-controller-manager:v1.37.2
registry.k8s.io/kube-scheduler:v1.37.2
registry.k8s.io/kube-proxy:v1.37.2
registry.k8s.io/coredns/coredns:v1.14.6
registry.k8s.io/pause:3.10.2
registry.k8s.io/etcd:3.7.0-0
`

func TestParseImages(t *testing.T) {
	images, err := pin.ParseImages(list)
	if err != nil {
		t.Fatal(err)
	}
	for short, want := range map[string]string{
		"coredns": "registry.k8s.io/coredns/coredns:v1.14.6", "etcd": "registry.k8s.io/etcd:3.7.0-0",
		"pause": "registry.k8s.io/pause:3.10.2", "nothing": "",
	} {
		if got := images.Named(short); got != want {
			t.Errorf("Named(%s) = %q, want %q", short, got, want)
		}
	}
	if got := images.EtcdVersion(); got != "v3.7.0" {
		t.Errorf("etcd %s", got)
	}
	if got := images.CoreDNSVersion(); got != "v1.14.6" {
		t.Errorf("CoreDNS %s", got)
	}
}

func TestParseImagesRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":     "",
		"a part less": strings.Replace(list, "registry.k8s.io/pause:3.10.2", "", 1),
		"no tag":      list + "localhost:5000/etcd\n",
		"a warning":   "W1123 could not fetch a version\n" + list,
	} {
		if images, err := pin.ParseImages(text); err == nil {
			t.Errorf("%s: no error, but %q", name, images)
		}
	}
}

func TestSameIgnoresOrder(t *testing.T) {
	a, b, c := pin.Images{"x:1", "y:1"}, pin.Images{"y:1", "x:1"}, pin.Images{"y:1", "x:2"}
	if !a.Same(b) || a.Same(c) {
		t.Error("the comparison is wrong")
	}
}

// Every version that is pinned must have all that a node of it needs.
func TestPinsAreComplete(t *testing.T) {
	versions := pin.Versions("../../pins")
	if len(versions) == 0 {
		t.Fatal("no versions are pinned")
	}
	for _, v := range versions {
		set, err := pin.Load("../../pins", v)
		if err != nil {
			t.Errorf("%s: %v", v, err)
			continue
		}
		for _, c := range set.All() {
			first, err := c.Key("go1.26.0 amd64")
			if err != nil {
				t.Errorf("%s: %v", v, err)
			}
			if other, _ := c.Key("go1.26.1 amd64"); other == first {
				t.Errorf("%s: the key of %s does not depend on the toolchain", v, c.Name)
			}
		}
	}
	if _, err := pin.Load("../../pins", "v1.0.0"); err == nil || !strings.Contains(err.Error(), "nodeimage pin v1.0.0") {
		t.Errorf("a version without pins: %v; want a hint", err)
	}
}
