// Command bench measures how long drills take the control plane away, as ratios of runs that took turns on one machine, and holds them against the goals that drill has set itself.
//
//	go run ./hack/bench [-runs N] [-only PART,PART] [-dir DIR]
//
// It needs bin/drill and a node image, prints the ratios with their least, median and most, and writes them with every run to bench.json and with charts to bench.md. What it misses is no
// error: a goal is a measurement, and not a test.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/etcd-drill/drill/hack/bench/ratio"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	runs := flags.Int("runs", 10, "how many runs of each")
	only := flags.String("only", "", "comma-separated parts; default all of: "+strings.Join(partNames(), ", "))
	dir := flags.String("dir", "reports/bench", "where to write bench.json and bench.md")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := partsNamed(*only)
	if err != nil {
		return err
	}
	if *runs < 1 {
		return fmt.Errorf("-runs is at least 1, not %d", *runs)
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	l, err := newLab(*dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close(ctx)) }()
	b := Bench{SchemaVersion: 1, Rounds: *runs}
	var problems []error
	for _, p := range chosen {
		groups, err := p.measure(ctx, l, *runs)
		for i, runs := range groups {
			b.Groups = append(b.Groups, Group{Name: p.name + ": " + p.groups[i], Runs: runs})
		}
		for _, r := range p.ratios {
			b.Ratios = append(b.Ratios, r.of(groups, *runs))
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", p.name, err)) // the other parts may do
		}
		problems = append(problems, b.write(*dir))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(problems, ratio.Print(os.Stdout, b.Ratios))...)
}

// lab has the clusters and calls drill.
type lab struct {
	state, drill string
	clusters     []string
}

// newLab has a state of its own below dir, on the same disk.
func newLab(dir string) (*lab, error) {
	drill, err := filepath.Abs(filepath.Join("bin", "drill"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(drill); err != nil {
		return nil, fmt.Errorf("%w; hint: `make build` makes it", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	state, err := os.MkdirTemp(dir, ".state-")
	return &lab{state: state, drill: drill}, err
}

// deleteLimit bounds the deletion of a cluster.
const deleteLimit = 3 * time.Minute

// close deletes the clusters that are left, and the state.
func (l *lab) close(ctx context.Context) error {
	var problems []error
	for _, name := range slices.Clone(l.clusters) {
		problems = append(problems, l.remove(ctx, name))
	}
	if err := errors.Join(problems...); err != nil {
		return err // whose they are stands in the state
	}
	return os.RemoveAll(l.state)
}

// call runs drill and returns what it printed; its progress goes to standard error.
func (l *lab) call(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, l.drill, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+l.state)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := stderr.String()
		return stdout.Bytes(), fmt.Errorf("drill %s: %w: %s", strings.Join(args, " "), err, said[max(0, len(said)-4<<10):])
	}
	return stdout.Bytes(), nil
}

// cluster makes a cluster and returns its name.
func (l *lab) cluster(ctx context.Context, controlPlanes int) (string, error) {
	name := "drill-bench-" + runner.Letters()
	l.clusters = append(l.clusters, name)
	_, err := l.call(ctx, "cluster", "create", name, "--nodes", fmt.Sprint(controlPlanes))
	return name, err
}

// remove deletes a cluster, also when ctx has ended. One that could not be deleted is left for close.
func (l *lab) remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteLimit)
	defer cancel()
	if _, err := l.call(ctx, "cluster", "delete", name); err != nil {
		return err
	}
	l.clusters = slices.DeleteFunc(l.clusters, func(c string) bool { return c == name })
	return nil
}

// kubeconfig is the file with which the cluster's API server is reached.
func (l *lab) kubeconfig(name string) string {
	return filepath.Join(l.state, "drill", "clusters", name+".kubeconfig")
}

