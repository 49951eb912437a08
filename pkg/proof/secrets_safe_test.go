package proof

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

const (
	password = "S3cr3t-and-long"
	// leaked is how it is told of, without it.
	leaked = "Secret default/db, key password"
)

func apiLog(container string) string {
	return "/var/log/pods/kube-system_" + container + "-cp-a_1/" + container + "/0.log"
}

// safeRun is a run that has laid nothing open. The clock of the node is an hour slow; the run began a minute ago.
func safeRun(t *testing.T) (*Subject, *machine) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "runs", "r")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	snapshot := filepath.Join(dir, "snapshot.db")
	write(t, snapshot, []byte(password), 0o600) // it may hold every Secret
	write(t, filepath.Join(dir, "journal.json"), []byte("{}\n"), 0o600)
	now := time.Now()
	m := &machine{
		name: "cp-a", now: now.Add(-time.Hour), logs: map[string]string{},
		modes: map[string]string{"/var/lib/drill/r": "700 0", "/var/lib/drill/r/etcd": "700 0"},
	}
	for _, c := range controlplane.Components() {
		m.containers = append(m.containers, controlplane.Container{ID: "c-" + c, Name: c, PodNamespace: "kube-system", PodUID: "u-" + c, StartedAt: m.now, LogPath: apiLog(c)})
		m.logs[apiLog(c)] = criLine(m.now, "F", "all is well")
	}
	m.logs[""] = journalLine(m.now, "all is well")
	db := object{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": object{"namespace": "default", "name": "db"},
		"data": object{"password": base64.StdEncoding.EncodeToString([]byte(password)), "pin": base64.StdEncoding.EncodeToString([]byte("1234"))},
	}
	return &Subject{
		RunDir: dir, NodeDir: "/var/lib/drill/r", DataDir: "/var/lib/drill/r/etcd", NodeSnapshot: "/var/lib/drill/r/snapshot.db", Snapshot: &plan.SnapshotInfo{Path: snapshot},
		Members: []controlplane.Member{{Name: "cp-a", Node: m}},
		Servers: []Server{serve(t, "cp-a", &apiServer{objects: map[string][]object{"secrets": {db}}})},
		Transcript: func() ([]byte, error) {
			return fmt.Appendf(nil, `{"schemaVersion":1,"runs":[{"startedAt":%q}]}`, now.Add(-time.Minute).Format(time.RFC3339Nano)), nil
		},
	}, m
}

func criLine(at time.Time, tag, text string) string {
	return at.UTC().Format(time.RFC3339Nano) + " stderr " + tag + " " + text + "\n"
}

