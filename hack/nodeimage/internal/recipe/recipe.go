// Package recipe is how a node image is made here: the list of steps, what goes into each, and the names and labels of
// what comes out.
package recipe

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/cache"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/engine"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/kindsrc"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/pin"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/rootfs"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/step"
)

// The labels of an image made here.
const (
	LabelInputs     = "io.etcd-drill.node-image"
	LabelKubernetes = "io.etcd-drill.kubernetes"
	LabelWorkloads  = "io.etcd-drill.workload-images"
	LabelBalancer   = "io.etcd-drill.load-balancer"
)

// version is part of every key that depends on the code in this package; raise it when that changes what comes out.
const version = "recipe 1"

// Recipe makes the node image of one Kubernetes version.
type Recipe struct {
	Kubernetes string
	// Source is the folder of this module: pins, files and guest programs are read from it.
	Source string
	// Mirror is the Debian mirror, or empty to find one.
	Mirror string

	Engine *engine.Engine
	Cache  *cache.Store
	Log    *step.Log

	kind      kindsrc.Source
	pins      pin.Set
	goVersion string
}

// Prepare reads what the steps and their keys depend on.
func (r *Recipe) Prepare(ctx context.Context) error {
	var err error
	if r.pins, err = pin.Load(filepath.Join(r.Source, "pins"), r.Kubernetes); err != nil {
		return err
	}
	if r.kind, err = kindsrc.Find(ctx, r.Source); err != nil {
		return err
	}
	r.goVersion, err = pin.GoVersion(ctx, r.Source)
	return err
}

// ImageName is the name of the image made here for a Kubernetes version.
func ImageName(kubernetes string) string { return "localhost/drill/node:" + kubernetes }

// Inputs identifies everything that goes into the image. Debian's packages are those of the day of the build and so not
// part of it.
func (r *Recipe) Inputs() (cache.Key, error) {
	files, err := cache.HashFiles(filepath.Join(r.Source, "files"), filepath.Join(r.Source, "guest"), r.kind.BaseFiles())
	if err != nil {
		return "", err
	}
	parts := []string{version, r.Kubernetes, r.kind.Version, string(files)}
	parts = append(parts, r.pins.Images...)
	for _, c := range r.pins.All() {
		key, err := c.Key(r.goVersion)
		if err != nil {
			return "", err
		}
		parts = append(parts, string(key))
	}
	parts = append(parts, nodeSpec(r.kind).Parts()...)
	parts = append(parts, workloadSpec().Parts()...)
	return cache.Hash(parts...), nil
}

// UpToDate reports whether the image is in the engine and made of the present inputs.
func (r *Recipe) UpToDate(ctx context.Context) (bool, error) {
	inputs, err := r.Inputs()
	if err != nil {
		return false, err
	}
	found, err := r.Engine.Inspect(ctx, ImageName(r.Kubernetes))
	if err != nil || found == nil {
		return false, err
	}
	return found.Labels[LabelInputs] == string(inputs), nil
}

// Build makes the image, step by step; what an earlier run has finished is taken from the cache.
func (r *Recipe) Build(ctx context.Context) error {
	unlock, err := r.Cache.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.enoughDisk(); err != nil {
		return err
	}

	var p parts
	for _, c := range r.pins.All() {
		if err := r.programs(ctx, c, &p); err != nil {
			return err
		}
	}
	if err := r.checkImages(ctx, p); err != nil {
		return err
	}
	if p.guests, err = r.guests(ctx); err != nil {
		return err
	}
	if p.node, err = r.debian(ctx, "debian-node", nodeSpec(r.kind)); err != nil {
		return err
	}
	if p.workload, err = r.debian(ctx, "debian-workload", workloadSpec()); err != nil {
		return err
	}
	return r.Log.Do("node image "+ImageName(r.Kubernetes), func() error { return r.assemble(ctx, p) })
}

// parts are the folders with the results of the steps.
type parts struct {
	programs       map[string]string // by the component's name
	guests         string
	node, workload string
}

// program is the path of one program of a component.
func (p parts) program(c pin.Component, name string) string {
	return filepath.Join(p.programs[c.Name], name)
}

// programs builds a component.
func (r *Recipe) programs(ctx context.Context, c pin.Component, p *parts) error {
	key, err := c.Key(r.goVersion)
	if err != nil {
		return err
	}
	dir, err := r.cached(c.Name, key, func(dir string) error { return c.Build(ctx, dir, r.Log.Writer()) })
	if err != nil {
		return err
	}
	if p.programs == nil {
		p.programs = map[string]string{}
	}
	p.programs[c.Name] = dir
	return nil
}

