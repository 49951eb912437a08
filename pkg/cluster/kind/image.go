package kind

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"github.com/etcd-drill/drill/pkg/cluster"
)

const (
	// ImageVariable is the environment variable that names the node image where no flag does.
	ImageVariable = "DRILL_NODE_IMAGE"
	// BuiltImage is the repository of the node images that `make node-image` builds; the tag is the Kubernetes version.
	BuiltImage = "localhost/drill/node"
	// BuiltImageLabel is on every such image.
	BuiltImageLabel = "io.etcd-drill.node-image"
	// WorkloadImagesLabel names, on such an image, the images for workloads that it holds, joined by commas.
	WorkloadImagesLabel = "io.etcd-drill.workload-images"
	// LoadBalancerImage is what kind runs in front of several control planes. kind keeps the name to itself (package
	// pkg/cluster/internal/loadbalancer), so it is repeated here, and a test compares the two.
	LoadBalancerImage = "docker.io/envoyproxy/envoy:v1.36.2"

	reachTimeout = 6 * time.Second  // asking a registry whether it has an image
	pullTimeout  = 20 * time.Minute // getting it
)

// ResolveImage chooses the node image: the one asked for, else $DRILL_NODE_IMAGE; kind's default if it is here already; the
// image built here with the highest Kubernetes version; kind's default if its registry answers within a few seconds.
// The image may have to be pulled still, which Create does. The error wraps cluster.ErrNoImage.
func (p *Provider) ResolveImage(ctx context.Context, explicit string) (string, error) {
	if explicit == "" {
		explicit = os.Getenv(ImageVariable)
	}
	if explicit != "" {
		if p.engine.hasImage(ctx, explicit) {
			return explicit, nil
		}
		if err := p.engine.canPull(ctx, explicit); err != nil {
			return "", noImage(ctx, fmt.Sprintf("%s was asked for, is not on this host, and can't be had", explicit), err)
		}
		return explicit, nil
	}
	if p.engine.hasImage(ctx, defaults.Image) {
		return defaults.Image, nil
	}
	built, err := p.engine.builtImage(ctx)
	if err != nil {
		return "", err
	}
	if built != "" {
		return built, nil
	}
	if err := p.engine.canPull(ctx, defaults.Image); err != nil {
		return "", noImage(ctx, "none was built on this host, and kind's own can't be had", err)
	}
	return defaults.Image, nil
}

// noImage is the error for an image that can't be had, or the context's where that is why.
func noImage(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("looking for a node image: %w", ctx.Err())
	}
	return fmt.Errorf("%w: %s: %w; hint: `make node-image` in drill's source tree builds one here; or name one with --image or %s",
		cluster.ErrNoImage, what, err, ImageVariable)
}

// HasImage says whether the engine has an image already, so that no registry is needed for it.
func (p *Provider) HasImage(ctx context.Context, image string) bool {
	return p.engine.hasImage(ctx, image)
}

// WorkloadImages names the images that a node image built here brings along for workloads, as containerd on its nodes knows
// them (docker.io/library/nginx:1.27, say), so that no registry is needed for them. It is nil for a node image that says
// nothing of the kind, as kind's own. The node image must be on this engine already; see HasImage.
func (p *Provider) WorkloadImages(ctx context.Context, image string) ([]string, error) {
	out, err := p.engine.output(ctx, askTimeout, "image", "inspect", image)
	if err != nil {
		return nil, fmt.Errorf("looking at node image %s: %w", image, err)
	}
	var infos []struct {
		Config struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(out, &infos); err != nil {
		return nil, fmt.Errorf("reading what the container engine says of node image %s: %w", image, err)
	}
	if len(infos) == 0 {
		return nil, fmt.Errorf("looking at node image %s: %s says nothing of it", image, p.engine.Name)
	}
	var images []string
	for name := range strings.SplitSeq(infos[0].Config.Labels[WorkloadImagesLabel], ",") {
		if name = strings.TrimSpace(name); name != "" {
			images = append(images, name)
		}
	}
	return images, nil
}

func (e *engine) hasImage(ctx context.Context, image string) bool {
	_, err := e.output(ctx, askTimeout, "image", "inspect", "--format", "{{.Id}}", image)
	return err == nil
}

// builtImage names the image built here that has the highest Kubernetes version, or nothing.
func (e *engine) builtImage(ctx context.Context) (string, error) {
	out, err := e.output(ctx, askTimeout, "image", "ls", "--filter", "label="+BuiltImageLabel, "--format", "{{.Repository}}:{{.Tag}}")
	if err != nil {
		return "", fmt.Errorf("looking for node images that were built here: %w", err)
	}
	var (
		best    string
		highest *version.Version
	)
	for _, image := range lines(out) {
		tag, ok := strings.CutPrefix(image, BuiltImage+":")
		if !ok {
			continue
		}
		v, err := version.ParseSemantic(tag)
		if err != nil {
			continue // an image in the making, or one that somebody tagged by hand
		}
		if highest == nil || highest.LessThan(v) {
			best, highest = image, v
		}
	}
	return best, nil
}

// canPull asks the image's registry whether it has the image, without fetching it. The question goes out from this machine
// and not from the engine's, which for once may know a mirror that this one doesn't: then naming the image after pulling
// it helps.
func (e *engine) canPull(ctx context.Context, image string) error {
	_, err := e.output(ctx, reachTimeout, "manifest", "inspect", image)
	return err
}

// ensureImage has the engine pull an image that it hasn't got. kind would do so too, but without a context.
func (e *engine) ensureImage(ctx context.Context, image string, progress func(string)) error {
	if e.hasImage(ctx, image) {
		return nil
	}
	progress("Pulling image " + image)
	if _, err := e.output(ctx, pullTimeout, "pull", image); err != nil {
		return noImage(ctx, fmt.Sprintf("pulling %s failed", image), err)
	}
	return nil
}
