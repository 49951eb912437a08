package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/kindsrc"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/recipe"
)

// reachTimeout is how long a registry may take to answer at all before it counts as out of reach. A pull that has begun
// has no such bound.
const reachTimeout = 4 * time.Second

// imageVariable names an image like --image does.
const imageVariable = "DRILL_NODE_IMAGE"

func newEnsureCmd(o *options) *cobra.Command {
	var image string
	cmd := &cobra.Command{
		Use:   "ensure",
		Short: "Make sure that a node image is there, and print its name",
		Long: `Make sure that a node image is there, and print its name on standard output.

The first of these is taken:
  1. the image named by --image or ` + imageVariable + `, pulled if need be
  2. kind's own published image, where it is here already
  3. the image built here, where it is up to date
  4. kind's own published image, where it can be pulled
  5. the image built here, which is built now

kind's published image has a version of its own. It is left out when --kubernetes asks for one that is neither that nor
this program's default.
A stand-in for the load balancer of clusters with several control planes is made as well, where the real one is
neither here nor to be had.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			r, err := o.newImageRecipe(ctx, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			c := chooser{recipe: r, named: image, published: kindsrc.DefaultNodeImage}
			if c.named == "" {
				c.named = os.Getenv(imageVariable)
			}
			if !publishedFits(o.kubernetes, c.published) {
				c.published = ""
			}
			chosen, err := c.choose(ctx)
			if err != nil {
				return err
			}
			if err := c.ensureBalancer(ctx); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), chosen)
			return err
		},
	}
	cmd.Flags().StringVar(&image, "image", "", "use this image and no other (or set "+imageVariable+")")
	return cmd
}

// publishedFits reports whether kind's published image will do for who asks for a version: the default version stands
// for "whatever is at hand", any other is meant.
func publishedFits(kubernetes, published string) bool {
	repository, _, _ := strings.Cut(published, "@")
	return kubernetes == defaultKubernetes || strings.HasSuffix(repository, ":"+kubernetes)
}

// chooser finds the node image to use.
type chooser struct {
	recipe    *recipe.Recipe
	named     string
	published string // kind's own image, or nothing when it is no candidate
}

// choose returns the image, in the order of preference that the help text gives.
func (c chooser) choose(ctx context.Context) (string, error) {
	if c.named != "" {
		return c.named, c.ensureNamed(ctx)
	}
	if c.published != "" {
		if here, err := c.local(ctx, c.published); here || err != nil {
			return c.published, err
		}
	}
	own := recipe.ImageName(c.recipe.Kubernetes)
	if fresh, err := c.recipe.UpToDate(ctx); fresh || err != nil {
		return own, err
	}
	if c.published != "" && c.reachable(ctx, c.published) {
		return c.published, c.recipe.Engine.Pull(ctx, c.published, c.recipe.Log.Writer())
	}
	return own, c.recipe.Build(ctx)
}

func (c chooser) ensureNamed(ctx context.Context) error {
	if here, err := c.local(ctx, c.named); here || err != nil {
		return err
	}
	if !c.reachable(ctx, c.named) {
		return fmt.Errorf("the image %s is not here and its registry does not answer; load it into %s, or leave --image and %s out to have one built",
			c.named, c.recipe.Engine.Name(), imageVariable)
	}
	return c.recipe.Engine.Pull(ctx, c.named, c.recipe.Log.Writer())
}

func (c chooser) local(ctx context.Context, image string) (bool, error) {
	found, err := c.recipe.Engine.Inspect(ctx, image)
	return found != nil, err
}

// reachable asks the image's registry for it, with a short bound.
func (c chooser) reachable(ctx context.Context, image string) bool {
	ref, err := name.ParseReference(image)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	_, err = remote.Head(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		c.recipe.Log.Printf("%s can't be pulled here", image)
	}
	return err == nil
}

// ensureBalancer makes the stand-in where kind would find no load balancer. kind itself pulls the real one.
func (c chooser) ensureBalancer(ctx context.Context) error {
	state, err := c.recipe.Balancer(ctx)
	if err != nil {
		return err
	}
	switch state {
	case recipe.BalancerForeign, recipe.BalancerReady:
		return nil
	case recipe.BalancerMissing:
		image, err := c.recipe.BalancerImage()
		if err != nil {
			return err
		}
		if c.reachable(ctx, image) {
			return nil
		}
	case recipe.BalancerStale:
	}
	return c.recipe.LoadBalancer(ctx)
}
