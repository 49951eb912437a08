package recipe

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/image"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/rootfs"
)

const (
	podroutesImage = "localhost/drill/podroutes:1"
	helperImage    = "localhost/drill/debian:12"
	nginxImage     = "docker.io/library/nginx"
)

// componentImages are all the images inside a node, in the order in which they are imported.
func (r *Recipe) componentImages(ctx context.Context, p parts) ([]image.Spec, error) {
	debian, err := image.TarLayer(filepath.Join(p.workload, rootfs.Archive))
	if err != nil {
		return nil, err
	}
	b := imageBuilder{debian: debian}
	kubernetes := func(name string) string { return p.program(r.pins.Kubernetes, name) }
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		b.static(r.pins.Images.Named(name), kubernetes(name))
	}
	b.onDebian(r.pins.Images.Named("kube-proxy"), kubernetes("kube-proxy"))
	b.static(r.pins.Images.Named("etcd"), p.program(r.pins.Etcd, "etcd"), p.program(r.pins.Etcd, "etcdctl"), p.program(r.pins.Etcd, "etcdutl"))
	b.static(r.pins.Images.Named("coredns"), p.program(r.pins.CoreDNS, "coredns")).Entrypoint = []string{"/usr/local/bin/coredns"}
	b.static(r.pins.Images.Named("pause"), filepath.Join(p.guests, "pause")).Entrypoint = []string{"/usr/local/bin/pause"}
	b.onDebian(podroutesImage, filepath.Join(p.guests, "podroutes")).Entrypoint = []string{"/usr/local/bin/podroutes"}
	provisioner, err := r.provisionerImage(ctx)
	if err != nil {
		return nil, err
	}
	b.static(provisioner, p.program(r.pins.LocalPath, "local-path-provisioner"))
	b.onDebian(helperImage).Cmd = []string{"/bin/bash"}
	if err := r.nginx(&b, p); err != nil {
		return nil, err
	}
	specs := make([]image.Spec, len(b.specs))
	for i, s := range b.specs {
		specs[i] = *s
	}
	return specs, b.err
}

// imageBuilder collects images and keeps the first error, so that the list above reads as one.
type imageBuilder struct {
	debian v1.Layer
	specs  []*image.Spec
	err    error
}

// static adds an image that holds the programs and nothing else.
func (b *imageBuilder) static(name string, programs ...string) *image.Spec {
	return b.add(name, nil, programFiles(programs)...)
}

// onDebian adds an image with the programs on top of the shared layer.
func (b *imageBuilder) onDebian(name string, programs ...string) *image.Spec {
	return b.add(name, []v1.Layer{b.debian}, programFiles(programs)...)
}

func (b *imageBuilder) add(name string, layers []v1.Layer, files ...image.File) *image.Spec {
	spec := &image.Spec{Names: []string{name}, Layers: layers}
	b.specs = append(b.specs, spec)
	if len(files) > 0 && b.err == nil {
		layer, err := image.FileLayer(files)
		spec.Layers, b.err = append(spec.Layers, layer), err
	}
	return spec
}

func programFiles(programs []string) []image.File {
	var files []image.File
	for _, p := range programs {
		files = append(files, image.File{Path: "usr/local/bin/" + filepath.Base(p), Mode: 0o755, Source: p})
	}
	return files
}

// nginx adds the workload image under its true version, and under the name that tutorials use.
func (r *Recipe) nginx(b *imageBuilder, p parts) error {
	tag, err := rootfs.Version(p.workload, "nginx-light")
	if err != nil {
		return err
	}
	files := []image.File{{Path: "var/log/nginx/access.log", Link: "/dev/stdout"}, {Path: "var/log/nginx/error.log", Link: "/dev/stderr"}}
	for file, target := range map[string]string{
		"nginx.conf": "etc/nginx/nginx.conf", "nginx-default.conf": "etc/nginx/conf.d/default.conf", "nginx-index.html": "usr/share/nginx/html/index.html",
	} {
		data, err := r.file(file)
		if err != nil {
			return err
		}
		files = append(files, image.File{Path: target, Mode: 0o644, Data: []byte(data)})
	}
	spec := b.add(nginxImage+":"+tag, []v1.Layer{b.debian}, files...)
	spec.Names = append(spec.Names, nginxImage+":latest")
	spec.Cmd = []string{"nginx", "-g", "daemon off;"}
	spec.StopSignal = "SIGQUIT" // lets requests that are being answered come to their end
	return nil
}

// workloadImages are the images in a node that are there for people's workloads.
func workloadImages(specs []image.Spec) []string {
	var names []string
	for _, s := range specs {
		if strings.HasPrefix(s.Names[0], nginxImage) || s.Names[0] == helperImage {
			names = append(names, s.Names...)
		}
	}
	return names
}

func (r *Recipe) provisionerImage(ctx context.Context) (string, error) {
	version, err := r.pins.LocalPath.Version(ctx)
	if err != nil {
		return "", err
	}
	return "localhost/drill/local-path-provisioner:" + version, nil
}

// file reads one of the files below files/.
func (r *Recipe) file(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(r.Source, "files", name))
	if err != nil {
		return "", fmt.Errorf("reading a file of the node image: %w", err)
	}
	return string(data), nil
}

// nodeFiles are the files of a node on top of the Debian file system.
func (r *Recipe) nodeFiles(ctx context.Context, p parts) ([]image.File, error) {
	var files []image.File
	add := func(dir string, component string, names ...string) {
		for _, name := range names {
			files = append(files, image.File{Path: path.Join(dir, name), Mode: 0o755, Source: filepath.Join(component, name)})
		}
	}
	add("usr/bin", p.programs[r.pins.Kubernetes.Name], "kubeadm", "kubectl", "kubelet") // where kind's services look
	add("usr/local/bin", p.programs[r.pins.Containerd.Name], "containerd", "containerd-shim-runc-v2", "ctr")
	add("usr/local/bin", p.programs[r.pins.Crictl.Name], "crictl")
	add("usr/local/bin", p.programs[r.pins.Etcd.Name], "etcdctl", "etcdutl")
	add("opt/cni/bin", p.programs[r.pins.CNI.Name], "host-local", "loopback", "portmap", "ptp")

	provisioner, err := r.provisionerImage(ctx)
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer("@PODROUTES_IMAGE@", podroutesImage, "@HELPER_IMAGE@", helperImage, "@PROVISIONER_IMAGE@", provisioner)
	for name, target := range map[string]string{
		"default-cni.yaml": "kind/manifests/default-cni.yaml", "default-storage.yaml": "kind/manifests/default-storage.yaml",
		"cni-template.json": cniTemplate,
	} {
		text, err := r.file(name)
		if err != nil {
			return nil, err
		}
		files = append(files, image.File{Path: target, Mode: 0o644, Data: []byte(fill.Replace(text))})
	}
	config, err := r.containerdConfig()
	if err != nil {
		return nil, err
	}
	spec, err := ociSpec(ctx, p.program(r.pins.Containerd, "ctr"))
	if err != nil {
		return nil, err
	}
	return append(files,
		image.File{Path: "kind/version", Mode: 0o644, Data: []byte(r.Kubernetes)},
		image.File{Path: "etc/containerd/config.toml", Mode: 0o644, Data: config},
		image.File{Path: "etc/containerd/cri-base.json", Mode: 0o644, Data: spec},
	), nil
}
