package pin

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/run"
)

// Images are the images that kubeadm of one version asks for, with their full names.
type Images []string

// ParseImages reads the output of "kubeadm config images list", and refuses a list that lacks a part of a node.
func ParseImages(text string) (Images, error) {
	var images Images
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, tag := split(line); tag == "" {
			return nil, fmt.Errorf("%q is not an image with a tag", line)
		}
		images = append(images, line)
	}
	for _, part := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "pause", "etcd"} {
		if images.Named(part) == "" {
			return nil, fmt.Errorf("the list of kubeadm's images has no %s: %q", part, []string(images))
		}
	}
	return images, nil
}

// ReadImages reads a list that was kept in a file.
func ReadImages(file string) (Images, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	images, err := ParseImages(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return images, nil
}

// AskKubeadm gets the list from a kubeadm program.
func AskKubeadm(ctx context.Context, kubeadm, kubernetes string) (Images, error) {
	out, err := run.Output(ctx, run.Cmd{Argv: []string{kubeadm, "config", "images", "list", "--kubernetes-version", kubernetes}})
	if err != nil {
		return nil, fmt.Errorf("asking kubeadm for its images: %w", err)
	}
	return ParseImages(out)
}

// Same reports whether both lists hold the same images, in any order.
func (i Images) Same(other Images) bool {
	return slices.Equal(slices.Sorted(slices.Values(i)), slices.Sorted(slices.Values(other)))
}

// Named returns the full name of the image whose last part is short, or nothing.
func (i Images) Named(short string) string {
	for _, image := range i {
		if repository, _ := split(image); path.Base(repository) == short {
			return image
		}
	}
	return ""
}

// EtcdVersion is the version of etcd inside kubeadm's image, whose tag has a revision of the image behind it.
func (i Images) EtcdVersion() string {
	_, tag := split(i.Named("etcd"))
	version, _, _ := strings.Cut(tag, "-")
	return "v" + version
}

// CoreDNSVersion is the version of CoreDNS.
func (i Images) CoreDNSVersion() string {
	_, tag := split(i.Named("coredns"))
	return tag
}

// split parts an image's name from its tag; a colon before the last slash belongs to a port.
func split(image string) (repository, tag string) {
	colon := strings.LastIndex(image, ":")
	if colon <= strings.LastIndex(image, "/") {
		return image, ""
	}
	return image[:colon], image[colon+1:]
}
