package stage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReserve: the room of a rollback is taken on the disk, and not only in name, as often as it is asked for, and is given back.
func TestReserve(t *testing.T) {
	s, n, _ := swapped(t, "a")
	m, file := s.Target.Members[0], filepath.Join(n.root, s.reserved())
	if filepath.Dir(s.reserved()) != filepath.Dir(s.Target.RollbackDir) {
		t.Fatalf("%s may be on another disk than %s", s.reserved(), s.Target.RollbackDir)
	}
	database, err := os.Stat(filepath.Join(n.root, "/var/lib/etcd/member/snap/db"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.reserve(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		got, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := got.Sys().(*syscall.Stat_t).Blocks * 512 // stat(2) counts them so
		if want := database.Size() + walBytes; got.Size() != want || blocks < want {
			t.Errorf("%d bytes, of which %d are there, want %d", got.Size(), blocks, want)
		}
	}
	for range 2 {
		if err := s.Unreserve(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("it is still there: %v", err)
		}
	}
	if err := os.Remove(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	if err := s.reserve(t.Context(), m); err == nil || !strings.Contains(err.Error(), "for a rollback: ") || !strings.Contains(err.Error(), "; hint: "+makeRoom) {
		t.Errorf("there is no room: %v", err)
	}
}
