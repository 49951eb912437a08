package journal_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/etcd-drill/drill/pkg/journal"
)

// nobody makes the test open files as a user who owns none, should it be root: permission bits don't bind that one. It holds for this thread, to which the test is bound; see setfsuid(2).
func nobody(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	runtime.LockOSThread()
	if err := syscall.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Setfsuid(0)
		runtime.UnlockOSThread()
	})
}

// TestUnwritable: a journal that can only be read tells what it tells, and takes nothing any more.
func TestUnwritable(t *testing.T) {
	dir, j := create(t)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, journal.FileName)
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found { // the lock among them
		if err := os.Chmod(filepath.Join(dir, f.Name()), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil { // testing's own folder is its user's
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	nobody(t)
	again, s, err := journal.Open(t.Context(), dir)
	if err != nil || s.Run.ID != tiny.ID {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := again.Append(entries()[0]); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("it has become\n%s, %v", after, err)
	}
}
