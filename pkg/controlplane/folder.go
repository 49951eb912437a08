package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// ManifestFile is a file in the manifests folder, as kubelet reads it.
type ManifestFile struct {
	// Path is where it lies on the node.
	Path string
	// Pod is NAMESPACE/NAME of the pod that it makes; empty where Err is set.
	Pod string
	// Containers are the names of the pod's containers.
	Containers []string
	// Err says why it is not a pod.
	Err error
}

// ManifestFiles reads every file of the node's manifests folder that kubelet would run, ordered by path. kubelet takes each file whose name
// doesn't begin with a dot, whatever its ending, and leaves folders alone (extractFromDir in pkg/kubelet/config/file.go of
// Kubernetes): a backup that was put there is a second pod.
func ManifestFiles(ctx context.Context, n cluster.Node) ([]ManifestFile, error) {
	out, err := cluster.Run(ctx, n, "find", ManifestDir, "-mindepth", "1", "-maxdepth", "1", "-not", "-name", ".*", "-not", "-type", "d")
	if err != nil {
		return nil, fmt.Errorf("list %s of node %s: %w", ManifestDir, n.Name(), err)
	}
	var files []ManifestFile
	for _, name := range strings.Split(out, "\n") {
		if name == "" {
			continue
		}
		b, err := n.ReadFile(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("read %s of node %s: %w", name, n.Name(), err)
		}
		files = append(files, manifestFile(path.Clean(name), b))
	}
	slices.SortFunc(files, func(a, b ManifestFile) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// manifestFile reads a manifest as leniently as kubelet does: only the first document counts, and unknown fields don't matter.
func manifestFile(name string, content []byte) ManifestFile {
	f := ManifestFile{Path: name}
	var first yamlv3.Node
	if err := yamlv3.NewDecoder(bytes.NewReader(content)).Decode(&first); err != nil {
		f.Err = fmt.Errorf("%w: %w", ErrNotManifest, err)
		if errors.Is(err, io.EOF) {
			f.Err = fmt.Errorf("%w: it is empty", ErrNotManifest)
		}
		return f
	}
	doc, err := yamlv3.Marshal(&first)
	if err != nil {
		f.Err = fmt.Errorf("%w: %w", ErrNotManifest, err)
		return f
	}
	var pod corev1.Pod
	if err := sigsyaml.Unmarshal(doc, &pod); err != nil || pod.Kind != "Pod" {
		f.Err = errors.Join(fmt.Errorf("%w: it is a %q", ErrNotManifest, pod.Kind), err)
		return f
	}
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	f.Pod = pod.Namespace + "/" + pod.Name
	for _, c := range pod.Spec.Containers {
		f.Containers = append(f.Containers, c.Name)
	}
	return f
}
