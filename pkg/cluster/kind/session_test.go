package kind

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

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
command -v setsid >/dev/null && set -- setsid --wait "$@" # as in a container, the command is no child of the engine's command line
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

// TestSessionThatIsFrozen: nobody waits for a shell that doesn't hear, as on a node that is paused, even without a deadline.
func TestSessionThatIsFrozen(t *testing.T) {
	n, calls := shellNode(t, "")
	pid, err := strconv.Atoi(text(t, n, "sh", "-c", "echo $PPID"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if got := text(t, n, "echo", "heard"); got != "heard" || calls() != 2 {
		t.Errorf("%q after asking the engine %d times", got, calls())
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

// TestCutOff: a context that ends takes nothing from the commands after it, whenever it does so, and leaves nothing behind on the node.
func TestCutOff(t *testing.T) {
	n, _ := shellNode(t, "")
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := cluster.Run(short, n, "sleep", "1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	for i := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Duration(i) * 50 * time.Microsecond) // about as long as a command takes
			cancel()
		}()
		_, _ = cluster.Run(ctx, n, "true")
		if got := text(t, n, "echo", "whole"); got != "whole" {
			t.Fatalf("%q", got)
		}
		cancel()
	}
	for _, one := range n.shells.idle {
		one.end()
	}
	left := []os.DirEntry{nil}
	for end := time.Now().Add(30 * time.Second); len(left) > 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		left, _ = os.ReadDir(os.Getenv("XDG_RUNTIME_DIR"))
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestBytesOfALocale: what is half a character in some locale is an argument like any other.
func TestBytesOfALocale(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	n, _ := shellNode(t, "")
	if got := text(t, n, "printf", "%s|%s", "a\xe2", "b"); got != "a\xe2|b" {
		t.Errorf("%q", got)
	}
	large := strings.Repeat("x\x00y", 50_000)
	fed, err := n.Exec(t.Context(), cluster.Cmd{Argv: []string{"cat"}, Stdin: strings.NewReader(large)})
	if err != nil || string(fed.Stdout) != large {
		t.Errorf("%d bytes, %v", len(fed.Stdout), err)
	}
}

// TestNodeWithoutSessions: what a node can't do is soon tried no longer, and commands run all the same.
func TestNodeWithoutSessions(t *testing.T) {
	n, calls := shellNode(t, `case "$*" in *" bash "*) echo "OCI runtime exec failed: no bash" >&2; exit 127; esac`)
	for range mostRefusals + 2 {
		fed, err := n.Exec(t.Context(), cluster.Cmd{Argv: []string{"cat"}, Stdin: strings.NewReader("well")})
		if err != nil || string(fed.Stdout) != "well" {
			t.Errorf("%q, %v", fed.Stdout, err)
		}
	}
	if calls() != 2*mostRefusals+2 {
		t.Errorf("the engine was asked %d times", calls())
	}
}