func journalLine(at time.Time, text string) string {
	return at.UTC().Format("2006-01-02T15:04:05.000000-0700") + " cp-a kubelet[123]: " + text + "\n"
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestSecretsSafe(t *testing.T) {
	key := privateKey(t)
	for name, c := range map[string]struct {
		change                  func(t *testing.T, s *Subject, m *machine)
		subject, expected, seen string // empty where it passes
		final                   bool
	}{
		"a run that laid nothing open": {},
		"a snapshot on the node, for its owner": {
			change: func(_ *testing.T, _ *Subject, m *machine) { m.modes["/var/lib/drill/r/snapshot.db"] = "600 0" },
		},
		"a file that is stricter than need be": {change: func(t *testing.T, s *Subject, _ *machine) { chmod(t, s.Snapshot.Path, 0o400) }},
		"a link": {change: func(t *testing.T, s *Subject, _ *machine) {
			if err := os.Symlink("/etc/hostname", filepath.Join(s.RunDir, "link")); err != nil {
				t.Fatal(err)
			}
		}},
		"the snapshot can be read by others": {
			change:  func(t *testing.T, s *Subject, _ *machine) { chmod(t, s.Snapshot.Path, 0o604) },
			subject: "snapshot.db", expected: "mode 0600", seen: "mode 0604",
		},
		"the snapshot lies elsewhere, and can be read by the group": {
			change: func(t *testing.T, s *Subject, _ *machine) {
				s.Snapshot.Path = filepath.Join(t.TempDir(), "elsewhere.db")
				write(t, s.Snapshot.Path, nil, 0o640)
				if err := os.Remove(filepath.Join(s.RunDir, "snapshot.db")); err != nil {
					t.Fatal(err)
				}
			},
			subject: "elsewhere.db", expected: "mode 0600", seen: "mode 0640",
		},
		"the run's folder can be entered": {
			change:  func(t *testing.T, s *Subject, _ *machine) { chmod(t, s.RunDir, 0o711) },
			subject: "runs/r", expected: "mode 0700", seen: "mode 0711",
		},
		"the folder of all runs can be listed": {
			change:  func(t *testing.T, s *Subject, _ *machine) { chmod(t, filepath.Dir(s.RunDir), 0o755) },
			subject: "/runs", expected: "mode 0700", seen: "mode 0755",
		},
		"a file deep in the run's folder": {
			change: func(t *testing.T, s *Subject, _ *machine) {
				if err := os.Mkdir(filepath.Join(s.RunDir, "more"), 0o700); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(s.RunDir, "more", "file"), nil, 0o644)
			},
			subject: "more/file", expected: "mode 0600", seen: "mode 0644",
		},
		"the run's folder on a node": {
			change:  func(_ *testing.T, _ *Subject, m *machine) { m.modes["/var/lib/drill/r"] = "755 0" },
			subject: "/var/lib/drill/r on cp-a", expected: "mode 0700", seen: "mode 0755",
		},
		"etcd's data": {
			change:  func(_ *testing.T, _ *Subject, m *machine) { m.modes["/var/lib/drill/r/etcd"] = "750 0" },
			subject: "/var/lib/drill/r/etcd on cp-a", expected: "mode 0700", seen: "mode 0750",
		},
		"etcd's data is somebody else's": {
			change:  func(_ *testing.T, _ *Subject, m *machine) { m.modes["/var/lib/drill/r/etcd"] = "700 1000" },
			subject: "/var/lib/drill/r/etcd on cp-a", expected: "owned by root", seen: "owned by user 1000",
		},
		"etcd's data isn't where it should be": {
			change:  func(_ *testing.T, _ *Subject, m *machine) { delete(m.modes, "/var/lib/drill/r/etcd") },
			subject: "/var/lib/drill/r/etcd on cp-a", expected: "mode 0700", seen: "no such folder",
		},
		"a snapshot on the node": {
			change:  func(_ *testing.T, _ *Subject, m *machine) { m.modes["/var/lib/drill/r/snapshot.db"] = "644 0" },
			subject: "/var/lib/drill/r/snapshot.db on cp-a", expected: "mode 0600", seen: "mode 0644",
		},
		"a Secret in a file of the run": {
			change: func(t *testing.T, s *Subject, _ *machine) {
				write(t, filepath.Join(s.RunDir, "notes.txt"), []byte("line 1\nthe password is "+password+"\n"+password), 0o600)
			},
			subject: "notes.txt, line 2", expected: "nothing secret", seen: leaked + ", 2 times", final: true,
		},
		"a Secret in the report, in base64": {
			change: func(_ *testing.T, s *Subject, _ *machine) {
				s.Transcript = func() ([]byte, error) {
					return []byte("{\n\"error\": \"" + base64.StdEncoding.EncodeToString([]byte(password)) + "\"}"), nil
				}
			},
			subject: "the report, line 2", expected: "nothing secret", seen: leaked, final: true,
		},
		"a Secret in a component's log": {
			change: func(_ *testing.T, _ *Subject, m *machine) {
				m.logs[apiLog("kube-apiserver")] += criLine(m.now.Add(time.Second), "F", "body: "+password)
			},
			subject: "log of kube-apiserver on cp-a, " + apiLog("kube-apiserver") + ", entry of ", expected: "nothing secret", seen: leaked, final: true,
		},
		"a Secret in two parts of a long line": {
			change: func(_ *testing.T, _ *Subject, m *machine) {
				m.logs[apiLog("etcd")] += criLine(m.now, "P", "body: "+password[:5]) + criLine(m.now, "F", password[5:])
			},
			subject: "log of etcd on cp-a", expected: "nothing secret", seen: leaked, final: true,
		},
		"a key in the log of a container that has ended": {
			change: func(_ *testing.T, _ *Subject, m *machine) {
				old := controlplane.Container{
					ID: "c-old", Name: "kube-scheduler", PodNamespace: "kube-system", PodUID: "u", State: controlplane.ContainerExited, StartedAt: m.now, FinishedAt: m.now, LogPath: "/old.log",
				}
				m.containers = append(m.containers, old)
				for line := range strings.Lines(key) {
					m.logs["/old.log"] += criLine(m.now, "F", strings.TrimSpace(line))
				}
			},
			subject: "log of kube-scheduler on cp-a, /old.log", expected: "nothing secret", seen: "a private key", final: true,
		},
		"a token in kubelet's journal": {
			change: func(_ *testing.T, _ *Subject, m *machine) {
				m.logs[""] += journalLine(m.now, "Authorization: Bearer "+webToken("system:serviceaccount:default:x"))
			},
			subject: "journal of kubelet on cp-a, entry of ", expected: "nothing secret", seen: `a bearer token of "system:serviceaccount:default:x"`, final: true,
		},
		"a Secret that was logged before the run began": {
			change: func(_ *testing.T, _ *Subject, m *machine) {
				long := m.now.Add(-time.Hour)
				m.logs[apiLog("kube-apiserver")] = "the rest of a line: " + password + "\n" + criLine(long, "F", password) + m.logs[apiLog("kube-apiserver")]
				m.logs[""] = journalLine(long, password) + m.logs[""]
			},
		},
		"a value that a Secret held before the break": {
			change: func(_ *testing.T, s *Subject, m *machine) {
				s.Leaks = NewLeaks()
				s.Leaks.Add(secret("gone", corev1.SecretTypeOpaque, map[string]string{"key": "Wh4t-it-was"}))
				m.logs[""] += journalLine(m.now, "Wh4t-it-was")
			},
			subject: "journal of kubelet on cp-a", expected: "nothing secret", seen: "Secret default/gone, key key", final: true,
		},
		"nobody knows when the run began": {
			change: func(_ *testing.T, s *Subject, m *machine) {
				s.Transcript = func() ([]byte, error) { return []byte(`{"runs":[]}`), nil }
				m.logs[apiLog("kube-apiserver")] = criLine(m.now.Add(-time.Hour), "F", password)
			},
			subject: "log of kube-apiserver on cp-a", expected: "nothing secret", seen: leaked, final: true,
		},
		"the log of a container that has ended is gone": {
			change: func(_ *testing.T, _ *Subject, m *machine) {
				m.containers = append(m.containers, controlplane.Container{
					ID: "c-old", Name: "etcd", PodNamespace: "kube-system", PodUID: "u", State: controlplane.ContainerExited, StartedAt: m.now, FinishedAt: m.now, LogPath: "/gone.log",
				})
			},
		},
		"what others log is not looked at": {
			change: func(_ *testing.T, _ *Subject, m *machine) {
				m.containers = append(m.containers, controlplane.Container{ID: "c-x", Name: "etcd", PodNamespace: "default", PodUID: "u", StartedAt: m.now, LogPath: "/other.log"})
				m.logs["/other.log"] = password
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, m := safeRun(t)
			if c.change != nil {
				c.change(t, s, m)
			}
			f, err := secretsSafe(t.Context(), s)
			if strings.Contains(fmt.Sprintf("%+v %v", f, err), password) {
				t.Errorf("the finding gives the Secret away: %+v, %v", f, err)
			}
			if c.subject == "" {
				if err != nil || f.Status != plan.StatusPassed || !holds(f.Evidence, "looked for 1 values of Secrets, and not for 1 that are too short, too plain or names") || !holds(f.Evidence, "searched journal of kubelet on cp-a") {
					t.Errorf("%+v, %v", f, err)
				}
				return
			}
			differs(t, f, err, c.subject, c.expected, c.seen)
			if len(f.Differences) != 1 || f.Final != c.final {
				t.Errorf("final %v, %v", f.Final, f.Differences)
			}
		})
	}
}

