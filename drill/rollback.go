package main

import (
	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
)

func newRollbackCmd(a *App) *cobra.Command {
	o := takeUpOptions{app: a, takeUp: runner.Job.Rollback, fine: func(r report.Run, over bool) bool {
		return over || r.Rollback == plan.StatusPassed || r.Rollback == "" && r.Verdict == plan.VerdictInterrupted
	}}
	cmd := &cobra.Command{
		Use:   "rollback RUN",
		Short: "Put the state back that a run has changed, and prove that it is back",
		Long: `Put the state back that etcd had when a run took its control plane down, and prove that it is back; "drill runs" lists runs.

It is for a run whose drill was killed, or could not put the old state back itself, or was told to keep what it had made (--keep). It may be called again, from
anywhere, and while the control plane is down; nodes of the cluster that don't run are started. The old data directory stays as it is: what it holds is restored into another one, with etcd's revision
raised, because clients have seen the revisions of the recovery that is given up.
EVERYTHING WRITTEN SINCE THE RUN TOOK THE CONTROL PLANE DOWN IS LOST, by whomever.

With --cluster the run's journal is fetched from the control plane of that cluster where it isn't here, for when the machine that drill ran on is lost. The run's name is in
/var/lib/drill/lock on the first control plane. Whoever has repaired the cluster by hand, and wants neither to carry the run on nor to have the old state back, removes that file, and gives the cluster back by it.

Exit status: 0 the old state is back, or there is nothing to do: nothing had been changed, or it had been put back before; 1 it could not be tried, or can't be put back any more,
since the run passed or was cleaned; 2 usage, or the cluster or its container engine is not found; 3 it is not proven to be back; 130 interrupted.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRuns(a, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f := cmd.Flags().Lookup("cluster"); f.Changed && o.cluster == "" {
				return usagef("--cluster is given and empty")
			}
			o.id = args[0]
			return takeUp(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.cluster, "cluster", "", "the kind cluster to fetch the run's journal from, where it isn't on this machine")
	addOutputFlag(cmd, &o.output)
	return cmd
}
