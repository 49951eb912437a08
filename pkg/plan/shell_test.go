package plan_test

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/plan"
)

// nasty are arguments that a shell would like to do something about.
var nasty = []string{
	"", " ", "plain", "two words", "it's", `"double"`, `back\slash`, `\`, "$HOME", "${x}", "$(id)", "`id`", "*", "?[a-z]",
	"~", "~root", "a;b", "a&b", "a|b", "<in", ">out", "#hash", "!history", "it's!", "{a,b}", "%s", "-n", "--", "--flag=va lue",
	"line\nbreak", "\n", "trailing\n", "tab\there", "\r", "\x1b[31mred", "\x07", "it's\ta!b\n'", "한국어", "é✓", "\xff\xfe", "=", "a=b",
	"^(etcd|kube-apiserver)$", `{range .items[*]}{.metadata.name}{"\n"}{end}`, strings.Repeat("long ", 60),
}

// argv asks bash which arguments it makes of a command line whose program is replaced by one that prints them.
func argv(t *testing.T, script string) []string {
	t.Helper()
	out, err := exec.Command("bash", "-c", "show() { printf '%s\\0' \"$@\"; }\n"+script).Output()
	if err != nil {
		t.Fatalf("bash -c %q: %v", script, err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

func TestShellTextCarriesTheSameArguments(t *testing.T) {
	commands := map[string][]string{"all at once": append([]string{"show"}, nasty...)}
	for _, arg := range nasty {
		commands[arg] = []string{"show", arg}
		commands["-f "+arg] = []string{"show", "sub", "-f", arg, "--flag=" + arg, arg}
	}
	for name, want := range commands {
		c := plan.Command{Argv: want}
		texts := []string{c.String()}
		for _, width := range []int{0, 1, 20, 80, 100} {
			texts = append(texts, c.Script(width))
		}
		for _, text := range texts {
			if got := argv(t, text); !slices.Equal(got, want[1:]) {
				t.Errorf("%q: bash reads\n%s\nas %q, want %q", name, text, got, want[1:])
			}
		}
		if strings.Contains(c.String(), "\n") {
			t.Errorf("%q: String breaks the line: %q", name, c.String())
		}
	}
}

func TestFirstWordIsAProgram(t *testing.T) {
	for _, name := range []string{"if", "coproc", "until", "function", "a=b", "[[", "{", "!"} {
		out, _ := exec.Command("bash", "-c", plan.Command{Argv: []string{name, "x"}}.String()).CombinedOutput()
		if !bytes.Contains(out, []byte("command not found")) {
			t.Errorf("bash takes %q for something else than a program: %s", name, out)
		}
	}
}

func TestPipeAndUntil(t *testing.T) {
	c := plan.Command{Argv: []string{"show", "a b", "-c", "it's"}, PipeTo: []string{"tr", `\000`, `\n`}, Until: true}
	if got, want := c.String(), `until show 'a b' -c 'it'"'"'s' | tr '\000' '\n'; do sleep 1; done`; got != want {
		t.Errorf("String is\n%s, want\n%s", got, want)
	}
	for _, text := range []string{c.String(), c.Script(0), c.Script(30)} {
		if got := strings.Join(argv(t, text), ""); got != "a b\n-c\nit's\n" {
			t.Errorf("%s\nprints %q", text, got)
		}
	}
}

func TestScriptBreaksLinesAtFlags(t *testing.T) {
	c := plan.Command{
		Argv: []string{
			"etcdctl", "--endpoints", "https://127.0.0.1:2379", "--cacert", "/etc/kubernetes/pki/etcd/ca.crt",
			"--cert=/etc/kubernetes/pki/etcd/server.crt", "--key=/etc/kubernetes/pki/etcd/server.key", "snapshot", "save", "/var/lib/x.db",
		},
		PipeTo: []string{"tee", "/tmp/log"},
	}
	want := `etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \
    --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key \
    snapshot save /var/lib/x.db \
    | tee /tmp/log`
	if got := c.Script(100); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, line := range strings.Split(c.Script(60), "\n") {
		if len(line) > 60 {
			t.Errorf("longer than 60: %s", line)
		}
	}
}
