package cache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/cache"
)

func open(t *testing.T) *cache.Store {
	t.Helper()
	s, err := cache.Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fill(t *testing.T, calls *int) func(string) error {
	return func(dir string) error {
		*calls++
		return os.WriteFile(filepath.Join(dir, "result"), []byte("whole"), 0o644)
	}
}

func TestEnsureMakesAResultOnce(t *testing.T) {
	s, calls := open(t), 0
	for range 2 {
		dir, err := s.Ensure("step", cache.Hash("a"), fill(t, &calls))
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "result")); err != nil || string(data) != "whole" {
			t.Errorf("result = %q, %v", data, err)
		}
	}
	if calls != 1 {
		t.Errorf("the step ran %d times, want 1", calls)
	}
}

// An interrupted step must not be taken for a finished one, and must not be in the way of the next try.
func TestEnsureResumesAfterAnInterruptedStep(t *testing.T) {
	s, calls, stopped := open(t), 0, errors.New("stopped")
	key := cache.Hash("a")
	_, err := s.Ensure("step", key, func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "result"), []byte("ha"), 0o644); err != nil {
			t.Fatal(err)
		}
		return stopped
	})
	if !errors.Is(err, stopped) {
		t.Fatalf("err = %v, want %v", err, stopped)
	}
	if _, ok := s.Lookup("step", key); ok {
		t.Fatal("a half-made result counts as a result")
	}
	if _, err := s.Ensure("step", key, fill(t, &calls)); err != nil || calls != 1 {
		t.Errorf("the second try: %v, %d calls", err, calls)
	}
}

// A killed process can't tidy up; the next one does.
func TestLockDropsWhatAKilledRunLeft(t *testing.T) {
	s := open(t)
	left := filepath.Join(s.Dir(), ".partial-step-123")
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := s.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the left-over is still there: %v", err)
	}
}

func TestLockKeepsOthersOut(t *testing.T) {
	s := open(t)
	unlock, err := s.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v, want deadline exceeded", err)
	}
	unlock()
	again, err := s.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestDropOthersKeepsOtherNames(t *testing.T) {
	s, calls := open(t), 0
	for _, e := range []struct{ name, key string }{{"etcd", "old"}, {"etcd", "new"}, {"etcd-v3", "old"}} {
		if _, err := s.Ensure(e.name, cache.Hash(e.key), fill(t, &calls)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DropOthers("etcd", cache.Hash("new")); err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		name, key string
		want      bool
	}{{"etcd", "old", false}, {"etcd", "new", true}, {"etcd-v3", "old", true}} {
		if _, ok := s.Lookup(e.name, cache.Hash(e.key)); ok != e.want {
			t.Errorf("%s %s is there: %v, want %v", e.name, e.key, ok, e.want)
		}
	}
}

func TestHashTellsListsApart(t *testing.T) {
	if cache.Hash("ab", "c") == cache.Hash("a", "bc") || cache.Hash("a") == cache.Hash("a", "") {
		t.Error("different lists have the same key")
	}
	list := []string{"a", "b"}
	if again := cache.Hash("a", "b"); cache.Hash(list...) != again {
		t.Error("the same list has different keys")
	}
}

func TestHashFilesSeesContentNameAndMode(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "root", "file")
	hash := func() cache.Key {
		k, err := cache.HashFiles(filepath.Join(dir, "root"))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Dir(file), 0o755))
	must(os.WriteFile(file, []byte("one"), 0o644))
	first := hash()
	must(os.WriteFile(file, []byte("two"), 0o644))
	second := hash()
	must(os.Chmod(file, 0o755))
	third := hash()
	must(os.Rename(file, file+"2"))
	if fourth := hash(); first == second || second == third || third == fourth {
		t.Errorf("keys don't differ: %s %s %s %s", first, second, third, fourth)
	}
	if _, err := cache.HashFiles(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing input is no error")
	}
}
