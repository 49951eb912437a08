package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// Member is one control plane: its node, and what the manifest of its etcd says. kubeadm's stacked topology
// puts one etcd member on each control plane.
type Member struct {
	// Name is the node's name.
	Name string
	// Node is where it runs; nil in a plan that is only taught.
	Node cluster.Node
	// Etcd is what its static-pod manifest says.
	Etcd EtcdConfig
}

// Members reads the etcd manifest of every control plane of c.
func Members(ctx context.Context, c cluster.Cluster) ([]Member, error) {
	nodes := cluster.ControlPlanes(c)
	out := make([]Member, len(nodes))
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range nodes {
		g.Go(func() error {
			cfg, err := ReadEtcdConfig(ctx, n)
			if err != nil {
				return fmt.Errorf("node %s: %w", n.Name(), err)
			}
			out[i] = Member{Name: n.Name(), Node: n, Etcd: cfg}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// Each calls f for every member at once, and returns when all have returned. One that fails does not stop the others: half of the
// control planes in one state and half in another is the worst that could be left.
func Each(ctx context.Context, members []Member, f func(context.Context, Member) error) error {
	errs := make([]error, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			if err := f(ctx, m); err != nil {
				errs[i] = fmt.Errorf("node %s: %w", m.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
