package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
)

// scripted is a node on which every command has a prepared answer: for what goes wrong on a real one too seldom to wait for,
// and to see which commands are run. What works is shown on a real node, by the end-to-end tests.
type scripted struct {
	t testing.TB
	// answer says what a command prints, and its exit status; -1 means that it is not known whether it ran.
	answer func(argv string) (string, int)

	mu    sync.Mutex
	ran   []string
	files map[string][]byte
	modes map[string]fs.FileMode
}

var errLost = errors.New("connection lost")

func newScripted(t testing.TB, answer func(argv string) (string, int)) *scripted {
	return &scripted{t: t, answer: answer, files: map[string][]byte{}, modes: map[string]fs.FileMode{}}
}

func (*scripted) Name() string       { return "cp-a" }
func (*scripted) Role() cluster.Role { return cluster.ControlPlane }
func (*scripted) Address() string    { return "172.18.0.3" }

func (s *scripted) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	if err := ctx.Err(); err != nil {
		return cluster.Result{}, err
	}
	s.mu.Lock()
	s.ran = append(s.ran, strings.Join(cmd.Argv, " "))
	out, code := s.answer(strings.Join(cmd.Argv, " "))
	s.mu.Unlock()
	switch code {
	case 0:
		return cluster.Result{Stdout: []byte(out)}, nil
	case -1:
		return cluster.Result{}, errLost
	default:
		return cluster.Result{}, &cluster.ExitError{Node: s.Name(), Cmd: cmd, Code: code, Output: out}
	}
}

func (s *scripted) ReadFile(_ context.Context, name string) ([]byte, error) {
	b, ok := s.files[name]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	return b, nil
}

func (s *scripted) WriteFile(_ context.Context, name string, mode fs.FileMode, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.files[name], s.modes[name] = b, mode
	return nil
}

