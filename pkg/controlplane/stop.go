package controlplane

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// StopPods stops the static pods of the components (see Components) on the node, all at the same time, and makes sure that
// no container of them runs any more. The kubelet must have been stopped before, or it would start them again.
//
// etcd is asked to end and given the time grace, so that it closes its data directory properly: `crictl stopp` alone ends
// containers with SIGKILL. The others keep nothing on disk and are ended at once: an API server that is asked lets its
// watchers go on, keeps etcd from ending, and takes all the time that it is given. A component that doesn't run
// is no error, since afterwards it doesn't run.
func StopPods(ctx context.Context, n cluster.Node, components []string, grace time.Duration) error {
	if unknown := slices.DeleteFunc(slices.Clone(components), func(c string) bool { return slices.Contains(Components(), c) }); len(unknown) > 0 {
		return fmt.Errorf("stop static pods: unknown component %q; there are: %s", unknown[0], strings.Join(Components(), ", "))
	}
	if grace < 0 {
		return fmt.Errorf("stop static pods: grace of %v is negative", grace)
	}
	pods, err := running(ctx, n, components)
	if err != nil {
		return err
	}
	all, ctxAll := errgroup.WithContext(ctx)
	for _, p := range pods {
		all.Go(func() error { return stopPod(ctxAll, n, p, grace) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	left, err := running(ctx, n, components)
	if err != nil {
		return err
	}
	for _, p := range left {
		if len(p.containers) > 0 {
			return fmt.Errorf("stop static pods of node %s: %s runs again or still (container %s); is the kubelet stopped?",
				n.Name(), p.component, p.containers[0])
		}
	}
	return nil
}

// staticPod is a sandbox of a component, and its running containers.
type staticPod struct {
	component, sandbox string
	containers         []string
}

// running returns the components' sandboxes that are ready or have a running container.
func running(ctx context.Context, n cluster.Node, components []string) ([]staticPod, error) {
	var sandboxes []Sandbox
	var containers []Container
	both, ctxBoth := errgroup.WithContext(ctx)
	both.Go(func() (err error) { sandboxes, err = Sandboxes(ctxBoth, n); return err })
	both.Go(func() (err error) { containers, err = runningContainers(ctxBoth, n); return err })
	if err := both.Wait(); err != nil {
		return nil, err
	}
	var pods []staticPod
	for _, s := range sandboxes {
		component := s.Labels["component"]
		if s.PodNamespace != "kube-system" || !slices.Contains(components, component) {
			continue
		}
		p := staticPod{component: component, sandbox: s.ID}
		for _, c := range containers {
			if c.SandboxID == s.ID {
				p.containers = append(p.containers, c.ID)
			}
		}
		if s.State == SandboxReady || len(p.containers) > 0 {
			pods = append(pods, p)
		}
	}
	return pods, nil
}

// runningContainers is Containers without what only an inspection tells.
func runningContainers(ctx context.Context, n cluster.Node) ([]Container, error) {
	out, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"crictl", "ps", "--output", "json"}})
	if err != nil {
		return nil, fmt.Errorf("list the containers of node %s: %w", n.Name(), err)
	}
	return parseContainers(out.Stdout)
}

func stopPod(ctx context.Context, n cluster.Node, p staticPod, grace time.Duration) error {
	if p.component == Etcd && len(p.containers) > 0 {
		// crictl takes whole seconds, and 0 means SIGKILL at once.
		seconds := int64((grace + time.Second - 1) / time.Second)
		argv := append([]string{"crictl", CrictlTimeout, "stop", "--timeout", strconv.FormatInt(seconds, 10)}, p.containers...)
		if _, err := cluster.Run(ctx, n, argv...); err != nil {
			return fmt.Errorf("stop %s: %w", p.component, err)
		}
	}
	if _, err := cluster.Run(ctx, n, "crictl", CrictlTimeout, "stopp", p.sandbox); err != nil {
		return fmt.Errorf("stop the pod of %s: %w", p.component, err)
	}
	return nil
}
