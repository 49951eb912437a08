package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRehearseInterrupted: a Ctrl-C in the midst of a rehearsal ends it in order, and leaves nothing.
func TestRehearseInterrupted(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			scratch := t.TempDir()
			cmd := exec.CommandContext(ctx, "drill", "rehearse", "../testdata/kubeadm-v1.37-etcd-3.7.db", "--scratch-dir", scratch) // the one that TestMain puts into $PATH, for scripts
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			var said strings.Builder
			for lines.Scan() {
				if said.Len() == 0 { // the first part has ended, and others go on
					if err := cmd.Process.Signal(signal); err != nil {
						t.Fatal(err)
					}
				}
				said.WriteString(lines.Text() + "\n")
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted || !strings.Contains(said.String(), "verdict interrupted") || strings.Contains(said.String(), "FAIL") {
				t.Errorf("%v:\n%s", err, said.String())
			}
			if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
				t.Errorf("%d entries are left in the scratch folder, %v", len(left), err)
			}
		})
	}
}

// TestExpectationsThatNeverCome: a pipe to which nobody writes doesn't keep drill from ending.
func TestExpectationsThatNeverCome(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = in.Close(), out.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if e, err := readExpectations(ctx, fmt.Sprintf("/dev/fd/%d", out.Fd())); e != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", e, err)
	}
	// Nor is what was read in time taken for a rehearsal, should somebody end drill just then.
	file := filepath.Join(t.TempDir(), "expected.yaml")
	if err := os.WriteFile(file, []byte("minKeys: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	app := System()
	app.Stdout, app.Stderr = &said, &said
	for range 20 {
		if status := Main(ctx, []string{"rehearse", "../testdata/kubeadm-v1.37-etcd-3.7.db", "--expect", file}, app); status != exitInterrupted {
			t.Errorf("exit status %d: %s", status, said.String())
		}
	}
}
