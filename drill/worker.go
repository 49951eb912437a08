package main

import (
	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/apiserver"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
)

// workerCommand is the hidden command by which drill starts itself as a child to open snapshots: a damaged file can kill the
// process that opens it.
const workerCommand = "etcd-worker"

func newWorkerCmd(a *App) *cobra.Command {
	return &cobra.Command{
		Use:    workerCommand,
		Short:  "Open snapshots on behalf of another drill process",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return etcd.WorkerMain(cmd.Context(), a.Stdin, a.Stdout, append(inventory.Jobs(), apiserver.Jobs()...)...)
		},
	}
}
