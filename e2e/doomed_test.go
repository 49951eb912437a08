//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/scenarios"
)

// moment is when a drill is killed.
type moment string

// The two moments of a step between which lies all that it does: the journal says that it begins, and nothing was done yet; and all was done, and the journal doesn't say so. That
// it has ended and the next one begins is the first moment of that one. In the midst of a step that sends something to a node is when a part of that is there; and when the verdict is in the
// journal, what the run has made on the cluster is about to go.
const (
	before moment = "before"
	midst  moment = "in the midst of"
	during moment = "when it has judged, cleaning up"
	after  moment = "after"
)

// doomed is a run in a process of its own, which kills itself.
type doomed struct {
	ID, Cluster, StateDir, Procedure string
	Mode                             procedure.DataDirMode
	Worker                           []string
	Step                             string
	Moment                           moment
	// TakeUp says that another process has left the run, and what this one is to do about it: resume or rollback. Empty for one that begins it.
	TakeUp string
}

// doomedVariable holds a doomed in JSON, for the process that is to play it.
const doomedVariable = "DRILL_E2E_DOOMED"

// TestMain makes the test binary the process that is killed, when it is called as such.
func TestMain(m *testing.M) {
	if text := os.Getenv(doomedVariable); text != "" {
		fmt.Fprintln(os.Stderr, "a run that was to be killed came to its end:", playDoomed(context.Background(), text))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func die() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

func playDoomed(ctx context.Context, text string) error {
	var d doomed
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return err
	}
	provider, err := kind.New(ctx, kind.Options{StateDir: d.StateDir})
	if err != nil {
		return err
	}
	c, err := provider.Attach(ctx, d.Cluster)
	if err != nil {
		return err
	}
	p, err := procedureOf(d.Procedure).In(d.Mode)
	if err != nil {
		return err
	}
	job, do := runner.Job{ID: d.ID, Scenario: scenarios.DeploymentLoss(), Procedure: p, OutageLimit: patience}, runner.Job.Run
	if d.TakeUp != "" {
		found, err := runner.Find(d.StateDir, d.ID)
		if err != nil {
			return err
		}
		if job, err = runner.JobOf(found.Run); err != nil {
			return err
		}
		if do = runner.Job.Resume; d.TakeUp == "rollback" {
			do = runner.Job.Rollback
		}
	}
	var cut bool
	job.Cluster, job.StateDir, job.Worker = cutting{c, &cut}, d.StateDir, etcd.Worker{Command: d.Worker}
	job.Observers = []plan.Observer{plan.ObserverFunc(func(e plan.Event) {
		switch e := e.(type) {
		case plan.StepStarted:
			if e.Step.Name == d.Step && d.Moment == before {
				die()
			}
			cut = e.Step.Name == d.Step && d.Moment == midst
		case plan.CheckStarted:
			if e.Check.Name == d.Step && d.Moment == before {
				die()
			}
		case plan.CheckFinished:
			if e.Check.Name == d.Step && d.Moment == after {
				die()
			}
		case plan.StepFinished:
			if e.Step.Name == d.Step && d.Moment == after && !e.Earlier {
				die()
			}
		}
	})}
	if d.Moment == during {
		go dieOnceJudged(filepath.Join(runner.Dir(d.StateDir, d.ID), journal.FileName))
	}
	r, err := do(job, ctx)
	return fmt.Errorf("%s: %s, %w", r.Verdict, r.Reason, err)
}

// dieOnceJudged ends this process as soon as the journal holds a verdict.
func dieOnceJudged(path string) {
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			if strings.HasSuffix(line, "\n") && strings.Contains(line, fmt.Sprintf(`"kind":%q`, journal.Judged)) { // one that is half written is none
				die()
			}
		}
	}
}

func procedureOf(name string) procedure.Procedure {
	i := slices.IndexFunc(procedure.All(), func(p procedure.Procedure) bool { return p.Name == name })
	return procedure.All()[i]
}

// cutting is a cluster on the way to which this process dies as soon as it is told to: when a part of a folder or of a manifest has been sent.
type cutting struct {
	cluster.Cluster
	now *bool
}

func (c cutting) Nodes() []cluster.Node {
	var out []cluster.Node
	for _, n := range c.Cluster.Nodes() {
		out = append(out, cuttingNode{n, c.now})
	}
	return out
}

type cuttingNode struct {
	cluster.Node
	now *bool
}

