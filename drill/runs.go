package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/runner"
)

// listedRun is a run in `drill runs -o json`.
type listedRun struct {
	ID        string    `json:"id"`
	Scenario  string    `json:"scenario"`
	Procedure string    `json:"procedure"`
	Provider  string    `json:"provider"`
	Cluster   string    `json:"cluster"`
	StartedAt time.Time `json:"startedAt"`
	// State is at-work, abandoned, or the verdict.
	State string `json:"state"`
	// Rollback is what came of putting the old state back; empty where that was not done.
	Rollback plan.Status `json:"rollback"`
	// HoldsCluster says that the run has its cluster to itself until it is resumed or rolled back: it is abandoned, or its recovery was not proven and the old state is not back.
	HoldsCluster bool `json:"holdsCluster"`
	// CleanedAt is when what it had left was removed; null as long as it was not.
	CleanedAt *time.Time `json:"cleanedAt"`
	// Host and PID are of the process that took the run up last.
	Host string `json:"host"`
	PID  int    `json:"pid"`
	// LastStep is the step that was begun last.
	LastStep string `json:"lastStep"`
	// Error says why its journal can't be read; empty otherwise.
	Error string `json:"error"`
}

// States of runs that have no verdict.
const (
	stateAtWork    = "at-work"
	stateAbandoned = "abandoned"
	stateUnknown   = "unknown"
)

func listedRunOf(l runner.Listed) listedRun {
	r := listedRun{
		ID: l.Run.ID, Scenario: l.Run.Scenario, Procedure: l.Run.Procedure, Provider: l.Run.Provider, Cluster: l.Run.Cluster, StartedAt: l.Run.StartedAt,
		Host: l.Owner.Host, PID: l.Owner.PID,
	}
	r.HoldsCluster = l.Err == nil && l.HoldsCluster()
	if n := len(l.Steps); n > 0 {
		r.LastStep = l.Steps[n-1].Name
	}
	if l.End != nil {
		r.Rollback = l.End.Rollback
	}
	if !l.Cleaned.IsZero() {
		r.CleanedAt = &l.Cleaned
	}
	switch {
	case l.Err != nil:
		r.State, r.Error = stateUnknown, l.Err.Error()
	case l.AtWork:
		r.State = stateAtWork
	case l.End == nil:
		r.State = stateAbandoned
	default:
		r.State = string(l.End.Verdict)
	}
	return r
}

func newRunsCmd(a *App) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the runs of which there is a journal",
		Long: `List the runs of which there is a journal in the state directory ($XDG_STATE_HOME/drill, or ~/.local/state/drill), the latest last.

A run that is "abandoned" has no process any more and has not come to its end: its cluster may be half way through a recovery, and is kept from other
drills. "drill resume" carries it on, "drill rollback" puts the old state back. A run that failed and was kept as it was (--keep), or could not be rolled back, also "holds its cluster"
until it is rolled back. "drill clean" removes what a run has left; it is listed all the same.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := a.needsState(); err != nil {
				return err
			}
			found, err := runner.List(a.StateDir)
			if err != nil {
				return err
			}
			runs := []listedRun{}
			for _, l := range found {
				runs = append(runs, listedRunOf(l))
			}
			if output != asTable {
				return output.document(a.Stdout, struct {
					Runs []listedRun `json:"runs"`
				}{runs})
			}
			return printRuns(a.Stdout, runs)
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func printRuns(out io.Writer, runs []listedRun) error {
	if len(runs) == 0 {
		fmt.Fprintln(out, "no runs")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tSTARTED\tSCENARIO\tPROCEDURE\tCLUSTER\tSTATE\tLAST STEP")
	for _, r := range runs {
		state := r.State
		switch r.Rollback {
		case plan.StatusPassed:
			state += ", rolled back"
		case plan.StatusFailed:
			state += ", NOT rolled back"
		}
		if r.CleanedAt != nil {
			state += ", cleaned"
		}
		if r.HoldsCluster && r.State != stateAtWork && r.State != stateAbandoned { // which says it
			state += ", holds its cluster"
		}
		if r.State == stateAtWork {
			state += fmt.Sprintf(" (process %d)", r.PID)
		}
		started := r.StartedAt.Local().Format(time.DateTime)
		if r.Error != "" {
			started = ""
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, started, r.Scenario, r.Procedure, r.Cluster, state, r.LastStep)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range runs {
		if r.Error != "" {
			fmt.Fprintf(out, "run %s: %s\n", r.ID, r.Error)
		}
	}
	return nil
}
