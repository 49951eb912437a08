package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/term"
)

// pastRun is a run in `drill runs -o json`.
type pastRun struct {
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

func pastRunOf(l runner.Listed) pastRun {
	r := pastRun{
		ID: l.Run.ID, Scenario: l.Run.Scenario, Procedure: l.Run.Procedure, Provider: l.Run.Provider, Cluster: l.Run.Cluster, StartedAt: l.Run.StartedAt,
		Host: l.Owner.Host, PID: l.Owner.PID,
	}
	if n := len(l.Steps); n > 0 {
		r.LastStep = l.Steps[n-1].Name
	}
	if l.End != nil {
		r.Rollback = l.End.Rollback
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
drills. "drill resume" carries it on, "drill rollback" puts the old state back.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := a.needsState(); err != nil {
				return err
			}
			found, err := runner.List(a.StateDir)
			if err != nil {
				return err
			}
			runs := []pastRun{}
			for _, l := range found {
				runs = append(runs, pastRunOf(l))
			}
			if output != asTable {
				return output.document(a.Stdout, struct {
					Runs []pastRun `json:"runs"`
				}{runs})
			}
			return printRuns(a.Stdout, runs)
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func printRuns(out io.Writer, runs []pastRun) error {
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

// takeUpOptions are those of `drill resume` and `drill rollback`.
type takeUpOptions struct {
	app     *App
	id      string
	cluster string
	output  outputFlag
	// takeUp is runner.Job's Resume or Rollback.
	takeUp func(runner.Job, context.Context) (report.Run, error)
	// fine are the verdicts that are a success here.
	fine func(report.Run) bool
}

func newResumeCmd(a *App) *cobra.Command {
	o := takeUpOptions{app: a, takeUp: runner.Job.Resume, fine: func(r report.Run) bool { return r.Verdict == plan.VerdictPassed }}
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Carry on a run whose drill was killed",
		Long: `Carry on a run whose drill was killed, from where its journal says that it stopped; "drill runs" lists runs.

What is proven in the end is the same. What lived in the process that was killed is not known, though: how long the outage was, and what watches that were
open before it would have been told. If drill was putting the old state back when it was killed, this goes on with that.

Exit status: as with "drill run".`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRuns(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return takeUp(cmd.Context(), o)
		},
	}
	addOutputFlag(cmd, &o.output)
	return cmd
}

func newRollbackCmd(a *App) *cobra.Command {
	o := takeUpOptions{app: a, takeUp: runner.Job.Rollback, fine: func(r report.Run) bool {
		return r.Rollback == plan.StatusPassed || r.Rollback == "" && r.Verdict == plan.VerdictInterrupted
	}}
	cmd := &cobra.Command{
		Use:   "rollback RUN",
		Short: "Put the state back that a run has changed, and prove that it is back",
		Long: `Put the state back that etcd had when a run took its control plane down, and prove that it is back; "drill runs" lists runs.

It is for a run whose drill was killed, or could not put the old state back itself, or was told to keep what it had made (--keep). It may be called again, from
anywhere, and while the control plane is down. The old data directory stays as it is: what it holds is restored into another one, with etcd's revision
raised, because clients have seen the revisions of the recovery that is given up.

With --cluster the run's journal is fetched from the control plane of that cluster where it isn't here, for when the machine that drill ran on is lost.

Exit status: 0 the old state is back, or nothing had been changed; 1 it could not be tried; 2 usage; 3 it is not proven to be back; 130 interrupted.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRuns(a),
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

// takeUp takes a run up again.
func takeUp(ctx context.Context, o takeUpOptions) error {
	if err := o.app.needsState(); err != nil {
		return err
	}
	l, err := runner.Find(o.app.StateDir, o.id)
	if errors.Is(err, runner.ErrNoRun) && o.cluster == "" {
		return usageError{fmt.Errorf("%w; `%s runs` lists those there are", err, o.app.Self)}
	}
	provider, providerErr := o.app.provider(ctx, nil)
	if providerErr != nil {
		return providerErr
	}
	if errors.Is(err, runner.ErrNoRun) {
		l, err = o.fetch(ctx, provider)
	}
	if err != nil {
		return err
	}
	job, err := runner.JobOf(l.Run)
	if err != nil {
		return err
	}
	c, err := provider.Attach(ctx, l.Run.Cluster)
	if errors.Is(err, cluster.ErrNotFound) {
		return fmt.Errorf("run %s was on cluster %s, which is no more: %w", o.id, l.Run.Cluster, err)
	}
	if err != nil {
		return err
	}
	return o.show(ctx, job, c)
}

// fetch gets the run from the cluster, for a machine that knows nothing of it.
func (o takeUpOptions) fetch(ctx context.Context, provider *kind.Provider) (runner.Listed, error) {
	c, err := provider.Attach(ctx, o.cluster)
	if err != nil {
		return runner.Listed{}, err
	}
	if err := runner.Abandoned(ctx, c, o.app.StateDir, o.id); err != nil {
		return runner.Listed{}, err
	}
	return runner.Find(o.app.StateDir, o.id)
}

// show takes the run up, and shows what comes of it.
func (o takeUpOptions) show(ctx context.Context, job runner.Job, c cluster.Cluster) error {
	out, terminal := o.app.Stdout, o.app.Terminal
	if o.output != asTable {
		out, terminal = o.app.Stderr, o.app.ErrTerminal
	}
	view := term.New(out, terminal)
	defer func() { _ = view.Close() }() // its error is looked at below, where there is one to tell
	job.Cluster, job.StateDir, job.Worker, job.Observers = c, o.app.StateDir, o.app.Worker, []plan.Observer{view}
	run, err := o.takeUp(job, ctx)
	switch {
	case errors.Is(err, runner.ErrNothingToDo):
		view.Say(err.Error())
		return view.Close()
	case err != nil && run.ID == "":
		return errors.Join(err, view.Close())
	case err != nil:
		view.Say("Warning: " + err.Error())
	}
	problems := []error{view.Close()}
	if o.output != asTable {
		problems = append(problems, writeReport(o.app.Stdout, o.output, report.NewDocument(run)))
	}
	switch {
	case errors.Join(problems...) != nil:
		return fmt.Errorf("the result (%s) could not be reported: %w", run.Verdict, errors.Join(problems...))
	case ctx.Err() != nil:
		return exitError{exitInterrupted}
	case o.fine(run):
		return nil
	case run.Rollback != "": // the recovery was given up
		return exitError{exitFailed}
	}
	return exitError{exitStatus(run.Verdict)}
}

// needsState says whether it is known where runs are kept.
func (a *App) needsState() error {
	if a.StateDir == "" {
		return usagef("it is not known where state is kept: set XDG_STATE_HOME to a folder of your own")
	}
	return nil
}
