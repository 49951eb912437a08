package recipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/engine"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/image"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/rootfs"
)

const (
	baseImage = "localhost/drill/node-base:building"
	builder   = "drill-node-image-builder"
	// containerdWait bounds the wait for a program that is up within a second on a slow host.
	containerdWait = 60 * time.Second
	// cleanupTime is what removing the intermediate container and image may take after an interrupt.
	cleanupTime = 60 * time.Second
)

// assemble makes the node image: a base image from files, started with containerd as its only process; containerd takes
// in the component images and unpacks them, so that no node has to; and what then is on disk is the node image.
func (r *Recipe) assemble(ctx context.Context, p parts) (err error) {
	specs, err := r.componentImages(ctx, p)
	if err != nil {
		return err
	}
	if err := r.loadBase(ctx, p); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.cleanUp(ctx)) }()
	container, err := r.startBuilder(ctx)
	if err != nil {
		return err
	}
	if err := importImages(ctx, container, specs); err != nil {
		return fmt.Errorf("%w\n  containerd said: %s", err, container.Logs(ctx))
	}
	if err := container.Stop(ctx); err != nil {
		return err
	}
	return r.commit(ctx, container, specs)
}

func (r *Recipe) loadBase(ctx context.Context, p parts) error {
	debian, err := image.TarLayer(filepath.Join(p.node, rootfs.Archive))
	if err != nil {
		return err
	}
	files, err := r.nodeFiles(ctx, p)
	if err != nil {
		return err
	}
	layer, err := image.FileLayer(files)
	if err != nil {
		return err
	}
	base := image.Spec{Names: []string{baseImage}, Layers: []v1.Layer{debian, layer}, Env: []string{"container=docker"}}
	return r.Engine.Load(ctx, func(w io.Writer) error { return image.WriteArchive(w, []image.Spec{base}) })
}

// startBuilder starts containerd in a container of the base image and waits until it answers.
func (r *Recipe) startBuilder(ctx context.Context) (*engine.Container, error) {
	if err := r.Engine.Container(builder).Remove(ctx); err != nil { // what an interrupted run may have left
		return nil, err
	}
	container, err := r.Engine.Start(ctx, builder, "--privileged", "--network", "none", "--tmpfs", "/tmp", "--tmpfs", "/run",
		"--entrypoint", "containerd", baseImage)
	if err != nil {
		return nil, err
	}
	return container, waitForContainerd(ctx, container)
}

func waitForContainerd(ctx context.Context, container *engine.Container) error {
	ctx, cancel := context.WithTimeout(ctx, containerdWait)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := container.Exec(ctx, "ctr", "--timeout", "5s", "version")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for containerd in the build container: %w; it said: %s; last seen: %w",
				context.Cause(ctx), container.Logs(context.WithoutCancel(ctx)), err)
		case <-tick.C:
		}
	}
}

// importImages gives the images to containerd. They are pinned, so that no node ever throws them away to save disk: they
// could not be had again. Their archives are dropped once they are unpacked.
func importImages(ctx context.Context, container *engine.Container, specs []image.Spec) error {
	err := container.ExecStream(ctx, func(w io.Writer) error { return image.WriteArchive(w, specs) },
		"ctr", "--namespace", "k8s.io", "images", "import", "--local", "--discard-unpacked-layers",
		"--label", "io.cri-containerd.pinned=pinned", "-")
	if err != nil {
		return fmt.Errorf("importing the component images: %w", err)
	}
	if _, err := container.Exec(ctx, "ctr", "--namespace", "k8s.io", "content", "prune", "references"); err != nil {
		return fmt.Errorf("dropping the unpacked archives: %w", err)
	}
	return checkImported(ctx, container, specs)
}

// checkImported makes sure that every name is there.
func checkImported(ctx context.Context, container *engine.Container, specs []image.Spec) error {
	out, err := container.Exec(ctx, "ctr", "--namespace", "k8s.io", "images", "ls", "--quiet")
	if err != nil {
		return fmt.Errorf("listing the imported images: %w", err)
	}
	for _, s := range specs {
		for _, name := range s.Names {
			if !strings.Contains("\n"+out+"\n", "\n"+name+"\n") {
				return fmt.Errorf("containerd has no image %s after the import; it has: %s", name, strings.Join(strings.Fields(out), ", "))
			}
		}
	}
	return nil
}

func (r *Recipe) commit(ctx context.Context, container *engine.Container, specs []image.Spec) error {
	inputs, err := r.Inputs()
	if err != nil {
		return err
	}
	name := ImageName(r.Kubernetes)
	err = container.Commit(ctx, name,
		`ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]`,
		"STOPSIGNAL SIGRTMIN+3", // the signal that tells systemd to shut down
		"LABEL "+LabelInputs+"="+string(inputs),
		"LABEL "+LabelKubernetes+"="+r.Kubernetes,
		"LABEL "+LabelWorkloads+"="+strings.Join(workloadImages(specs), ","),
	)
	if err != nil {
		return err
	}
	return r.dropReplaced(ctx, LabelInputs)
}

// dropReplaced removes the images with the label that newer builds have taken the name from. One that a cluster still runs on stays; the
// next build or "clean" finds it again.
func (r *Recipe) dropReplaced(ctx context.Context, label string) error {
	_, nameless, err := r.Engine.ImagesWithLabel(ctx, label)
	if err != nil {
		return err
	}
	for _, id := range nameless {
		if err := r.Engine.Remove(ctx, id); err != nil {
			r.Log.Printf("the replaced image %s stays: a cluster runs on it", id)
		}
	}
	return nil
}

// cleanUp removes what assemble needed in between, also after an interrupt.
func (r *Recipe) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	return errors.Join(r.Engine.Container(builder).Remove(ctx), r.Engine.Remove(ctx, baseImage))
}