// play carries out one run, which must be proven where the procedure is drill's own: of another it is measured all the same how long reads were away.
func (l *lab) play(ctx context.Context, on, procedure string) (Run, error) {
	out, err := l.call(ctx, "run", "deployment-loss", "--cluster", on, "--procedure", procedure, "--outage-limit", "10m", "-o", "json")
	var doc report.Document
	if bad := json.Unmarshal(out, &doc); bad != nil || len(doc.Runs) != 1 {
		return Run{}, errors.Join(err, bad)
	}
	r := Run{Run: doc.Runs[0]}
	r.ReadsAwayAtLeastSeconds = awayAtLeast(r.Run)
	r.Probe = nil // the samples are megabytes
	// Tutorials' way is known to fail, reads may never come back with it, and clients that nobody restarts may take longer than a check waits. drill's own has no excuse.
	counts := r.Verdict == plan.VerdictPassed && r.Outage.ReadSeconds != nil || r.Verdict == plan.VerdictFailed && procedure != kubeletStop
	known := r.Outage.ReadSeconds != nil || r.ReadsAwayAtLeastSeconds != nil
	if !counts || !known || r.Rollback == plan.StatusFailed {
		return r, fmt.Errorf("a run with %s on cluster %s doesn't count: %s: %s", procedure, on, r.Verdict, r.Reason)
	}
	away := "for good"
	if r.Outage.ReadSeconds != nil {
		away = fmt.Sprintf("%.1f s", *r.Outage.ReadSeconds)
	}
	fmt.Fprintf(os.Stderr, "%s on %s: %s, reads away %s\n", procedure, on, r.Verdict, away)
	return r, nil
}

// Run is a run as drill reports it, but without the probe's samples.
type Run struct {
	report.Run
	// ReadsAwayAtLeastSeconds, where reads never came back, is for how long that was seen: until the probe ended.
	ReadsAwayAtLeastSeconds *float64 `json:"readsAwayAtLeastSeconds,omitempty"`
}

// awayAtLeast is how long the outage had lasted when the probe asked last; nil where reads came back, or nobody asked.
func awayAtLeast(r report.Run) *float64 {
	if r.Outage.ReadSeconds != nil || r.Probe == nil || r.Probe.OutageBegan == nil {
		return nil
	}
	var last float64
	for _, s := range r.Probe.Series {
		if len(s.At) > 0 {
			last = max(last, s.At[len(s.At)-1])
		}
	}
	away := last - *r.Probe.OutageBegan
	if away <= 0 {
		return nil
	}
	return &away
}

// bounded are the runs with what is known at least of the outages that never ended.
func bounded(runs []Run) []report.Run {
	out := plain(runs)
	for i, r := range runs {
		if r.Outage.ReadSeconds == nil {
			out[i].Outage.ReadSeconds = r.ReadsAwayAtLeastSeconds
		}
	}
	return out
}

func plain(runs []Run) []report.Run {
	out := make([]report.Run, len(runs))
	for i, r := range runs {
		out[i] = r.Run
	}
	return out
}

// Bench is what was measured.
type Bench struct {
	SchemaVersion int `json:"schemaVersion"`
	// Rounds is how many runs there were of each.
	Rounds int           `json:"rounds"`
	Ratios []ratio.Ratio `json:"ratios"`
	Groups []Group       `json:"groups"`
}

// Group is the runs of one kind.
type Group struct {
	Name string `json:"name"`
	Runs []Run  `json:"runs"`
}

func (b Bench) write(dir string) error {
	content, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprint(&text, "```\n")
	if err := ratio.Print(&text, b.Ratios); err != nil {
		return err
	}
	fmt.Fprint(&text, "```\n")
	for _, g := range b.Groups {
		if len(g.Runs) == 0 {
			continue
		}
		fmt.Fprintf(&text, "\n## %s\n\n", g.Name)
		if err := report.WriteComparison(&text, report.NewDocument(plain(g.Runs)...)); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "bench.json"), content, 0o644),
		os.WriteFile(filepath.Join(dir, "bench.md"), text.Bytes(), 0o644),
	)
}
