package main

import "github.com/spf13/cobra"

func newSnapshotCmd(a *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Look at backups of etcd: no cluster, no container engine and no root are needed",
	}
	cmd.AddCommand(
		newSnapshotSaveCmd(a),
		newSnapshotVerifyCmd(a),
		newSnapshotInspectCmd(a),
		newSnapshotDiffCmd(a),
	)
	return cmd
}
