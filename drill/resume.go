package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	o := takeUpOptions{app: a, takeUp: runner.Job.Resume, fine: func(r report.Run, _ bool) bool { return r.Verdict == plan.VerdictPassed }}
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Carry on a run whose drill was killed",
		Long: `Carry on a run whose drill was killed, from where its journal says that it stopped; "drill runs" lists runs.

What is proven in the end is the same. What lived in the process that was killed is not known, though: how long the outage was, and what watches that were
open before it would have been told. Nodes of the cluster that don't run are started. If drill was putting the old state back when it was killed, this goes on with that.

A run that was killed before it took the control plane down goes on with the snapshot that it has. EVERYTHING WRITTEN TO THE CLUSTER SINCE THAT SNAPSHOT IS LOST, however
long ago it was. If the cluster has been used since, call "drill rollback": there is nothing to put back then, so that only ends the run and gives the cluster back.

Called again when the run has come to its end, it changes nothing, and tells once more what the run came to.

Exit status: as with "drill run", and 3 if the old state was put back.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRuns(a, 1),
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
	// fine says whether what the run came to is a success here; over, that it had come to it before.
	fine func(r report.Run, over bool) bool
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
	if err == nil && o.cluster != "" && l.Run.Cluster != o.cluster {
		return usagef("run %s was on cluster %s, and --cluster is %s", o.id, l.Run.Cluster, o.cluster)
	}
	provider, providerErr := o.app.provider(ctx, nil)
	if providerErr != nil {
		return providerErr
	}
	starter := starter{provider, o.app.Stderr}
	if errors.Is(err, runner.ErrNoRun) {
		l, err = fetch(ctx, starter, o.cluster, o.app.StateDir, o.id)
	}
	if err != nil {
		return err
	}
	job, err := runner.JobOf(l.Run)
	if err != nil {
		return err
	}
	c, err := runner.Whereabouts(ctx, starter, l.Run)
	switch {
	case err != nil:
		return fmt.Errorf("finding the cluster of run %s: %w", o.id, err)
	case c == nil:
		return fmt.Errorf("run %s was on cluster %s, which is no more; `%s clean %s` removes what there is of the run here: %w", o.id, l.Run.Cluster, o.app.Self, o.id, cluster.ErrNotFound)
	}
	return o.show(ctx, job, c)
}

// starter finds clusters whose nodes all ran when a run began: those that don't any more are started.
type starter struct {
	*kind.Provider
	stderr io.Writer
}

// Attach is part of runner.Provider.
func (s starter) Attach(ctx context.Context, name string) (cluster.Cluster, error) {
	started, err := s.Start(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(started) > 0 {
		fmt.Fprintf(s.stderr, "Started what did not run of cluster %s: %s\n", name, strings.Join(started, ", "))
	}
	return s.Provider.Attach(ctx, name)
}

// fetch gets a run from the cluster of that name, for a machine that knows nothing of it.
func fetch(ctx context.Context, p runner.Provider, cluster, stateDir, id string) (runner.Listed, error) {
	c, err := p.Attach(ctx, cluster)
	if err != nil {
		return runner.Listed{}, err
	}
	if err := runner.Abandoned(ctx, c, stateDir, id); err != nil {
		return runner.Listed{}, err
	}
	return runner.Find(stateDir, id)
}

// show takes the run up, and shows what comes of it.
func (o takeUpOptions) show(ctx context.Context, job runner.Job, c cluster.Cluster) error {
	out, terminal := o.app.Stdout, o.app.Terminal
	if o.output != asTable {
		out, terminal = o.app.Stderr, o.app.ErrTerminal
	}
	view := term.New(out, terminal)
	defer func() { _ = view.Close() }() // its error is looked at below, where there is one to tell
	told := context.AfterFunc(ctx, func() {
		view.Say("Interrupted: if the control plane has been taken down, the old state is put back first. Another interruption ends drill at once and leaves cluster " + c.Name() + " as it is then.")
	})
	defer told()
	job.Cluster, job.StateDir, job.Worker, job.Observers = c, o.app.StateDir, o.app.Worker, []plan.Observer{view}
	run, err := o.takeUp(job, ctx)
	over := errors.Is(err, runner.ErrNothingToDo)
	switch {
	case over:
		view.Say(err.Error())
	case err != nil && run.ID == "":
		return errors.Join(err, view.Close())
	case err != nil:
		view.Say("Warning: " + err.Error())
	}
	var problems []error
	if job.ReportDir != "" && !over { // as whoever began the run asked for
		paths, err := report.WriteDir(job.ReportDir, report.NewDocument(run))
		problems = append(problems, err)
		view.Report(paths...)
	}
	problems = append(problems, view.Close())
	if o.output != asTable {
		problems = append(problems, writeReport(o.app.Stdout, o.output, report.NewDocument(run)))
	}
	switch {
	case errors.Join(problems...) != nil:
		return fmt.Errorf("the result (%s) could not be reported: %w", run.Verdict, errors.Join(problems...))
	case ctx.Err() != nil:
		return exitError{exitInterrupted}
	case o.fine(run, over):
		return nil
	case run.Rollback != "": // the recovery was given up
		return exitError{exitFailed}
	}
	return exitError{exitStatus(run.Verdict)}
}
