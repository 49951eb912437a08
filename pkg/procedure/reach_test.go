package procedure_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
)

// rising is a node that was just started: its runtime answers after so many calls, and its etcd is ready after so many more. An etcd that never is takes as many as are made.
type rising struct {
	recorder
	kubelet        string
	runtime, ready int
}

func (r *rising) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	res, err := r.recorder.Exec(ctx, cmd)
	said := func(out string, wait *int) (cluster.Result, error) {
		if *wait--; *wait >= 0 {
			return res, &cluster.ExitError{Node: r.name, Cmd: cmd, Code: 1, Output: "curl: (7) connection refused"}
		}
		return cluster.Result{Stdout: []byte(out)}, nil
	}
	switch cmd.Argv[0] {
	case "systemctl":
		return cluster.Result{Stdout: []byte("LoadState=loaded\nActiveState=" + r.kubelet + "\nSubState=any\n")}, nil
	case "curl":
		return said("ok\n200", &r.ready)
	case "crictl":
		if cmd.Argv[1] == "pods" {
			return said("", &r.runtime)
		}
	}
	return res, err
}

// TestReach: a node that was started anew is waited for and, where kubelet is about to start etcd on its old data, that etcd, though not for ever.
func TestReach(t *testing.T) {
	manifest, err := os.ReadFile("../controlplane/testdata/etcd-v1.37.yaml")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := controlplane.PatchHostPath(manifest, "etcd-data", "/new/etcd")
	if err != nil {
		t.Fatal(err)
	}
	const never = 1 << 20
	for name, c := range map[string]struct {
		kubelet  string
		manifest []byte
		ready    int
		asked    bool
		within   time.Duration
	}{
		"it starts the old etcd":           {"active", manifest, 5, true, 30 * time.Second},
		"an old etcd that doesn't come up": {"active", manifest, never, true, 80 * time.Second},
		"kubelet is stopped":               {"inactive", manifest, never, false, 10 * time.Second},
		"it starts the new one":            {"active", changed, never, false, 10 * time.Second},
		"etcd's manifest was moved away":   {"active", nil, never, false, 10 * time.Second},
		"kubelet is about to":              {"activating", manifest, 5, true, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &rising{recorder: recorder{name: "cp-a", files: map[string][]byte{}}, kubelet: c.kubelet, runtime: 3, ready: c.ready}
				if c.manifest != nil {
					n.files[controlplane.ManifestDir+"/etcd.yaml"] = c.manifest
				}
				target := three()
				target.Members = target.Members[:1]
				target.Members[0].Node = n
				target.Members[0].Etcd.HostDataDir = "/var/lib/etcd"
				began := time.Now()
				if err := target.Reach(t.Context()); err != nil {
					t.Error(err)
				}
				if asked := slices.ContainsFunc(n.ran, func(argv string) bool { return strings.HasPrefix(argv, "curl ") }); asked != c.asked {
					t.Errorf("asked etcd: %t, want %t", asked, c.asked)
				}
				if took := time.Since(began); took < 3*time.Second || took > c.within {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}
