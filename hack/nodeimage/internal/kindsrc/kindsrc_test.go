package kindsrc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConstant(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.go": "package p\n\nconst (\n\tOther = 1\n\tImages = \"not this\"\n)\n\nvar Image2 = \"nor this\"\n",
		"b.go": "package p\n\n// Image is it.\nconst Image = \"docker.io/example/lb:v9\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := constant(dir, "Image"); err != nil || got != "docker.io/example/lb:v9" {
		t.Errorf("constant = %q, %v", got, err)
	}
	if _, err := constant(dir, "Missing"); err == nil {
		t.Error("a missing constant is no error")
	}
}

// The real source of the pinned version of kind has all that is read from it.
func TestFollowsThePinnedKind(t *testing.T) {
	s, err := Find(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	image, err := s.LoadBalancerImage()
	if err != nil || !strings.Contains(image, "/") || !strings.Contains(image, ":") {
		t.Errorf("load balancer %q, %v", image, err)
	}
	if _, err := os.Stat(filepath.Join(s.BaseFiles(), "usr/local/bin/entrypoint")); err != nil {
		t.Error(err)
	}
}
