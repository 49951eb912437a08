package procedure_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
)

// healthy is a node on which every component answers that it is ready.
type healthy struct{ recorder }

func (h *healthy) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	res, err := h.recorder.Exec(ctx, cmd)
	if cmd.Argv[0] == "curl" {
		res.Stdout = []byte("ok\n200")
	}
	return res, err
}

// TestRenamesAreKept: when a recovery or a rollback is done, what was renamed in the manifests folder is on the disk, on every control plane; and nobody waits for it before all is ready.
func TestRenamesAreKept(t *testing.T) {
	kept := "sync -- " + controlplane.ManifestDir
	for _, p := range procedure.All() {
		nodes := []*healthy{{recorder{name: "cp-a"}}, {recorder{name: "cp-b"}}}
		target := procedure.Target{DataDir: "/new/etcd", StateDir: "/new", RollbackDir: "/new/back"}
		for _, n := range nodes {
			n.files = map[string][]byte{}
			for _, c := range controlplane.Components() {
				b, err := os.ReadFile("../controlplane/testdata/" + c + "-v1.37.yaml")
				if err != nil {
					t.Fatal(err)
				}
				n.files[controlplane.ManifestDir+"/"+c+".yaml"] = b
			}
			target.Members = append(target.Members, member(n.name, "10.0.0.1", n))
		}
		r := p.Build(target)
		for what, steps := range map[string][]plan.Step{"recovery": r.Steps, "rollback": r.Rollback} {
			waits := 0
			for i, s := range steps {
				if !strings.Contains(s.Name, "wait-kube-") && !strings.HasSuffix(s.Name, "wait-etcd") {
					continue
				}
				waits++
				for _, n := range nodes {
					n.ran = nil
				}
				if err := s.Do(t.Context()); err != nil {
					t.Fatal(err)
				}
				last := strings.HasSuffix(s.Name, "wait-"+controlplane.Scheduler)
				for _, n := range nodes {
					if got := slices.Contains(n.ran, kept); got != last || last && n.ran[len(n.ran)-1] != kept {
						t.Errorf("%s with %s, step %s on %s: %q", what, p.Name, s.Name, n.name, n.ran)
					}
				}
				if last && slices.ContainsFunc(steps[i+1:], func(s plan.Step) bool {
					return strings.Contains(s.Name, "manifest") || strings.Contains(s.Name, "move")
				}) {
					t.Errorf("%s with %s: manifests are touched after %s", what, p.Name, s.Name)
				}
			}
			want := 4
			if what == "recovery" && p.Name == "kubelet-stop" {
				want = 5 // for the first API server, and for all of them
			}
			if waits != want {
				t.Errorf("%s with %s waits %d times", what, p.Name, waits)
			}
		}
	}
}
