package lesson_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/lesson"
	"github.com/etcd-drill/drill/pkg/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func enter(node string) plan.Command {
	return plan.Command{Argv: []string{"docker", "exec", "-it", node, "bash"}}
}

func samplePlan() plan.Plan {
	etcdctl := func(more ...string) []string {
		return append([]string{
			"etcdctl", "--endpoints=https://127.0.0.1:2379", "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
			"--cert=/etc/kubernetes/pki/etcd/server.crt", "--key=/etc/kubernetes/pki/etcd/server.key",
		}, more...)
	}
	return plan.Plan{
		Scenario:  plan.Entry{Name: "deployment-loss", Summary: "a Deployment is deleted by mistake"},
		Procedure: plan.Entry{Name: "kubelet-stop", Summary: "stop everything, swap the data directory, start everything."},
		Steps: []plan.Step{
			{
				Name: "deploy", Phase: plan.Arrange, Title: "Deploy nginx", Why: "There must be something to lose.",
				Commands: []plan.Command{
					{On: "n1", Argv: []string{"kubectl", "create", "deployment", "nginx", "--image=nginx", "--replicas=2"}},
					{On: "n1", Argv: []string{"kubectl", "rollout", "status", "deployment/nginx", "--timeout", "60s"}},
				},
				Expect: "`deployment \"nginx\" successfully rolled out`",
			},
			{Name: "probe", Phase: plan.Arrange, Title: "Start to measure the outage."},
			{
				Name: "snapshot-save", Phase: plan.Protect, Title: "Save a snapshot of etcd", Why: "It's the backup.",
				Commands: []plan.Command{{On: "n1", Argv: etcdctl("snapshot", "save", "/var/lib/drill/it's here.db")}},
			},
			{
				Name: "delete", Phase: plan.Break, Title: "Delete the Deployment",
				Commands: []plan.Command{
					{On: "n1", Argv: []string{"kubectl", "delete", "deployment", "nginx"}},
					{On: "n1", Argv: []string{"kubectl", "get", "deployment", "nginx"}, Fails: true},
				},
				Expect: "`NotFound`",
			},
			{
				Name: "swap", Phase: plan.Recover, Title: "Swap", Outage: true,
				Commands: []plan.Command{
					{On: "n1", Argv: []string{"sed", "-i", "s#path: /var/lib/etcd$#path: /var/lib/etcd-new#", "/etc/etcd.yaml"}},
					{On: "n2", Argv: []string{"sed", "-i", "s#path: /var/lib/etcd$#path: /var/lib/etcd-new#", "/etc/etcd.yaml"}},
					{On: "n1", Argv: []string{"crictl", "inspect", "--name", "^etcd$"}, PipeTo: []string{"grep", "-F", "```"}, Until: true},
				},
			},
			{
				Name: "again", Phase: plan.Recover, Title: "Once more on the other",
				Commands: []plan.Command{{On: "n2", Argv: []string{"printf", "%s\n", "kind: Pod\nmetadata: {}\n"}, PipeTo: []string{"cat"}}},
			},
		},
		Checks: []plan.Check{
			{Name: "reads-agree", Summary: "GET, LIST and WATCH say the same"},
			{Name: "service-answers", Summary: "The workload answers."},
		},
		Rollback: []plan.Step{{
			Name: "undo", Phase: plan.Rollback, Title: "Put the old manifest back",
			Commands: []plan.Command{{On: "n1", Argv: []string{"mv", "/root/etcd.yaml", "/etc/kubernetes/manifests/"}}},
		}},
	}
}

