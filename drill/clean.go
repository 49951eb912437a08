package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/runner"
)

func newCleanCmd(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "clean RUN...",
		Short: "Remove what runs have left: restored data directories, copies, snapshots, reports",
		Long: `Remove what runs have left. On the control planes that is their folder below /var/lib/drill, with restored data directories and the copy of the manifest; on this machine
it is their folder in the state directory, with the snapshot, the journal and the report. drill removes nothing of it by itself.

A run is refused that has not come to its end, and one on whose directories etcd runs. The data directory from before the run is not the run's, and stays.

Exit status: 0 removed, 1 not, 2 usage.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeRuns(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needsState(); err != nil {
				return err
			}
			var problems []error
			for _, id := range args {
				problems = append(problems, a.clean(cmd.Context(), id))
			}
			return errors.Join(problems...)
		},
	}
}

func (a *App) clean(ctx context.Context, id string) error {
	l, err := runner.Find(a.StateDir, id)
	if errors.Is(err, runner.ErrNoRun) {
		return usageError{fmt.Errorf("%w; `%s runs` lists those there are", err, a.Self)}
	}
	if err != nil {
		return err
	}
	provider, err := a.provider(ctx, nil)
	if err != nil {
		return err
	}
	c, err := provider.Attach(ctx, l.Run.Cluster)
	if errors.Is(err, cluster.ErrNotFound) {
		c, err = nil, nil
	}
	if err != nil {
		return err
	}
	removed, err := runner.Clean(ctx, c, a.StateDir, id)
	for _, path := range removed {
		fmt.Fprintln(a.Stdout, "removed "+path)
	}
	return err
}
