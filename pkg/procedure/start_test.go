package procedure_test

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/procedure"
)

// several is a target of so many control planes.
func several(n int) procedure.Target {
	target := three()
	target.Members = nil
	for i := range n {
		target.Members = append(target.Members, member(fmt.Sprintf("cp-%c", 'a'+i), fmt.Sprintf("10.0.0.%d", i+1), nil))
	}
	return target
}

// site is what typed commands leave on a node: which static pods' manifests kubelet finds, and whether it runs.
type site struct {
	kubelet bool
	there   map[string]bool
}

// runs are the static pods that kubelet keeps running, in the order of the alphabet.
func (s *site) runs() string {
	var out []string
	for name, there := range s.there {
		if s.kubelet && there {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (s *site) carryOut(argv []string) {
	switch line := strings.Join(argv, " "); {
	case line == "systemctl stop kubelet", line == "systemctl start kubelet":
		s.kubelet = argv[1] == "start"
	case argv[0] == "mv" && strings.HasPrefix(argv[len(argv)-2]+argv[len(argv)-1], "/etc/kubernetes/etcd.yaml.restored"):
		s.there["etcd"] = true
	case argv[0] == "mv" && slices.Contains(argv, "-t"):
		to := argv[slices.Index(argv, "-t")+1]
		for _, file := range argv[slices.Index(argv, "-t")+2:] {
			s.there[strings.TrimSuffix(path.Base(file), ".yaml")] = to == controlplane.ManifestDir
		}
	}
}

// TestOneAPIServerFirst: until the first API server answers, nothing starts that it doesn't need; in the end everything runs everywhere, and no two members of etcd ever start at once.
func TestOneAPIServerFirst(t *testing.T) {
	const everything = "etcd kube-apiserver kube-controller-manager kube-scheduler"
	for _, n := range []int{3, 5} {
		for _, p := range []procedure.Procedure{procedure.KubeletStop(), swapped(procedure.KubeletStop())} {
			target := several(n)
			r := p.Build(target)
			sites := map[string]*site{}
			for _, m := range target.Members {
				sites[m.Name] = &site{kubelet: true, there: map[string]bool{"etcd": true, "kube-apiserver": true, "kube-controller-manager": true, "kube-scheduler": true}}
			}
			etcds := func() (out []string) {
				for name, s := range sites {
					if strings.HasPrefix(s.runs(), "etcd") {
						out = append(out, name)
					}
				}
				return out
			}
			where := fmt.Sprintf("%s, mode %s, of %d", p.Name, p.DataDirMode(), n)
			// Of those that are spared, each has to wait for the spared one before it; the majority is ready by then.
			spared := func(name string) bool {
				return slices.ContainsFunc(target.Members[n/2+1:], func(m controlplane.Member) bool { return m.Name == name })
			}
			down, reached := false, false
			var asked []string
			for _, s := range r.Steps {
				if s.Name == "wait-kube-apiserver" {
					reached = true
					var got []string
					for _, m := range target.Members {
						got = append(got, sites[m.Name].runs())
					}
					want := slices.Concat([]string{everything}, slices.Repeat([]string{"etcd"}, n/2), slices.Repeat([]string{""}, n-n/2-1))
					if !slices.Equal(got, want) {
						t.Errorf("%s: while the first API server starts there run %q, want %q", where, got, want)
					}
				}
				for _, c := range s.Commands {
					if slices.Equal(c.Argv, alive) {
						asked = append(asked, c.On)
						continue
					}
					before := etcds()
					sites[c.On].carryOut(c.Argv)
					down = down || s.Outage
					if started := len(etcds()) - len(before); down && started > 0 {
						for _, other := range before {
							if later := s.Name == "start-kubelet-elsewhere"; !slices.Contains(asked, other) && (!later || spared(other)) {
								t.Errorf("%s: etcd of %s starts before that of %s was seen to answer", where, c.On, other)
							}
						}
					}
				}
			}
			if !reached {
				t.Errorf("%s: nobody waits for the first API server", where)
			}
			for name, s := range sites {
				if s.runs() != everything {
					t.Errorf("%s: in the end %s runs %q", where, name, s.runs())
				}
			}
		}
	}
}

// TestTakenAway: the moment from which on nothing of before can start is that of the file that the procedure names.
func TestTakenAway(t *testing.T) {
	if got := procedure.KubeletStop().Build(several(1)).TakenAway; len(got) > 0 {
		t.Errorf("one control plane: %v", got)
	}
	if got := swapped(procedure.KubeletStop()).Build(three()).TakenAway; len(got) > 0 {
		t.Errorf("directories exchanged: %v", got)
	}
	for _, p := range []procedure.Procedure{procedure.ManifestMove(), procedure.ManifestEdit()} {
		if got := p.Build(three()).TakenAway; len(got) > 0 {
			t.Errorf("%s: %v", p.Name, got)
		}
	}
	r := procedure.KubeletStop().Build(three())
	hold := r.Steps[stepNamed(r.Steps, "hold-back")]
	if got := r.TakenAway["cp-b"]; len(r.TakenAway) != 1 || path.Base(got) != "etcd.yaml" || !slices.Contains(hold.Commands[0].Argv, path.Dir(got)) {
		t.Errorf("%v after %q", r.TakenAway, hold.Commands)
	}
	if i := stepNamed(r.Steps, "stop-control-plane"); i < 0 || i > stepNamed(r.Steps, "hold-back") {
		t.Error("the manifests are taken away while something runs")
	}
	keeping := several(3)
	keeping.KeepRunning = []string{procedure.Kubelet}
	if got := procedure.KubeletStop().Build(keeping).TakenAway; len(got) > 0 {
		t.Errorf("kubelet lives on: %v", got)
	}
}

// choir is a control plane whose etcd leads or follows others. It notes with them in which order they are stopped.
type choir struct {
	recorder
	leads bool
	mu    *sync.Mutex
	// stopped are the names of those whose etcd was stopped, in order.
	stopped *[]string
	members int
}

func (c *choir) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := slices.Contains(*c.stopped, c.name)
	line := strings.Join(cmd.Argv, " ")
	switch {
	case cmd.Argv[0] == "curl" && gone:
		return cluster.Result{}, &cluster.ExitError{Node: c.name, Cmd: cmd, Code: 7, Output: "curl: (7) connection refused"}
	case cmd.Argv[0] == "curl":
		out := "# TYPE etcd_server_is_leader gauge\n"
		if c.leads {
			out += "etcd_server_is_leader 1\n"
		} else {
			out += "etcd_server_is_leader 0\n"
		}
		for i := range c.members - 1 {
			up := 1
			if i < len(*c.stopped) {
				up = 0
			}
			out += fmt.Sprintf("etcd_network_active_peers{Local=\"1\",Remote=\"%d\"} %d\n", i+2, up)
		}
		return cluster.Result{Stdout: []byte(out + "\n200")}, nil
	case strings.HasPrefix(line, "crictl pods "):
		if gone {
			return cluster.Result{Stdout: []byte(`{"items":[]}`)}, nil
		}
		return cluster.Result{Stdout: []byte(`{"items":[{"id":"s-etcd","metadata":{"name":"etcd","namespace":"kube-system"},"state":"SANDBOX_READY","createdAt":"1795409198000000000",
			"labels":{"component":"etcd","tier":"control-plane"}}]}`)}, nil
	case strings.HasPrefix(line, "crictl ps "):
		if gone {
			return cluster.Result{Stdout: []byte(`{"containers":[]}`)}, nil
		}
		return cluster.Result{Stdout: []byte(`{"containers":[{"id":"c-etcd","podSandboxId":"s-etcd","metadata":{"name":"etcd"},"state":"CONTAINER_RUNNING","createdAt":"1795409198000000000",
			"labels":{"io.kubernetes.container.name":"etcd","io.kubernetes.pod.namespace":"kube-system"}}]}`)}, nil
	case strings.HasPrefix(line, "crictl --timeout=30s stop "):
		*c.stopped = append(*c.stopped, c.name)
	}
	return cluster.Result{}, nil
}

// TestLeaderEndsLast: the etcd that leads is stopped when it has nobody left to hand over to, wherever it is, and nobody waits long for others that don't go.
func TestLeaderEndsLast(t *testing.T) {
	for leader := range 4 { // the last is none
		t.Run(fmt.Sprint(leader), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target := three()
				var mu sync.Mutex
				var stopped []string
				for i := range target.Members {
					target.Members[i].Node = &choir{recorder: recorder{name: target.Members[i].Name}, leads: i == leader, mu: &mu, stopped: &stopped, members: 3}
				}
				steps := procedure.KubeletStop().Build(target).Steps
				began := time.Now()
				if err := steps[stepNamed(steps, "stop-control-plane")].Do(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(stopped) != 3 || leader < 3 && stopped[2] != target.Members[leader].Name {
					t.Errorf("stopped are %v", stopped)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// TestNextInTurn: the next etcd starts when the one before answers, ready or not, and after a while also when that never does.
func TestNextInTurn(t *testing.T) {
	manifest, err := os.ReadFile("../controlplane/testdata/etcd-v1.37.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		silent        int
		least, within time.Duration
	}{
		"soon":  {4, 100 * time.Millisecond, 2 * time.Second},
		"never": {1 << 20, 20 * time.Second, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target := three()
				for i := range target.Members {
					n := &rising{recorder: recorder{name: target.Members[i].Name, files: map[string][]byte{controlplane.ManifestDir + "/etcd.yaml": manifest}}, ready: c.silent}
					target.Members[i].Node = n
				}
				steps := procedure.KubeletStop().Build(target).Steps
				began := time.Now()
				if err := steps[stepNamed(steps, "join-etcd")].Do(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < c.least || took > c.within {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// TestOneThatDoesNotStart: a control plane on which kubelet can't be started doesn't keep the others from it, in the rollback above all; and those that are silent don't use up the time of the rest.
func TestOneThatDoesNotStart(t *testing.T) {
	manifest, err := os.ReadFile("../controlplane/testdata/etcd-v1.37.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for broken := range 6 { // the last is none, and every etcd is silent
		synctest.Test(t, func(t *testing.T) {
			target := several(5)
			var nodes []*dead
			for i := range target.Members {
				n := &dead{recorder: recorder{name: target.Members[i].Name, files: map[string][]byte{controlplane.ManifestDir + "/etcd.yaml": manifest}}, broken: i == broken}
				nodes = append(nodes, n)
				target.Members[i].Node = n
			}
			rollback := procedure.KubeletStop().Build(target).Rollback
			began := time.Now()
			err := rollback[stepNamed(rollback, "rollback-start-kubelet")].Do(t.Context())
			if (err != nil) != (broken < 5) {
				t.Errorf("%d is broken: %v", broken, err)
			}
			for _, n := range nodes {
				if !slices.Contains(n.ran, "systemctl start kubelet") {
					t.Errorf("%d is broken: kubelet of %s was not started", broken, n.name)
				}
			}
			if took := time.Since(began); took > 45*time.Second {
				t.Errorf("%d is broken: it took %s", broken, took)
			}
		})
	}
}

// dead is a control plane on which no component answers and, where it is broken, kubelet can't be started.
type dead struct {
	recorder
	broken bool
}

func (d *dead) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	res, err := d.recorder.Exec(ctx, cmd)
	if cmd.Argv[0] == "curl" || d.broken && cmd.Argv[0] == "systemctl" {
		return res, &cluster.ExitError{Node: d.name, Cmd: cmd, Code: 7, Output: "curl: (7) connection refused"}
	}
	return res, err
}