// TestBounds: logs are fetched from their ends and from since the run began, whatever the node's clock says.
func TestBounds(t *testing.T) {
	s, m := safeRun(t)
	if f, err := secretsSafe(t.Context(), s); err != nil || f.Status != plan.StatusPassed {
		t.Fatalf("%+v, %v", f, err)
	}
	if !slices.Contains(m.ran, fmt.Sprintf("tail -c %d -- %s", mostOfLog, apiLog("etcd"))) || !holds(m.ran, "journalctl --unit kubelet", fmt.Sprintf("--lines %d", mostLines), "--since=-6") {
		t.Errorf("ran %q", m.ran)
	}
}

// TestCut: what wasn't read is told of, unless it is from before the run.
func TestCut(t *testing.T) {
	s, m := safeRun(t)
	fill := func(at time.Time) string { return criLine(at, "F", strings.Repeat("x", mostOfLog)) }
	m.logs[apiLog("etcd")] = fill(m.now)
	m.logs[apiLog("kube-scheduler")] = criLine(m.now.Add(-time.Hour), "F", "before") + fill(m.now)
	m.logs[""] = strings.Repeat(journalLine(m.now, "x"), mostLines)
	write(t, filepath.Join(s.RunDir, "large"), make([]byte, mostOfFile+1), 0o600)
	f, err := secretsSafe(t.Context(), s)
	if err != nil || f.Status != plan.StatusPassed {
		t.Fatalf("%+v, %v", f, err)
	}
	for place, cut := range map[string]bool{"log of etcd": true, "log of kube-scheduler": false, "log of kube-apiserver": false, "journal of kubelet": true, "/large,": true, "journal.json": false} {
		if holds(f.Evidence, place, "not known to be safe") != cut || !holds(f.Evidence, "searched", place) {
			t.Errorf("%s: cut %v; %q", place, !cut, f.Evidence)
		}
	}
}

