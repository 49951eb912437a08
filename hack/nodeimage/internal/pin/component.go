// Package pin knows the programs that go into a node image. Each is pinned, with all that it is built from, in a small
// go.mod file with tool lines, and is built from source with the Go toolchain.
package pin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/cache"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/run"
)

// Component is a set of programs that are pinned and built together.
type Component struct {
	Name string
	// Dir is the folder of the go.mod file.
	Dir string
	// Module is the one whose version is the component's; empty for programs of the module in Dir itself.
	Module string
	// Packages are the main packages to build.
	Packages []string
	// Rename gives the programs whose package is not named like them their proper name.
	Rename map[string]string
	// Stamp sets the variables that the component's own build would set. It may be nil.
	Stamp func(Module) []string
}

// Module is what the go command says of a module.
type Module struct {
	Version string
	Time    time.Time
}

// buildRecipe is part of every key; raise it when the way of building changes.
const buildRecipe = "build 1"

// environment makes the build independent of the caller's workspace and compiler.
func environment() []string { return []string{"CGO_ENABLED=0", "GOWORK=off"} }

// flags are the same for every component, so that they share the go command's own cache.
func flags() []string { return []string{"-trimpath", "-buildvcs=false"} }

// Key identifies what Build would make.
func (c Component) Key(goVersion string) (cache.Key, error) {
	files, err := cache.HashFiles(filepath.Join(c.Dir, "go.mod"), filepath.Join(c.Dir, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("reading the pins of %s: %w", c.Name, err)
	}
	parts := append([]string{buildRecipe, c.Name, goVersion, string(files)}, c.Packages...)
	parts = append(parts, flags()...)
	if c.Stamp != nil {
		parts = append(parts, c.Stamp(Module{Version: "v0.0.0"})...)
	}
	return cache.Hash(parts...), nil
}

// Build builds the programs into dir.
func (c Component) Build(ctx context.Context, dir string, progress io.Writer) error {
	module, err := c.module(ctx)
	if err != nil {
		return err
	}
	ldflags := []string{"-s", "-w"}
	if c.Stamp != nil {
		for _, s := range c.Stamp(module) {
			ldflags = append(ldflags, "-X", s)
		}
	}
	argv := append([]string{"go", "build"}, flags()...)
	argv = append(argv, "-ldflags", strings.Join(ldflags, " "), "-o", dir+"/")
	err = run.Run(ctx, run.Cmd{Argv: append(argv, c.Packages...), Dir: c.Dir, Env: environment(), Follow: progress})
	if err != nil {
		return fmt.Errorf("building %s %s: %w", c.Name, module.Version, err)
	}
	for from, to := range c.Rename {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			return fmt.Errorf("building %s: %w", c.Name, err)
		}
	}
	return nil
}

// Programs are the names of what Build builds.
func (c Component) Programs() []string {
	var out []string
	for _, pkg := range c.Packages {
		name := path.Base(pkg)
		out = append(out, cmp.Or(c.Rename[name], name))
	}
	return out
}

// Version is the pinned version.
func (c Component) Version(ctx context.Context) (string, error) {
	m, err := c.module(ctx)
	return m.Version, err
}

func (c Component) module(ctx context.Context) (Module, error) {
	var m Module
	if c.Module == "" {
		return m, nil
	}
	out, err := run.Output(ctx, run.Cmd{Argv: []string{"go", "list", "-m", "-json", c.Module}, Dir: c.Dir, Env: environment()})
	if err != nil {
		return m, fmt.Errorf("reading the version of %s: %w", c.Name, err)
	}
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		return m, fmt.Errorf("reading the version of %s: %w", c.Name, err)
	}
	return m, nil
}

// GoVersion is the toolchain that builds.
func GoVersion(ctx context.Context, dir string) (string, error) {
	out, err := run.Output(ctx, run.Cmd{Argv: []string{"go", "env", "GOVERSION", "GOARCH"}, Dir: dir, Env: environment()})
	if err != nil {
		return "", fmt.Errorf("asking the go command for its version: %w", err)
	}
	return strings.Join(strings.Fields(out), " "), nil
}

// Set is all components of a node of one Kubernetes version.
type Set struct {
	Kubernetes, Etcd, CoreDNS, Containerd, Crictl, CNI, LocalPath Component
	// Images are the images which kubeadm of this version asks for.
	Images Images
}

// All lists the components in the order in which they are built.
func (s Set) All() []Component {
	return []Component{s.Kubernetes, s.Etcd, s.CoreDNS, s.Containerd, s.Crictl, s.CNI, s.LocalPath}
}

