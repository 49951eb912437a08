package procedure_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/stage"
)

var update = flag.Bool("update", false, "write the golden files anew")

// variants are those whose steps are written down in golden files: each procedure by itself, which stands first, in every mode of the data directory, and
// what an operator asks about most.
func variants() []variant {
	return []variant{
		{file: "kubelet-stop", procedure: procedure.KubeletStop(), undone: true},
		{file: "kubelet-stop-three", procedure: procedure.KubeletStop(), three: true, undone: true},
		{file: "kubelet-stop-swap-three", procedure: swapped(procedure.KubeletStop()), three: true, undone: true},
		{file: "kubelet-stop-keeping-kube-apiserver", procedure: procedure.KubeletStop(), keep: []string{"kube-apiserver"}},
		{file: "kubelet-stop-keeping-kubelet", procedure: procedure.KubeletStop(), keep: []string{"kubelet"}},
		{file: "kubelet-stop-keeping-everything", procedure: procedure.KubeletStop(), keep: procedure.Components()},
		{file: "manifest-move", procedure: procedure.ManifestMove(), undone: true},
		{file: "manifest-move-keeping-kube-apiserver", procedure: procedure.ManifestMove(), keep: []string{"kube-apiserver"}},
		{file: "manifest-move-keeping-everything", procedure: procedure.ManifestMove(), keep: procedure.Components()},
		{file: "kubelet-stop-swap", procedure: swapped(procedure.KubeletStop()), undone: true},
		{file: "kubelet-stop-swap-keeping-kubelet", procedure: swapped(procedure.KubeletStop()), keep: []string{"kubelet"}},
		{file: "manifest-move-swap", procedure: swapped(procedure.ManifestMove()), undone: true},
		{file: "manifest-edit", procedure: procedure.ManifestEdit(), undone: true},
		{file: "manifest-edit-three", procedure: procedure.ManifestEdit(), three: true, undone: true},
		{file: "manifest-edit-renewing-everything", procedure: procedure.ManifestEdit(), renew: procedure.Components()},
	}
}

type variant struct {
	file        string
	procedure   procedure.Procedure
	keep, renew []string
	// undone says that the rollback is written down, too; three, that there are three control planes.
	undone, three bool
}

// swapped is the procedure in the mode in which no manifest changes.
func swapped(p procedure.Procedure) procedure.Procedure {
	p, err := p.In(procedure.DataDirSwap)
	if err != nil {
		panic(err)
	}
	return p
}

