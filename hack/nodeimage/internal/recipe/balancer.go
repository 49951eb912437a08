package recipe

import (
	"context"
	"io"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/cache"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/image"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/rootfs"
)

// BalancerImage is the name that kind uses for the load balancer's image.
func (r *Recipe) BalancerImage() (string, error) { return r.kind.LoadBalancerImage() }

// LoadBalancer makes the stand-in for kind's load balancer under the name that kind uses.
func (r *Recipe) LoadBalancer(ctx context.Context) error {
	name, err := r.BalancerImage()
	if err != nil {
		return err
	}
	unlock, err := r.Cache.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	guests, err := r.guests(ctx)
	if err != nil {
		return err
	}
	debian, err := r.debian(ctx, "debian-workload", workloadSpec())
	if err != nil {
		return err
	}
	inputs, err := r.balancerInputs()
	if err != nil {
		return err
	}
	return r.Log.Do("load balancer "+name, func() error {
		base, err := image.TarLayer(filepath.Join(debian, rootfs.Archive))
		if err != nil {
			return err
		}
		program, err := image.FileLayer(programFiles([]string{filepath.Join(guests, "envoy")}))
		if err != nil {
			return err
		}
		spec := image.Spec{Names: []string{name}, Layers: []v1.Layer{base, program}, Labels: map[string]string{LabelBalancer: inputs}}
		err = r.Engine.Load(ctx, func(w io.Writer) error { return image.WriteArchive(w, []image.Spec{spec}) })
		if err != nil {
			return err
		}
		return r.dropReplaced(ctx, LabelBalancer)
	})
}

// BalancerState says what the engine has under the load balancer's name.
type BalancerState int

// The states: nothing; somebody else's image, which is never touched; ours, of older or of the present inputs.
const (
	BalancerMissing BalancerState = iota
	BalancerForeign
	BalancerStale
	BalancerReady
)

// Balancer looks for the load balancer's image.
func (r *Recipe) Balancer(ctx context.Context) (BalancerState, error) {
	name, err := r.BalancerImage()
	if err != nil {
		return BalancerMissing, err
	}
	found, err := r.Engine.Inspect(ctx, name)
	if err != nil || found == nil {
		return BalancerMissing, err
	}
	label, ours := found.Labels[LabelBalancer]
	if !ours {
		return BalancerForeign, nil
	}
	inputs, err := r.balancerInputs()
	if err != nil {
		return BalancerMissing, err
	}
	if label != inputs {
		return BalancerStale, nil
	}
	return BalancerReady, nil
}

// balancerInputs identifies what the stand-in is made of, which does not depend on the version of Kubernetes.
func (r *Recipe) balancerInputs() (string, error) {
	guests, err := r.guestKey()
	if err != nil {
		return "", err
	}
	return string(cache.Hash(append(workloadSpec().Parts(), string(guests))...)), nil
}
