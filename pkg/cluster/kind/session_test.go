package kind

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// shellNode is a node whose commands run on this machine: what the engine would run in a container is run as it is. calls tells how often the engine was asked.
func shellNode(t *testing.T, before string) (n *node, calls func() int) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	count, tools := filepath.Join(t.TempDir(), "calls"), os.Getenv("PATH")
	fakeEngine(t, map[string]string{"docker": "echo x >>" + count + "\nexport PATH='" + tools + "'\n" + before + `
shift 2
[ "$1" = -i ] && shift
shift
exec "$@"`})
	return &node{engine: &engine{Engine{Name: "docker"}}, id: "c1", name: "n"}, func() int {
		content, err := os.ReadFile(count)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(content), "x")
	}
}

func text(t *testing.T, n *node, argv ...string) string {
	t.Helper()
	out, err := cluster.Run(t.Context(), n, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOneSessionRunsMany(t *testing.T) {
	n, calls := shellNode(t, "")
	for range 3 {
		if got := text(t, n, "printf", "%s|", "a b", "", "c\nd"); got != "a b||c\nd|" {
			t.Errorf("%q", got)
		}
	}
	fed, err := n.Exec(t.Context(), cluster.Cmd{Argv: []string{"cat"}, Stdin: strings.NewReader("a\x00b\n")})
	if err != nil || string(fed.Stdout) != "a\x00b\n" {
		t.Errorf("%q, %v", fed.Stdout, err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := n.WriteFile(t.Context(), path, 0o640, strings.NewReader("content")); err != nil {
		t.Error(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != "content" {
		t.Errorf("%q, %v", content, err)
	}
	_, err = cluster.Run(t.Context(), n, "sh", "-c", "echo no >&2; exit 7")
	if exit := (*cluster.ExitError)(nil); !errors.As(err, &exit) || exit.Code != 7 || exit.Output != "no" {
		t.Errorf("%#v", err)
	}
	if calls() != 1 {
		t.Errorf("the engine was asked %d times", calls())
	}
	// What a command leaves running prints nothing into a later answer.
	text(t, n, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.02; echo stray; done &")
	for range 20 {
		if got := text(t, n, "sh", "-c", "sleep 0.01; echo own"); got != "own" {
			t.Fatalf("%q", got)
		}
	}
}

// TestSessionThatEndedWhileIdle: the command goes to another one, and is run once.
func TestSessionThatEndedWhileIdle(t *testing.T) {
	n, calls := shellNode(t, "")
	pid, err := strconv.Atoi(text(t, n, "sh", "-c", "echo $PPID"))
	if err != nil {
		t.Fatal(err)
	}
	shell, err := os.FindProcess(pid)
	if err == nil {
		err = shell.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(t.TempDir(), "ran")
	text(t, n, "sh", "-c", "echo x >>"+ran)
	content, err := os.ReadFile(ran)
	if err != nil || string(content) != "x\n" || calls() != 2 {
		t.Errorf("%q, %v, after asking the engine %d times", content, err, calls())
	}
}

// TestSessionThatEndsWithItsCommand: nobody knows what the command did, and it is not run again.
func TestSessionThatEndsWithItsCommand(t *testing.T) {
	n, calls := shellNode(t, "")
	_, err := cluster.Run(t.Context(), n, "sh", "-c", "kill -KILL $PPID")
	if exit := (*cluster.ExitError)(nil); err == nil || errors.As(err, &exit) || !strings.Contains(err.Error(), "not known") {
		t.Errorf("%v", err)
	}
	if got := text(t, n, "echo", "again"); got != "again" || calls() != 2 {
		t.Errorf("%q after asking the engine %d times", got, calls())
	}
}

// TestNodeWithoutSessions: what a node can't do is tried once, and commands run all the same.
func TestNodeWithoutSessions(t *testing.T) {
	n, calls := shellNode(t, `case "$*" in *" bash "*) echo "OCI runtime exec failed: no bash" >&2; exit 127; esac`)
	for range 3 {
		fed, err := n.Exec(t.Context(), cluster.Cmd{Argv: []string{"cat"}, Stdin: strings.NewReader("well")})
		if err != nil || string(fed.Stdout) != "well" {
			t.Errorf("%q, %v", fed.Stdout, err)
		}
	}
	if calls() != 4 {
		t.Errorf("the engine was asked %d times", calls())
	}
}