// How much is sent of a folder, which is far larger, and of a manifest, before this process dies.
const (
	partOfFolder   = 1 << 20
	partOfManifest = 512
)

func (n cuttingNode) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	if *n.now && cmd.Stdin != nil {
		cmd.Stdin = &lastWords{cmd.Stdin, partOfFolder}
	}
	return n.Node.Exec(ctx, cmd)
}

// WriteFile leaves alone what is not a manifest: the journal's copy, which is written in the background.
func (n cuttingNode) WriteFile(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error {
	if *n.now && strings.HasPrefix(path, "/etc/kubernetes/") {
		r = &lastWords{r, partOfManifest}
	}
	return n.Node.WriteFile(ctx, path, mode, r)
}

// lastWords ends this process when so many bytes have been read from it.
type lastWords struct {
	r    io.Reader
	left int
}

func (l *lastWords) Read(p []byte) (int, error) {
	if l.left == 0 {
		die()
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// kill begins a run, or its rollback, and waits until that has killed itself.
func (p place) kill(ctx SpecContext, d doomed) {
	GinkgoHelper()
	text, err := json.Marshal(d)
	Expect(err).NotTo(HaveOccurred())
	self, err := os.Executable()
	Expect(err).NotTo(HaveOccurred())
	cmd := p.command(ctx, self)
	cmd.Env = append(cmd.Env, doomedVariable+"="+string(text))
	s, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	Eventually(ctx, s).Should(gexec.Exit())
	status, ok := s.Command.ProcessState.Sys().(syscall.WaitStatus)
	Expect(ok && status.Signaled() && status.Signal() == syscall.SIGKILL).To(BeTrue(), "it ended with %v", s.Command.ProcessState)
	AddReportEntry(killEntry, string(d.Moment)+" "+d.Step, ReportEntryVisibilityNever)
}

// Names of the entries that specs make in their reports, for the count at the end.
const (
	killEntry    = "killed"
	outcomeEntry = "outcome"
)

// outcome is what became of a run that was killed, once that has been looked at.
type outcome struct {
	// command says how it was taken up: "resumed", "rolled back".
	command string
	run     report.Run
}

// proven says in which state the cluster is shown to be: the recovered one, the old one, or the one that nobody had touched. It is empty where nothing is.
func (o outcome) proven() string {
	passed := func(checks []report.Check) bool {
		return slices.ContainsFunc(checks, func(c report.Check) bool { return c.Status == plan.StatusPassed }) &&
			!slices.ContainsFunc(checks, func(c report.Check) bool { return c.Status == plan.StatusFailed })
	}
	switch r := o.run; {
	case r.Verdict == plan.VerdictPassed && passed(r.Checks):
		return "recovered"
	case r.Rollback == plan.StatusPassed && passed(r.RollbackChecks):
		return "put back"
	case r.Rollback == "" && r.Verdict == plan.VerdictInterrupted && !r.OutageBegan():
		return "left untouched"
	}
	return ""
}

var _ = ReportAfterSuite("kills", func(r Report) {
	kills, runs := 0, 0
	became := map[string]int{}
	var open []string
	for _, spec := range r.SpecReports {
		killed, state := 0, ""
		for _, e := range spec.ReportEntries {
			switch e.Name {
			case killEntry:
				killed++
			case outcomeEntry:
				o := e.GetRawValue().(outcome)
				if p := o.proven(); p != "" {
					state = o.command + " and " + p
				}
			}
		}
		if killed == 0 {
			continue
		}
		kills, runs = kills+killed, runs+1
		if became[state]++; state == "" {
			open = append(open, spec.FullText())
		}
	}
	if kills == 0 {
		return
	}
	fmt.Printf("\n%d kills in %d runs:\n", kills, runs)
	for _, state := range slices.Sorted(maps.Keys(became)) {
		if state != "" {
			fmt.Printf("  %d %s\n", became[state], state)
		}
	}
	fmt.Printf("  %d not proven\n", len(open))
	for _, name := range open {
		fmt.Println("    " + name)
	}
})

// manifestOf is etcd's manifest on a cluster's first control plane.
func manifestOf(ctx context.Context, c cluster.Cluster) string {
	GinkgoHelper()
	b, err := cluster.ControlPlanes(c)[0].ReadFile(ctx, controlplane.ManifestDir+"/etcd.yaml")
	Expect(err).NotTo(HaveOccurred())
	return string(b)
}
