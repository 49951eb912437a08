//go:build e2e

package kind_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/e2e/calendar"
	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/clustertest"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
)

// provider returns a provider with a state directory of its own, and that directory.
func provider(t *testing.T, progress func(string)) (*kind.Provider, string) {
	t.Helper()
	// The person's kubeconfig must stay as it is, so none is here, and one that appears is found.
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("KUBECONFIG", "")
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(home, ".kube")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the person's kubeconfig was written: %v", err)
		}
	})
	if progress == nil {
		progress = func(line string) { t.Log(line) }
	}
	dir := filepath.Join(t.TempDir(), "state")
	p, err := kind.New(t.Context(), kind.Options{StateDir: dir, Progress: progress})
	if err != nil {
		t.Fatal(err)
	}
	return p, dir
}

// engineLines runs the engine's command line and returns the lines it prints.
func engineLines(t *testing.T, p *kind.Provider, args ...string) []string {
	t.Helper()
	out, err := exec.Command(p.Engine().Name, args...).Output()
	if err != nil {
		t.Fatalf("%s %s: %v", p.Engine().Name, strings.Join(args, " "), err)
	}
	return strings.Fields(string(out))
}

func containersOf(t *testing.T, p *kind.Provider, name string) []string {
	t.Helper()
	return engineLines(t, p, "ps", "-a", "--filter", "label=io.x-k8s.kind.cluster="+name, "--format", "{{.Names}}")
}

func unusedVolumes(t *testing.T, p *kind.Provider) []string {
	t.Helper()
	return engineLines(t, p, "volume", "ls", "-q", "--filter", "dangling=true")
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it never came")
		}
	}
}

// checkNothingLeft finds containers, volumes, and files in the state directory, but for locks.
func checkNothingLeft(t *testing.T, p *kind.Provider, name, dir string, volumes []string) {
	t.Helper()
	if left := containersOf(t, p, name); len(left) > 0 {
		t.Errorf("containers are left: %v", left)
	}
	// Others may be at work on the same engine, whose volumes are in nobody's use for a moment only.
	waitFor(t, func() bool {
		for _, v := range unusedVolumes(t, p) {
			if !slices.Contains(volumes, v) {
				return false
			}
		}
		return true
	})
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Base(filepath.Dir(path)) != "locks" {
			t.Errorf("file %s is left", path)
		}
		return nil
	})
}

func info(t *testing.T, p *kind.Provider, name string) (kind.Info, bool) {
	t.Helper()
	all, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(i kind.Info) bool { return i.Name == name })
	if i < 0 {
		return kind.Info{}, false
	}
	return all[i], true
}

func deleteAtEnd(t *testing.T, p *kind.Provider, name string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
		defer cancel()
		if err := p.Delete(ctx, name); err != nil && !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("tidying up: %v", err)
		}
	})
}

