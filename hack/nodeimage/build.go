package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/recipe"
)

func newBuildCmd(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "build",
		Short: "Build the node image and the load balancer's stand-in here, and print the node image's name",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			r, err := o.newImageRecipe(ctx, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			fresh, err := r.UpToDate(ctx)
			if err != nil {
				return err
			}
			if !fresh {
				if err := r.Build(ctx); err != nil {
					return err
				}
			}
			if err := (chooser{recipe: r}).ensureBalancer(ctx); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), recipe.ImageName(r.Kubernetes))
			return err
		},
	}
}
