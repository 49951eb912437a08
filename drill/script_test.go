package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"sigs.k8s.io/yaml"

	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
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
//	change FILE BYTES|flip NEW    writes the first BYTES of a file (or all but the last -BYTES), or all of it with one bit flipped in its middle, to another
//	put KEY [VALUE]               writes a key to $ANOTHER_ETCD, or deletes it
//	fifo FILE                     makes a named pipe
//	disk DIR SIZE [OPTION]        mounts an empty file system of so many bytes there, or one with such an option; needs [mount]
//	obeying STATUS PROGRAM ARG... is exits, for a process that permissions hold for, also if that of the test belongs to root; needs [obeying]
//	inorder FILE                  each line of the file is part of a line of standard output, in this order
//
// $SNAPSHOTS is the folder of the snapshots of a real cluster, $NEWER one that says that it is of an etcd of the future, and $ETCD, $ANOTHER_ETCD, $GUARDED_ETCD and $ODD_ETCD are addresses of etcds without certificates, the third
// with a user root, whose password is sesame, and the last with a value that Kubernetes can't read.
func TestScripts(t *testing.T) {
	snapshots, err := filepath.Abs("../testdata")
	if err != nil {
		t.Fatal(err)
	}
	newer := etcdtest.Newer(t, filepath.Join(snapshots, "kubeadm-v1.37-etcd-3.6.db"))
	server := etcdtest.Serve(t, t.TempDir(), nil)
	if _, err := server.Client.Put(t.Context(), "/registry/example.com/widgets/default/a", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"namespace":"default","name":"a"}}`); err != nil {
		t.Fatal(err)
	}
	another, guarded, odd := etcdtest.Serve(t, t.TempDir(), nil), etcdtest.Serve(t, t.TempDir(), nil), etcdtest.Serve(t, t.TempDir(), nil)
	if _, err := odd.Client.Put(t.Context(), "/registry/configmaps/default/broken", "nonsense"); err != nil {
		t.Fatal(err)
	}
	guard(t, guarded)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			// The first folder of PATH is the one that holds drill alone.
			env.Setenv("PATH", filepath.SplitList(env.Getenv("PATH"))[0])
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
			env.Setenv("KIND_EXPERIMENTAL_PROVIDER", "")
			env.Setenv("SNAPSHOTS", snapshots)
			env.Setenv("NEWER", newer)
			env.Setenv("ETCD", server.Endpoint.URL)
			env.Setenv("ANOTHER_ETCD", another.Endpoint.URL)
			env.Setenv("GUARDED_ETCD", guarded.Endpoint.URL)
			env.Setenv("ODD_ETCD", odd.Endpoint.URL)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"complains": complains,
			"document":  document,
			"inorder":   inOrder,
			"change":    change,
			"put":       putIn(another),
			"fifo":      fifo,
			"disk":      disk,
			"obeying":   obeying,
		},
		Condition:           condition,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// guard switches the access control of an etcd on.
func guard(t *testing.T, server *etcdtest.Server) {
	t.Helper()
	if _, err := server.Client.Put(t.Context(), "/registry/example.com/widgets/default/a", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"namespace":"default","name":"a"}}`); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Client.UserAdd(t.Context(), "root", "sesame"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Client.UserGrantRole(t.Context(), "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Client.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
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

func change(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: change FILE BYTES|flip NEW")
	}
	content := []byte(ts.ReadFile(args[0]))
	if args[1] == "flip" {
		content[len(content)/2] ^= 1
	} else {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		if n < 0 {
			n += len(content)
		}
		content = append(content, make([]byte, max(0, n-len(content)))...)[:n]
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), content, 0o600))
}

// putIn writes a key, or deletes it if there is no value.
func putIn(server *etcdtest.Server) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 1 || len(args) > 2 {
			ts.Fatalf("usage: put KEY [VALUE]")
		}
		ctx, end := context.WithTimeout(context.Background(), time.Minute)
		defer end()
		var err error
		if len(args) == 1 {
			_, err = server.Client.Delete(ctx, args[0])
		} else {
			_, err = server.Client.Put(ctx, args[0], args[1])
		}
		ts.Check(err)
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
