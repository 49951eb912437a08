package etcd_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// What a file says of its live keys is what etcd says of them, in whatever order.
func TestLive(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	s.history(t, 5)
	var want []etcd.KeyValue
	revision, err := etcd.LiveKeys(t.Context(), s.Endpoint, collect(&want))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(vault(t), "snap.db")
	if _, err := etcd.Save(t.Context(), s.Endpoint, path); err != nil {
		t.Fatal(err)
	}
	f, err := etcd.OpenFile(t.Context(), path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for range 2 { // it can be read again
		var got []etcd.KeyValue
		seen, err := f.Live(t.Context(), collect(&got))
		if err != nil {
			t.Fatal(err)
		}
		if seen != revision {
			t.Errorf("revision %d, want %d", seen, revision)
		}
		slices.SortFunc(got, func(a, b etcd.KeyValue) int { return strings.Compare(string(a.Key), string(b.Key)) })
		same(t, got, want)
	}
	stop := errors.New("enough")
	calls := 0
	if _, err := f.Live(t.Context(), func(etcd.KeyValue) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestFacts(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	lease, err := s.Client.Grant(t.Context(), 3600)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if _, err := s.Client.Put(t.Context(), fmt.Sprint(i%4), "x", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Client.Delete(t.Context(), "3"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client.Compact(t.Context(), 9, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(vault(t), "snap.db")
	if _, err := etcd.Save(t.Context(), s.Endpoint, path); err != nil {
		t.Fatal(err)
	}
	info, facts, err := etcd.Examine(t.Context(), path, etcd.ExamineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := etcd.StatusOf(t.Context(), s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	if facts.Keys != 3 || facts.Tombstones != 1 || facts.Records < 5 || facts.Records > 7 || facts.Revision != st.Revision || facts.CompactRevision != 9 {
		t.Errorf("%+v", facts)
	}
	if len(facts.Leases) != 1 || facts.Leases[0].ID != int64(lease.ID) || facts.Leases[0].TTL != 3600 {
		t.Errorf("leases %+v", facts.Leases)
	}
	if len(facts.Members) != 1 || facts.Members[0].ID != st.MemberID || facts.Members[0].Name != "member-a" {
		t.Errorf("members %+v", facts.Members)
	}
	if facts.StorageVersion == "" || facts.StorageVersion != info.EtcdVersion || facts.ClusterVersion == "" || facts.ConsistentIndex == 0 || facts.Term == 0 {
		t.Errorf("%+v", facts)
	}
	if facts.PagesUsed < 3 || facts.PagesUsed > facts.Pages || int64(facts.Pages)*facts.PageSize+sha256.Size != info.Bytes || len(facts.OtherBuckets) != 0 || len(facts.Alarms) != 0 || facts.AuthEnabled {
		t.Errorf("%+v", facts)
	}
}

// Each value that the history has is looked at, and one that is refused makes the snapshot a damaged one.
func TestExamineLooksAtValues(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	for i := range 300 {
		if _, err := s.Client.Put(t.Context(), fmt.Sprintf("key-%d", i%100), fmt.Sprintf("value-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(vault(t), "snap.db")
	if _, err := etcd.Save(t.Context(), s.Endpoint, path); err != nil {
		t.Fatal(err)
	}
	values := make(chan string, 400)
	if _, _, err := etcd.Examine(t.Context(), path, etcd.ExamineOptions{Value: func(key, value []byte) error {
		values <- string(key) + "=" + string(value)
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	close(values)
	seen := map[string]bool{}
	for v := range values {
		seen[v] = true
	}
	if len(seen) != 300 {
		t.Errorf("%d values, want 300", len(seen))
	}
	_, _, err := etcd.Examine(t.Context(), path, etcd.ExamineOptions{Value: func(_, value []byte) error {
		if string(value) == "value-17" {
			return errors.New("it is half an object")
		}
		return nil
	}})
	if !errors.Is(err, etcd.ErrDamaged) || !strings.Contains(err.Error(), "the value of key-17 at revision ") || !strings.Contains(err.Error(), "it is half an object") {
		t.Errorf("%v", err)
	}
}

// A file that somebody writes to meanwhile is not called damaged, and still less sound.
func TestChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(*os.File) error{
		"longer":  func(f *os.File) error { _, err := f.WriteAt([]byte("more"), 1<<20); return err },
		"shorter": func(f *os.File) error { return f.Truncate(8192) },
		"other":   func(f *os.File) error { return os.Chtimes(f.Name(), time.Time{}, time.Now().Add(time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := savedSnapshot(t, 500)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			changed := false
			_, _, err = etcd.Examine(t.Context(), path, etcd.ExamineOptions{Raw: true, Live: func(etcd.KeyValue) error {
				if changed {
					return nil
				}
				changed = true
				return change(f)
			}})
			if !errors.Is(err, etcd.ErrChanged) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Of a file that isn't what etcd sent it is told where that is seen.
func TestMismatchSaysWhere(t *testing.T) {
	path := savedSnapshot(t, 500)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(change func(c []byte)) error {
		t.Helper()
		c := slices.Clone(content)
		change(c)
		if err := os.WriteFile(path, c, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := etcd.Verify(t.Context(), worker(t, "work"), path)
		if !errors.Is(err, etcd.ErrTrailerMismatch) {
			t.Fatalf("%v", err)
		}
		return err
	}
	if err := spoil(func(c []byte) { c[len(c)-1]++ }); !strings.Contains(err.Error(), "every page and every record makes sense") {
		t.Errorf("the trailer: %v", err)
	}
	leaf := 4096 * lastLeaf(t, content[:len(content)-sha256.Size])
	if err := spoil(func(c []byte) { clear(c[leaf : leaf+16]) }); !strings.Contains(err.Error(), fmt.Sprintf("(at byte %d)", leaf)) {
		t.Errorf("a page: %v", err)
	}
}