// Load finds the pins for a Kubernetes version below dir.
func Load(dir, kubernetes string) (Set, error) {
	images, err := ReadImages(imagesFile(dir, kubernetes))
	if err != nil {
		return Set{}, fmt.Errorf("finding the pins of Kubernetes %s: %w; there are pins for %s; make others with: nodeimage pin %s",
			kubernetes, err, strings.Join(Versions(dir), ", "), kubernetes)
	}
	set := Set{
		Images:     images,
		Kubernetes: kubernetesComponent(dir, kubernetes),
		Etcd:       etcdComponent(dir, images.EtcdVersion()),
		CoreDNS:    coreDNSComponent(dir, images.CoreDNSVersion()),
		Containerd: Component{
			Name: "containerd", Dir: filepath.Join(dir, "containerd"), Module: "github.com/containerd/containerd/v2",
			Packages: prefixed("github.com/containerd/containerd/v2/cmd/", "containerd", "containerd-shim-runc-v2", "ctr"),
			Stamp: func(m Module) []string {
				return []string{"github.com/containerd/containerd/v2/version.Version=" + m.Version}
			},
		},
		Crictl: Component{
			Name: "crictl", Dir: filepath.Join(dir, "crictl"), Module: "sigs.k8s.io/cri-tools",
			Packages: []string{"sigs.k8s.io/cri-tools/cmd/crictl"},
			Stamp:    func(m Module) []string { return []string{"sigs.k8s.io/cri-tools/pkg/version.Version=" + m.Version} },
		},
		CNI: Component{
			Name: "cni-plugins", Dir: filepath.Join(dir, "cni-plugins"), Module: "github.com/containernetworking/plugins",
			Packages: prefixed("github.com/containernetworking/plugins/plugins/", "ipam/host-local", "main/loopback", "main/ptp", "meta/portmap"),
			Stamp: func(m Module) []string {
				return []string{"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=" + m.Version}
			},
		},
		LocalPath: Component{
			Name: "local-path-provisioner", Dir: filepath.Join(dir, "local-path-provisioner"),
			Module: "github.com/rancher/local-path-provisioner", Packages: []string{"github.com/rancher/local-path-provisioner"},
			Stamp: func(m Module) []string { return []string{"main.VERSION=" + m.Version} },
		},
	}
	for _, c := range set.All() {
		if _, err := os.Stat(filepath.Join(c.Dir, "go.sum")); err != nil {
			return Set{}, fmt.Errorf("finding the pins of %s for Kubernetes %s: %w; make them with: nodeimage pin %s", c.Name, kubernetes, err, kubernetes)
		}
	}
	return set, nil
}

// Versions lists the Kubernetes versions that there are pins for.
func Versions(dir string) []string {
	found, _ := filepath.Glob(imagesFile(dir, "v*")) // the pattern is a good one
	for i, f := range found {
		found[i] = filepath.Base(filepath.Dir(f))
	}
	return found
}

func imagesFile(dir, kubernetes string) string {
	return filepath.Join(dir, "kubernetes", kubernetes, "images.txt")
}

// kubernetesPrograms are the parts of Kubernetes that a node needs.
func kubernetesPrograms() []string {
	return []string{"kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubeadm", "kubectl", "kubelet"}
}

func kubernetesComponent(dir, version string) Component {
	return Component{
		Name: "kubernetes-" + version, Dir: filepath.Join(dir, "kubernetes", version), Module: "k8s.io/kubernetes",
		Packages: prefixed("k8s.io/kubernetes/cmd/", kubernetesPrograms()...),
		Stamp:    stampKubernetes,
	}
}

// stampKubernetes sets what "version" commands print and kubeadm compares. The commit is not known from a module.
func stampKubernetes(m Module) []string {
	major, rest, _ := strings.Cut(strings.TrimPrefix(m.Version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	var out []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		out = append(out, pkg+".gitVersion="+m.Version, pkg+".gitMajor="+major, pkg+".gitMinor="+minor,
			pkg+".gitTreeState=clean", pkg+".gitCommit=unknown", pkg+".buildDate="+m.Time.UTC().Format(time.RFC3339))
	}
	return out
}

func etcdComponent(dir, version string) Component {
	return Component{
		Name: "etcd-" + version, Dir: filepath.Join(dir, "etcd", version), Module: "go.etcd.io/etcd/server/v3",
		Packages: []string{"go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3", "go.etcd.io/etcd/etcdutl/v3"},
		Rename:   map[string]string{"server": "etcd"},
		Stamp:    func(m Module) []string { return []string{"go.etcd.io/etcd/api/v3/version.GitSHA=module-" + m.Version} },
	}
}

func coreDNSComponent(dir, version string) Component {
	return Component{
		Name: "coredns-" + version, Dir: filepath.Join(dir, "coredns", version), Module: "github.com/coredns/coredns",
		Packages: []string{"github.com/coredns/coredns"},
		Stamp: func(m Module) []string {
			return []string{"github.com/coredns/coredns/coremain.GitCommit=module-" + m.Version}
		},
	}
}

func prefixed(prefix string, names ...string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = prefix + n
	}
	return out
}