func TestContainers(t *testing.T) {
	n := newScripted(t, func(argv string) (string, int) {
		if strings.HasPrefix(argv, "crictl ps") {
			return string(golden(t, "crictl-ps.json")), 0
		}
		return string(golden(t, "crictl-inspect.json")), 0
	})
	list, err := controlplane.Containers(t.Context(), n, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || len(n.ran) != 2 || n.ran[0] != "crictl ps --output json --all" {
		t.Fatalf("%d containers by %q", len(list), n.ran)
	}
	now, before, etcd := list[0], list[1], list[2]
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if now.Name != "kube-scheduler" || now.State != controlplane.ContainerRunning || now.Attempt != 1 ||
		!now.StartedAt.Equal(at("2026-11-23T04:46:38.773919765Z")) || !now.FinishedAt.IsZero() {
		t.Errorf("the running one: %+v", now)
	}
	if before.State != controlplane.ContainerExited || before.Reason != "Completed" || before.ExitCode != 0 ||
		!before.FinishedAt.Equal(at("2026-11-23T04:46:38.373217213Z")) || before.SandboxID != now.SandboxID {
		t.Errorf("the exited one: %+v", before)
	}
	if etcd.PodName != "etcd-cp-a" || etcd.PodNamespace != "kube-system" || etcd.PodUID != "b5a4aa6489dee89b6ed3460a10a1af2d" ||
		etcd.Image != "registry.k8s.io/etcd:3.7.0-0" || !etcd.CreatedAt.Equal(at("2026-11-23T04:45:53.447959385Z")) ||
		etcd.Mounts[0] != (controlplane.Mount{HostPath: "/var/lib/etcd", ContainerPath: "/var/lib/etcd"}) ||
		etcd.LogPath != "/var/log/pods/kube-system_etcd-cp-a_b5a4aa6489dee89b6ed3460a10a1af2d/etcd/0.log" {
		t.Errorf("etcd: %+v", etcd)
	}
}

func TestPID(t *testing.T) {
	said, code := "2056\n", 0
	n := newScripted(t, func(string) (string, int) { return said, code })
	if pid, err := controlplane.PID(t.Context(), n, "abc"); err != nil || pid != 2056 {
		t.Errorf("%d, %v", pid, err)
	}
	if want := "crictl inspect --output go-template --template {{.info.pid}} abc"; n.ran[0] != want {
		t.Errorf("ran %q, want %q", n.ran[0], want)
	}
	for _, said = range []string{"0", "", "<no value>", "-1"} {
		if pid, err := controlplane.PID(t.Context(), n, "abc"); err == nil || !strings.Contains(err.Error(), "does it run?") {
			t.Errorf("%q: %d, %v", said, pid, err)
		}
	}
	said, code = "no such container", 1
	if _, err := controlplane.PID(t.Context(), n, "abc"); err == nil || !strings.Contains(err.Error(), said) {
		t.Error(err)
	}
}

// TestContainersForms: one container is printed as an object and not as an array, older versions print one object after the other,
// and none is an empty list.
func TestContainersForms(t *testing.T) {
	one := func(id string) string {
		return fmt.Sprintf(`{"id":%q,"podSandboxId":"s","metadata":{"name":"c","attempt":3},"state":"CONTAINER_RUNNING","createdAt":"1795409198620034078","labels":{}}`, id)
	}
	status := func(id string) string {
		return fmt.Sprintf(`{"status":{"id":%q,"state":"CONTAINER_EXITED","exitCode":137,"startedAt":"2026-11-23T05:00:00.5+01:00"}}`+"\n", id)
	}
	for name, c := range map[string]struct {
		ps, inspect string
		count       int
		bad         bool
	}{
		"none":           {`{"containers":[]}`, "", 0, false},
		"one":            {`{"containers":[` + one("a") + `]}`, status("a"), 1, false},
		"two in a row":   {`{"containers":[` + one("a") + "," + one("b") + `]}`, status("a") + status("b"), 2, false},
		"two in a list":  {`{"containers":[` + one("a") + "," + one("b") + `]}`, "[" + status("b") + "," + status("a") + "]", 2, false},
		"one is missing": {`{"containers":[` + one("a") + "," + one("b") + `]}`, status("a"), 0, true},
		"no JSON":        {`oops`, "", 0, true},
		"bad time":       {strings.Replace(`{"containers":[`+one("a")+`]}`, "1795409198620034078", "yesterday", 1), "", 0, true},
		"no status":      {`{"containers":[` + one("a") + `]}`, "oops", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newScripted(t, func(argv string) (string, int) {
				if strings.HasPrefix(argv, "crictl ps") {
					return c.ps, 0
				}
				return c.inspect, 0
			})
			list, err := controlplane.Containers(t.Context(), n, false)
			if (err != nil) != c.bad || len(list) != c.count {
				t.Fatalf("%+v, %v", list, err)
			}
			for _, got := range list {
				if got.ExitCode != 137 || got.State != controlplane.ContainerExited || got.StartedAt.UTC().Hour() != 4 || got.Attempt != 3 {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

func TestContainersGoingAway(t *testing.T) {
	inspections := 0
	n := newScripted(t, func(argv string) (string, int) {
		if strings.HasPrefix(argv, "crictl ps") {
			return string(golden(t, "crictl-ps.json")), 0
		}
		if inspections++; inspections == 1 {
			return "container not found", 1
		}
		return string(golden(t, "crictl-inspect.json")), 0
	})
	if list, err := controlplane.Containers(t.Context(), n, false); err != nil || len(list) != 3 {
		t.Errorf("one that went away once: %v, %v", list, err)
	}
	inspections = -100
	n.answer = func(argv string) (string, int) {
		if strings.HasPrefix(argv, "crictl ps") {
			return string(golden(t, "crictl-ps.json")), 0
		}
		return "the runtime is gone", 1
	}
	if _, err := controlplane.Containers(t.Context(), n, false); err == nil || !strings.Contains(err.Error(), "the runtime is gone") {
		t.Errorf("a runtime that always fails: %v", err)
	}
	n.answer = func(string) (string, int) { return "", -1 }
	if _, err := controlplane.Containers(t.Context(), n, false); !errors.Is(err, errLost) {
		t.Errorf("a lost connection: %v", err)
	}
}

func TestSandboxes(t *testing.T) {
	n := newScripted(t, func(string) (string, int) { return string(golden(t, "crictl-pods.json")), 0 })
	list, err := controlplane.Sandboxes(t.Context(), n)
	if err != nil || len(list) != 4 {
		t.Fatalf("%v, %v", list, err)
	}
	if s := list[2]; s.PodName != "etcd-cp-a" || s.State != controlplane.SandboxReady || s.Labels["component"] != "etcd" || s.CreatedAt.Year() != 2026 {
		t.Errorf("%+v", s)
	}
	n.answer = func(string) (string, int) { return "oops", 0 }
	if _, err := controlplane.Sandboxes(t.Context(), n); err == nil {
		t.Error("no JSON: no error")
	}
}

func TestStopPods(t *testing.T) {
	const ready, none = "crictl-pods.json", `{"containers":[]}`
	running := string(golden(t, "crictl-ps.json"))
	script := func(afterwards string, failing string) *scripted {
		lists := 0
		return newScripted(t, func(argv string) (string, int) {
			switch {
			case failing != "" && strings.HasPrefix(argv, failing):
				return "no such thing", 1
			case strings.HasPrefix(argv, "crictl pods"):
				return string(golden(t, ready)), 0
			case strings.HasPrefix(argv, "crictl ps"):
				if lists++; lists > 1 {
					return afterwards, 0
				}
				return running, 0
			}
			return "", 0
		})
	}
	t.Run("etcd is asked, the others are not", func(t *testing.T) {
		n := script(none, "")
		if err := controlplane.StopPods(t.Context(), n, []string{controlplane.Etcd, controlplane.Scheduler}, 1500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		var asked, stopped []string
		for _, argv := range n.ran {
			if strings.HasPrefix(argv, "crictl --timeout=30s stop ") {
				asked = append(asked, argv)
			}
			if strings.HasPrefix(argv, "crictl --timeout=30s stopp ") {
				stopped = append(stopped, argv)
			}
		}
		if len(asked) != 1 || asked[0] != "crictl --timeout=30s stop --timeout 2 4b0b75e4226a1792d128627972de8ddbba6d3838d07788cb5eb31438b99f76d5" || len(stopped) != 2 {
			t.Errorf("asked %q, stopped %q", asked, stopped)
		}
	})
	t.Run("it runs again", func(t *testing.T) {
		err := controlplane.StopPods(t.Context(), script(running, ""), []string{controlplane.Etcd}, 0)
		if err == nil || !strings.Contains(err.Error(), "is the kubelet stopped?") {
			t.Error(err)
		}
	})
	for _, failing := range []string{"crictl pods", "crictl ps", "crictl --timeout=30s stop ", "crictl --timeout=30s stopp "} {
		t.Run(failing+" fails", func(t *testing.T) {
			err := controlplane.StopPods(t.Context(), script(none, failing), []string{controlplane.Etcd}, time.Second)
			var exit *cluster.ExitError
			if !errors.As(err, &exit) {
				t.Error(err)
			}
		})
	}
	t.Run("unknown component", func(t *testing.T) {
		n := script(none, "")
		if err := controlplane.StopPods(t.Context(), n, []string{"nginx"}, 0); err == nil || len(n.ran) > 0 {
			t.Errorf("%v after %q", err, n.ran)
		}
		if err := controlplane.StopPods(t.Context(), n, controlplane.Components(), -1); err == nil || len(n.ran) > 0 {
			t.Errorf("%v after %q", err, n.ran)
		}
	})
}

func TestKubelet(t *testing.T) {
	said, code := "ActiveState=active\nSubState=running\nActiveEnterTimestamp=Mon 2026-11-23 04:41:46.035117 UTC\n", 0
	n := newScripted(t, func(string) (string, int) { return said, code })
	at, err := controlplane.KubeletStartedAt(t.Context(), n)
	if err != nil || !at.Equal(time.Date(2026, 11, 23, 4, 41, 46, 35117000, time.UTC)) {
		t.Errorf("%v, %v", at, err)
	}
	for _, said = range []string{
		"ActiveState=activating\nSubState=auto-restart\nActiveEnterTimestamp=Mon 2026-11-23 04:41:46.035117 UTC\n",
		"ActiveState=inactive\nSubState=dead\nActiveEnterTimestamp=\n",
		"ActiveState=active\nSubState=running\nActiveEnterTimestamp=soon\n",
		"",
	} {
		if at, err := controlplane.KubeletStartedAt(t.Context(), n); err == nil {
			t.Errorf("%q: %v", said, at)
		}
	}
	said, code = "System has not been booted with systemd", 1
	if _, err := controlplane.KubeletStartedAt(t.Context(), n); err == nil || !strings.Contains(err.Error(), said) {
		t.Error(err)
	}
	if err := controlplane.StopKubelet(t.Context(), n); err == nil {
		t.Error("stop: no error")
	}
	if err := controlplane.StartKubelet(t.Context(), n); err == nil {
		t.Error("start: no error")
	}
}

func TestKubeletUnit(t *testing.T) {
	said, code := "LoadState=not-found\nActiveState=inactive\nSubState=dead\n", 0
	n := newScripted(t, func(string) (string, int) { return said, code })
	unit, err := controlplane.KubeletUnitOf(t.Context(), n)
	if err != nil || unit != (controlplane.KubeletUnit{Load: "not-found", Active: "inactive", Sub: "dead"}) {
		t.Errorf("%+v, %v", unit, err)
	}
	said, code = "System has not been booted with systemd", 1
	var exit *cluster.ExitError
	if _, err := controlplane.KubeletUnitOf(t.Context(), n); !errors.As(err, &exit) || !strings.Contains(err.Error(), said) {
		t.Error(err)
	}
}

func TestWaitReady(t *testing.T) {
	looks := 0
	answers := []string{"", "etcd starting\n503", "ok\n200"}
	n := newScripted(t, func(argv string) (string, int) {
		switch {
		case strings.HasPrefix(argv, "crictl ps"):
			return "abc", 0
		case strings.HasPrefix(argv, "crictl logs"):
			return "panic: no space left", 0
		case !strings.HasPrefix(argv, "curl ") || !strings.HasSuffix(argv, " http://127.0.0.1:2381/readyz"):
			t.Errorf("unexpected: %s", argv)
		}
		a := answers[min(looks, len(answers)-1)]
		looks++
		if a == "" {
			return "000\ncurl: (7) Failed to connect", 7
		}
		return a, 0
	})
	n.files[path.Join(controlplane.ManifestDir, "etcd.yaml")] = golden(t, "etcd-v1.37.yaml")
	if err := controlplane.WaitReady(t.Context(), n, controlplane.Etcd, time.Millisecond); err != nil || looks != 3 {
		t.Errorf("%v after %d looks", err, looks)
	}

	for _, c := range []struct{ answer, says string }{{"", "curl: (7)"}, {"etcd starting\n503", "status 503: etcd starting"}} {
		answers = []string{c.answer}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := controlplane.WaitReady(ctx, n, controlplane.Etcd, 5*time.Millisecond)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("%v", err)
		}
	}
	if err := controlplane.WaitReady(t.Context(), n, controlplane.Etcd, 0); err == nil {
		t.Error("no interval: no error")
	}
	if err := controlplane.WaitReady(t.Context(), n, controlplane.Scheduler, time.Second); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no manifest: %v", err)
	}
	n.answer = func(argv string) (string, int) {
		return map[string]string{"crictl ps --all --last 3 --quiet --name ^etcd$": "new\nold\nolder", "crictl logs --tail 1 old": "panic", "crictl logs --tail 1 older": "started"}[argv], 0
	}
	if log, err := controlplane.Log(t.Context(), n, controlplane.Etcd, 1); err != nil || log != "panic" {
		t.Errorf("the latest container has said nothing yet: %q, %v", log, err)
	}
	n.answer = func(string) (string, int) { return "", 0 }
	if _, err := controlplane.Log(t.Context(), n, controlplane.Etcd, 1); err == nil || !strings.Contains(err.Error(), "no container") {
		t.Errorf("log of what doesn't run: %v", err)
	}
}

// TestWaitReadyCause: what is told of a component that waits for another is what is wrong with that one, and of a list of checks those that failed.
func TestWaitReadyCause(t *testing.T) {
	etcd := "000\ncurl: (7) Failed to connect"
	n := newScripted(t, func(argv string) (string, int) {
		switch {
		case strings.HasPrefix(argv, "crictl ps") && strings.HasSuffix(argv, "^etcd$"):
			return "of-etcd", 0
		case strings.HasPrefix(argv, "crictl ps"):
			return "of-scheduler", 0
		case strings.HasSuffix(argv, " of-etcd"):
			return "panic: no space left on device", 0
		case strings.HasSuffix(argv, " of-scheduler"):
			return "Timeout or abort while handling", 0
		case strings.HasSuffix(argv, " http://127.0.0.1:2381/readyz"):
			return etcd, map[bool]int{false: 7}[strings.HasSuffix(etcd, "200")]
		}
		return "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed\n500", 0
	})
	n.files[path.Join(controlplane.ManifestDir, "etcd.yaml")] = golden(t, "etcd-v1.37.yaml")
	n.files[path.Join(controlplane.ManifestDir, "kube-scheduler.yaml")] = golden(t, "kube-scheduler-v1.37.yaml")
	wait := func() string {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := controlplane.WaitReady(ctx, n, controlplane.Scheduler, 5*time.Millisecond)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		return err.Error()
	}
	said := wait()
	for _, want := range []string{"etcd, which it depends on, isn't ready either", "curl: (7)", "no space left on device", ": status 500: [-]etcd failed: reason withheld;", "Timeout or abort"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in: %s", want, said)
		}
	}
	if strings.Contains(said, "ping ok") {
		t.Errorf("what is well is told, too: %s", said)
	}
	etcd = "ok\n200"
	if said := wait(); strings.Contains(said, "depends on") || strings.Contains(said, "no space") || !strings.Contains(said, "Timeout or abort") {
		t.Errorf("etcd is ready: %s", said)
	}
}

// TestWaitAlive: the liveness probe's address is asked, and any answer will do.
func TestWaitAlive(t *testing.T) {
	looks, answers := 0, 3
	n := newScripted(t, func(argv string) (string, int) {
		if !strings.HasPrefix(argv, "curl ") || !strings.HasSuffix(argv, " http://127.0.0.1:2381/livez") {
			t.Errorf("unexpected: %s", argv)
		}
		if looks++; looks == answers {
			return "no leader\n503", 0
		}
		return "000\ncurl: (7) Failed to connect", 7
	})
	if controlplane.WaitAlive(t.Context(), n, controlplane.Etcd, time.Millisecond) {
		t.Error("there is no manifest")
	}
	n.files[path.Join(controlplane.ManifestDir, "etcd.yaml")] = golden(t, "etcd-v1.37.yaml")
	if !controlplane.WaitAlive(t.Context(), n, controlplane.Etcd, time.Millisecond) || looks != answers {
		t.Errorf("it did not answer at look %d", looks)
	}
	looks, answers = 0, 0
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if controlplane.WaitAlive(ctx, n, controlplane.Etcd, time.Millisecond) || looks < 2 {
		t.Errorf("nobody answers, after %d looks", looks)
	}
}

// near is a node whose address leads to this machine.
type near struct{ *scripted }

func (near) Address() string { return "127.0.0.1" }

// TestLookFromHere: a component that listens on the node's own address is asked without a command there, and what it says counts as much.
func TestLookFromHere(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL)
		}
		if asked.Add(1) == 1 {
			http.Error(w, "etcd not ready", http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n := near{newScripted(t, func(argv string) (string, int) {
		if !strings.HasPrefix(argv, "crictl ") { // of the log, once it is given up
			t.Errorf("unexpected: %s", argv)
		}
		return "", 0
	})}
	n.files[path.Join(controlplane.ManifestDir, "kube-apiserver.yaml")] = []byte(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"kube-apiserver",
		"readinessProbe":{"httpGet":{"host":"127.0.0.1","port":` + port + `,"path":"/readyz","scheme":"HTTPS"}}}]}}`)
	if err := controlplane.WaitReady(t.Context(), n, controlplane.APIServer, time.Millisecond); err != nil || asked.Load() != 2 {
		t.Errorf("%v after %d questions", err, asked.Load())
	}
	server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := controlplane.WaitReady(ctx, n, controlplane.APIServer, 5*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
}

func TestEtcdRoleOf(t *testing.T) {
	const peers = "etcd_network_active_peers{Local=\"a\",Remote=\"b\"} 1\netcd_network_active_peers{Local=\"a\",Remote=\"c\"} 0\n"
	for said, want := range map[string]controlplane.EtcdRole{
		"# TYPE etcd_server_is_leader gauge\netcd_server_is_leader 1\n" + peers + "\n200": {Leads: true, Peers: 1},
		"etcd_server_is_leader 0\n" + peers + "\n200":                                     {Peers: 1},
	} {
		n := newScripted(t, func(argv string) (string, int) {
			if !strings.HasSuffix(argv, " http://127.0.0.1:2381/metrics") {
				t.Errorf("unexpected: %s", argv)
			}
			return said, 0
		})
		if got, err := controlplane.EtcdRoleOf(t.Context(), n, "http://127.0.0.1:2381"); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", said, got, err, want)
		}
	}
	for _, c := range []struct {
		said string
		code int
		want string
	}{{"sorry\n503", 0, "status 503: sorry"}, {"000\ncurl: (7) refused", 7, "curl: (7) refused"}, {"nonsense", 0, "no status"}, {"etcd_server_is_leader_of_something 1\n\n200", 0, "whether it leads"}} {
		n := newScripted(t, func(string) (string, int) { return c.said, c.code })
		if got, err := controlplane.EtcdRoleOf(t.Context(), n, "http://127.0.0.1:2381"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %+v, %v", c.said, got, err)
		}
	}
}

// TestEtcdRoleFromHere: metrics are long.
func TestEtcdRoleFromHere(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%setcd_server_is_leader 1\n", strings.Repeat("etcd_debugging_something 1\n", 10_000))
	}))
	defer server.Close()
	n := near{newScripted(t, func(argv string) (string, int) {
		t.Errorf("unexpected: %s", argv)
		return "", 0
	})}
	if got, err := controlplane.EtcdRoleOf(t.Context(), n, server.URL); err != nil || !got.Leads {
		t.Errorf("%+v, %v", got, err)
	}
}