func TestLifeOfACluster(t *testing.T) {
	const name = "ck-life"
	p, dir := provider(t, nil)
	volumes := unusedVolumes(t, p)
	deleteAtEnd(t, p, name)

	began := time.Now()
	created, err := p.Create(t.Context(), kind.CreateOptions{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("created in %s", time.Since(began).Round(time.Second))

	t.Run("it is on the list", func(t *testing.T) {
		i, ok := info(t, p, name)
		if !ok || !i.Ours || i.Unfinished || i.Nodes != 1 || i.ControlPlanes != 1 || i.Workers != 0 || i.Image == "" || i.Created.IsZero() {
			t.Errorf("%+v", i)
		}
		s, err := os.Stat(i.Kubeconfig)
		if err != nil || s.Mode().Perm() != 0o600 {
			t.Errorf("its kubeconfig: %v, %v", s, err)
		}
		if s, err := os.Stat(filepath.Join(dir, "clusters", name+".json")); err != nil || s.Mode().Perm() != 0o600 {
			t.Errorf("its record: %v, %v", s, err)
		}
	})
	t.Run("a second of that name is refused", func(t *testing.T) {
		if _, err := p.Create(t.Context(), kind.CreateOptions{Name: name}); !errors.Is(err, cluster.ErrExists) {
			t.Error(err)
		}
	})
	t.Run("a wrong name gets the right one", func(t *testing.T) {
		_, err := p.Attach(t.Context(), "ck-lief")
		if !errors.Is(err, cluster.ErrNotFound) || !strings.Contains(err.Error(), name) {
			t.Error(err)
		}
	})
	t.Run("another state directory doesn't own it", func(t *testing.T) {
		other, _ := provider(t, nil)
		if err := other.Delete(t.Context(), name); !errors.Is(err, cluster.ErrNotOurs) {
			t.Error(err)
		}
	})
	t.Run("what create returns and what attach returns are the same", func(t *testing.T) {
		attached, err := p.Attach(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if attached.Name() != created.Name() || len(attached.Nodes()) != len(created.Nodes()) {
			t.Errorf("%v and %v", attached, created)
		}
	})
	t.Run("conformance", func(t *testing.T) {
		clustertest.Run(t, func(*testing.T) cluster.Cluster { return created })
	})
	t.Run("a node that went is no failed command", func(t *testing.T) {
		node := created.Nodes()[0]
		done := make(chan error, 1)
		begun := make(chan struct{})
		go func() {
			_, err := node.Exec(t.Context(), cluster.Cmd{Argv: []string{"sh", "-c", "echo begun; sleep 600"}, Stdout: closeOnWrite(begun)})
			done <- err
		}()
		<-begun
		// One of its containers is frozen, as a runc leaves it that was killed; only with control groups of version 1 does that hold it.
		const freezeOne = `[ ! -d /sys/fs/cgroup/freezer ] || echo FROZEN >"$(find /sys/fs/cgroup/freezer -path '*cri-containerd*' -name freezer.state | head -n 1)"`
		if _, err := cluster.Run(t.Context(), node, "sh", "-c", freezeOne); err != nil {
			t.Fatal(err)
		}
		if err := p.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"running": <-done,
			"later":   func() error { _, err := node.Exec(t.Context(), cluster.Cmd{Argv: []string{"true"}}); return err }(),
		} {
			if exit := (*cluster.ExitError)(nil); err == nil || errors.As(err, &exit) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	t.Run("nothing is left", func(t *testing.T) {
		checkNothingLeft(t, p, name, dir, volumes)
		if err := p.Delete(t.Context(), name); !errors.Is(err, cluster.ErrNotFound) {
			t.Error(err)
		}
	})
}

type closeOnWrite chan struct{}

func (c closeOnWrite) Write(b []byte) (int, error) { close(c); return len(b), nil }

func TestThreeControlPlanes(t *testing.T) {
	const name = "ck-three"
	p, dir := provider(t, nil)
	volumes := unusedVolumes(t, p)
	deleteAtEnd(t, p, name)
	c, err := p.Create(t.Context(), kind.CreateOptions{Name: name, ControlPlanes: 3})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(cluster.ControlPlanes(c)); got != 3 || len(c.Nodes()) != 3 {
		t.Errorf("%d nodes, %d of them control planes", len(c.Nodes()), got)
	}
	// Each of them takes an ordinary pod.
	for _, n := range c.Nodes() {
		out, err := cluster.Run(t.Context(), n, "kubectl", "get", "node", n.Name(), "-o", "jsonpath={.spec.taints}")
		if err != nil || out != "" {
			t.Errorf("node %s has taints %s: %v", n.Name(), out, err)
		}
	}
	t.Run("conformance", func(t *testing.T) {
		clustertest.Run(t, func(t *testing.T) cluster.Cluster {
			attached, err := p.Attach(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			return attached
		})
	})
	if err := p.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	checkNothingLeft(t, p, name, dir, volumes)
}

// interruptionTurns is of how many interruptions of a creation, each of which is half of one, it is one's turn with -short.
const interruptionTurns = 3

// takesTurns skips the i-th of some tests with -short, unless it is its turn: others are each day.
func takesTurns(t *testing.T, i int) {
	t.Helper()
	if testing.Short() && !calendar.Turn(i, interruptionTurns, time.Now()) {
		t.Skip("it is another one's turn today; without -short all are run")
	}
}

// TestCancelledCreation stops a creation at each of its steps, and some time into each.
func TestCancelledCreation(t *testing.T) {
	for i, test := range []struct {
		name          string
		controlPlanes int
		line          string
		after         time.Duration
	}{
		{"as it begins", 1, "Ensuring node image", 0},
		{"as nodes are made", 1, "Preparing nodes", 0},
		{"while nodes are made", 1, "Preparing nodes", 150 * time.Millisecond},
		{"while nodes start", 1, "Preparing nodes", 600 * time.Millisecond},
		{"while several nodes are made", 3, "Preparing nodes", 100 * time.Millisecond},
		{"while several nodes start", 3, "Preparing nodes", 700 * time.Millisecond},
		{"as kubeadm is configured", 1, "Writing configuration", 0},
		{"as kubeadm begins", 1, "Starting control-plane", 0},
		{"while kubeadm works", 1, "Starting control-plane", 4 * time.Second},
		{"as the cluster is awaited", 1, "Waiting until a workload can run", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			takesTurns(t, i)
			name := "ck-stop"
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var reached bool
			p, dir := provider(t, func(line string) {
				t.Log(line)
				if strings.HasPrefix(line, test.line) {
					reached = true
					time.AfterFunc(test.after, cancel)
				}
			})
			volumes := unusedVolumes(t, p)
			_, err := p.Create(ctx, kind.CreateOptions{Name: name, ControlPlanes: test.controlPlanes})
			if !reached {
				t.Errorf("%q was never reached", test.line)
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			checkNothingLeft(t, p, name, dir, volumes)
		})
	}
}

// TestSomebodyElses labels a container as kind would, without anything of a cluster in it.
func TestSomebodyElses(t *testing.T) {
	const name = "ck-theirs"
	p, dir := provider(t, nil)
	image, err := p.ResolveImage(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	makeTheirs := func() {
		engineLines(t, p, "run", "-d", "--name", name+"-control-plane", "--label", "io.x-k8s.kind.cluster="+name,
			"--label", "io.x-k8s.kind.role=control-plane", "--entrypoint", "sleep", image, "600")
	}
	removeTheirs := func() { _ = exec.Command(p.Engine().Name, "rm", "-f", "-v", name+"-control-plane").Run() }
	t.Cleanup(removeTheirs)
	makeTheirs()

	if _, err := p.Attach(t.Context(), name); !errors.Is(err, cluster.ErrNotKubeadm) {
		t.Errorf("attaching to it: %v", err)
	}
	if i, ok := info(t, p, name); !ok || i.Ours {
		t.Errorf("on the list: %+v", i)
	}
	if err := p.Delete(t.Context(), name); !errors.Is(err, cluster.ErrNotOurs) {
		t.Errorf("deleting it: %v", err)
	}
	if _, err := p.Create(t.Context(), kind.CreateOptions{Name: name}); !errors.Is(err, cluster.ErrExists) {
		t.Errorf("creating one of its name: %v", err)
	}
	if len(containersOf(t, p, name)) != 1 {
		t.Fatal("it was removed")
	}

	// And the same once drill had a cluster of that name, which was replaced behind its back.
	removeTheirs()
	if _, err := p.Create(t.Context(), kind.CreateOptions{Name: name}); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(p.Engine().Name, "rm", "-f", "-v", name+"-control-plane").Run(); err != nil {
		t.Fatal(err)
	}
	makeTheirs()
	if err := p.Delete(t.Context(), name); !errors.Is(err, cluster.ErrNotOurs) {
		t.Errorf("deleting its successor: %v", err)
	}
	if len(containersOf(t, p, name)) != 1 {
		t.Fatal("the successor was removed")
	}
	removeTheirs()
	if err := p.Delete(t.Context(), name); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("deleting what is gone: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "clusters", name+".json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the record of what is gone: %v", err)
	}
}
