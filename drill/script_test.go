package main

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"sigs.k8s.io/yaml"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"drill": main}) }

// TestScripts runs drill as people and scripts do. No container engine answers there: what needs one is shown by the end-to-end
// tests.
//
// Besides testscript's own commands there are these:
//
//	exits STATUS PROGRAM ARG...   runs the program, which must end with that exit status
//	complains PATTERN             drill ended with status 2, said one line, on standard error, and touched nothing
//	document json|yaml KEY...     standard output is one document, an object with exactly these keys
//	inorder FILE                  each line of the file is part of a line of standard output, in this order
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			// The first folder of PATH is the one that holds drill alone.
			env.Setenv("PATH", filepath.SplitList(env.Getenv("PATH"))[0])
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
			env.Setenv("KIND_EXPERIMENTAL_PROVIDER", "")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"complains": complains,
			"document":  document,
			"inorder":   inOrder,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	default:
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func complains(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: complains PATTERN")
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("standard output: %s", out)
	}
	said := ts.ReadFile("stderr")
	if strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "drill: ") {
		ts.Fatalf("want one line that begins with the program's name: %s", said)
	}
	if !strings.Contains(said, args[0]) {
		ts.Fatalf("want %q in: %s", args[0], said)
	}
	for _, dir := range []string{"XDG_STATE_HOME", "HOME"} {
		if left, err := filepath.Glob(ts.Getenv(dir)); err != nil || len(left) > 0 {
			ts.Fatalf("something was made: %q, %v", left, err)
		}
	}
}

func document(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: document json|yaml KEY...")
	}
	out := []byte(ts.ReadFile("stdout"))
	if args[0] == "yaml" {
		var err error
		out, err = yaml.YAMLToJSONStrict(out)
		ts.Check(err)
	}
	var doc map[string]any
	ts.Check(json.Unmarshal(out, &doc))
	var keys []string
	for k := range doc {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	want := slices.Sorted(slices.Values(args[1:]))
	if !slices.Equal(keys, want) {
		ts.Fatalf("the document has %q, want %q", keys, want)
	}
}

func inOrder(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: inorder FILE")
	}
	out := strings.Split(ts.ReadFile("stdout"), "\n")
	for want := range strings.Lines(ts.ReadFile(args[0])) {
		want = strings.TrimSpace(want)
		i := slices.IndexFunc(out, func(line string) bool { return strings.Contains(line, want) })
		if i < 0 {
			ts.Fatalf("%q isn't there, or not in its place", want)
		}
		out = out[i+1:]
	}
}
