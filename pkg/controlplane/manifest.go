package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	sigsyaml "sigs.k8s.io/yaml"
)

// Where kubeadm keeps its static pods, and what they are called: the file is NAME.yaml, the container and the label
// "component" are NAME.
const (
	ManifestDir = "/etc/kubernetes/manifests"

	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
)

// Components lists the static pods of a kubeadm control plane, in the order in which they depend on each other.
func Components() []string { return []string{Etcd, APIServer, ControllerManager, Scheduler} }

// Errors about manifests; test for them with errors.Is.
var (
	// ErrNotManifest: the content is not one Pod in YAML.
	ErrNotManifest = errors.New("not a static-pod manifest")
	// ErrNotEtcd: it is a Pod, but not an etcd member as kubeadm sets it up.
	ErrNotEtcd = errors.New("not the manifest of an etcd member")
	// ErrNotAPIServer: it is a Pod, but not an API server as kubeadm sets it up.
	ErrNotAPIServer = errors.New("not the manifest of an API server")
	// ErrVolume: the volume is missing or can't be patched.
	ErrVolume = errors.New("volume can't be patched")
)

// parsePod reads a manifest strictly: exactly one document, no unknown or repeated field.
func parsePod(manifest []byte) (*corev1.Pod, error) {
	docs := yaml.NewDecoder(bytes.NewReader(manifest))
	var first, second yaml.Node
	switch err := docs.Decode(&first); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: it is empty", ErrNotManifest)
	case err != nil:
		return nil, fmt.Errorf("%w: not YAML: %w", ErrNotManifest, err)
	}
	if err := docs.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: it holds more than one YAML document; the kubelet reads only the first", ErrNotManifest)
	}
	var pod corev1.Pod
	if err := sigsyaml.UnmarshalStrict(manifest, &pod); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotManifest, err)
	}
	if pod.Kind != "Pod" || pod.APIVersion != "v1" {
		return nil, fmt.Errorf("%w: it is a %q of %q, want a Pod of v1", ErrNotManifest, pod.Kind, pod.APIVersion)
	}
	return &pod, nil
}

// PatchHostPath returns the manifest with the hostPath of the named volume changed to newPath, and every other byte as it
// was: comments, order, indentation and line ends. The result is parsed again, as strictly as the kubelet's API types
// allow, and compared: it is returned only when that one field is the only difference.
//
// Errors wrap ErrNotManifest, or ErrVolume where there is no such volume, or more than one, or it is not a hostPath, or its
// path is written in a way that can't be replaced alone (an alias, an anchor, a tag, a value over several lines).
func PatchHostPath(manifest []byte, volume, newPath string) ([]byte, error) {
	if err := checkPath(newPath); err != nil {
		return nil, err
	}
	pod, err := parsePod(manifest)
	if err != nil {
		return nil, err
	}
	if _, err := hostPathVolume(pod, volume); err != nil {
		return nil, err
	}
	scalar, err := findHostPath(manifest, volume)
	if err != nil {
		return nil, err
	}
	begin, end, err := locate(manifest, scalar)
	if err != nil {
		return nil, fmt.Errorf("%w: hostPath of %q at line %d: %w", ErrVolume, volume, scalar.Line, err)
	}
	patched := make([]byte, 0, len(manifest)+len(newPath))
	patched = append(patched, manifest[:begin]...)
	patched = append(patched, quoteLike(scalar.Style, newPath)...)
	patched = append(patched, manifest[end:]...)

	want := pod.DeepCopy()
	for i := range want.Spec.Volumes {
		if want.Spec.Volumes[i].Name == volume {
			want.Spec.Volumes[i].HostPath.Path = newPath
		}
	}
	got, err := parsePod(patched)
	if err != nil {
		return nil, fmt.Errorf("%w: hostPath of %q: replacing it would spoil the manifest: %w", ErrVolume, volume, err)
	}
	if !equality.Semantic.DeepEqual(want, got) {
		return nil, fmt.Errorf("%w: hostPath of %q: replacing it would change other fields too", ErrVolume, volume)
	}
	return patched, nil
}

// checkPath accepts what can be the absolute path of a folder on a node.
func checkPath(p string) error {
	switch {
	case !path.IsAbs(p) || path.Clean(p) != p || p == "/":
		return fmt.Errorf("new path %q: want an absolute path without . or .. or a / at the end", p)
	case strings.ContainsFunc(p, func(r rune) bool {
		return r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffd
	}):
		return fmt.Errorf("new path %q: it has characters that don't belong in a path", p)
	}
	return nil
}

// hostPathVolume returns the volume of that name.
func hostPathVolume(pod *corev1.Pod, name string) (*corev1.Volume, error) {
	var found *corev1.Volume
	var names []string
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		names = append(names, v.Name)
		if v.Name != name {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: there are two volumes named %q", ErrVolume, name)
		}
		found = v
	}
	switch {
	case found == nil:
		return nil, fmt.Errorf("%w: no volume is named %q; there are: %s", ErrVolume, name, strings.Join(names, ", "))
	case found.HostPath == nil:
		return nil, fmt.Errorf("%w: volume %q is not a hostPath", ErrVolume, name)
	}
	return found, nil
}

// findHostPath returns the YAML node that holds the volume's hostPath.path.
func findHostPath(manifest []byte, volume string) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(manifest, &doc); err != nil {
		return nil, fmt.Errorf("%w: not YAML: %w", ErrNotManifest, err)
	}
	volumes, err := descend(&doc, "spec", "volumes")
	if err != nil {
		return nil, err
	}
	if volumes.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("%w: the list of volumes is written in a way that can't be followed", ErrVolume)
	}
	for _, v := range volumes.Content {
		name, err := descend(v, "name")
		if err != nil {
			return nil, err
		}
		if name.Value == volume {
			return descend(v, "hostPath", "path")
		}
	}
	return nil, fmt.Errorf("%w: no volume is named %q", ErrVolume, volume)
}

// descend follows keys through plain mappings. It doesn't follow aliases and merge keys: what lies behind them is shared.
func descend(n *yaml.Node, keys ...string) (*yaml.Node, error) {
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	for _, key := range keys {
		var next *yaml.Node
		if n.Kind == yaml.MappingNode {
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == key {
					next = n.Content[i+1]
				}
			}
		}
		if next == nil {
			return nil, fmt.Errorf("%w: no key %q at line %d, or it comes through an alias", ErrVolume, key, n.Line)
		}
		n = next
	}
	return n, nil
}