func render(t *testing.T, p plan.Plan, o lesson.Options) string {
	t.Helper()
	var out bytes.Buffer
	if err := lesson.Markdown(&out, p, o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestMarkdown(t *testing.T) {
	got := render(t, samplePlan(), lesson.Options{
		Enter: enter,
		Setup: []plan.Command{{Argv: []string{"export", "KUBECONFIG=/etc/kubernetes/admin.conf"}}},
		Needs: []string{"`docker`"},
	})
	path := filepath.Join("testdata", "lesson.md")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s\nRun go test -update if it should", path, got)
	}
}

func TestEveryStepIsThereInOrder(t *testing.T) {
	p := samplePlan()
	text := render(t, p, lesson.Options{})
	for _, s := range append(p.Steps, p.Rollback...) {
		_, after, found := strings.Cut(text, strings.TrimSuffix(s.Title, "."))
		if !found {
			t.Fatalf("no step %q in what is left:\n%s", s.Title, text)
		}
		text = after
	}
}

func TestUnknownLanguage(t *testing.T) {
	var out bytes.Buffer
	err := lesson.Markdown(&out, samplePlan(), lesson.Options{Language: "tlh"})
	if err == nil || !strings.Contains(err.Error(), `"tlh"`) || !strings.Contains(err.Error(), "en") {
		t.Errorf("got %v, want an error that names what there is", err)
	}
	if out.Len() > 0 {
		t.Error("something was written all the same")
	}
}

// blocks returns the code blocks of a Markdown text, as CommonMark delimits them.
func blocks(t *testing.T, text string) []string {
	t.Helper()
	var all []string
	var block []string
	fence := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		ticks := len(line) - len(strings.TrimLeft(line, "`"))
		switch {
		case fence == "" && ticks >= 3:
			fence, block = line[:ticks], nil
			if line[ticks:] != "sh" {
				t.Errorf("a block of %q", line[ticks:])
			}
		case fence != "" && ticks >= len(fence) && strings.Trim(line, "` ") == "":
			all, fence = append(all, strings.Join(block, "\n")), ""
		case fence != "":
			block = append(block, line)
		}
	}
	if fence != "" {
		t.Error("a block that doesn't end")
	}
	return all
}

func TestBlocksParseInBash(t *testing.T) {
	all := blocks(t, render(t, samplePlan(), lesson.Options{Enter: enter}))
	if len(all) < 8 {
		t.Fatalf("only %d blocks", len(all))
	}
	for _, b := range all {
		cmd := exec.Command("bash", "-n")
		cmd.Stdin = strings.NewReader(b)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, b)
		}
	}
}

// Each program that a block runs is replaced by a function that prints its name and its arguments.
func TestBlocksCarryTheArgumentsOfThePlan(t *testing.T) {
	var commands []plan.Command
	for _, args := range [][]string{
		{""}, {"a b", "it's", `"q"`, `\`}, {"$HOME", "$(id)", "`id`", "```"}, {"*", "~", "!x", "#no"}, {"-n", "--", "--a=b c"},
		{"line\nbreak\n", "````\nsh", "tab\t"}, {"한국어", "\xff"}, {strings.Repeat("long ", 40), "--flag", strings.Repeat("x", 90), "--more"},
	} {
		commands = append(commands, plan.Command{On: "n", Argv: append([]string{"show"}, args...)})
		commands = append(commands, plan.Command{
			On: "n", Argv: append([]string{"show"}, args...), PipeTo: append([]string{"pass"}, args...), Until: true, Fails: true,
		})
	}
	var want []string
	for _, c := range commands {
		want = append(want, c.Argv[1:]...)
		if len(c.PipeTo) > 0 {
			want = append(want, c.PipeTo[1:]...)
		}
	}
	text := render(t, plan.Plan{Steps: []plan.Step{{Name: "x", Title: "X", Phase: plan.Arrange, Commands: commands}}}, lesson.Options{})
	all := blocks(t, text)
	if len(all) != 1 {
		t.Fatalf("%d blocks, want 1:\n%s", len(all), text)
	}
	const helpers = `show() { printf '%s\0' "$@"; }; pass() { cat; printf '%s\0' "$@"; }` + "\n"
	out, err := exec.Command("bash", "-c", helpers+all[0]).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if !slices.Equal(got, want) {
		t.Errorf("bash reads\n%s\nas\n%q\nwant\n%q", all[0], got, want)
	}
}
