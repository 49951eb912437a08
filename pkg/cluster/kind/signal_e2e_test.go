//go:build e2e && unix

package kind_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
)

// childVariable makes this test binary create a cluster and do nothing else: it holds the state directory.
const childVariable = "DRILL_TEST_CREATE_IN"

const childCluster = "ck-signal"

// statusInterrupted is what the child ends with when its creation was cancelled.
const statusInterrupted = 130

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		os.Exit(createAsChild(dir))
	}
	os.Exit(m.Run())
}

func createAsChild(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	p, err := kind.New(ctx, kind.Options{StateDir: dir, Progress: func(line string) { fmt.Println(line) }})
	if err == nil {
		_, err = p.Create(ctx, kind.CreateOptions{Name: childCluster})
	}
	switch {
	case errors.Is(err, context.Canceled):
		return statusInterrupted
	case err != nil:
		fmt.Println(err)
		return 1
	}
	return 0
}

// startChild starts a creation in a process group of its own, as a shell starts a job, and returns when it shows line.
func startChild(t *testing.T, dir, line string) *exec.Cmd {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+dir)
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill() })
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		t.Log(scanner.Text())
		if strings.HasPrefix(scanner.Text(), line) {
			go func() {
				for scanner.Scan() { // so that the child never blocks on a full pipe
				}
			}()
			return child
		}
	}
	t.Fatalf("the child ended before %q", line)
	return nil
}

// TestCtrlC sends what a terminal sends on Ctrl-C: an interrupt to the whole group, kind's commands included. It does so
// twice, as impatient people do.
func TestCtrlC(t *testing.T) {
	for i, test := range []struct {
		line  string
		after time.Duration
	}{
		{"Ensuring node image", 0},
		{"Preparing nodes", 50 * time.Millisecond},
		{"Preparing nodes", 400 * time.Millisecond},
		{"Preparing nodes", 1200 * time.Millisecond},
		{"Starting control-plane", 3 * time.Second},
	} {
		t.Run(fmt.Sprintf("%s after %q", test.after, test.line), func(t *testing.T) {
			takesTurns(t, i)
			p, dir := provider(t, nil)
			volumes := unusedVolumes(t, p)
			child := startChild(t, dir, test.line)
			for _, pause := range []time.Duration{test.after, 500 * time.Millisecond} {
				select {
				case <-time.After(pause):
				case <-t.Context().Done():
				}
				_ = syscall.Kill(-child.Process.Pid, syscall.SIGINT) // the second may come too late
			}
			if err := child.Wait(); child.ProcessState.ExitCode() != statusInterrupted {
				t.Errorf("%v", err)
			}
			checkNothingLeft(t, p, childCluster, dir, volumes)
		})
	}
}

// TestKilledCreation leaves a creation no chance to clean up; what it left is known to be drill's all the same.
func TestKilledCreation(t *testing.T) {
	for i, line := range []string{"Preparing nodes", "Starting control-plane"} {
		t.Run(line, func(t *testing.T) {
			takesTurns(t, i)
			p, dir := provider(t, nil)
			volumes := unusedVolumes(t, p)
			child := startChild(t, dir, line)
			waitFor(t, func() bool { return len(containersOf(t, p, childCluster)) > 0 })
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = child.Wait()
			if i, ok := info(t, p, childCluster); !ok || !i.Ours || !i.Unfinished {
				t.Errorf("on the list: %+v", i)
			}
			if _, err := os.Stat(filepath.Join(dir, "clusters", childCluster+".json")); err != nil {
				t.Error(err)
			}
			if _, err := p.Attach(t.Context(), childCluster); err == nil || errors.Is(err, cluster.ErrNotFound) {
				t.Errorf("attaching to what there is of it: %v", err)
			}
			if err := p.Delete(t.Context(), childCluster); err != nil {
				t.Error(err)
			}
			checkNothingLeft(t, p, childCluster, dir, volumes)
		})
	}
}
