package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/pkg/term"
	"github.com/etcd-drill/drill/scenarios"
)

type runOptions struct {
	app           *App
	scenarios     []scenarios.Scenario
	procedure     procedure.Procedure
	cluster       string
	nodes         int
	image         string
	workloadImage string
	bump          *uint64
	keepRunning   []string
	renew         []string
	lateWrites    int
	snapshot      *stage.Snapshot
	settle        time.Duration
	outageLimit   time.Duration
	keep          bool
	literal       bool
	reportDir     string
	output        outputFlag
}

func newRunCmd(a *App) *cobra.Command {
	o := runOptions{app: a}
	var procedureName, mode string
	var bump uint64
	var given givenFlags
	cmd := &cobra.Command{
		Use:   "run SCENARIO...",
		Short: "Run scenarios: break a cluster, restore it, and prove what came back",
		Long: `Run scenarios. Without --cluster each gets a cluster of its own, which is deleted afterwards.

With --cluster the run happens on that cluster, and its control plane goes away: for some seconds with
kubelet-stop, for a minute or more with the other procedures, and where the recovery fails for as long as
--outage-limit says and the rollback after it.
EVERYTHING WRITTEN TO THAT CLUSTER BETWEEN THE SNAPSHOT AND THE RESTORE IS LOST, by whomever: that is what a
restore does. Afterwards etcd runs on a directory of the run, below /var/lib/drill on each node; a later
"kubeadm upgrade" would go back to the directory that kubeadm knows, so drill on clusters made for it. What the
run deployed is removed at the end; the old data directory, the old manifest and the snapshot are kept. When the
recovery can't be proven, the old state is put back, unless --keep says otherwise.

With --data-dir-mode swap no manifest changes: the directory that etcd runs on is renamed and kept, and the restored
one gets its path, so that a later "kubeadm upgrade" goes on with it. That needs a data directory that is no mount
point. Procedure manifest-edit is the change of the manifest, and can't be carried out so.

What may be left out of a procedure can be tried: --bump-revision 0 restores without raising etcd's revision, --keep-running
names what is to live on across the restore although the procedure begins it anew, and --renew what is to begin anew although
the procedure leaves it alone. Components are kube-apiserver, kube-controller-manager, kube-scheduler and kubelet; what each
procedure begins anew by itself is in "drill list -o json". "drill compare --shortcuts" tries them all.

` + givenHelp + `

Exit status: 0 passed, 1 broken (the drill could not be carried out), 2 usage,
3 failed (the recovery is not proven), 4 skipped, 130 interrupted.`,
		Example: `  drill run deployment-loss
  drill run deployment-loss --procedure manifest-edit -o json | jq '.runs[0].checks[] | select(.status=="failed")'
  drill run deployment-loss --cluster staging --report-dir /var/lib/drill-reports
  drill run deployment-loss --cluster staging --snapshot /backup/etcd-last-night.db
  drill run deployment-loss --late-writes 50 -o json | jq '.runs[0].loss'
  drill run deployment-loss --data-dir-mode swap
  drill run deployment-loss --keep-running kube-scheduler,kubelet
  drill run deployment-loss --procedure manifest-edit --bump-revision 1000000000 --renew kube-apiserver`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeScenarios(),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range []string{"cluster", "image", "workload-image", "report-dir"} {
				if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" { // a variable that isn't set, most likely
					return usagef("--%s is given and empty", name)
				}
			}
			for name, list := range map[string][]string{"keep-running": o.keepRunning, "renew": o.renew} {
				if cmd.Flags().Changed(name) && len(list) == 0 {
					return usagef("--%s is given and empty", name)
				}
			}
			if cmd.Flags().Changed("bump-revision") {
				if bump > maxBump {
					return usagef("--bump-revision is at most %d: revisions are 64-bit numbers, and later restores need room above", uint64(maxBump))
				}
				o.bump = &bump
			}
			if o.outageLimit <= 0 {
				return usagef("--outage-limit is %s, and must be more than nothing", o.outageLimit)
			}
			if o.lateWrites < 0 || o.lateWrites > stage.MaxLateWrites {
				return usagef("--late-writes is %d, and must be between 0 and %d", o.lateWrites, stage.MaxLateWrites)
			}
			if err := o.parse(args, procedureName, mode, cmd.Flags().Changed("nodes")); err != nil {
				return err
			}
			var err error
			if o.snapshot, err = given.parse(cmd); err != nil {
				return err
			}
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&procedureName, "procedure", defaultProcedure(), "how to restore; see drill list")
	addDataDirFlag(cmd, &mode)
	f.StringVar(&o.cluster, "cluster", "", "run on this kind cluster, instead of one made for the run")
	f.IntVar(&o.nodes, "nodes", 0, "control planes of a cluster that is made for the run, 1 or 3 (default: what the scenario needs)")
	f.StringVar(&o.image, "image", "", "node image of a cluster that is made for the run (default $DRILL_NODE_IMAGE, or what is there)")
	f.StringVar(&o.workloadImage, "workload-image", "", "image of the workload, an HTTP server on port 80 (default: an nginx that the node holds)")
	f.Uint64Var(&bump, "bump-revision", 0, fmt.Sprintf("by how much the restore raises etcd's revision; 0 restores without, and without marking the past as compacted (default %d, or 0 where drill list says that the procedure doesn't raise it)", etcd.DefaultBump))
	f.StringSliceVar(&o.keepRunning, "keep-running", nil, "components that live on across the restore, keeping their memory, although the procedure begins them anew")
	f.StringSliceVar(&o.renew, "renew", nil, "components that begin anew although the procedure leaves them alone")
	given.add(cmd)
	f.IntVar(&o.lateWrites, "late-writes", 0, "make so many ConfigMaps after the snapshot, to see that the report names each of them as lost, and nothing else")
	f.DurationVar(&o.outageLimit, "outage-limit", engine.DefaultOutageLimit, outageLimitHelp)
	f.BoolVar(&o.keep, "keep", false, "leave the cluster as the run left it; after a failure no other drill can begin on it until drill rollback has put the old state back")
	f.BoolVar(&o.literal, "literal", false, "type the commands that drill teach shows, instead of drill's own ways")
	f.StringVar(&o.reportDir, "report-dir", "", "write report.json, junit.xml and metrics.prom here and, on failure, evidence")
	_ = cmd.RegisterFlagCompletionFunc("procedure", completeProcedures())
	_ = cmd.RegisterFlagCompletionFunc("keep-running", completeComponents())
	_ = cmd.RegisterFlagCompletionFunc("renew", completeComponents())
	_ = cmd.MarkFlagDirname("report-dir")
	addOutputFlag(cmd, &o.output)
	return cmd
}

