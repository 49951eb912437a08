// Package clustertest is the one suite that every adapter of package cluster passes: a test for each sentence of the
// contracts.
//
// Nodes are expected to be Linux machines with the usual tools (coreutils, findutils, procps), as a node of Kubernetes is.
package clustertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// limit bounds each test: far beyond what any takes, so that a hang is told from slowness.
const limit = 2 * time.Minute

// Run runs the suite on the cluster that open returns. It is called once; the cluster is a working one, and all that the
// suite writes to its nodes is below a folder that it removes. With -short the last node stands for all, which on a cluster
// of several is one that joined.
func Run(t *testing.T, open func(t *testing.T) cluster.Cluster) {
	c := open(t)
	t.Run("Cluster", func(t *testing.T) {
		t.Run("has a name and a provider", func(t *testing.T) {
			if c.Name() == "" || c.Provider() == "" {
				t.Errorf("name %q, provider %q", c.Name(), c.Provider())
			}
		})
		t.Run("lists control planes first, each group by name", func(t *testing.T) { nodesInOrder(t, c) })
		t.Run("gives away no slice of its own", func(t *testing.T) { nodesAreACopy(t, c) })
		t.Run("knows nodes as Kubernetes does", func(t *testing.T) { nodesAsInKubernetes(t, c) })
		t.Run("ends with its context", func(t *testing.T) {
			if _, err := c.Kubeconfig(cancelled(t)); !errors.Is(err, context.Canceled) {
				t.Errorf("Kubeconfig with a cancelled context: %v", err)
			}
		})
	})
	t.Run("Node", func(t *testing.T) {
		nodes := c.Nodes()
		if testing.Short() {
			nodes = nodes[len(nodes)-1:]
		}
		for _, n := range nodes {
			t.Run(string(n.Role())+" "+n.Name(), func(t *testing.T) {
				t.Parallel()
				runNode(t, n)
			})
		}
	})
}

func runNode(t *testing.T, n cluster.Node) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, cluster.Node)
	}{
		{"Exec runs as root", execAsRoot},
		{"Exec involves no shell", execNoShell},
		{"Exec keeps the two outputs apart", execOutputs},
		{"Exec tells the exit status", execStatus},
		{"Exec tells a missing program by its status", execMissing},
		{"Exec refuses an empty command", execEmpty},
		{"Exec sets the environment", execEnv},
		{"Exec feeds standard input", execStdin},
		{"Exec has nothing to read without standard input", execNoStdin},
		{"Exec doesn't wait for a reader that blocks", execBlockedStdin},
		{"Exec fails with its reader", execBrokenStdin},
		{"Exec fails with its writer", execBrokenStdout},
		{"Exec is safe for every byte", execBinary},
		{"Exec takes large output", execLarge},
		{"Exec streams", execStreams},
		{"Exec ends with a deadline", execDeadline},
		{"Exec ends when cancelled", execCancelled},
		{"Exec doesn't begin after its context", execTooLate},
		{"Exec may be called concurrently", execConcurrent},
		{"ReadFile reads what WriteFile wrote", filesRoundTrip},
		{"ReadFile tells a missing file", readMissing},
		{"ReadFile refuses what is no regular file", readIrregular},
		{"ReadFile ends with its context", readCancelled},
		{"WriteFile sets the mode and the owner", writeMode},
		{"WriteFile replaces a file with another", writeReplaces},
		{"WriteFile replaces a link and not what it points to", writeLink},
		{"WriteFile leaves the old file when its reader fails", writeBrokenReader},
		{"WriteFile doesn't make folders", writeNoFolder},
		{"WriteFile doesn't replace a folder", writeOverFolder},
		{"WriteFile shows the old file or the new one", writeAtomic},
		{"WriteFile leaves nothing else behind", writeTidy},
		{"WriteFile ends with its context", writeCancelled},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, n) })
	}
}

// --- the cluster -----------------------------------------------------------------------------------------------------

func nodesInOrder(t *testing.T, c cluster.Cluster) {
	nodes := c.Nodes()
	if len(nodes) == 0 || nodes[0].Role() != cluster.ControlPlane {
		t.Fatalf("the first of %d nodes is no control plane", len(nodes))
	}
	sorted := slices.IsSortedFunc(nodes, func(a, b cluster.Node) int {
		if a.Role() != b.Role() {
			if a.Role() == cluster.ControlPlane {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name(), b.Name())
	})
	if !sorted {
		t.Errorf("not in order: %s", describe(nodes))
	}
}

func describe(nodes []cluster.Node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, fmt.Sprintf("%s (%s)", n.Name(), n.Role()))
	}
	return strings.Join(all, ", ")
}

