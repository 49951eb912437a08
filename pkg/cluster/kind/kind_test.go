package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/defaults"
	"sigs.k8s.io/yaml"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// fakeEngine puts commands in the place of the container engines: each name stands for a shell script. Engines that fail or
// hang in a chosen way can't be had otherwise.
func fakeEngine(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The scripts need a shell's usual company, but no real engine may be found.
	for _, tool := range []string{"sh", "cat", "sleep", "kill"} {
		if path, err := exec.LookPath(tool); err == nil {
			if err := os.Symlink(path, filepath.Join(dir, tool)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", dir)
	t.Setenv(ProviderVariable, "")
	t.Setenv(ImageVariable, "")
}

// answering is the start of a script that answers as Docker would; what follows is looked at for other questions.
const answering = `case "$*" in
-v) echo "Docker version 28.0.0, build 0" ; exit ;;
info*) echo '{"ID":"e1","ServerVersion":"28.0.0","CgroupVersion":"2","MemTotal":4096,"DockerRootDir":"/d","Name":"h"}' ; exit ;;
esac
`

func newProvider(t *testing.T) *Provider {
	t.Helper()
	p, err := New(t.Context(), Options{StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestValidateName(t *testing.T) {
	for _, name := range []string{"a", "drill", "ck-1", strings.Repeat("a", 40)} {
		if err := ValidateName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "-a", "a-", "A", "a_b", "a.b", "a/b", "../a", "a b", "ä", "a\n", strings.Repeat("a", 41)} {
		if err := ValidateName(name); !errors.Is(err, cluster.ErrBadName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNothingIsTouchedOnBadInput(t *testing.T) {
	fakeEngine(t, map[string]string{"docker": answering + "echo unexpected: $* >&2; exit 1"})
	p := newProvider(t)
	for _, name := range []string{"", "../etc", "A b"} {
		if _, err := p.Attach(t.Context(), name); !errors.Is(err, cluster.ErrBadName) {
			t.Errorf("attach %q: %v", name, err)
		}
		if err := p.Delete(t.Context(), name); !errors.Is(err, cluster.ErrBadName) {
			t.Errorf("delete %q: %v", name, err)
		}
		if _, err := p.Create(t.Context(), CreateOptions{Name: name}); !errors.Is(err, cluster.ErrBadName) {
			t.Errorf("create %q: %v", name, err)
		}
	}
	for _, o := range []CreateOptions{{Name: "a", ControlPlanes: 2}, {Name: "a", ControlPlanes: -1}, {Name: "a", Workers: -1}} {
		if _, err := p.Create(t.Context(), o); err == nil || strings.Contains(err.Error(), "unexpected") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if entries, _ := os.ReadDir(p.store.dir); len(entries) > 0 {
		t.Errorf("written: %v", entries)
	}
}

func TestNotFoundNamesTheNearest(t *testing.T) {
	err := notFound("dirll", []string{"production", "drill", "kind"})
	if !errors.Is(err, cluster.ErrNotFound) || !strings.Contains(err.Error(), "there is drill,") {
		t.Error(err)
	}
	if err := notFound("x", nil); !errors.Is(err, cluster.ErrNotFound) || !strings.Contains(err.Error(), "drill cluster create") {
		t.Error(err)
	}
}

func TestNodeNames(t *testing.T) {
	got := nodeNames("x", 3, 2)
	want := []string{"x-control-plane", "x-control-plane2", "x-control-plane3", "x-worker", "x-worker2", "x-external-load-balancer"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := nodeNames("x", 1, 0); !slices.Equal(got, []string{"x-control-plane"}) {
		t.Error(got)
	}
}

func TestConfig(t *testing.T) {
	for file, s := range map[string]shape{
		"one.yaml":             {controlPlanes: 1, cgroupVersion: 2},
		"one-cgroup-v1.yaml":   {controlPlanes: 1, cgroupVersion: 1},
		"three.yaml":           {controlPlanes: 3, cgroupVersion: 2},
		"three-cgroup-v1.yaml": {controlPlanes: 3, cgroupVersion: 1},
		"three-workers.yaml":   {controlPlanes: 3, workers: 2, cgroupVersion: 2},
	} {
		t.Run(file, func(t *testing.T) {
			s.image = "node:v1"
			got, err := yaml.Marshal(s.config("ck"))
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", file)
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("UPDATE_GOLDEN=1 accepts it. Got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestLoadBalancerImage compares the copy of the name with kind's own source.
func TestLoadBalancerImage(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kind").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "pkg/cluster/internal/loadbalancer/const.go"))
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`const Image = "(.*)"`).FindSubmatch(source); m == nil || string(m[1]) != LoadBalancerImage {
		t.Errorf("kind runs %s, this is %s", m, LoadBalancerImage)
	}
}

func TestDetect(t *testing.T) {
	refusing := "echo Cannot connect to the daemon >&2; exit 1"
	podman := `echo '{"host":{"cgroupVersion":"v2","memTotal":1,"hostname":"h"},"store":{"graphRoot":"/g"},"version":{"Version":"5.4.0"}}'`
	for _, test := range []struct {
		name    string
		scripts map[string]string
		wish    string
		want    string // the engine, or else a part of the error
	}{
		{"docker", map[string]string{"docker": answering}, "", "docker"},
		{"nothing is installed", nil, "", "docker is not installed"},
		{"the daemon doesn't run", map[string]string{"docker": refusing}, "", "Cannot connect to the daemon"},
		{"the next one answers", map[string]string{"docker": refusing, "podman": podman}, "", "podman"},
		{"docker is Podman in disguise", map[string]string{"docker": `echo podman version 5.4.0`, "podman": podman}, "", "podman"},
		{"a wish", map[string]string{"docker": answering, "podman": podman}, "podman", "podman"},
		{"a wish that doesn't answer", map[string]string{"docker": answering, "podman": refusing}, "podman", "Cannot connect"},
		{"a wish that kind doesn't know", map[string]string{"docker": answering}, "lxc", "lxc"},
		{"nonsense", map[string]string{"docker": `case $1 in -v) echo Docker version 1;; *) echo what; esac`}, "", "docker info"},
		{"exit 0 without a server", map[string]string{"docker": `case $1 in -v) echo Docker version 1;; *) echo '{"ServerErrors":["no daemon"]}'; esac`}, "", "no daemon"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fakeEngine(t, test.scripts)
			t.Setenv(ProviderVariable, test.wish)
			p, err := New(t.Context(), Options{StateDir: t.TempDir()})
			if err == nil {
				if p.Engine().Name != test.want {
					t.Errorf("found %+v", p.Engine())
				}
				return
			}
			if !errors.Is(err, cluster.ErrNoEngine) || !strings.Contains(err.Error(), test.want) {
				t.Error(err)
			}
		})
	}
}

func TestEngineIsDescribed(t *testing.T) {
	fakeEngine(t, map[string]string{"docker": answering})
	e := newProvider(t).Engine()
	e.Now = time.Time{}
	want := Engine{Name: "docker", Version: "28.0.0", ID: "e1", CgroupVersion: 2, MemoryBytes: 4096, RootDir: "/d", Hostname: "h"}
	if e != want {
		t.Errorf("got  %+v\nwant %+v", e, want)
	}
}

// TestHangingEngine has a command line that neither answers nor dies of a polite signal, with a child that holds its pipes.
func TestHangingEngine(t *testing.T) {
	hang := "trap '' TERM INT; sleep 1000 & sleep 1000; wait"
	fakeEngine(t, map[string]string{"docker": hang})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	within(t, func() {
		if _, err := New(ctx, Options{StateDir: t.TempDir()}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("New: %v", err)
		}
	})
	fakeEngine(t, map[string]string{"docker": answering + hang})
	p := newProvider(t)
	n := &node{engine: p.engine, id: "c1", name: "n"}
	for what, call := range map[string]func(context.Context) error{
		"List":   func(ctx context.Context) error { _, err := p.List(ctx); return err },
		"Attach": func(ctx context.Context) error { _, err := p.Attach(ctx, "a"); return err },
		"Delete": func(ctx context.Context) error { return p.Delete(ctx, "a") },
		"Create": func(ctx context.Context) error { _, err := p.Create(ctx, CreateOptions{Name: "a"}); return err },
		"Image":  func(ctx context.Context) error { _, err := p.ResolveImage(ctx, ""); return err },
		"Labels": func(ctx context.Context) error { _, err := p.WorkloadImages(ctx, "i"); return err },
		"Config": func(ctx context.Context) error { _, err := p.kubeconfig(ctx, "a"); return err },
		"Exec": func(ctx context.Context) error {
			_, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"true"}})
			return err
		},
		"Feeding": func(ctx context.Context) error { return feedForEver(ctx, n) },
		"Read":    func(ctx context.Context) error { _, err := n.ReadFile(ctx, "/x"); return err },
		"Write":   func(ctx context.Context) error { return n.WriteFile(ctx, "/x", 0, strings.NewReader("x")) },
	} {
		t.Run(what, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			within(t, func() {
				if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		})
	}
}

func feedForEver(ctx context.Context, n *node) error {
	_, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"cat"}, Stdin: endless{}})
	return err
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// within fails a test whose call hangs, long before the test binary's own limit.
func within(t *testing.T, call func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); call() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it hangs")
	}
}

func TestResolveImage(t *testing.T) {
	// The script's images are those of $LOCAL, its registry has those of $REMOTE, and $LIST is what `image ls` prints.
	script := answering + `for last; do :; done
has() { case " $1 " in *" $2 "*) exit 0;; *) echo "no such image" >&2; exit 1;; esac; }
case "$1 $2" in
"image inspect") has "$LOCAL" "$last";;
"image ls") cat <<END
$LIST
END
;;
"manifest inspect") [ "$REMOTE" != hangs ] || exec sleep 1000; has "$REMOTE" "$last";;
*) echo "unexpected: $*" >&2; exit 1;;
esac`
	built := "localhost/drill/node:v1.37.2"
	list := "localhost/drill/node:v1.9.9\nlocalhost/drill/node:v1.37.2\nlocalhost/drill/node:v1.36.3\nlocalhost/drill/node:tmp\n<none>:<none>\nother/node:v2.0.0\n"
	for _, test := range []struct {
		name, explicit, env, local, list, remote string
		want                                     string // empty: cluster.ErrNoImage
	}{
		{name: "the flag wins", explicit: "mine:1", env: "other:1", local: "mine:1 other:1 " + defaults.Image, list: list, want: "mine:1"},
		{name: "the variable is next", env: "other:1", local: "other:1 " + defaults.Image, list: list, want: "other:1"},
		{name: "what is asked for may be pulled", explicit: "mine:1", remote: "mine:1", want: "mine:1"},
		{name: "what is asked for is not replaced", explicit: "mine:1", local: defaults.Image, list: list, remote: defaults.Image},
		{name: "kind's own that is here", local: defaults.Image, list: list, remote: defaults.Image, want: defaults.Image},
		{name: "the highest version built here", list: list, remote: defaults.Image, want: built},
		{name: "kind's own that can be pulled", remote: defaults.Image, want: defaults.Image},
		{name: "only half-built ones", list: "localhost/drill/node:tmp\n<none>:<none>\n"},
		{name: "none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fakeEngine(t, map[string]string{"docker": script})
			for name, value := range map[string]string{"LOCAL": test.local, "LIST": test.list, "REMOTE": test.remote, ImageVariable: test.env} {
				t.Setenv(name, value)
			}
			got, err := newProvider(t).ResolveImage(t.Context(), test.explicit)
			if got != test.want {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
			if test.want == "" && (!errors.Is(err, cluster.ErrNoImage) || !strings.Contains(err.Error(), "make node-image")) {
				t.Error(err)
			}
		})
	}
	t.Run("a registry that hangs", func(t *testing.T) {
		fakeEngine(t, map[string]string{"docker": script})
		t.Setenv("REMOTE", "hangs")
		within(t, func() {
			if _, err := newProvider(t).ResolveImage(t.Context(), ""); !errors.Is(err, cluster.ErrNoImage) {
				t.Error(err)
			}
		})
	})
}

func TestWorkloadImages(t *testing.T) {
	for _, test := range []struct {
		name, inspected string
		want            []string
	}{
		{"built here", `[{"Config":{"Labels":{"io.etcd-drill.node-image":"k","io.etcd-drill.workload-images":"docker.io/library/nginx:1.22,localhost/drill/debian:12"}}}]`,
			[]string{"docker.io/library/nginx:1.22", "localhost/drill/debian:12"}},
		{"an empty label", `[{"Config":{"Labels":{"io.etcd-drill.workload-images":""}}}]`, nil},
		{"other labels", `[{"Config":{"Labels":{"a":"b"}}}]`, nil},
		{"no labels", `[{"Config":{"Labels":null}}]`, nil},
		{"no config", `[{"Config":null}]`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			fakeEngine(t, map[string]string{"docker": answering + "echo '" + test.inspected + "'"})
			got, err := newProvider(t).WorkloadImages(t.Context(), "i")
			if err != nil || !slices.Equal(got, test.want) || (got == nil) != (test.want == nil) {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
	for name, script := range map[string]string{
		"not here": `echo "Error response from daemon: No such image: i" >&2; exit 1`, "rubbish": "echo {", "nothing": "echo '[]'",
	} {
		fakeEngine(t, map[string]string{"docker": answering + script})
		if got, err := newProvider(t).WorkloadImages(t.Context(), "i"); err == nil || !strings.Contains(err.Error(), "node image i") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestAttachWantsStackedEtcd has control planes that hold what kubeadm leaves there, or less.
func TestAttachWantsStackedEtcd(t *testing.T) {
	// The second control plane has the files of $FILES, and the first has all; find fails when one isn't there.
	script := answering + `case "$1" in
ps) echo c1; echo c2;;
container) cat <<'END'
[{"Id":"c1","Name":"/a-control-plane","State":{"Running":true},"Config":{"Image":"i","Labels":{"io.x-k8s.kind.cluster":"a","io.x-k8s.kind.role":"control-plane"}}},
 {"Id":"c2","Name":"/a-control-plane2","State":{"Running":true},"Config":{"Image":"i","Labels":{"io.x-k8s.kind.cluster":"a","io.x-k8s.kind.role":"control-plane"}}}]
END
;;
exec)
have="/etc/kubernetes/admin.conf /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/pki/etcd/ca.crt"
case "$*" in *c2*) have=$FILES;; esac
status=0
for asked; do
  case "$asked" in /*) case " $have " in *" $asked "*) echo "$asked";; *) echo "find: '$asked': No such file or directory" >&2; status=1;; esac;; esac
done
exit $status;;
*) echo "unexpected: $*" >&2; exit 1;;
esac`
	for _, test := range []struct{ name, files, want string }{
		{"stacked", "/etc/kubernetes/admin.conf /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/pki/etcd/ca.crt", ""},
		{"external etcd", "/etc/kubernetes/admin.conf /etc/kubernetes/pki/etcd/ca.crt", "a-control-plane2 has no /etc/kubernetes/manifests/etcd.yaml"},
		{"another's work", "/etc/kubernetes/manifests/etcd.yaml", "a-control-plane2 has no /etc/kubernetes/admin.conf"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fakeEngine(t, map[string]string{"docker": script})
			t.Setenv("FILES", test.files)
			_, err := newProvider(t).Attach(t.Context(), "a")
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, cluster.ErrNotKubeadm) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestCreateKeepsTheRecordOfAnotherEngine has an engine that has no clusters, and fails the test when asked to make one.
func TestCreateKeepsTheRecordOfAnotherEngine(t *testing.T) {
	fakeEngine(t, map[string]string{"docker": answering + `case "$1 $2" in
"ps "*|"image inspect") ;;
*) echo "unexpected: $*" >&2; exit 1;;
esac`})
	p := newProvider(t)
	rec := &record{Name: "a", Engine: "podman", Image: "i", Nodes: []string{"a-control-plane"}, Containers: []string{"c1"}, Complete: true}
	if err := p.store.save(rec); err != nil {
		t.Fatal(err)
	}
	_, err := p.Create(t.Context(), CreateOptions{Name: "a", Image: "i"})
	if !errors.Is(err, cluster.ErrExists) {
		t.Fatal(err)
	}
	for _, word := range []string{"(podman, and this is docker e1)", ProviderVariable, "drill cluster delete a", p.store.recordPath("a")} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q isn't in: %v", word, err)
		}
	}
	if kept, err := p.store.load("a"); err != nil || !slices.Equal(kept.Containers, rec.Containers) {
		t.Errorf("the record is %+v, %v", kept, err)
	}
}

// TestExecTellsItsOwnFailure has the engine's command line fail with statuses that a command could have, too.
func TestExecTellsItsOwnFailure(t *testing.T) {
	for name, script := range map[string]string{
		"docker: gone":        `echo "Error response from daemon: No such container: c1" >&2; exit 1`,
		"docker: stopped":     `echo "Error response from daemon: container c1 is not running" >&2; exit 1`,
		"docker: no daemon":   `echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?" >&2; exit 1`,
		"docker: daemon died": `case "$*" in *probe*) exit 255;; *) echo "Cannot connect to the Docker daemon" >&2; exit 1; esac`,
		"podman: gone":        `echo 'Error: no container with name or ID "c1" found: no such container' >&2; exit 125`,
		"nerdctl: gone":       `echo 'time="2026-01-01T00:00:00Z" level=fatal msg="no such container c1"' >&2; exit 1`,
		"ended with its node": `case "$*" in *probe*) exit 137;; *) echo "Error response from daemon: container is not running" >&2; exit 1; esac`,
		"killed itself":       `kill -9 $$`,
	} {
		t.Run(name, func(t *testing.T) {
			engineName, _, found := strings.Cut(name, ": ")
			if !found {
				engineName = "docker"
			}
			fakeEngine(t, map[string]string{engineName: script})
			n := &node{engine: &engine{Engine{Name: engineName}}, id: "c1", name: "n"}
			_, err := n.Exec(t.Context(), cluster.Cmd{Argv: []string{"probe"}})
			if exit := (*cluster.ExitError)(nil); err == nil || errors.As(err, &exit) {
				t.Errorf("%#v", err)
			}
		})
	}
	for _, env := range []string{"HOME", ""} {
		n := &node{engine: &engine{Engine{Name: "docker"}}, id: "c1", name: "n"}
		if _, err := n.Exec(t.Context(), cluster.Cmd{Argv: []string{"true"}, Env: []string{env}}); err == nil {
			t.Errorf("%q passes as a variable and its value", env)
		}
	}
	for _, code := range []int{1, 125, 126, 127, 137, 255} {
		fakeEngine(t, map[string]string{"docker": answering + fmt.Sprintf(`case "$*" in *probe*) echo no >&2; exit %d; esac`, code)})
		n := &node{engine: newProvider(t).engine, id: "c1", name: "n"}
		_, err := n.Exec(t.Context(), cluster.Cmd{Argv: []string{"probe"}})
		if exit := (*cluster.ExitError)(nil); !errors.As(err, &exit) || exit.Code != code {
			t.Errorf("a command's own status %d: %v", code, err)
		}
	}
}

func TestPathsMustBeAbsolute(t *testing.T) {
	n := &node{name: "n"}
	for _, name := range []string{"", "x", "-x", "a/b", "/a\x00b"} {
		if _, err := n.ReadFile(t.Context(), name); err == nil {
			t.Errorf("reading %q", name)
		}
		if err := n.WriteFile(t.Context(), name, 0, strings.NewReader("")); err == nil {
			t.Errorf("writing %q", name)
		}
	}
}

func TestRecordIsKept(t *testing.T) {
	s := store{filepath.Join(t.TempDir(), "state")}
	if r, err := s.loadIfAny("a"); r != nil || err != nil {
		t.Fatalf("%v, %v", r, err)
	}
	if _, err := s.load("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	r := &record{Name: "a", Engine: "docker", EngineID: "e", Created: now, Image: "i", Nodes: []string{"n"}}
	for range 2 {
		if err := s.save(r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.load("a")
	if err != nil || !got.Created.Equal(now) || got.Image != "i" || got.Complete {
		t.Errorf("%+v, %v", got, err)
	}
	for path, mode := range map[string]fs.FileMode{s.recordPath("a"): 0o600, filepath.Dir(s.recordPath("a")): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(s.recordPath("a"))); len(entries) != 1 {
		t.Errorf("there is %v", entries)
	}
	if err := os.WriteFile(s.recordPath("b"), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.load("b"); err == nil || !strings.Contains(err.Error(), s.recordPath("b")) {
		t.Errorf("a damaged record: %v", err)
	}
	for range 2 {
		if err := s.forget("a"); err != nil {
			t.Error(err)
		}
	}
}

func TestLockLetsOneIn(t *testing.T) {
	s := store{t.TempDir()}
	release, err := s.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.lock(t.Context(), "a"); err == nil {
		t.Error("two have the lock")
	}
	other, err := s.lock(t.Context(), "b")
	if err != nil {
		t.Error(err)
	} else {
		other()
	}
	release()
	again, err := s.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestOwnership(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	node := container{ID: "c1", Name: "a-control-plane", Role: "control-plane", Image: "i", Created: began.Add(time.Second)}
	with := func(change func(*container)) container { c := node; change(&c); return c }
	unfinished := record{Created: began, Image: "i", Nodes: []string{"a-control-plane", "a-external-load-balancer"}}
	finished := unfinished
	finished.Complete, finished.Containers = true, []string{"c1"}
	for _, test := range []struct {
		name   string
		record record
		c      container
		want   bool
	}{
		{"on record", finished, node, true},
		{"on record, whatever else changed", finished, with(func(c *container) { c.Name = "renamed" }), true},
		{"a successor by the same name", finished, with(func(c *container) { c.ID = "c2" }), false},
		{"killed before it was noted", unfinished, node, true},
		{"killed, a load balancer", unfinished, with(func(c *container) {
			c.Name, c.Role, c.Image = "a-external-load-balancer", "external-load-balancer", "lb"
		}), true},
		{"killed, made later by somebody", unfinished, with(func(c *container) { c.Created = began.Add(time.Hour) }), false},
		{"killed, made before", unfinished, with(func(c *container) { c.Created = began.Add(-time.Second) }), false},
		{"killed, another image", unfinished, with(func(c *container) { c.Image = "j" }), false},
		{"killed, another node", unfinished, with(func(c *container) { c.Name = "a-worker" }), false},
	} {
		if got := test.record.owns(test.c); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// TestDeleteChecksFirst has an engine with one container that is not on record, and that fails the test when asked to
// remove anything.
func TestDeleteChecksFirst(t *testing.T) {
	script := answering + `case "$1" in
ps) echo c9;;
container) echo '[{"Id":"c9","Name":"/a-control-plane","Created":"2026-01-02T03:04:05Z","State":{"Running":true},"Config":{"Image":"i","Labels":{"io.x-k8s.kind.cluster":"a","io.x-k8s.kind.role":"control-plane"}}}]';;
*) echo "unexpected: $*" >&2; exit 1;;
esac`
	fakeEngine(t, map[string]string{"docker": script})
	p := newProvider(t)
	if err := p.Delete(t.Context(), "a"); !errors.Is(err, cluster.ErrNotOurs) {
		t.Errorf("without a record: %v", err)
	}
	rec := &record{Name: "a", Engine: "docker", EngineID: "e1", Image: "i", Nodes: []string{"a-control-plane"}, Containers: []string{"c1"}, Complete: true}
	if err := p.store.save(rec); err != nil {
		t.Fatal(err)
	}
	if err := p.Delete(t.Context(), "a"); !errors.Is(err, cluster.ErrNotOurs) {
		t.Errorf("with the record of an earlier one: %v", err)
	}
	rec.EngineID = "e2"
	if err := p.store.save(rec); err != nil {
		t.Fatal(err)
	}
	if err := p.Delete(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "another container engine") {
		t.Errorf("with a record of another engine: %v", err)
	}
	release, err := p.store.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := p.Delete(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "right now") {
		t.Errorf("while it is being created: %v", err)
	}
}

func TestProgressLines(t *testing.T) {
	var got []string
	l := &logger{progress: func(line string) { got = append(got, line) }}
	l.V(0).Infof("Creating cluster %q ...\n", "a")
	l.V(0).Infof(" • %s  ...\n", "Ensuring node image (node:v1) 🖼️")
	l.V(0).Infof(" ✓ %s\n", "Ensuring node image (node:v1) 🖼️")
	l.V(0).Infof(" • %s  ...\n", "Preparing nodes 📦 📦 ")
	l.V(1).Info(" • for debugging  ...")
	l.Warn("mind this\n")
	want := []string{"Ensuring node image (node:v1)", "Preparing nodes", "Warning: mind this"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := l.lastStep(); !strings.Contains(got, "Preparing nodes") {
		t.Error(got)
	}
}

// TestStart: what doesn't run of a cluster is started, and nothing else.
func TestStart(t *testing.T) {
	script := answering + `case "$1" in
ps) case "$*" in *=gone*) ;; *) echo c1; echo c2; echo c3;; esac;;
container) cat <<END
[{"Id":"c1","Name":"/a-control-plane","State":{"Running":$FIRST},"Config":{"Labels":{"io.x-k8s.kind.cluster":"a","io.x-k8s.kind.role":"control-plane"}}},
 {"Id":"c2","Name":"/a-control-plane2","State":{"Running":true},"Config":{"Labels":{"io.x-k8s.kind.cluster":"a","io.x-k8s.kind.role":"control-plane"}}},
 {"Id":"c3","Name":"/a-external-load-balancer","State":{"Running":$FIRST},"Config":{"Labels":{"io.x-k8s.kind.cluster":"a","io.x-k8s.kind.role":"external-load-balancer"}}}]
END
;;
start) if [ "$*" != "start c1 c3" ] || [ "$FIRST" = true ]; then echo "unexpected: $*" >&2; exit 1; fi; if [ "$BROKEN" ]; then echo "no room" >&2; exit 1; fi;;
*) echo "unexpected: $*" >&2; exit 1;;
esac`
	fakeEngine(t, map[string]string{"docker": script})
	p := newProvider(t)
	for running, want := range map[string][]string{"true": nil, "false": {"a-control-plane", "a-external-load-balancer"}} {
		t.Setenv("FIRST", running)
		if got, err := p.Start(t.Context(), "a"); err != nil || !slices.Equal(got, want) {
			t.Errorf("running %s: started %q, %v; want %q", running, got, err, want)
		}
	}
	t.Setenv("FIRST", "false")
	t.Setenv("BROKEN", "yes")
	if _, err := p.Start(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "a-external-load-balancer") || !strings.Contains(err.Error(), "no room") {
		t.Error(err)
	}
	if _, err := p.Start(t.Context(), "gone"); !errors.Is(err, cluster.ErrNotFound) {
		t.Error(err)
	}
}

func TestPlace(t *testing.T) {
	for want, e := range map[string]Engine{
		"docker 1-2":                   {Name: "docker", ID: "1-2", Hostname: "h", RootDir: "/var/lib/docker"},
		"podman h:/var/lib/containers": {Name: "podman", Hostname: "h", RootDir: "/var/lib/containers"},
		"":                             {Name: "podman", Hostname: "h"},
	} {
		p := &Provider{engine: &engine{Engine: e}}
		if got := p.Place(); got != want {
			t.Errorf("%+v: %q, want %q", e, got, want)
		}
	}
}
