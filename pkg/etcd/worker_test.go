package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// actAs is what this binary does as a process of one of these kinds:
//   - family: a worker that never answers, with a child that wouldn't end by itself; both hold the witness.
//   - watched: a worker that holds the witness and copies there what it reads.
//   - asker: one that asks a watched worker about the FIFO of its own argument, which nobody ever writes to.
func actAs(kind string) error {
	if kind == "asker" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		w := etcd.Worker{Command: []string{"env", workerEnv + "=watched", self}}
		_, err = etcd.Verify(context.Background(), w, os.Args[1])
		return err
	}
	witness, err := os.OpenFile(os.Getenv(witnessEnv), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if kind == "watched" {
		return etcd.WorkerMain(context.Background(), io.TeeReader(os.Stdin, witness), os.Stdout)
	}
	if pid, group := os.Getpid(), syscall.Getpgrp(); pid != group {
		_, _ = fmt.Fprintf(witness, "process %d is in group %d", pid, group)
		return nil
	}
	child := exec.Command("sleep", "3600")
	child.Stdout = witness
	if err := child.Start(); err != nil {
		return err
	}
	if _, err := io.WriteString(witness, "family"); err != nil {
		return err
	}
	return child.Wait()
}

func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// read returns the first thing that comes through the witness, and a function that waits until nobody holds it any more.
func read(t *testing.T, witness string) (first string, gone func()) {
	t.Helper()
	f, err := os.Open(witness) // returns when somebody holds the other end
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	b := make([]byte, 4096)
	n, err := f.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), func() {
		t.Helper()
		if err := f.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, f); err != nil {
			t.Errorf("somebody lives on: %v", err)
		}
	}
}

// TestWorkerEndsWithItsFamily has a worker that is out of the terminal's reach, and ends with all that it started.
func TestWorkerEndsWithItsFamily(t *testing.T) {
	witness := fifo(t)
	t.Setenv(witnessEnv, witness)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { _, err := etcd.Verify(ctx, worker(t, "family"), os.DevNull); asked <- err }()
	first, gone := read(t, witness)
	if first != "family" {
		t.Errorf("the worker is in its parent's process group: %s", first)
	}
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	gone()
}

// TestOrphanedWorkerEnds kills the process that asked, as nothing can be done about by that one.
func TestOrphanedWorkerEnds(t *testing.T) {
	witness, self := fifo(t), os.Args[0]
	asker := exec.Command(self, fifo(t))
	asker.Env = append(os.Environ(), workerEnv+"=asker", witnessEnv+"="+witness)
	if err := asker.Start(); err != nil {
		t.Fatal(err)
	}
	first, gone := read(t, witness)
	if err := asker.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = asker.Wait() // killed, and says so
	if first == "" {
		t.Error("the worker has read no request")
	}
	gone()
}
