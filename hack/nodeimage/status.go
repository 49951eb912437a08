package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/kindsrc"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/recipe"
)

func newStatusCmd(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Aliases: []string{"list"},
		Short:   "Show which node images are here, and what is in the cache",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := o.newImageRecipe(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return printStatus(cmd.Context(), cmd.OutOrStdout(), r)
		},
	}
}

func printStatus(ctx context.Context, w io.Writer, r *recipe.Recipe) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tKUBERNETES\tSIZE\tSTATE\tWORKLOAD IMAGES INSIDE")
	own, nameless, err := r.Engine.ImagesWithLabel(ctx, recipe.LabelInputs)
	if err != nil {
		return err
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(append(append(own, nameless...), kindsrc.DefaultNodeImage)))) {
		found, err := r.Engine.Inspect(ctx, name)
		if err != nil {
			return err
		}
		if found == nil {
			fmt.Fprintf(t, "%s\t\t\tnot here\t\n", name)
			continue
		}
		state, err := imageState(ctx, r, name, found.Labels)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%s\t%d MB\t%s\t%s\n", name, found.Labels[recipe.LabelKubernetes], found.Size/1e6, state,
			strings.ReplaceAll(found.Labels[recipe.LabelWorkloads], ",", " "))
	}
	if err := balancerLine(ctx, t, r); err != nil {
		return err
	}
	entries, err := r.Cache.Entries()
	if err != nil {
		return err
	}
	fmt.Fprintf(t, "\nCACHE %s\n", r.Cache.Dir())
	for _, e := range entries {
		fmt.Fprintf(t, "  %s\n", e)
	}
	return t.Flush()
}

// imageState says whether an image is up to date, which can be told of the version in question only.
func imageState(ctx context.Context, r *recipe.Recipe, name string, labels map[string]string) (string, error) {
	if _, ours := labels[recipe.LabelInputs]; !ours {
		return "here, published by kind", nil
	}
	if name != recipe.ImageName(r.Kubernetes) {
		return "built here", nil
	}
	fresh, err := r.UpToDate(ctx)
	if err != nil {
		return "", err
	}
	if fresh {
		return "built here, up to date", nil
	}
	return "built here, out of date", nil
}

func balancerLine(ctx context.Context, w io.Writer, r *recipe.Recipe) error {
	name, err := r.BalancerImage()
	if err != nil {
		return err
	}
	state, err := r.Balancer(ctx)
	if err != nil {
		return err
	}
	words := map[recipe.BalancerState]string{
		recipe.BalancerMissing: "not here", recipe.BalancerForeign: "here, published",
		recipe.BalancerStale: "stand-in, out of date", recipe.BalancerReady: "stand-in, up to date",
	}
	_, err = fmt.Fprintf(w, "%s\t\t\t%s\t\n", name, words[state])
	return err
}
