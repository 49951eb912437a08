package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
)

func swapping(t *testing.T) procedure.Procedure {
	t.Helper()
	p, err := procedure.KubeletStop().In(procedure.DataDirSwap)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSwapDir: the directories of a run are on the file system of etcd's data, in the run's folder where that is there anyway, and in no other run's.
func TestSwapDir(t *testing.T) {
	const folder = NodeDirs + "/b-run"
	for data, want := range map[string]string{
		"/var/lib/etcd":             folder,
		"/var/lib/drill/a-run/etcd": folder,
		"/data/etcd":                "/data/drill/b-run",
		"/etcd":                     "/drill/b-run",
	} {
		if got := swapDir(data, folder); got != want {
			t.Errorf("for %s: %s, want %s", data, got, want)
		}
	}
	member := controlplane.Member{Name: "n", Etcd: controlplane.EtcdConfig{HostDataDir: "/data/etcd", AdvertiseClientURLs: []string{"https://127.0.0.1:1"}}}
	s := &Stage{}
	s.cast([]controlplane.Member{member}, swapping(t), "", folder)
	got := append(s.made(), s.Target.StateDir, s.Subject.DataDir, s.Subject.Swap.Aside, s.Subject.Swap.Manifest)
	want := []string{
		"/data/drill/b-run/etcd", "/data/drill/b-run/etcd-rolled-back", "/data/drill/b-run/etcd-before", "/data/drill/b-run/etcd-given-up",
		folder, "/data/etcd", "/data/drill/b-run/etcd-before", folder + "/etcd.yaml.before",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if made := (premises{nodeDir: folder, swaps: true}).vacant("/data/drill/b-run"); !slices.Equal(slices.Sorted(slices.Values(made)), slices.Sorted(slices.Values(s.made()))) {
		t.Errorf("preflight looks for %q", made)
	}
}

// movable is a node whose etcd's data can be renamed.
func movable(t *testing.T, name, address string) *sound {
	s := newSound(t, name, address)
	s.answers["realpath"] = answer{"/var/lib/etcd\n/var/lib\n/var/lib/drill/a-run\n", 0}
	s.write("/proc/self/mountinfo", "22 1 0:20 / / rw - overlay overlay rw\n23 22 8:1 /v /var rw,relatime shared:1 - ext4 /dev/sda rw\n24 22 0:21 / /proc rw - proc proc rw\n")
	return s
}

// TestDataDirThatCanBeSwapped: what stands against renaming is found before anything is touched, and only where something is to be renamed.
func TestDataDirThatCanBeSwapped(t *testing.T) {
	mount := func(at string) func(*sound) {
		return func(s *sound) {
			s.change("/proc/self/mountinfo", "24 22", "25 23 8:2 / "+at+" rw - ext4 /dev/sdb rw\n24 22")
		}
	}
	for name, c := range map[string]struct {
		change func(*sound)
		want   string // part of the refusal; empty where there is none
	}{
		"as kubeadm has it":           {func(*sound) {}, ""},
		"something mounted beside it": {mount("/var/lib/etcd2"), ""},
		"a mount point":               {mount("/var/lib/etcd"), "etcd's data directory can't be renamed: seen: something is mounted at /var/lib/etcd, or below it"},
		"a mount below it":            {mount("/var/lib/etcd/member/wal"), "something is mounted at /var/lib/etcd, or below it"},
		"drill's folder is a mount":   {mount("/var/lib/drill"), "/var/lib/etcd is on what is mounted at /var, and /var/lib/drill/a-run on what is mounted at /var/lib/drill"},
		"a name with a blank":         {mount(`/var/lib/drill\040here`), ""},
		"a link":                      {func(s *sound) { s.answers["realpath"] = answer{"/data/etcd\n/var/lib\n/var/lib/drill/a-run\n", 0} }, "/var/lib/etcd is a link to /data/etcd"},
		"a link above it": {func(s *sound) {
			s.answers["realpath"] = answer{"/var/store/etcd\n/var/store\n/var/store/drill/a-run\n", 0}
		}, ""},
		"no realpath":                    {func(s *sound) { s.answers["realpath"] = answer{"", 127} }, "whether etcd's data directory can be renamed can't be told"},
		"realpath says something else":   {func(s *sound) { s.answers["realpath"] = answer{"?", 0} }, `realpath says "?", and there are 3 mounts`},
		"no table of mounts":             {func(s *sound) { s.write("/proc/self/mountinfo", "") }, "and there are 0 mounts"},
		"what a rollback makes is there": {func(s *sound) { s.exists = []string{nodeDir + "/etcd-given-up"} }, nodeDir + "/etcd-given-up"},
	} {
		t.Run(name, func(t *testing.T) {
			n := movable(t, "cp-a", "172.18.0.3")
			c.change(n)
			err := setFor(t.Context(), t, swapping(t), n)
			if c.want == "" {
				if !errors.Is(err, errBeyond) {
					t.Error(err)
				}
				return
			}
			if all := reasons(err); len(all) != 1 || !strings.Contains(all[0].Error(), c.want) || !strings.HasPrefix(all[0].Error(), "node cp-a: ") {
				t.Errorf("%v; want %s", err, c.want)
			} else if !strings.Contains(c.want, "given-up") && !strings.Contains(all[0].Hint, "--data-dir-mode manifest") {
				t.Errorf("no way out: %v", err)
			}
			if name == "what a rollback makes is there" {
				return
			}
			delete(n.answers, "realpath") // nobody asks
			if err := set(t.Context(), t, n); !errors.Is(err, errBeyond) {
				t.Errorf("in the other mode: %v", err)
			}
		})
	}
	a, b := movable(t, "cp-a", "172.18.0.3"), movable(t, "cp-b", "172.18.0.4")
	b.change(etcdManifest, "path: /var/lib/etcd\n", "path: /var/lib/etcd1\n")
	b.answers["realpath"] = answer{"/var/lib/etcd1\n/var/lib\n/var/lib/drill/a-run\n", 0}
	if err := setFor(t.Context(), t, swapping(t), a, b); len(reasons(err)) != 1 || !strings.Contains(err.Error(), "node cp-b: etcd's data directory is not where it is on the other control planes: seen: /var/lib/etcd1, and /var/lib/etcd on node cp-a") {
		t.Error(err)
	}
}

// diskNode is a node whose files lie in a folder of this machine. Its etcd has a directory mounted, whatever path that has by now.
type diskNode struct {
	brokenNode
	root    string
	mounted *string // the path of it
	fetched *int
}

func (n diskNode) Exec(ctx context.Context, c cluster.Cmd) (cluster.Result, error) {
	argv := slices.Clone(c.Argv)
	for i, arg := range argv {
		if strings.HasPrefix(arg, "/proc/1/root/") {
			argv[i] = filepath.Join(n.root, *n.mounted)
		} else if strings.HasPrefix(arg, "/") {
			argv[i] = filepath.Join(n.root, arg)
		}
	}
	switch argv[0] {
	case "cat":
		*n.fetched++
		b, err := os.ReadFile(argv[2])
		if err == nil {
			_, err = c.Stdout.Write(b)
		}
		return cluster.Result{}, err
	case "crictl":
		said := `{"containers": [{"id": "c", "metadata": {"name": "etcd"}, "labels": {"io.kubernetes.pod.namespace": "kube-system"}}]}`
		if argv[1] == "inspect" && slices.Contains(argv, "go-template") {
			said = "1"
		} else if argv[1] == "inspect" {
			said = `{"status": {"id": "c", "mounts": [{"hostPath": "/var/lib/etcd", "containerPath": "/var/lib/etcd"}]}}`
		}
		return cluster.Result{Stdout: []byte(said)}, nil
	case "stat", "test", "mv", "mkdir", "fallocate", "rm":
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		out, err := cmd.Output()
		if err != nil {
			err = &cluster.ExitError{Node: "n", Cmd: c, Code: cmd.ProcessState.ExitCode()}
		}
		return cluster.Result{Stdout: out}, err
	}
	return cluster.Result{}, fmt.Errorf("not known here: %s", c)
}

// swapped is a stage of mode swap on one node whose etcd ran on /var/lib/etcd, on a database of an etcd that held what is named.
func swapped(t *testing.T, names ...string) (s *Stage, n diskNode, revision int64) {
	t.Helper()
	dir, revision := stopped(t, names...)
	n = diskNode{root: t.TempDir(), mounted: new(string), fetched: new(int)}
	if err := os.MkdirAll(filepath.Join(n.root, "/var/lib/drill/r"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(n.root, "/var/lib/etcd"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s = noted(t, "", n.fetched)
	s.cast([]controlplane.Member{{Name: "n", Node: n, Etcd: controlplane.EtcdConfig{HostDataDir: "/var/lib/etcd", DataDir: "/var/lib/etcd"}}}, swapping(t), "", "/var/lib/drill/r")
	return s, n, revision
}

func (n diskNode) rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(n.root, from), filepath.Join(n.root, to)); err != nil {
		t.Fatal(err)
	}
}

func (n diskNode) mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(n.root, dir, "member"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestOldDirAside: what the old directory holds is read wherever it is, and not while the old etcd has it mounted still, by whatever name.
func TestOldDirAside(t *testing.T) {
	const aside = "/var/lib/drill/r/etcd-before"
	for name, c := range map[string]struct {
		renames int
		mounted string
		fetched int
	}{
		"nothing was renamed, and etcd runs on it":    {0, "/var/lib/etcd", 0},
		"nothing was renamed, and etcd has ended":     {0, "/var/lib/drill/r", 1}, // whatever that one is
		"between the renames, etcd runs on it still":  {1, aside, 0},
		"renamed, and etcd runs on what was restored": {2, "/var/lib/etcd", 1},
		"renamed, and etcd was not restarted":         {2, aside, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, n, revision := swapped(t, "a", "b", "c", "d")
			n.mkdir(t, "/var/lib/drill/r/etcd")
			*n.mounted = c.mounted
			for _, r := range [][2]string{{"/var/lib/etcd", aside}, {"/var/lib/drill/r/etcd", "/var/lib/etcd"}}[:c.renames] {
				n.rename(t, r[0], r[1])
			}
			if err := s.noteOld(t.Context()); err != nil || *n.fetched != c.fetched {
				t.Errorf("fetched %d times, %v", *n.fetched, err)
			}
			if want := map[int]int64{0: 3, 1: revision}[c.fetched]; s.Subject.Before.Revision != want {
				t.Errorf("revision %d, want %d", s.Subject.Before.Revision, want)
			}
		})
	}
}

// TestThirdDirIsKnown: what a rollback has made is known by what it is, in another process too, so that nothing is made in its place once etcd may have run on it.
func TestThirdDirIsKnown(t *testing.T) {
	s, n, _ := swapped(t, "a")
	m := s.Target.Members[0]
	n.mkdir(t, s.Target.DataDir)
	if err := s.noteRestored(t.Context()); err != nil || s.Subject.Swap.Inodes["n"] == 0 {
		t.Fatalf("%v, %v", s.Subject.Swap.Inodes, err)
	}
	n.rename(t, "/var/lib/etcd", s.Target.AsideDir)
	n.rename(t, s.Target.DataDir, "/var/lib/etcd")

	if old, err := s.expectOld(t.Context()); err != nil || old.DataDir != "/var/lib/etcd" || old.Swap.Inodes["n"] == 0 || old.Swap.Inodes["n"] == s.Subject.Swap.Inodes["n"] || old.Swap.Aside != s.Target.GivenUpDir {
		t.Errorf("%+v, %v", old, err)
	}
	inPlace := func(want bool) {
		t.Helper()
		if got, err := s.backInPlace(t.Context(), m); err != nil || got != want {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		if used, err := s.rolledBackBefore(t.Context()); err != nil || used != want {
			t.Errorf("rolled back before: %v, %v; want %v", used, err, want)
		}
	}
	inPlace(false) // what was restored is in place
	n.mkdir(t, s.Target.RollbackDir)
	third, err := s.expectThird(t.Context())
	if err != nil || third.DataDir != "/var/lib/etcd" || third.Swap.Inodes["n"] == 0 || third.Swap.Aside != s.Target.GivenUpDir {
		t.Fatalf("%+v, %v", third, err)
	}
	if got, err := s.backInPlace(t.Context(), m); err != nil || got {
		t.Errorf("it is made, and not in place: %v, %v", got, err)
	}
	n.rename(t, "/var/lib/etcd", s.Target.GivenUpDir)
	if got, err := s.backInPlace(t.Context(), m); err != nil || got {
		t.Errorf("nothing is in place: %v, %v", got, err)
	}
	n.rename(t, s.Target.RollbackDir, "/var/lib/etcd")
	inPlace(true)

	// Another process has only what was written down.
	c := newDownCluster(t)
	c.node = vaultOf(c, n)
	s.Target.Members[0] = controlplane.Member{Name: "n", Node: c.node, Etcd: controlplane.EtcdConfig{
		HostDataDir: "/var/lib/etcd", DataDir: "/var/lib/etcd", AdvertiseClientURLs: []string{"https://127.0.0.1:1"}, CACert: "/ca", Cert: "/crt", Key: "/key",
	}}
	if err := s.Remember(); err != nil {
		t.Fatal(err)
	}
	got, err := Recall(t.Context(), c, swapping(t), Options{RunID: "r", Dir: s.opt.Dir})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.third, s.third) || !reflect.DeepEqual(got.Subject.Swap, s.Subject.Swap) || got.Subject.DataDir != "/var/lib/etcd" || !slices.Equal(got.made(), s.made()) {
		t.Errorf("recalled %+v, %+v, want %+v, %+v", got.third, got.Subject.Swap, s.third, s.Subject.Swap)
	}
	s = got
	inPlace(true)
	if err := s.restoreOld(t.Context()); err != nil || !s.Subject.Old.Used || s.Subject.Old.Swap.Inodes["n"] != third.Swap.Inodes["n"] || *n.fetched > 0 {
		t.Errorf("%+v, fetched %d times, %v", s.Subject.Old, *n.fetched, err)
	}
}

// vaultNode is a diskNode with etcd's certificates.
type vaultNode struct {
	diskNode
	files cluster.Node
}

func vaultOf(c downCluster, n diskNode) cluster.Node { return vaultNode{n, c.node} }

func (v vaultNode) Name() string { return v.files.Name() }
func (v vaultNode) ReadFile(ctx context.Context, path string) ([]byte, error) {
	return v.files.ReadFile(ctx, path)
}

// TestSwapLesson: a lesson has names of its own, and says how the directories are told apart.
func TestSwapLesson(t *testing.T) {
	s := Textbook("n", swapping(t), "")
	if got := s.made(); !slices.Equal(got, []string{"/var/lib/etcd-from-backup", "/var/lib/etcd-rolled-back", "/var/lib/etcd-before-restore", "/var/lib/etcd-given-up"}) {
		t.Errorf("%q", got)
	}
	var byHand []string
	for _, c := range proof.Checks(&s.Subject) {
		if c.Name == "control-plane-renewed" {
			for _, command := range c.Commands {
				byHand = append(byHand, command.String())
			}
		}
	}
	all := strings.Join(byHand, "\n")
	for _, want := range []string{"stat --format=%z /var/lib/etcd-before-restore", "/var/lib/etcd /var/lib/etcd-before-restore", "/proc/{}/root/var/lib/etcd"} {
		if !strings.Contains(all, want) {
			t.Errorf("there is no %q in\n%s", want, all)
		}
	}
	if s.Subject.DataDir != "/var/lib/etcd" {
		t.Errorf("etcd is to run on %s", s.Subject.DataDir)
	}
}