func TestSecretsThatCannotBeLookedFor(t *testing.T) {
	for name, change := range map[string]func(s *Subject, m *machine){
		"the report":          func(s *Subject, _ *machine) { s.Transcript = func() ([]byte, error) { return nil, errLost } },
		"the run's folder":    func(s *Subject, _ *machine) { s.RunDir = "/nowhere/r" },
		"a node":              func(_ *Subject, m *machine) { m.broken = errLost },
		"a mode":              func(_ *Subject, m *machine) { m.modes["/var/lib/drill/r"] = "rwx 0" },
		"a node's clock":      func(_ *Subject, m *machine) { m.now = time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC) },
		"a running one's log": func(_ *Subject, m *machine) { delete(m.logs, apiLog("etcd")) },
		"a journal without an entry": func(s *Subject, m *machine) {
			m.logs[""] = "-- No entries --\n"
			s.Transcript = func() ([]byte, error) { return []byte(`{"runs":[]}`), nil }
		},
		"an empty journal":        func(_ *Subject, m *machine) { m.logs[""] = "" },
		"a journal from before":   func(_ *Subject, m *machine) { m.logs[""] = journalLine(m.now.Add(-time.Hour), "x") },
		"a component without one": func(_ *Subject, m *machine) { m.containers = m.containers[1:] },
	} {
		s, m := safeRun(t)
		change(s, m)
		if f, err := secretsSafe(t.Context(), s); err == nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
	s, _ := safeRun(t)
	s.Servers = []Server{serve(t, "cp-a", &apiServer{lie: func(w http.ResponseWriter, _ *http.Request, _ call) bool {
		status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		return true
	}})}
	if f, err := secretsSafe(t.Context(), s); err == nil {
		t.Errorf("the Secrets: %+v", f)
	}
	if f, err := secretsSafe(t.Context(), &Subject{}); err != nil || f.Status != plan.StatusFailed || !f.Final {
		t.Errorf("nothing is known: %+v, %v", f, err)
	}
}

func TestEntries(t *testing.T) {
	zone := func(line string) bool {
		_, text, ok := journalEntry([]byte(line))
		return ok && string(text) == "I1123 message\n"
	}
	if !zone("2026-11-23T08:02:57.529797+0900 cp-a kubelet[1]: I1123 message\n") || !zone("2026-11-23T08:02:57.529797+09:00 cp-a kubelet[1]: I1123 message\n") {
		t.Error("a journal's line isn't read")
	}
	for _, line := range []string{"", "x", "-- No entries --\n", "2026-11-23T08:02:57Z stderr F\n"} {
		if _, text, ok := criEntry([]byte(line)); ok || string(text) != line {
			t.Errorf("%q is an entry: %q", line, text)
		}
	}
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	s, _ := safeRun(t)
	if err := os.Chown(s.Snapshot.Path, 65534, -1); err != nil {
		t.Fatal(err)
	}
	f, err := secretsSafe(t.Context(), s)
	differs(t, f, err, "snapshot.db", "owned by user 0, who runs the drill", "owned by user 65534")
}
