package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/term"
)

func newResumeCmd(a *App) *cobra.Command {
	o := takeUpOptions{app: a, takeUp: runner.Job.Resume, fine: func(r report.Run) bool { return r.Verdict == plan.VerdictPassed }}
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Carry on a run whose drill was killed",
		Long: `Carry on a run whose drill was killed, from where its journal says that it stopped; "drill runs" lists runs.

What is proven in the end is the same. What lived in the process that was killed is not known, though: how long the outage was, and what watches that were
open before it would have been told. Nodes of the cluster that don't run are started. If drill was putting the old state back when it was killed, this goes on with that.

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
	c, err := o.attach(ctx, provider, l.Run.Cluster)
	if errors.Is(err, cluster.ErrNotFound) {
		return fmt.Errorf("run %s was on cluster %s, which is no more: %w", o.id, l.Run.Cluster, err)
	}
	if err != nil {
		return err
	}
	return o.show(ctx, job, c)
}

// attach reaches the cluster, whose nodes all ran when the run began: those that don't any more are started.
func (o takeUpOptions) attach(ctx context.Context, provider *kind.Provider, name string) (cluster.Cluster, error) {
	started, err := provider.Start(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(started) > 0 {
		fmt.Fprintf(o.app.Stderr, "Started what did not run of cluster %s: %s\n", name, strings.Join(started, ", "))
	}
	return provider.Attach(ctx, name)
}

// fetch gets the run from the cluster, for a machine that knows nothing of it.
func (o takeUpOptions) fetch(ctx context.Context, provider *kind.Provider) (runner.Listed, error) {
	c, err := o.attach(ctx, provider, o.cluster)
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