func nodesAreACopy(t *testing.T, c cluster.Cluster) {
	nodes := c.Nodes()
	first := nodes[0].Name()
	nodes[0] = nil
	if again := c.Nodes(); again[0] == nil || again[0].Name() != first {
		t.Error("a change to what Nodes returned changed the cluster")
	}
}

func nodesAsInKubernetes(t *testing.T, c cluster.Cluster) {
	ctx := bounded(t)
	config, err := c.Kubeconfig(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := clientcmd.RESTConfigFromKubeConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	registered := map[string]corev1.Node{}
	for _, n := range list.Items {
		registered[n.Name] = n
	}
	if len(registered) != len(c.Nodes()) {
		t.Errorf("Kubernetes has %d nodes, the cluster %s", len(registered), describe(c.Nodes()))
	}
	for _, n := range c.Nodes() {
		k, ok := registered[n.Name()]
		if !ok {
			t.Errorf("Kubernetes knows no node %s", n.Name())
			continue
		}
		_, controlPlane := k.Labels["node-role.kubernetes.io/control-plane"]
		if controlPlane != (n.Role() == cluster.ControlPlane) {
			t.Errorf("node %s has role %s here, and its labels are %v", n.Name(), n.Role(), k.Labels)
		}
		if !slices.Contains(k.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: n.Address()}) {
			t.Errorf("node %s has address %s here, and in Kubernetes %v", n.Name(), n.Address(), k.Status.Addresses)
		}
		// Every node runs a kubelet, and this machine reaches it.
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(n.Address(), "10250"))
		if err != nil {
			t.Errorf("reaching node %s: %v", n.Name(), err)
			continue
		}
		_ = conn.Close()
	}
	// An administrator may do anything.
	if _, err := client.CoreV1().Secrets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		t.Errorf("the kubeconfig is no administrator's: %v", err)
	}
}

// --- Exec ------------------------------------------------------------------------------------------------------------

func execAsRoot(t *testing.T, n cluster.Node) {
	if got := run(t, n, "id", "-u"); got != "0" {
		t.Errorf("user %s", got)
	}
}

