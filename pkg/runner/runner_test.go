package runner_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/scenarios"
)

// bare is a cluster whose one control plane has no etcd manifest.
type bare struct{}

func (bare) Name() string                               { return "lab" }
func (bare) Provider() string                           { return "none" }
func (bare) Kubeconfig(context.Context) ([]byte, error) { return nil, errors.New("none") }
func (bare) Nodes() []cluster.Node                      { return []cluster.Node{node{}} }

type node struct{ cluster.Node }

func (node) Name() string       { return "cp-a" }
func (node) Role() cluster.Role { return cluster.ControlPlane }
func (node) ReadFile(ctx context.Context, path string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("read %s: %w", path, fs.ErrNotExist)
}

func TestRunThatCannotBegin(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		blocked bool // the state directory is a file
		verdict plan.Verdict
		reason  string
	}{
		"not a cluster of kubeadm": {t.Context(), false, plan.VerdictBroken, "node cp-a"},
		"interrupted":              {over, false, plan.VerdictInterrupted, "context canceled"},
		"nowhere to keep anything": {t.Context(), true, plan.VerdictBroken, "making the run's folder"},
	} {
		t.Run(name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "state")
			if c.blocked {
				if err := os.WriteFile(state, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var seen []string
			job := runner.Job{
				ID: "a-run", Scenario: scenarios.DeploymentLoss(), Procedure: procedure.KubeletStop(), Cluster: bare{}, StateDir: state,
				Observers: []plan.Observer{plan.ObserverFunc(func(e plan.Event) { seen = append(seen, fmt.Sprintf("%T", e)) })},
			}
			run, err := job.Run(c.ctx)
			if err != nil || run.Verdict != c.verdict || !strings.Contains(run.Reason, c.reason) {
				t.Errorf("%s: %s, %v", run.Verdict, run.Reason, err)
			}
			if run.ID != "a-run" || run.Scenario != "deployment-loss" || run.Procedure != "kubelet-stop" || run.Cluster.Name != "lab" || run.Cluster.Nodes != 1 {
				t.Errorf("the report is of %+v", run)
			}
			if want := []string{"plan.RunStarted", "plan.RunFinished"}; !slices.Equal(seen, want) {
				t.Errorf("observers saw %q", seen)
			}
			if c.blocked {
				return
			}
			dir := runner.Dir(state, "a-run")
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the run's folder: %v, %v", info, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "report.json")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNewID(t *testing.T) {
	at := time.Date(2026, 11, 23, 6, 7, 8, 0, time.FixedZone("somewhere", 3600))
	id := runner.NewID(at)
	if !regexp.MustCompile(`^20261123-050708-[a-z2-7]{4}$`).MatchString(id) {
		t.Errorf("%q", id)
	}
	if other := runner.NewID(at); other == id && runner.NewID(at) == id {
		t.Errorf("three runs in one second are all named %s", id)
	}
}