const outageLimitHelp = "how long the recovery may take from when the control plane is taken down; one that takes longer has failed, and the old state is put back unless the cluster is thrown away or --keep is given. A single step has 5 minutes at most"

// maxBump leaves room for some millions of restores below the largest revision, 1<<63 - 1.
const maxBump = 1 << 40

// parse checks everything that can be known to be wrong before anything is touched.
func (o *runOptions) parse(names []string, procedureName, mode string, nodesGiven bool) (err error) {
	for _, name := range names {
		sc, err := scenarioNamed(name)
		if err != nil {
			return err
		}
		o.scenarios = append(o.scenarios, sc)
	}
	if o.procedure, err = procedureIn(procedureName, mode); err != nil {
		return err
	}
	if err := o.procedure.Check(o.keepRunning, nil); err != nil {
		return usagef("--keep-running: %w", err)
	}
	if err := o.procedure.Check(nil, o.renew); err != nil {
		return usagef("--renew: %w", err)
	}
	if nodesGiven {
		switch {
		case o.cluster != "":
			return usagef("--nodes is for a cluster that is made for the run, and --cluster names one that is there")
		case o.nodes != 1 && o.nodes != 3:
			return usagef("--nodes is 1 or 3, not %d: etcd needs an odd number of members, and more than 3 show nothing new", o.nodes)
		case o.literal && o.nodes != 1:
			return usagef("--literal types on one control plane only")
		}
	}
	if o.cluster != "" {
		// kind itself allows more than ValidateName lets drill make.
		if problems := validation.IsDNS1123Subdomain(o.cluster); len(problems) > 0 {
			return usagef("cluster name %q: %s", o.cluster, problems[0])
		}
		if o.image != "" {
			return usagef("--image is for a cluster that is made for the run, and --cluster names one that is there")
		}
	}
	if o.reportDir != "" {
		if err := report.CheckDir(o.reportDir); err != nil {
			return usageError{err}
		}
	}
	return nil
}