func execNoShell(t *testing.T, n cluster.Node) {
	args := []string{"", " a  b ", "$HOME", "`id`", "$(id)", "*", "a;b", "a\nb", "'", `"`, `\`, "-n", "--", "ü☃", "a&&b|c>d"}
	res, err := n.Exec(bounded(t), cluster.Cmd{Argv: append([]string{"printf", "%s|"}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(args, "|") + "|"; string(res.Stdout) != want {
		t.Errorf("got  %q\nwant %q", res.Stdout, want)
	}
}

func execOutputs(t *testing.T, n cluster.Node) {
	cmd := cluster.Cmd{Argv: []string{"sh", "-c", "echo out; echo err >&2"}}
	res, err := n.Exec(bounded(t), cmd)
	if err != nil || string(res.Stdout) != "out\n" || string(res.Stderr) != "err\n" {
		t.Errorf("stdout %q, stderr %q, %v", res.Stdout, res.Stderr, err)
	}
	var sink bytes.Buffer
	cmd.Stdout = &sink
	res, err = n.Exec(bounded(t), cmd)
	if err != nil || sink.String() != "out\n" || len(res.Stdout) != 0 || string(res.Stderr) != "err\n" {
		t.Errorf("with a writer: it got %q; stdout %q, stderr %q, %v", sink.String(), res.Stdout, res.Stderr, err)
	}
}

func execStatus(t *testing.T, n cluster.Node) {
	for _, code := range []int{1, 2, 42, 125, 126, 127, 137, 255} {
		cmd := cluster.Cmd{Argv: []string{"sh", "-c", fmt.Sprintf("echo out; echo err >&2; exit %d", code)}}
		res, err := n.Exec(bounded(t), cmd)
		var exit *cluster.ExitError
		if !errors.As(err, &exit) {
			t.Errorf("status %d: %v", code, err)
			continue
		}
		if exit.Code != code || exit.Node != n.Name() || !slices.Equal(exit.Cmd.Argv, cmd.Argv) {
			t.Errorf("status %d: %+v", code, exit)
		}
		if !strings.Contains(exit.Output, "out") || !strings.Contains(exit.Output, "err") {
			t.Errorf("status %d: output %q", code, exit.Output)
		}
		if string(res.Stdout) != "out\n" || string(res.Stderr) != "err\n" {
			t.Errorf("status %d: stdout %q, stderr %q", code, res.Stdout, res.Stderr)
		}
	}
	// What a command says must not make it look like something else.
	for _, words := range []string{"no such container", "connection refused"} {
		_, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{"sh", "-c", `echo "$1" >&2; exit 1`, "say", "it said: " + words}})
		if exit := (*cluster.ExitError)(nil); !errors.As(err, &exit) {
			t.Errorf("a command that says %q: %v", words, err)
		}
	}
	if got, err := cluster.Run(bounded(t), n, "true"); err != nil || got != "" {
		t.Errorf("true: %q, %v", got, err)
	}
}

func execMissing(t *testing.T, n cluster.Node) {
	for _, program := range []string{"no-such-program", "/no/such/program"} {
		_, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{program}})
		var exit *cluster.ExitError
		if !errors.As(err, &exit) || exit.Code != 127 && exit.Code != 126 {
			t.Errorf("%s: %v; a shell would end with 127", program, err)
		}
	}
}

func execEmpty(t *testing.T, n cluster.Node) {
	for _, argv := range [][]string{nil, {}, {""}} {
		_, err := n.Exec(bounded(t), cluster.Cmd{Argv: argv})
		if exit := (*cluster.ExitError)(nil); err == nil || errors.As(err, &exit) {
			t.Errorf("%q: %v", argv, err)
		}
	}
}

func execEnv(t *testing.T, n cluster.Node) {
	res, err := n.Exec(bounded(t), cluster.Cmd{
		Argv: []string{"printenv", "DRILL_ONE", "DRILL_TWO", "DRILL_EMPTY"},
		Env:  []string{"DRILL_ONE=a b=$c 'd' \"e\"", "DRILL_TWO=2", "DRILL_EMPTY="},
	})
	if want := "a b=$c 'd' \"e\"\n2\n\n"; err != nil || string(res.Stdout) != want {
		t.Errorf("got %q, want %q: %v", res.Stdout, want, err)
	}
	if got := run(t, n, "sh", "-c", "command -v ls"); got == "" {
		t.Error("no PATH")
	}
}

func execStdin(t *testing.T, n cluster.Node) {
	for _, text := range []string{"", "one line", "two\nlines\n"} {
		res, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{"cat"}, Stdin: strings.NewReader(text)})
		if err != nil || string(res.Stdout) != text {
			t.Errorf("fed %q, got %q: %v", text, res.Stdout, err)
		}
	}
	// A command need not read all that it is fed.
	res, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{"head", "-c", "3"}, Stdin: bytes.NewReader(make([]byte, 4<<20))})
	if err != nil || len(res.Stdout) != 3 {
		t.Errorf("a command that reads 3 bytes of many: %d bytes, %v", len(res.Stdout), err)
	}
}

func execNoStdin(t *testing.T, n cluster.Node) {
	res, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{"cat"}})
	if err != nil || len(res.Stdout) != 0 {
		t.Errorf("got %q: %v", res.Stdout, err)
	}
}

func execBlockedStdin(t *testing.T, n cluster.Node) {
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	if _, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{"true"}, Stdin: r}); err != nil {
		t.Error(err)
	}
}

func execBrokenStdin(t *testing.T, n cluster.Node) {
	broken := errors.New("the reader broke")
	stdin := io.MultiReader(strings.NewReader("some"), iotest.ErrReader(broken))
	_, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{"cat"}, Stdin: stdin})
	if exit := (*cluster.ExitError)(nil); !errors.Is(err, broken) || errors.As(err, &exit) {
		t.Errorf("%v", err)
	}
}

type brokenWriter struct{ err error }

func (b brokenWriter) Write([]byte) (int, error) { return 0, b.err }

func execBrokenStdout(t *testing.T, n cluster.Node) {
	broken := errors.New("the writer broke")
	// It would never end by itself, and may go on where it runs: so it is one that takes next to no processor.
	_, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{"sh", "-c", "while echo y; do sleep 1; done"}, Stdout: brokenWriter{broken}})
	if exit := (*cluster.ExitError)(nil); !errors.Is(err, broken) || errors.As(err, &exit) {
		t.Errorf("%v", err)
	}
}

func execBinary(t *testing.T, n cluster.Node) {
	var all []byte
	for i := range 256 {
		all = append(all, byte(i), '\r', '\n', byte(255-i))
	}
	res, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{"cat"}, Stdin: bytes.NewReader(all)})
	if err != nil || !bytes.Equal(res.Stdout, all) {
		t.Errorf("%d bytes of %d came back, or others: %v", len(res.Stdout), len(all), err)
	}
}

func execLarge(t *testing.T, n cluster.Node) {
	const size = 48 << 20
	hash := sha256.New()
	var passed counter
	_, err := n.Exec(bounded(t), cluster.Cmd{
		Argv: []string{"head", "-c", fmt.Sprint(size), "/dev/zero"}, Stdout: io.MultiWriter(hash, &passed),
	})
	if err != nil || passed != size {
		t.Fatalf("%d bytes of %d came: %v", passed, size, err)
	}
	want := sha256.New()
	_, _ = io.CopyN(want, zeros{}, size)
	if !bytes.Equal(hash.Sum(nil), want.Sum(nil)) {
		t.Error("other bytes came")
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// execStreams has a command whose second line depends on what was answered to its first.
func execStreams(t *testing.T, n cluster.Node) {
	in, answer := io.Pipe()
	out, heard := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{"sh", "-c", "echo ready; read x; echo got $x"}, Stdin: in, Stdout: heard})
		_ = heard.CloseWithError(err)
		done <- err
	}()
	buf := make([]byte, 64)
	if k, err := io.ReadAtLeast(out, buf, len("ready\n")); err != nil || string(buf[:k]) != "ready\n" {
		t.Fatalf("first %q: %v", buf[:k], err)
	}
	if _, err := io.WriteString(answer, "it\n"); err != nil {
		t.Fatal(err)
	}
	_ = answer.Close()
	if rest, err := io.ReadAll(out); err != nil || string(rest) != "got it\n" {
		t.Errorf("then %q: %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func execDeadline(t *testing.T, n cluster.Node) {
	ctx, cancel := context.WithTimeout(bounded(t), time.Second)
	defer cancel()
	_, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"sleep", "600"}})
	if exit := (*cluster.ExitError)(nil); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &exit) {
		t.Errorf("%v", err)
	}
}

func execCancelled(t *testing.T, n cluster.Node) {
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	// It is cancelled as soon as it is known to run.
	_, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"sh", "-c", "echo begun; exec sleep 600"}, Stdout: onWrite(cancel)})
	if exit := (*cluster.ExitError)(nil); !errors.Is(err, context.Canceled) || errors.As(err, &exit) {
		t.Errorf("%v", err)
	}
}

type onWrite func()

func (f onWrite) Write(p []byte) (int, error) { f(); return len(p), nil }

func execTooLate(t *testing.T, n cluster.Node) {
	if _, err := n.Exec(cancelled(t), cluster.Cmd{Argv: []string{"true"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func execConcurrent(t *testing.T, n cluster.Node) {
	var group sync.WaitGroup
	for i := range 12 {
		group.Go(func() {
			want := strings.Repeat(fmt.Sprintf("%02d", i), 20000)
			res, err := n.Exec(bounded(t), cluster.Cmd{Argv: []string{"cat"}, Stdin: strings.NewReader(want)})
			if err != nil || string(res.Stdout) != want {
				t.Errorf("command %d: %d bytes, %v", i, len(res.Stdout), err)
			}
		})
	}
	group.Wait()
}

// --- files -----------------------------------------------------------------------------------------------------------

func filesRoundTrip(t *testing.T, n cluster.Node) {
	big := make([]byte, 24<<20)
	_, _ = rand.Read(big)
	// /tmp may be a file system of its own on a node, /var/tmp is likely to be another.
	for _, parent := range []string{"/tmp", "/var/tmp"} {
		dir := folder(t, n, parent)
		for name, content := range map[string][]byte{
			"plain":              []byte("text\n"),
			"empty":              {},
			"binary":             {0, 1, 2, 255, '\r', '\n', 0},
			"no newline":         []byte("a"),
			" spaces  in it ":    []byte("b"),
			"-n":                 []byte("c"),
			"--help":             []byte("d"),
			"$(id) `id` 'x' \"y": []byte("e"),
			"line\nbreak":        []byte("f"),
			"{}":                 []byte("g"),
			"*":                  []byte("h"),
			".hidden":            []byte("i"),
			"ünïcode ☃":          []byte("j"),
			"big":                big,
		} {
			file := path.Join(dir, name)
			if err := n.WriteFile(bounded(t), file, 0o600, bytes.NewReader(content)); err != nil {
				t.Errorf("writing %q: %v", file, err)
				continue
			}
			got, err := n.ReadFile(bounded(t), file)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("reading %q: %d bytes of %d, or others: %v", file, len(got), len(content), err)
			}
		}
	}
}

func readMissing(t *testing.T, n cluster.Node) {
	dir := folder(t, n, "/tmp")
	run(t, n, "ln", "-s", "nowhere", dir+"/dangling")
	for _, name := range []string{"/missing", "/no/folder", "/dangling"} {
		_, err := n.ReadFile(bounded(t), dir+name)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func readIrregular(t *testing.T, n cluster.Node) {
	dir := folder(t, n, "/tmp")
	run(t, n, "mkfifo", dir+"/fifo")
	for _, name := range []string{dir, dir + "/fifo", "/dev/zero"} {
		_, err := n.ReadFile(bounded(t), name)
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(t, n, dir+"/file", "text")
	run(t, n, "ln", "-s", "file", dir+"/link")
	if got, err := n.ReadFile(bounded(t), dir+"/link"); err != nil || string(got) != "text" {
		t.Errorf("a link to a file: %q, %v", got, err)
	}
}

func readCancelled(t *testing.T, n cluster.Node) {
	if _, err := n.ReadFile(cancelled(t), "/etc/hostname"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func writeMode(t *testing.T, n cluster.Node) {
	dir := folder(t, n, "/tmp")
	for _, mode := range []fs.FileMode{0o600, 0o644, 0o755, 0o400, 0o777, 0o000} {
		file := fmt.Sprintf("%s/%03o", dir, mode)
		if err := n.WriteFile(bounded(t), file, mode, strings.NewReader("x")); err != nil {
			t.Errorf("mode %03o: %v", mode, err)
			continue
		}
		if got, want := run(t, n, "stat", "-c", "%a %u %g", "--", file), fmt.Sprintf("%o 0 0", mode); got != want {
			t.Errorf("mode %03o: mode and owner are %s, not %s", mode, got, want)
		}
	}
}

func writeReplaces(t *testing.T, n cluster.Node) {
	file := folder(t, n, "/tmp") + "/file"
	write(t, n, file, "the old content, which is longer")
	run(t, n, "chmod", "777", file)
	run(t, n, "chown", "1:1", file)
	inode := run(t, n, "stat", "-c", "%i", file)
	write(t, n, file, "new")
	if got := read(t, n, file); got != "new" {
		t.Errorf("content %q", got)
	}
	if got := run(t, n, "stat", "-c", "%a %u %g", file); got != "600 0 0" {
		t.Errorf("mode and owner %s", got)
	}
	if run(t, n, "stat", "-c", "%i", file) == inode {
		t.Error("the file was written in place: a reader could see half of it")
	}
}

func writeLink(t *testing.T, n cluster.Node) {
	dir := folder(t, n, "/tmp")
	write(t, n, dir+"/target", "untouched")
	run(t, n, "ln", "-s", "target", dir+"/link")
	write(t, n, dir+"/link", "new")
	if got := read(t, n, dir+"/target"); got != "untouched" {
		t.Errorf("the target holds %q", got)
	}
	if got := run(t, n, "stat", "-c", "%F", dir+"/link"); got != "regular file" {
		t.Errorf("the link is now a %s", got)
	}
}

func writeBrokenReader(t *testing.T, n cluster.Node) {
	dir := folder(t, n, "/tmp")
	write(t, n, dir+"/file", "old")
	broken := errors.New("the reader broke")
	r := io.MultiReader(strings.NewReader("half of what was mea"), iotest.ErrReader(broken))
	if err := n.WriteFile(bounded(t), dir+"/file", 0o600, r); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if got := read(t, n, dir+"/file"); got != "old" {
		t.Errorf("content %q", got)
	}
	if got := run(t, n, "ls", "-A", dir); got != "file" {
		t.Errorf("left behind: %q", got)
	}
}

func writeNoFolder(t *testing.T, n cluster.Node) {
	dir := folder(t, n, "/tmp")
	if err := n.WriteFile(bounded(t), dir+"/none/file", 0o600, strings.NewReader("x")); err == nil {
		t.Error("no error")
	}
	if got := run(t, n, "ls", "-A", dir); got != "" {
		t.Errorf("made: %q", got)
	}
}

func writeOverFolder(t *testing.T, n cluster.Node) {
	dir := folder(t, n, "/tmp")
	run(t, n, "mkdir", dir+"/sub")
	if err := n.WriteFile(bounded(t), dir+"/sub", 0o600, strings.NewReader("x")); err == nil {
		t.Error("no error")
	}
	if got := run(t, n, "find", dir, "-mindepth", "1"); got != dir+"/sub" {
		t.Errorf("there is now %q", got)
	}
}

// writeAtomic reads a file all the time while it is replaced: each look must show one of the contents, whole.
func writeAtomic(t *testing.T, n cluster.Node) {
	file := folder(t, n, "/tmp") + "/file"
	content := func(i int) string { return strings.Repeat(fmt.Sprintf("%d", i), 200000) }
	write(t, n, file, content(0))
	ctx, cancel := context.WithCancel(bounded(t))
	var sums bytes.Buffer
	var watcher sync.WaitGroup
	begun := make(chan struct{})
	var once sync.Once
	watcher.Go(func() {
		_, _ = n.Exec(ctx, cluster.Cmd{
			Argv:   []string{"sh", "-c", `while sha256sum <"$1" || echo gone; do :; done`, "watch", file},
			Stdout: io.MultiWriter(&sums, onWrite(func() { once.Do(func() { close(begun) }) })),
		})
	})
	<-begun
	known := map[string]bool{}
	for i := range 6 {
		known[fmt.Sprintf("%x  -", sha256.Sum256([]byte(content(i))))] = true
		if i > 0 {
			write(t, n, file, content(i))
		}
	}
	cancel()
	watcher.Wait()
	seen := strings.Split(sums.String(), "\n")
	for _, line := range seen[:len(seen)-1] { // the last may have been cut off
		if !known[line] {
			t.Fatalf("in between, the file showed something else: %s", line)
		}
	}
	// What runs on may do so on the node; this ends it.
	run(t, n, "rm", "-f", file)
	_, _ = n.Exec(bounded(t), cluster.Cmd{Argv: []string{"pkill", "-f", file}})
}

func writeTidy(t *testing.T, n cluster.Node) {
	dir := folder(t, n, "/tmp")
	for _, content := range []string{"one", "two"} {
		write(t, n, dir+"/file", content)
	}
	if got := run(t, n, "ls", "-A", dir); got != "file" {
		t.Errorf("left behind: %q", got)
	}
}

func writeCancelled(t *testing.T, n cluster.Node) {
	dir := folder(t, n, "/tmp")
	if err := n.WriteFile(cancelled(t), dir+"/file", 0o600, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// Cancelled in the middle, too, nothing is left and nothing is there.
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	endless := io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), readerFunc(func(p []byte) (int, error) {
		cancel()
		clear(p)
		return len(p), nil
	}))
	if err := n.WriteFile(ctx, dir+"/file", 0o600, endless); !errors.Is(err, context.Canceled) {
		t.Errorf("in the middle: %v", err)
	}
	if _, err := n.ReadFile(bounded(t), dir+"/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is there: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// --- helpers ---------------------------------------------------------------------------------------------------------

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func cancelled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func run(t *testing.T, n cluster.Node, argv ...string) string {
	t.Helper()
	out, err := cluster.Run(bounded(t), n, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, n cluster.Node, file, content string) {
	t.Helper()
	if err := n.WriteFile(bounded(t), file, 0o600, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, n cluster.Node, file string) string {
	t.Helper()
	got, err := n.ReadFile(bounded(t), file)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// folder makes a folder on the node that is removed when the test ends.
func folder(t *testing.T, n cluster.Node, parent string) string {
	t.Helper()
	dir := run(t, n, "mktemp", "-d", parent+"/clustertest.XXXXXXXX")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
		defer cancel()
		if _, err := cluster.Run(ctx, n, "rm", "-rf", "--", dir); err != nil {
			t.Errorf("tidying up: %v", err)
		}
	})
	return dir
}
