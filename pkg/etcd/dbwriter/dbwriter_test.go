package dbwriter_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/dbwriter"
)

func TestWriter(t *testing.T) {
	dir := t.TempDir()
	making, out := filepath.Join(dir, "making"), filepath.Join(dir, "out.db")
	w, err := dbwriter.New(making)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if _, err := dbwriter.New(making); !errors.Is(err, etcd.ErrTargetExists) {
		t.Errorf("over another one: %v", err)
	}
	w.Grant(7, 60)
	for _, value := range []string{"1", "2", "3"} {
		w.Put("a", []byte(value), 0)
	}
	w.Put("b", []byte("x"), 7)
	if rev := w.Delete("b"); rev != 6 || w.Delete("b") != 6 || w.Revision() != 6 {
		t.Errorf("revision %d after the deletion of one key, and %d", rev, w.Revision())
	}
	if err := w.Compact(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if err := w.Compact(t.Context(), 99); err == nil {
		t.Error("compacted what is yet to come")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Save(ended, out); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("interrupted, and something is left")
	}
	info, err := w.Save(t.Context(), out)
	if err != nil || info.Keys != 1 || info.Revision != 6 {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := w.Save(t.Context(), out); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another snapshot: %v", err)
	}
	seen, facts, err := etcd.Examine(t.Context(), out, etcd.ExamineOptions{})
	if err != nil || seen.SHA256 != info.SHA256 || seen.Keys != 1 || seen.Revision != 6 || facts.Records != 4 {
		t.Errorf("%+v, %+v, %v", seen, facts, err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(making); err == nil {
		t.Error("closed, and the database is left")
	}
}