func run(ctx context.Context, o runOptions) error {
	out, terminal := o.app.Stdout, o.app.Terminal
	if o.output != asTable { // standard output is the document's alone
		out, terminal = o.app.Stderr, o.app.ErrTerminal
	}
	view := term.New(out, terminal)
	defer func() { _ = view.Close() }() // its error is looked at below, where there is one to tell
	told := context.AfterFunc(ctx, func() { view.Say(o.interrupted()) })
	defer told()
	doc, err := runAll(ctx, o, view)
	if err != nil {
		return err
	}
	var problems []error
	if o.reportDir != "" {
		paths, err := report.WriteDir(o.reportDir, doc)
		problems = append(problems, err)
		view.Report(paths...)
	}
	problems = append(problems, view.Close())
	if o.output != asTable {
		problems = append(problems, writeReport(o.app.Stdout, o.output, doc))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("the result (%s) could not be reported: %w", worst(doc.Runs), err)
	}
	code := exitStatus(worst(doc.Runs))
	if ctx.Err() != nil { // maybe after a verdict, while a cluster was deleted or before another scenario
		code = exitInterrupted
	}
	if code != exitPassed {
		return exitError{code}
	}
	return nil
}

// writeReport prints the document in the format asked for.
func writeReport(w io.Writer, format outputFlag, doc report.Document) error {
	if format == asYAML {
		return report.WriteYAML(w, doc)
	}
	return report.WriteJSON(w, doc)
}

// interrupted says what happens after the first interruption, and what another one would leave behind.
func (o runOptions) interrupted() string {
	if o.cluster == "" {
		return "Interrupted: ending what goes on. Another interruption ends drill at once."
	}
	return "Interrupted: if the control plane has been taken down, the old state is put back first. Another interruption ends drill at once and leaves cluster " +
		o.cluster + " as it is then."
}

// runAll runs the scenarios one after the other, until one is interrupted.
func runAll(ctx context.Context, o runOptions, view *term.View) (report.Document, error) {
	if refused, err := o.refuseSnapshot(ctx, view, o.scenarios...); err != nil || refused != nil {
		return report.NewDocument(refused...), err
	}
	var activity atomic.Pointer[term.Activity] // kind tells of its progress from a goroutine of its own
	provider, err := o.app.provider(ctx, func(line string) {
		if a := activity.Load(); a != nil {
			a.Update(line)
		}
	})
	if err != nil {
		return report.Document{}, err
	}
	var runs []report.Run
	for _, sc := range o.scenarios {
		lease := lease{options: o, scenario: sc, first: len(runs) == 0, provider: provider, view: view, activity: &activity}
		r, err := lease.run(ctx)
		if err != nil {
			return report.Document{}, err
		}
		runs = append(runs, r)
		if ctx.Err() != nil {
			break
		}
	}
	return report.NewDocument(runs...), nil
}

// lease is a cluster for the time of one run.
type lease struct {
	options  runOptions
	scenario scenarios.Scenario
	// first says that nothing was run before, and so nothing touched.
	first    bool
	provider *kind.Provider
	view     *term.View
	// activity is where the provider's progress is shown while there is one.
	activity *atomic.Pointer[term.Activity]
}

