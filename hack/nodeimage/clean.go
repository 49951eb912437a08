package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/recipe"
)

func newCleanCmd(o *options) *cobra.Command {
	var keepCache bool
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Remove the images built here, and the cache",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			r, err := o.newImageRecipe(ctx, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			unlock, err := r.Cache.Lock(ctx)
			if err != nil {
				return err
			}
			defer unlock()
			for _, label := range []string{recipe.LabelInputs, recipe.LabelBalancer} {
				named, nameless, err := r.Engine.ImagesWithLabel(ctx, label)
				if err != nil {
					return err
				}
				if err := r.Engine.Remove(ctx, append(named, nameless...)...); err != nil {
					return fmt.Errorf("%w (delete the clusters that use it first)", err)
				}
			}
			if keepCache {
				return nil
			}
			return r.Cache.Clear()
		},
	}
	cmd.Flags().BoolVar(&keepCache, "keep-cache", false, "remove the images only")
	return cmd
}
