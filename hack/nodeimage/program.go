package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newProgramCmd(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "program NAME",
		Short: "Build one of the programs that are in the image, and print its path",
		Long: `Build one of the programs that are in the image, kube-apiserver for example, and print its path, which is in the cache. The build of the image takes it
from there, and the other way round. No container engine is needed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			r, err := o.newRecipe(ctx, cmd.ErrOrStderr(), nil)
			if err != nil {
				return err
			}
			path, err := r.Program(ctx, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), path)
			return err
		},
	}
}