// run gets the cluster, runs the job on it, and gives the cluster back. The error is for what makes the whole command senseless.
func (l lease) run(ctx context.Context) (report.Run, error) {
	job := l.job()
	if v := job.Variant(); len(l.options.keepRunning)+len(l.options.renew) > 0 || l.options.procedure.DataDirMode() != procedure.DataDirManifest {
		l.view.Say(describe(l.options.procedure, v))
	}
	job.Disposable = l.options.cluster == "" && !l.options.keep
	// The verdict is what a person should see last, so it is shown when the cluster has been given back.
	var verdict plan.Event
	job.Observers = []plan.Observer{plan.ObserverFunc(func(e plan.Event) {
		if _, last := e.(plan.RunFinished); last {
			verdict = e
			return
		}
		l.view.Observe(e)
	})}
	defer func() {
		if verdict != nil {
			l.view.Observe(verdict)
		}
	}()
	began := time.Now()
	c, info, err := l.take(ctx)
	switch {
	case err != nil && l.first && isUsage(err):
		return report.Run{}, err
	case err != nil:
		return job.CouldNotBegin(ctx, began, info, err), nil
	}
	r := l.play(ctx, job, c)
	if err := l.giveBack(ctx, c); err != nil {
		l.view.Say("Warning: " + err.Error())
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

// job is what was asked for.
func (l lease) job() runner.Job {
	o := l.options
	job := runner.Job{
		ID:            runner.NewID(time.Now()),
		Scenario:      l.scenario,
		Procedure:     o.procedure,
		StateDir:      o.app.StateDir,
		Worker:        o.app.Worker,
		BumpRevision:  o.bump,
		KeepRunning:   o.keepRunning,
		LateWrites:    o.lateWrites,
		Renew:         o.renew,
		WorkloadImage: o.workloadImage,
		Snapshot:      o.snapshot,
		Literal:       o.literal,
		Keep:          o.keep,
		Settle:        o.settle,
		OutageLimit:   o.outageLimit,
	}
	if l.provider != nil { // there is none yet where a run is refused before an engine is asked
		job.Place = l.provider.Place()
	}
	if o.reportDir != "" {
		job.EvidenceDir, job.ReportDir = filepath.Join(o.reportDir, "evidence", job.ID), o.reportDir
	}
	return job
}

// play runs the job on the cluster.
func (l lease) play(ctx context.Context, job runner.Job, c cluster.Cluster) report.Run {
	job.Cluster = c
	r, err := job.Run(ctx)
	if err != nil {
		l.view.Say("Warning: " + err.Error())
	}
	return r
}

// observe shows an event of a run.
func (l lease) observe(e plan.Event) { l.view.Observe(e) }

// deletion is the command that deletes a cluster.
func (l lease) deletion(name string) string { return l.options.app.Self + " cluster delete " + name }

// take attaches to the cluster that was named, or makes one. It says which one that is even when it fails.
func (l lease) take(ctx context.Context) (cluster.Cluster, plan.ClusterInfo, error) {
	info := plan.ClusterInfo{Provider: kind.Name, Name: l.options.cluster}
	if info.Name != "" {
		c, err := l.provider.Attach(ctx, info.Name)
		if err == nil {
			err = l.options.suits(c)
		}
		return c, info, err
	}
	image := l.options.image
	if image == "" {
		image = l.options.app.Getenv(kind.ImageVariable)
	}
	image, err := l.provider.ResolveImage(ctx, image)
	if err != nil {
		return nil, info, err
	}
	info.Name, info.Nodes = "drill-"+runner.Letters(), l.options.nodes
	if info.Nodes == 0 {
		info.Nodes = l.scenario.Nodes
	}
	l.view.Say("A cluster is made for this run. Should drill be killed, this deletes it: " + l.deletion(info.Name))
	activity := l.view.Activity("create cluster " + info.Name)
	l.activity.Store(activity)
	c, err := l.provider.Create(ctx, kind.CreateOptions{Name: info.Name, ControlPlanes: info.Nodes, Image: image})
	l.activity.Store(nil)
	activity.Done(err)
	return c, info, err
}

// suits says whether what was asked for can be done on a cluster that is there.
func (o runOptions) suits(c cluster.Cluster) error {
	n := len(cluster.ControlPlanes(c))
	switch {
	case o.literal && n > 1:
		return usagef("--literal types on one control plane only, and cluster %s has %d", c.Name(), n)
	default:
		return nil
	}
}

// deleteTimeout bounds the deletion of a cluster. It happens after an interruption too, so it can't have the run's context.
const deleteTimeout = 2 * time.Minute

// giveBack deletes a cluster that was made for the run, or says how to.
func (l lease) giveBack(ctx context.Context, c cluster.Cluster) error {
	if l.options.cluster != "" {
		return nil
	}
	command := l.deletion(c.Name())
	if l.options.keep {
		l.view.Say("The cluster is kept; delete it with: " + command)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	activity := l.view.Activity("delete cluster " + c.Name())
	err := l.provider.Delete(ctx, c.Name())
	activity.Done(err)
	if err != nil {
		return fmt.Errorf("cluster %s could not be deleted: %w; try: %s", c.Name(), err, command)
	}
	return nil
}

// worst is the verdict that decides the exit status.
func worst(runs []report.Run) plan.Verdict {
	order := []plan.Verdict{plan.VerdictInterrupted, plan.VerdictBroken, plan.VerdictFailed, plan.VerdictSkipped}
	for _, v := range order {
		for _, r := range runs {
			if r.Verdict == v {
				return v
			}
		}
	}
	return plan.VerdictPassed
}

func exitStatus(v plan.Verdict) int {
	switch v {
	case plan.VerdictPassed:
		return exitPassed
	case plan.VerdictFailed:
		return exitFailed
	case plan.VerdictSkipped:
		return exitSkipped
	case plan.VerdictInterrupted:
		return exitInterrupted
	default:
		return exitBroken
	}
}
