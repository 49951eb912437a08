package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/pin"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/step"
)

func newPinCmd(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "pin VERSION",
		Short:   "Write the pins for another version of Kubernetes",
		Example: "  nodeimage pin v1.37.2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := o.sourceDir()
			if err != nil {
				return err
			}
			return pin.Write(cmd.Context(), filepath.Join(source, "pins"), args[0], step.NewLog(os.Stderr))
		},
	}
}