// TestGolden: the steps and commands of each procedure, as a person reads them. A change here changes lessons.
func TestGolden(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.file, func(t *testing.T) {
			target := stage.Textbook("drill-control-plane", v.procedure, "").Target
			if v.three {
				target = three()
			}
			target.KeepRunning, target.Renew = v.keep, v.renew
			r := v.procedure.Build(target)
			if v.undone {
				r.Steps = append(r.Steps, r.Rollback...)
			}
			got := outline(r.Steps)
			file := filepath.Join("testdata", v.file+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func outline(steps []plan.Step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "%s %s", s.Phase, s.Name)
		if s.Outage {
			b.WriteString(" (the outage begins)")
		}
		b.WriteString("\n")
		for _, c := range s.Commands {
			fmt.Fprintf(&b, "    %s: %s", c.On, c)
			if c.Fails {
				b.WriteString(" (fails)")
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// member is a control plane at an address.
func member(name, address string, node cluster.Node) controlplane.Member {
	return controlplane.Member{Name: name, Node: node, Etcd: controlplane.EtcdConfig{
		Name: "member-" + name, DataDir: "/var/lib/etcd", HostDataDir: "/var/lib/etcd", DataVolume: "etcd-data",
		PeerURLs: []string{"https://" + address + ":2380"}, MetricsURL: "http://127.0.0.1:2381",
	}}
}

func three() procedure.Target {
	return procedure.Target{
		Members:  []controlplane.Member{member("cp-a", "10.0.0.1", nil), member("cp-b", "10.0.0.2", nil), member("cp-c", "10.0.0.3", nil)},
		AsideDir: "/new/etcd-before", GivenUpDir: "/new/etcd-given-up", DataDir: "/new/etcd", StateDir: "/new", NodeSnapshot: "/new/snapshot.db", RollbackDir: "/new/etcd-rolled-back", RollbackBump: 2_000_000_000,
	}
}

// everyVariant calls f with each procedure in each mode for every set of components that it can be told to renew or to keep.
func everyVariant(f func(where string, p procedure.Procedure, keep, renew []string)) {
	all := procedure.Components()
	var ways []procedure.Procedure
	for _, p := range procedure.All() {
		for _, mode := range procedure.DataDirModes() {
			if in, err := p.In(mode); err == nil {
				ways = append(ways, in)
			}
		}
	}
	for _, p := range ways {
		for set := range 1 << len(all) {
			var keep, renew []string
			for i, c := range all {
				switch renewed, byItself := set>>i&1 == 1, slices.Contains(p.Renews, c); {
				case renewed && !byItself:
					renew = append(renew, c)
				case !renewed && byItself:
					keep = append(keep, c)
				}
			}
			f(fmt.Sprintf("%s, mode %s, keeping %v and renewing %v", p.Name, p.DataDirMode(), keep, renew), p, keep, renew)
		}
	}
}

// TestShape: whatever is renewed or kept, the steps are whole.
func TestShape(t *testing.T) {
	everyVariant(func(where string, p procedure.Procedure, keep, renew []string) {
		if err := p.Check(keep, renew); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		target := three()
		target.KeepRunning, target.Renew = keep, renew
		shape(t, where, p.Build(target), target.Members)
	})
	names := map[string]bool{}
	for _, p := range procedure.All() {
		if p.Name == "" || p.Summary == "" || names[p.Name] {
			t.Errorf("procedure %+v", p.Entry)
		}
		names[p.Name] = true
	}
}

func shape(t *testing.T, what string, r procedure.Recovery, members []controlplane.Member) {
	t.Helper()
	seen := map[string]bool{}
	outages := 0
	for i, s := range append(slices.Clone(r.Steps), r.Rollback...) {
		where := what + ", step " + s.Name
		want := plan.Recover
		if i >= len(r.Steps) {
			want = plan.Rollback
		}
		if s.Phase != want {
			t.Errorf("%s is of phase %s, want %s", where, s.Phase, want)
		}
		if s.Name == "" || seen[s.Name] {
			t.Errorf("%s: its name is taken", where)
		}
		seen[s.Name] = true
		if s.Title == "" || s.Why == "" || s.Do == nil || len(s.Commands) > 0 && s.Expect == "" {
			t.Errorf("%s is not complete: %+v", where, s)
		}
		if s.Outage {
			outages++
			if want == plan.Rollback {
				t.Errorf("%s begins an outage, in the rollback", where)
			}
		}
		typed(t, where, members, s.Commands)
	}
	if outages != 1 || len(r.Rollback) == 0 {
		t.Errorf("%s: %d outages begin, %d steps of rollback", what, outages, len(r.Rollback))
	}
}

// typed holds commands against what every command must be.
func typed(t *testing.T, where string, members []controlplane.Member, commands []plan.Command) {
	t.Helper()
	for _, c := range commands {
		if !slices.ContainsFunc(members, func(m controlplane.Member) bool { return m.Name == c.On }) {
			t.Errorf("%s: %q is typed on %q, which is no node", where, c, c.On)
		}
		for _, argv := range [][]string{c.Argv, c.PipeTo} {
			if slices.Contains(argv, "sh") || slices.Contains(argv, "bash") {
				t.Errorf("%s: %q goes through a shell", where, c)
			}
		}
		if len(c.Argv) == 0 || c.Fails && c.Until {
			t.Errorf("%s: %+v", where, c)
		}
	}
}

// TestEveryMember: what is to be done on a control plane is to be done on all of them, but for what goes through the API and what brings them back one after the other.
func TestEveryMember(t *testing.T) {
	everyVariant(func(where string, p procedure.Procedure, keep, renew []string) {
		target := three()
		target.KeepRunning, target.Renew = keep, renew
		r := p.Build(target)
		up := len(r.Steps)
		if _, staged := r.TakenAway["cp-b"]; staged || stepNamed(r.Steps, "hold-back") >= 0 {
			up = stepNamed(r.Steps, "hold-back")
		}
		for _, s := range slices.Concat(r.Steps[:up], r.Rollback) {
			if strings.HasSuffix(s.Name, "release-leases") || len(s.Commands) == 0 {
				continue
			}
			per := map[string]int{}
			for _, c := range s.Commands {
				if !slices.Equal(c.Argv, alive) {
					per[c.On]++
				}
			}
			for _, m := range target.Members {
				if per[m.Name] == 0 || per[m.Name] != per[target.Members[0].Name] {
					t.Errorf("%s, step %s: %v commands a node", where, s.Name, per)
				}
			}
		}
	})
}

func stepNamed(steps []plan.Step, name string) int {
	return slices.IndexFunc(steps, func(s plan.Step) bool { return s.Name == name })
}

// alive asks whether an etcd answers anything.
var alive = []string{"curl", "-sS", "-o", "/dev/null", "http://127.0.0.1:2381/livez"}

func TestRestoreCommand(t *testing.T) {
	const everybody = "--initial-cluster=member-cp-a=https://10.0.0.1:2380,member-cp-b=https://10.0.0.2:2380,member-cp-c=https://10.0.0.3:2380"
	target := three()
	if got := "--initial-cluster=" + target.InitialCluster(); got != everybody {
		t.Errorf("InitialCluster is %s", got)
	}
	for _, p := range procedure.All() {
		for _, c := range []struct {
			token string
			bump  uint64
			extra []string
		}{
			{"", 0, nil},
			{"drill-x", 0, []string{"--initial-cluster-token=drill-x"}},
			{"", 1000, []string{"--bump-revision=1000", "--mark-compacted"}},
			{"drill-x", 1 << 63, []string{"--initial-cluster-token=drill-x", "--bump-revision=9223372036854775808", "--mark-compacted"}},
		} {
			target.Token, target.BumpRevision = c.token, c.bump
			s := p.Build(target).Steps[0]
			if s.Name != "restore-snapshot" || s.Outage || len(s.Commands) != 3 {
				t.Fatalf("%s begins with %s: %v", p.Name, s.Name, s.Commands)
			}
			for i, m := range target.Members {
				want := append([]string{
					"etcdutl", "snapshot", "restore", "/new/snapshot.db", "--data-dir=/new/etcd",
					"--name=member-" + m.Name, everybody, fmt.Sprintf("--initial-advertise-peer-urls=https://10.0.0.%d:2380", i+1),
				}, c.extra...)
				if got := s.Commands[i]; got.On != m.Name || !slices.Equal(got.Argv, want) {
					t.Errorf("%s on %s: %q, want %q", p.Name, got.On, got.Argv, want)
				}
			}
			if explained := strings.Contains(s.Why, "revision"); explained != (c.bump > 0) {
				t.Errorf("%s with a bump of %d: %s", p.Name, c.bump, s.Why)
			}
		}
	}
}

// recorder is a node that keeps files. It copies and moves them, answers that all is well, and notes other commands without carrying them out.
type recorder struct {
	name  string
	mu    sync.Mutex
	files map[string][]byte
	ran   []string
}

func (r *recorder) Name() string     { return r.name }
func (*recorder) Role() cluster.Role { return cluster.ControlPlane }
func (*recorder) Address() string    { return "10.0.0.1" }

func (r *recorder) Exec(_ context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ran = append(r.ran, strings.Join(cmd.Argv, " "))
	from, to := cmd.Argv[max(0, len(cmd.Argv)-2)], cmd.Argv[len(cmd.Argv)-1]
	switch cmd.Argv[0] {
	case "curl":
		return cluster.Result{Stdout: []byte("ok\n200")}, nil
	case "cp":
		r.files[to] = r.files[from]
	case "mv":
		r.files[to] = r.files[from]
		delete(r.files, from)
	}
	return cluster.Result{}, nil
}

func (r *recorder) ReadFile(_ context.Context, path string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.files[path]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", path, fs.ErrNotExist)
	}
	return b, nil
}

func (r *recorder) WriteFile(_ context.Context, path string, _ fs.FileMode, content io.Reader) error {
	b, err := io.ReadAll(content)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[path] = b
	return err
}

// TestSwapAndBack: each member's own manifest is changed, and comes back byte for byte but for the directory.
func TestSwapAndBack(t *testing.T) {
	const path = controlplane.ManifestDir + "/etcd.yaml"
	base, err := os.ReadFile("../controlplane/testdata/etcd-v1.37.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procedure.All() {
		t.Run(p.Name, func(t *testing.T) {
			target := three()
			var nodes []*recorder
			for i := range target.Members {
				n := &recorder{name: target.Members[i].Name, files: map[string][]byte{path: append([]byte("# of "+target.Members[i].Name+"\n"), base...)}}
				nodes = append(nodes, n)
				target.Members[i].Node = n
			}
			target.RestoreOld = func(context.Context) error { return nil }
			r := p.Build(target)
			do := func(steps []plan.Step, name string) {
				t.Helper()
				i := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Name == name })
				if i < 0 {
					t.Fatalf("there is no step %s", name)
				}
				if err := steps[i].Do(t.Context()); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			do(r.Steps, "prepare-manifest")
			for _, n := range nodes {
				if want := "# of " + n.name + "\n" + string(base); string(n.files[path]) != want {
					t.Fatalf("%s: preparing changed the manifest in place", n.name)
				}
				if !kept(n, "/new/", n.files[path]) {
					t.Errorf("%s: no copy of the manifest is in the run's folder: %v", n.name, paths(n))
				}
			}
			for _, name := range map[string][]string{"kubelet-stop": {"swap-manifest", "join-etcd"}, "manifest-move": {"swap-manifest"}, "manifest-edit": {"edit-manifest"}}[p.Name] {
				do(r.Steps, name)
			}
			for _, n := range nodes {
				cfg, err := controlplane.ParseEtcdManifest(n.files[path])
				if err != nil || cfg.HostDataDir != "/new/etcd" || cfg.DataDir != "/var/lib/etcd" {
					t.Errorf("%s: etcd has %s at %s: %v", n.name, cfg.HostDataDir, cfg.DataDir, err)
				}
				if !bytes.HasPrefix(n.files[path], []byte("# of "+n.name+"\n")) {
					t.Errorf("%s has the manifest of another", n.name)
				}
			}
			manifests := func() (all []string) {
				t.Helper()
				do(r.Rollback, "rollback-swap-manifest")
				for _, n := range nodes {
					all = append(all, string(n.files[path]))
				}
				return all
			}
			old := func(n *recorder) string { return "# of " + n.name + "\n" + string(base) }
			for i, got := range manifests() { // nothing was restored: better the old directory than none
				if got != old(nodes[i]) {
					t.Errorf("%s: the old manifest is not back:\n%s", nodes[i].name, got)
				}
			}
			do(r.Rollback, "rollback-restore-old")
			for i, got := range manifests() {
				if back := strings.Replace(got, "path: "+target.RollbackDir, "path: /var/lib/etcd", 1); back != old(nodes[i]) || back == got {
					t.Errorf("%s: the old manifest is not back with the third directory:\n%s", nodes[i].name, got)
				}
			}
		})
	}
}

func kept(n *recorder, prefix string, content []byte) bool {
	for path, b := range n.files {
		if strings.HasPrefix(path, prefix) && bytes.Equal(b, content) {
			return true
		}
	}
	return false
}

func paths(n *recorder) []string {
	var out []string
	for path := range n.files {
		out = append(out, path)
	}
	return out
}

// TestOwnHands: restoring and releasing are the target's.
func TestOwnHands(t *testing.T) {
	target := three()
	var mu sync.Mutex
	var restored, released []string
	target.Restore = func(_ context.Context, m controlplane.Member) error {
		mu.Lock()
		defer mu.Unlock()
		restored = append(restored, m.Name)
		return nil
	}
	target.Release = func(_ context.Context, names ...string) error {
		released = names
		return errors.New("no API")
	}
	steps := procedure.KubeletStop().Build(target).Steps
	if err := steps[0].Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(restored)
	if !slices.Equal(restored, []string{"cp-a", "cp-b", "cp-c"}) {
		t.Errorf("restored %q", restored)
	}
	i := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Name == "release-leases" })
	if err := steps[i].Do(t.Context()); err == nil || !slices.Equal(released, []string{"kube-controller-manager", "kube-scheduler"}) {
		t.Errorf("released %q: %v", released, err)
	}
}

// TestOnlySystemContainers: a workload may name a container as it likes, and neither is it stopped nor waited for.
func TestOnlySystemContainers(t *testing.T) {
	everyVariant(func(where string, p procedure.Procedure, keep, renew []string) {
		target := three()
		target.KeepRunning, target.Renew = keep, renew
		r := p.Build(target)
		for _, s := range append(slices.Clone(r.Steps), r.Rollback...) {
			for _, c := range s.Commands {
				if line := strings.Join(c.Argv, " "); strings.HasPrefix(line, "crictl ps") && !strings.Contains(line, " --label io.kubernetes.pod.namespace=kube-system") ||
					strings.HasPrefix(line, "crictl pods") && !strings.Contains(line, " --namespace ^kube-system$") {
					t.Errorf("%s, step %s: %s", where, s.Name, line)
				}
			}
		}
	})
}
