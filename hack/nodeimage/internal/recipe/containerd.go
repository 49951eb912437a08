package recipe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/run"
)

// cniTemplate is where containerd finds the network configuration that it fills in with the node's pod network.
const cniTemplate = "etc/containerd/cni-template.json"

// containerdConfig is kind's own configuration with three changes.
func (r *Recipe) containerdConfig() ([]byte, error) {
	path := filepath.Join(r.kind.BaseFiles(), "etc/containerd/config.toml")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading kind's configuration of containerd: %w", err)
	}
	return adaptContainerdConfig(data, r.pins.Images.Named("pause"))
}

func adaptContainerdConfig(data []byte, pause string) ([]byte, error) {
	changes := []struct{ pattern, replacement string }{
		// The image that kubeadm asks for is the one that is there.
		{`(?m)^(\s*sandbox_image\s*=\s*).*$`, `${1}"` + pause + `"`},
		// Where CAP_SYS_RESOURCE is missing, a lower score than the parent's is refused and no pod would start.
		{`(?m)^(\s*restrict_oom_score_adj\s*=\s*)false\s*$`, `${1}true`},
	}
	for _, c := range changes {
		re := regexp.MustCompile(c.pattern)
		if n := len(re.FindAll(data, -1)); n != 1 {
			return nil, fmt.Errorf("kind's configuration of containerd has %d lines like %s, not one: this version of kind needs another look", n, c.pattern)
		}
		data = re.ReplaceAll(data, []byte(c.replacement))
	}
	// No program has to be up before a node is ready: containerd writes its network configuration by itself, as soon as
	// the kubelet tells it the node's pod network.
	return append(data, []byte(`
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
  conf_template = "/`+cniTemplate+`"
`)...), nil
}

// ociSpec is what every container on a node starts from: containerd's default, without limits on resources, and with
// the hook by which kind hides the host's product name.
func ociSpec(ctx context.Context, ctr string) ([]byte, error) {
	out, err := run.Output(ctx, run.Cmd{Argv: []string{ctr, "oci", "spec"}})
	if err != nil {
		return nil, fmt.Errorf("asking containerd for its default container: %w", err)
	}
	return adaptOCISpec([]byte(out))
}

func adaptOCISpec(data []byte) ([]byte, error) {
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("reading containerd's default container: %w", err)
	}
	hooks, _ := spec["hooks"].(map[string]any)
	if hooks == nil {
		hooks = map[string]any{}
	}
	create, _ := hooks["createContainer"].([]any)
	hooks["createContainer"] = append(create, map[string]any{"path": "/kind/bin/mount-product-files.sh"})
	spec["hooks"] = hooks
	if process, ok := spec["process"].(map[string]any); ok {
		delete(process, "rlimits")
	}
	return json.MarshalIndent(spec, "", "  ")
}
