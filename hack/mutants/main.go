// Command mutants shows that the checks are worth something: it takes the body out of one check after the other, so that the check always passes,
// and runs the tests, which must then fail. It prints who noticed, and fails when nobody did.
//
//	go run ./hack/mutants [-sabotage] [-checks NAME,NAME]
//
// Without -sabotage the tests of the package are run; with it the sabotage suite, on real clusters, too. The code is changed in a copy that only the compiler
// sees (go help build, -overlay).
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
	"text/tabwriter"
	"time"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/etcd-drill/drill/pkg/proof"
	"github.com/etcd-drill/drill/pkg/runner"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	withSabotage := flags.Bool("sabotage", false, "run the sabotage suite as well, on real clusters")
	only := flags.String("checks", "", "comma-separated names of checks; default all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	checks, err := chosen(*only)
	if err != nil {
		return err
	}
	// With tests that fail anyway, every mutant would look as if somebody had noticed.
	if out, err := goTool(ctx, nil, "test", "-count=1", "./pkg/proof"); err != nil {
		return fmt.Errorf("the tests fail with every check in its place: %w\n%s", err, tail(out))
	}
	var l *lab
	if *withSabotage {
		l = &lab{}
		defer func() { l.close(ctx) }()
	}
	var results []result
	for _, c := range checks {
		r, err := kill(ctx, c, l)
		if err != nil {
			return fmt.Errorf("check %s: %w", c, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", c, r)
		results = append(results, r)
	}
	return score(results, *withSabotage)
}

// lab is the cluster on which mutants are tried, one after the other. What a fault leaves behind where nobody noticed it, the next run begins anew: all of the control plane.
type lab struct {
	name string
}

// cluster returns its name, and makes it if there is none.
func (l *lab) cluster(ctx context.Context) (string, error) {
	if l.name != "" {
		return l.name, nil
	}
	name := "drill-e2e-" + runner.Letters()
	if out, err := goTool(ctx, nil, "run", "./drill", "cluster", "create", name); err != nil {
		return "", fmt.Errorf("making a cluster: %w\n%s", err, tail(out))
	}
	l.name = name
	return name, nil
}

// close deletes the cluster, if there is one.
func (l *lab) close(ctx context.Context) {
	if l.name == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if out, err := goTool(ctx, nil, "run", "./drill", "cluster", "delete", l.name); err != nil {
		fmt.Fprintf(os.Stderr, "mutants: cluster %s could not be deleted: %v\n%s\n", l.name, err, tail(out))
	}
	l.name = ""
}

func chosen(only string) ([]string, error) {
	var all []string
	for _, c := range proof.Checks(&proof.Subject{}) {
		all = append(all, c.Name)
	}
	if only == "" {
		return all, nil
	}
	names := strings.Split(only, ",")
	for _, n := range names {
		if !slices.Contains(all, n) {
			return nil, fmt.Errorf("there is no check %q; there are: %s", n, strings.Join(all, ", "))
		}
	}
	return names, nil
}

// result says who noticed that a check is gone.
type result struct {
	check string
	// unit says that the package's tests noticed, sabotage that the sabotage suite did.
	unit, sabotage bool
}

func (r result) killed() bool { return r.unit || r.sabotage }

func (r result) String() string {
	return fmt.Sprintf("unit tests %s, sabotage %s", noticed(r.unit), noticed(r.sabotage))
}

func noticed(b bool) string {
	if b {
		return "noticed"
	}
	return "-"
}

// kill runs the tests without the check, and with a lab the sabotage suite.
func kill(ctx context.Context, check string, l *lab) (r result, err error) {
	r.check = check
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	overlay, err := mutate(check, "pkg/proof", dir)
	if err != nil {
		return r, err
	}
	// A mutant that can't be built proves nothing by failing.
	if out, err := goTool(ctx, nil, "build", "-overlay", overlay, "./..."); err != nil {
		return r, fmt.Errorf("the mutant can't be built: %w\n%s", err, out)
	}
	out, err := goTool(ctx, nil, "test", "-count=1", "-failfast", "-overlay", overlay, "./pkg/proof")
	switch {
	case ctx.Err() != nil:
		return r, ctx.Err()
	case err != nil && !bytes.Contains(out, []byte("--- FAIL")):
		return r, fmt.Errorf("the tests could not be run: %w\n%s", err, out)
	}
	r.unit = err != nil
	if l == nil {
		return r, nil
	}
	r.sabotage, err = caught(ctx, check, overlay, dir, l)
	if err != nil && ctx.Err() == nil { // the cluster may be what is wrong
		fmt.Fprintf(os.Stderr, "%s, once more on another cluster: %v\n", check, err)
		l.close(ctx)
		r.sabotage, err = caught(ctx, check, overlay, dir, l)
	}
	return r, err
}

// caught runs the faults that break the check until a spec fails, and says whether one did because the check did not.
func caught(ctx context.Context, check, overlay, dir string, l *lab) (bool, error) {
	cluster, err := l.cluster(ctx)
	if err != nil {
		return false, err
	}
	file := filepath.Join(dir, "report.json")
	out, err := goTool(ctx, []string{"DRILL_E2E_CLUSTER=" + cluster}, "test", "-count=1", "-tags", "e2e", "-timeout", "30m", "-overlay", overlay, "./e2e",
		"-ginkgo.label-filter=sabotage && breaks-"+check, "-ginkgo.fail-fast", "-ginkgo.json-report="+file)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	raw, errRead := os.ReadFile(file)
	if errRead != nil {
		return false, fmt.Errorf("the sabotage suite wrote no report: %w, %w\n%s", err, errRead, out)
	}
	var reports []types.Report
	if err := json.Unmarshal(raw, &reports); err != nil {
		return false, err
	}
	ran := 0
	for _, r := range reports {
		for _, s := range r.SpecReports {
			if s.LeafNodeType != types.NodeTypeIt || s.State == types.SpecStateSkipped {
				continue
			}
			ran++
			// Any other failure, of making the cluster for one, says nothing about the check: it must have been asked, and have passed for want of a body.
			asked := slices.ContainsFunc(s.ReportEntries, func(e types.ReportEntry) bool {
				return e.Name == "check "+check && strings.Contains(e.Value.String(), takenOut)
			})
			if s.State == types.SpecStateFailed && asked {
				return true, nil
			}
		}
	}
	if ran == 0 || err != nil {
		return false, fmt.Errorf("%d specs ran, and none failed for want of the check: %w\n%s", ran, err, tail(out))
	}
	return false, nil
}

func tail(b []byte) []byte {
	const most = 4000
	return b[max(0, len(b)-most):]
}

// goTool runs the go command with more in its environment, and ends all that it started when ctx does.
func goTool(ctx context.Context, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	return cmd.CombinedOutput()
}

// score prints what came of each mutant, and is an error when one survived.
func score(results []result, withSabotage bool) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CHECK TAKEN OUT\tUNIT TESTS\tSABOTAGE")
	var survived []string
	for _, r := range results {
		sabotage := noticed(r.sabotage)
		if !withSabotage {
			sabotage = "not run"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.check, noticed(r.unit), sabotage)
		if !r.killed() || withSabotage && !r.sabotage {
			survived = append(survived, r.check)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("%d of %d killed\n", len(results)-len(survived), len(results))
	if len(survived) > 0 {
		return fmt.Errorf("nobody noticed that these checks are gone: %s", strings.Join(survived, ", "))
	}
	return nil
}