// Program returns the path of one program of the image, which is built unless it is in the cache.
func (r *Recipe) Program(ctx context.Context, name string) (string, error) {
	unlock, err := r.Cache.Lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	for _, c := range r.pins.All() {
		if !slices.Contains(c.Programs(), name) {
			continue
		}
		key, err := c.Key(r.goVersion)
		if err != nil {
			return "", err
		}
		if _, built := r.Cache.Lookup(c.Name, key); !built {
			if err := r.enoughDisk(); err != nil {
				return "", err
			}
		}
		var p parts
		if err := r.programs(ctx, c, &p); err != nil {
			return "", err
		}
		return p.program(c, name), nil
	}
	return "", fmt.Errorf("no program %s is in the image", name)
}

// checkImages makes sure that the kept list of images is still the one that kubeadm itself gives.
func (r *Recipe) checkImages(ctx context.Context, p parts) error {
	images, err := pin.AskKubeadm(ctx, p.program(r.pins.Kubernetes, "kubeadm"), r.Kubernetes)
	if err != nil {
		return err
	}
	if !images.Same(r.pins.Images) {
		return fmt.Errorf("kubeadm %s asks for %q, but the pins say %q; write them anew with: nodeimage pin %s",
			r.Kubernetes, []string(images), []string(r.pins.Images), r.Kubernetes)
	}
	return nil
}

// guests builds the programs of this module that run inside images.
func (r *Recipe) guests(ctx context.Context) (string, error) {
	key, err := r.guestKey()
	if err != nil {
		return "", err
	}
	c := pin.Component{
		Name: "guest", Dir: r.Source, Packages: []string{"./guest/envoy", "./guest/pause", "./guest/podroutes"},
	}
	return r.cached(c.Name, key, func(dir string) error { return c.Build(ctx, dir, r.Log.Writer()) })
}

func (r *Recipe) guestKey() (cache.Key, error) {
	files, err := cache.HashFiles(filepath.Join(r.Source, "guest"), filepath.Join(r.Source, "go.mod"), filepath.Join(r.Source, "go.sum"))
	return cache.Hash(version, r.goVersion, string(files)), err
}

// debian makes a Debian file system.
func (r *Recipe) debian(ctx context.Context, name string, spec rootfs.Spec) (string, error) {
	base, err := cache.HashFiles(r.kind.BaseFiles())
	if err != nil {
		return "", err
	}
	return r.cached(name, cache.Hash(append(spec.Parts(), version, string(base))...), func(dir string) error {
		mirror := r.Mirror
		if mirror == "" {
			mirror = rootfs.HostMirror(ctx)
		}
		return rootfs.Make(ctx, spec, dir, mirror, r.Log.Writer())
	})
}

// cached returns the folder of a step's result, and makes it first where it is missing.
func (r *Recipe) cached(name string, key cache.Key, make func(dir string) error) (string, error) {
	if dir, ok := r.Cache.Lookup(name, key); ok {
		r.Log.Printf("%s: in the cache", name)
		return dir, nil
	}
	var dir string
	err := r.Log.Do(name, func() (err error) {
		dir, err = r.Cache.Ensure(name, key, make)
		return err
	})
	if err != nil {
		return "", err
	}
	return dir, r.Cache.DropOthers(name, key)
}

const (
	gigabyte = 1 << 30
	// A cold build fills the go command's cache with all of Kubernetes and its intermediate files.
	coldDisk = 12 * gigabyte
	warmDisk = 4 * gigabyte
)

// enoughDisk fails early where a build would fail late.
func (r *Recipe) enoughDisk() error {
	key, err := r.pins.Kubernetes.Key(r.goVersion)
	if err != nil {
		return err
	}
	need := uint64(coldDisk)
	if _, ok := r.Cache.Lookup(r.pins.Kubernetes.Name, key); ok {
		need = warmDisk
	}
	free, err := r.Cache.Free()
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("building needs about %d GB of free disk in %s, but there are %d GB: %w",
			need/gigabyte, r.Cache.Dir(), free/gigabyte, errNoSpace)
	}
	return nil
}

var errNoSpace = errors.New("free some, or set XDG_CACHE_HOME to another disk")
