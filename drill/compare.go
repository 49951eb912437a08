package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/term"
)

type compareOptions struct {
	// each is what all runs have in common.
	each       runOptions
	procedures []procedure.Procedure
	runs       int
	shortcuts  bool
	output     comparisonFlag
}

// settleUsual is how long checks may take to become true: as long as in a run. manifest-move needs nearly all of it until a new Service answers, since kube-proxy
// asks again so late; with less it would look worse than it is.
const settleUsual = 75 * time.Second

// comparedLimit is how long a recovery may take in a comparison: what is slow is to be measured, and not cut off.
const comparedLimit = 10 * time.Minute

const mostRuns = 100

func newCompareCmd(a *App) *cobra.Command {
	o := compareOptions{each: runOptions{app: a}, output: comparisonFlag{asTable}}
	var procedures []string
	var given givenFlags
	var mode string
	cmd := &cobra.Command{
		Use:   "compare SCENARIO",
		Short: "Run a scenario with every procedure, and put the results side by side",
		Long: `Run a scenario with each procedure in turn, as often as asked for, and put side by side what came back and how long it
took. With --shortcuts each procedure is also run in every way in which something is left out of it: without raising etcd's
revision, and with one component after the other kept running. That is ` + fmt.Sprint(len(procedure.Shortcuts(procedure.All()))) + ` runs of a minute and more each.

All runs are on one cluster, which is made for them and deleted afterwards, or on the one that --cluster names. Where a
recovery is not proven, the old state is put back before the next run. If that fails, if what a run made can't be removed, or
if a run can't be carried out, the next run gets a new cluster; with --cluster the comparison ends.

What "drill run --help" says of --cluster is true here as well: EVERYTHING WRITTEN TO THAT CLUSTER DURING A RUN IS LOST. So is what
it says of --snapshot: every run restores that file.

Exit status: 0 every run was carried out and its recovery proven; 3 every run was carried out and a recovery is not
proven; 1 a run could not be carried out, or the cluster of --cluster is not in order afterwards; 2 usage;
130 interrupted. With --shortcuts 0 takes the place of 3: what fails where something is left out is the measurement,
and not an error. What was measured is reported in any case.`,
		Example: `  drill compare deployment-loss
  drill compare deployment-loss --procedures kubelet-stop,manifest-move --runs 5 -o markdown > comparison.md
  drill compare deployment-loss --shortcuts -o json > shortcuts.json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeScenarios(),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range []string{"cluster", "image", "workload-image", "report-dir"} {
				if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
					return usagef("--%s is given and empty", name)
				}
			}
			if !cmd.Flags().Changed("procedures") {
				procedures = proceduresFor(mode)
			}
			if err := o.parse(args, procedures, mode, cmd.Flags().Changed("nodes")); err != nil {
				return err
			}
			var err error
			if o.each.snapshot, err = given.parse(cmd); err != nil {
				return err
			}
			return compare(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&procedures, "procedures", procedureNames(), "the procedures to compare, in this order; by default all that can be carried out in the mode of --data-dir-mode")
	addDataDirFlag(cmd, &mode)
	f.IntVar(&o.runs, "runs", 1, "how many runs of each; they take turns")
	given.add(cmd)
	f.BoolVar(&o.shortcuts, "shortcuts", false, "also try what may be left out of each procedure")
	f.DurationVar(&o.each.settle, "settle", settleUsual, "how long after a recovery the checks may take to become true; less makes runs that fail shorter, and may fail one that would have passed")
	f.DurationVar(&o.each.outageLimit, "outage-limit", comparedLimit,
		"how long each recovery may take from when the control plane is taken down; one that takes longer has failed, and the old state is put back. A single step has 5 minutes at most")
	f.StringVar(&o.each.cluster, "cluster", "", "run on this kind cluster, instead of one made for the comparison")
	f.IntVar(&o.each.nodes, "nodes", 0, "control planes of a cluster that is made for the comparison, 1 or 3 (default: what the scenario needs)")
	f.StringVar(&o.each.image, "image", "", "node image of a cluster that is made for the comparison (default $DRILL_NODE_IMAGE, or what is there)")
	f.StringVar(&o.each.workloadImage, "workload-image", "", "image of the workload, an HTTP server on port 80 (default: an nginx that the node holds)")
	f.StringVar(&o.each.reportDir, "report-dir", "", "write report.json and comparison.md here and, of runs that failed, evidence")
	_ = cmd.RegisterFlagCompletionFunc("procedures", completeProcedures())
	_ = cmd.MarkFlagDirname("report-dir")
	f.VarP(&o.output, "output", "o", "how to print the result: "+strings.Join(comparisonFormats(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(comparisonFormats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// asMarkdown is a format that only a comparison has.
const asMarkdown outputFlag = "markdown"

func comparisonFormats() []string { return append(formats(), string(asMarkdown)) }

// comparisonFlag is -o of a comparison.
type comparisonFlag struct{ outputFlag }

// Set is part of pflag.Value.
func (c *comparisonFlag) Set(s string) error {
	if !slices.Contains(comparisonFormats(), s) {
		return fmt.Errorf("it is one of %s", strings.Join(comparisonFormats(), ", "))
	}
	c.outputFlag = outputFlag(s)
	return nil
}

// parse checks everything that can be known to be wrong before anything is touched.
func (o *compareOptions) parse(args, procedures []string, mode string, nodesGiven bool) (err error) {
	if len(procedures) == 0 {
		return usagef("--procedures is given and empty")
	}
	if o.procedures, err = proceduresNamed(procedures); err != nil {
		return err
	}
	for i, p := range o.procedures { // each must do on the cluster
		each := o.each
		if err := each.parse(args, p.Name, mode, nodesGiven); err != nil {
			return err
		}
		o.procedures[i] = each.procedure
		o.each.scenarios = each.scenarios
	}
	switch {
	case o.runs < 1 || o.runs > mostRuns:
		return usagef("--runs is between 1 and %d, not %d", mostRuns, o.runs)
	case o.each.outageLimit <= 0:
		return usagef("--outage-limit is %s, and must be more than nothing", o.each.outageLimit)
	case o.each.settle <= 0:
		return usagef("--settle is a time above 0, not %s", o.each.settle)
	}
	return nil
}

// variations are what is run, in order.
func (o compareOptions) variations() []runOptions {
	var out []runOptions
	if !o.shortcuts {
		for _, p := range o.procedures {
			each := o.each
			each.procedure = p
			out = append(out, each)
		}
		return out
	}
	for _, v := range procedure.Shortcuts(o.procedures) {
		each, bump := o.each, uint64(0)
		if v.Bump {
			bump = etcd.DefaultBump
		}
		each.procedure, each.bump, each.keepRunning, each.renew = v.Procedure, &bump, v.Keep, v.Renew
		out = append(out, each)
	}
	return out
}

func compare(ctx context.Context, o compareOptions) error {
	app := o.each.app
	out, terminal := app.Stdout, app.Terminal
	if o.output.outputFlag != asTable { // standard output is the document's alone
		out, terminal = app.Stderr, app.ErrTerminal
	}
	view := term.New(out, terminal)
	defer func() { _ = view.Close() }() // its error is looked at below, where there is one to tell
	told := context.AfterFunc(ctx, func() { view.Say(o.interrupted()) })
	defer told()
	doc, whole, err := compareAll(ctx, o, view)
	if err != nil {
		return err
	}
	var problems []error
	if dir := o.each.reportDir; dir != "" {
		paths, err := report.WriteComparisonDir(dir, doc)
		problems = append(problems, err)
		view.Report(paths...)
	}
	if o.output.outputFlag == asTable {
		view.Compare(doc)
	}
	problems = append(problems, view.Close())
	switch o.output.outputFlag {
	case asTable:
	case asMarkdown:
		problems = append(problems, report.WriteComparison(app.Stdout, doc))
	default:
		problems = append(problems, writeReport(app.Stdout, o.output.outputFlag, doc))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("the result could not be reported: %w", err)
	}
	if status := o.exitStatus(doc.Runs, whole, ctx.Err() != nil); status != exitPassed {
		return exitError{status}
	}
	return nil
}

// exitStatus is what the comparison exits with. With shortcuts it is not to blame for what fails: that is what it is to find out.
func (o compareOptions) exitStatus(runs []report.Run, whole, interrupted bool) int {
	switch {
	case interrupted:
		return exitInterrupted
	case !whole:
		return exitBroken
	case !o.shortcuts && slices.ContainsFunc(runs, func(r report.Run) bool { return r.Verdict == plan.VerdictFailed }):
		return exitFailed
	default:
		return exitPassed
	}
}

func (o compareOptions) interrupted() string {
	then := "then the cluster is deleted, and what was measured is reported. Another interruption ends drill at once."
	if o.each.cluster != "" {
		then = "then what was measured is reported. Another interruption ends drill at once and leaves cluster " + o.each.cluster + " as it is then."
	}
	return "Interrupted: if the control plane has been taken down, the old state is put back first; " + then
}

// compareAll carries out all runs, one after the other. It says whether each was carried out and the cluster is in order or gone; the error is for what makes the
// whole command senseless.
func compareAll(ctx context.Context, o compareOptions, view *term.View) (report.Document, bool, error) {
	if refused, err := o.variations()[0].refuseSnapshot(ctx, view, o.each.scenarios...); err != nil || refused != nil {
		return report.NewDocument(refused...), false, err
	}
	var activity atomic.Pointer[term.Activity]
	provider, err := o.each.app.provider(ctx, func(line string) {
		if a := activity.Load(); a != nil {
			a.Update(line)
		}
	})
	if err != nil {
		return report.Document{}, false, err
	}
	c := comparison{
		variations: o.variations(),
		say:        view.Say,
		on: func(o runOptions) host {
			return lease{options: o, scenario: o.scenarios[0], provider: provider, view: view, activity: &activity}
		},
	}
	runs, whole, err := c.all(ctx, o.runs)
	return report.NewDocument(runs...), whole, err
}

// host is where runs with certain options are carried out: a lease.
type host interface {
	job() runner.Job
	take(ctx context.Context) (cluster.Cluster, plan.ClusterInfo, error)
	play(ctx context.Context, job runner.Job, c cluster.Cluster) report.Run
	giveBack(ctx context.Context, c cluster.Cluster) error
	observe(e plan.Event)
}

// comparison carries out runs on a cluster that it exchanges for another one when it isn't fit for a further run.
type comparison struct {
	variations []runOptions
	say        func(string)
	// on returns the host of runs with these options.
	on      func(runOptions) host
	cluster cluster.Cluster // nil when there is none
}

// all carries out every variation, so many rounds of them. It says whether each run was carried out and the cluster is in order or gone.
func (c *comparison) all(ctx context.Context, rounds int) (runs []report.Run, whole bool, err error) {
	whole = true
	defer func() { whole = c.discard(ctx) && whole }()
	total := rounds * len(c.variations)
	for i := range total {
		if ctx.Err() != nil {
			return runs, false, nil
		}
		o := c.variations[i%len(c.variations)]
		c.say("")
		c.say(fmt.Sprintf("Run %d of %d: %s", i+1, total, describe(o.procedure, c.on(o).job().Variant())))
		r, err := c.next(ctx, o, i == 0)
		if err != nil {
			return nil, false, err
		}
		runs = append(runs, r)
		whole = whole && carriedOut(r)
		switch {
		case fit(r):
			continue
		case ctx.Err() != nil:
		case c.cluster == nil:
			c.say("There is no cluster to go on with: the comparison ends here.")
			return runs, false, nil
		case o.cluster != "":
			c.say("Cluster " + o.cluster + " may not be in order: the comparison ends here.")
			return runs, false, nil
		}
		whole = c.discard(ctx) && whole
	}
	return runs, whole, nil
}

// next carries out one run, on the cluster that is there or on a new one. The error is for what makes the whole command senseless, found before anything was touched.
func (c *comparison) next(ctx context.Context, o runOptions, first bool) (report.Run, error) {
	on := c.on(o)
	job := on.job()
	job.Observers = []plan.Observer{plan.ObserverFunc(on.observe)}
	if c.cluster == nil {
		began := time.Now()
		taken, info, err := on.take(ctx)
		switch {
		case err != nil && first && isUsage(err):
			return report.Run{}, err
		case err != nil:
			return job.CouldNotBegin(ctx, began, info, err), nil
		}
		c.cluster = taken
	}
	return on.play(ctx, job, c.cluster), nil
}

// discard gives the cluster back if there is one, and says whether nothing is left of it that should not be.
func (c *comparison) discard(ctx context.Context) bool {
	if c.cluster == nil {
		return true
	}
	err := c.on(c.variations[0]).giveBack(ctx, c.cluster)
	c.cluster = nil
	if err != nil {
		c.say("Warning: " + err.Error())
	}
	return err == nil
}

// describe says in which way a procedure is carried out.
func describe(p procedure.Procedure, v plan.Variant) string {
	row := report.Row{Variant: v}
	row.Procedure = p.Name
	return fmt.Sprintf("%s; revision raised: %s; begins anew besides etcd: %s", row.Name(), row.Bumped(), row.Renewed())
}

// carriedOut says whether a run says something about its procedure.
func carriedOut(r report.Run) bool {
	return r.Verdict == plan.VerdictPassed || r.Verdict == plan.VerdictFailed
}

// fit says whether the cluster of a run can be used for another one.
func fit(r report.Run) bool {
	return carriedOut(r) && r.Rollback != plan.StatusFailed && r.CleanedUp()
}

func procedureNames() []string {
	var names []string
	for _, p := range procedure.All() {
		names = append(names, p.Name)
	}
	return names
}
