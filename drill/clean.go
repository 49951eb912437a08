package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
	"github.com/etcd-drill/drill/pkg/runner"
)

type cleanOptions struct {
	app     *App
	ids     []string
	cluster string
	dryRun  bool
	output  outputFlag
}

func newCleanCmd(a *App) *cobra.Command {
	o := cleanOptions{app: a}
	cmd := &cobra.Command{
		Use:   "clean RUN...",
		Short: "Remove what runs have left: restored data directories, and backups",
		Long: `Remove what runs have left of the cluster's data; "drill runs" lists runs. Nothing of it is ever removed otherwise.

On every control plane that is the run's folder, /var/lib/drill/RUN, with the data directories that the run restored, the manifest that it kept and a copy of
the journal, and the folder into which manifests were moved. On this machine it is the snapshot, and what was found out about the cluster. The
journal, the reports and the evidence stay: they hold no Secret, and "drill runs" goes on listing the run.

All of a run is removed or nothing. A run is refused that may still be carried on or put back, and one whose data directory is in use: after a run that
passed, etcd runs on its directory until the next one has passed. So of runs on the same cluster all but the last one can be cleaned. Where the cluster
is gone, what is on this machine is removed; that it is gone must be certain, so the container engine must be the one that the run was on.

Exit status: 0 all of them are cleaned, or could be; 1 one of them could not be; 2 usage; 130 interrupted.`,
		Example: `  drill clean 20261123-080000-aaaa --dry-run
  drill clean 20261116-080000-bbbb 20261123-080000-aaaa`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeRuns(a, maxCleaned),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f := cmd.Flags().Lookup("cluster"); f.Changed && o.cluster == "" {
				return usagef("--cluster is given and empty")
			}
			o.ids = args
			return clean(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.cluster, "cluster", "", "the kind cluster that the runs were on, to fetch their journals from where they aren't on this machine")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "list what would be removed, and touch nothing")
	addOutputFlag(cmd, &o.output)
	return cmd
}

// maxCleaned is how many names are completed.
const maxCleaned = 1000

// cleanedRun is what came of a run in `drill clean -o json`.
type cleanedRun struct {
	ID string `json:"id"`
	// Status is one of those below.
	Status string `json:"status"`
	// Items are what was removed or, with --dry-run, would be, and Bytes is how much that is together.
	Items []runner.Leaving `json:"items"`
	Bytes int64            `json:"bytes"`
	Notes []string         `json:"notes"`
	// Error says why a run was refused, or not finished; empty otherwise.
	Error string `json:"error"`
}

// What became of a run.
const (
	statusCleaned    = "cleaned"
	statusReady      = "ready"      // --dry-run: it can be cleaned
	statusRefused    = "refused"    // nothing was removed
	statusUnfinished = "unfinished" // a part was removed; the next call goes on
)

func clean(ctx context.Context, o cleanOptions) error {
	if err := o.app.needsState(); err != nil {
		return err
	}
	if problems := validation.IsDNS1123Subdomain(o.cluster); o.cluster != "" && len(problems) > 0 {
		return usagef("cluster name %q: %s", o.cluster, problems[0])
	}
	for i, id := range o.ids {
		l, err := runner.Find(o.app.StateDir, id)
		switch {
		case slices.Contains(o.ids[:i], id):
			return usagef("run %s is named twice", id)
		case errors.Is(err, runner.ErrNoRun) && o.cluster == "":
			return usageError{fmt.Errorf("%w; `%s runs` lists those there are", err, o.app.Self)}
		case err == nil && o.cluster != "" && l.Run.Cluster != o.cluster:
			return usagef("run %s was on cluster %s, and --cluster is %s", id, l.Run.Cluster, o.cluster)
		}
	}
	provider, err := o.app.provider(ctx, nil)
	if err != nil {
		return err
	}
	runs := []cleanedRun{}
	code := exitPassed
	for _, id := range o.ids {
		if ctx.Err() != nil {
			break
		}
		r := o.one(ctx, provider, id)
		if r.Error != "" {
			code = exitBroken
			fmt.Fprintf(o.app.Stderr, "drill: run %s: %s\n", id, r.Error)
		}
		if o.output == asTable {
			printCleaned(o.app.Stdout, r)
		}
		runs = append(runs, r)
	}
	if o.output != asTable {
		err = o.output.document(o.app.Stdout, struct {
			DryRun bool         `json:"dryRun"`
			Runs   []cleanedRun `json:"runs"`
		}{o.dryRun, runs})
	}
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return exitError{exitInterrupted}
	case code != exitPassed:
		return exitError{code}
	}
	return nil
}

// one cleans one run.
func (o cleanOptions) one(ctx context.Context, provider *kind.Provider, id string) cleanedRun {
	r := cleanedRun{ID: id, Status: statusCleaned, Items: []runner.Leaving{}, Notes: []string{}}
	c, err := o.cleaned(ctx, provider, id)
	r.Items, r.Notes = append(r.Items, c.Leavings...), append(r.Notes, c.Notes...)
	for _, l := range c.Leavings {
		r.Bytes += l.Bytes
	}
	switch {
	case err != nil && len(c.Leavings) > 0:
		r.Status, r.Error = statusUnfinished, err.Error()
	case err != nil:
		r.Status, r.Error = statusRefused, err.Error()
	case o.dryRun:
		r.Status = statusReady
	}
	return r
}

func (o cleanOptions) cleaned(ctx context.Context, provider *kind.Provider, id string) (none runner.Cleaning, err error) {
	stateDir := o.app.StateDir
	l, err := runner.Find(stateDir, id)
	if errors.Is(err, runner.ErrNoRun) {
		if o.dryRun { // the journal is only looked at
			if stateDir, err = os.MkdirTemp("", "drill-clean-"); err != nil {
				return none, err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(stateDir)) }()
		}
		l, err = fetch(ctx, provider, o.cluster, stateDir, id)
	}
	switch {
	case err != nil:
		return none, err
	case !l.Cleaned.IsZero():
		return runner.Cleaning{Notes: []string{"it was cleaned at " + l.Cleaned.Local().Format(time.DateTime)}}, nil
	}
	c, err := runner.Whereabouts(ctx, provider, l.Run)
	if errors.Is(err, cluster.ErrNotFound) {
		err = fmt.Errorf("%w; if it is gone for good, remove %s yourself", err, runner.Dir(stateDir, id))
	}
	if err != nil {
		return none, err
	}
	return runner.Job{ID: id, Cluster: c, StateDir: stateDir}.Clean(ctx, o.dryRun)
}

func printCleaned(w io.Writer, r cleanedRun) {
	fmt.Fprintf(w, "run %s: %s, %s\n", r.ID, r.Status, megabytes(r.Bytes))
	for _, i := range r.Items {
		where := i.Path
		if i.Node != "" {
			where = i.Node + ":" + i.Path
		}
		fmt.Fprintf(w, "  %9s  %s\n", megabytes(i.Bytes), where)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "  %s\n", note)
	}
}

func megabytes(n int64) string {
	if n < 100_000 {
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
