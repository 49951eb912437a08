package recipe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/image"
)

func TestAdaptContainerdConfig(t *testing.T) {
	before := "version = 2\n[x]\n  sandbox_image = \"registry.k8s.io/pause:3.10\"\n  # restrict_oom_score_adj needs to be true\n  restrict_oom_score_adj = false\n"
	after, err := adaptContainerdConfig([]byte(before), "registry.k8s.io/pause:9")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`sandbox_image = "registry.k8s.io/pause:9"`, "\n  restrict_oom_score_adj = true\n", "conf_template", "# restrict_oom_score_adj needs"} {
		if !strings.Contains(string(after), want) {
			t.Errorf("the configuration lacks %q:\n%s", want, after)
		}
	}
	if _, err := adaptContainerdConfig([]byte("version = 2\n"), "x"); err == nil {
		t.Error("a configuration of another shape is no error")
	}
}

func TestAdaptOCISpec(t *testing.T) {
	out, err := adaptOCISpec([]byte(`{"process":{"rlimits":[1],"cwd":"/"},"hooks":{"createContainer":[{"path":"/a"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Process map[string]any
		Hooks   struct{ CreateContainer []struct{ Path string } }
	}
	if err := json.Unmarshal(out, &spec); err != nil {
		t.Fatal(err)
	}
	if _, ok := spec.Process["rlimits"]; ok || spec.Process["cwd"] != "/" {
		t.Errorf("process = %v", spec.Process)
	}
	if h := spec.Hooks.CreateContainer; len(h) != 2 || h[1].Path != "/kind/bin/mount-product-files.sh" {
		t.Errorf("hooks = %v", h)
	}
}

func TestRewordEntrypoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "entrypoint")
	for text, ok := range map[string]bool{
		"log 'detected cgroup v1'\nlog 'detected cgroup v2'\n": true,
		"log 'something else'\n":                               false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := rewordEntrypoint(path); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWorkloadImages(t *testing.T) {
	got := workloadImages([]image.Spec{
		{Names: []string{"registry.k8s.io/etcd:3"}}, {Names: []string{helperImage}}, {Names: []string{nginxImage + ":1", nginxImage + ":latest"}},
	})
	if want := helperImage + "," + nginxImage + ":1," + nginxImage + ":latest"; strings.Join(got, ",") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
