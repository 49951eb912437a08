package procedure

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/etcd-drill/drill/pkg/controlplane"
)

// That a procedure leaves a component alone doesn't make it live on. Controller manager and scheduler end themselves when they can't renew their leader
// election Lease in time (https://pkg.go.dev/k8s.io/client-go/tools/leaderelection: RenewDeadline, 10 s by default), an API server is ended by kubelet when it
// doesn't answer that it lives, and each is started anew, without its memory. So it is looked whether the same one still runs.

// watchKept notes what runs now of the components that are to live on, and hands over the look that says which of them ended by themselves.
func (t Target) watchKept(ctx context.Context, sc scope) error {
	kept := sc.kept()
	if len(kept) == 0 {
		return nil
	}
	var before map[part]string
	err := insist(ctx, func(ctx context.Context) (err error) {
		before, err = t.running(ctx, kept)
		return err
	})
	if err != nil {
		return fmt.Errorf("note which %s run: %w", enumerate(kept), err)
	}
	t.NoteKept(func(ctx context.Context) ([]string, error) {
		var now map[part]string
		err := insist(ctx, func(ctx context.Context) (err error) {
			now, err = t.running(ctx, kept)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("see whether %s lived on: %w", enumerate(kept), err)
		}
		return slices.DeleteFunc(slices.Clone(kept), func(component string) bool {
			return !slices.ContainsFunc(t.Members, func(m controlplane.Member) bool {
				p := part{m.Name, component}
				return now[p] == "" || now[p] != before[p]
			})
		}), nil
	})
	return nil
}

// part is a component on a node.
type part struct{ node, component string }

// running names the container of each component that runs, and kubelet's process, so that no other has the same name. Of what doesn't run there is nothing.
func (t Target) running(ctx context.Context, components []string) (map[part]string, error) {
	var mu sync.Mutex
	out := map[part]string{}
	note := func(m controlplane.Member, component, id string) {
		mu.Lock()
		defer mu.Unlock()
		out[part{m.Name, component}] = id
	}
	err := controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
		if slices.Contains(components, Kubelet) {
			const process, since = "MainPID", "ActiveEnterTimestampMonotonic"
			said, err := unit(ctx, m.Node, process, since)
			if err != nil {
				return err
			}
			if pid := said[process]; pid != "" && pid != "0" {
				note(m, Kubelet, pid+" since "+said[since])
			}
		}
		if slices.Equal(components, []string{Kubelet}) {
			return nil
		}
		containers, err := controlplane.Containers(ctx, m.Node, false)
		if err != nil {
			return err
		}
		for _, c := range containers {
			if c.PodNamespace == systemNamespace && c.Name != Kubelet && slices.Contains(components, c.Name) {
				note(m, c.Name, c.ID)
			}
		}
		return nil
	})
	return out, err
}
