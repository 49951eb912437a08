package etcd_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// databaseOf is where etcd keeps its database in a data directory.
func databaseOf(dir string) string { return filepath.Join(dir, "member/snap/db") }

// TestRawRoundTrip goes back to what an etcd held that was asked to end.
func TestRawRoundTrip(t *testing.T) {
	w := worker(t, "work")
	s := serve(t, t.TempDir(), nil)
	live := s.put(t, 50)
	db := databaseOf(s.Config().Dir)
	if _, err := etcd.RevisionOf(t.Context(), w, db); err == nil {
		t.Error("the database of a running etcd has a revision")
	}
	last, err := s.Client.Put(t.Context(), "/registry/last", "acknowledged just before")
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	old, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := etcd.RevisionOf(t.Context(), w, db); err != nil || got != last.Header.Revision {
		t.Errorf("RevisionOf = %d, %v; want %d", got, err, last.Header.Revision)
	}

	dir, peer := filepath.Join(t.TempDir(), "back"), peerURL(t)
	o := restoreOptions(db, dir, peer)
	if err := etcd.Restore(t.Context(), w, o); !errors.Is(err, etcd.ErrNoTrailer) {
		t.Errorf("taken for a snapshot: %v", err)
	}
	o.Raw = true
	if err := etcd.Restore(t.Context(), w, o); err != nil {
		t.Fatal(err)
	}
	modesAre(t, dir)
	seen, err := etcd.VerifyDatabase(t.Context(), w, db)
	if sum := sha256.Sum256(old); err != nil || !seen.NoChecksum || seen.SHA256 != hex.EncodeToString(sum[:]) || seen.Revision != last.Header.Revision || seen.Keys != live+1 || seen.Bytes != int64(len(old)) {
		t.Errorf("VerifyDatabase = %+v, %v", seen, err)
	}
	if after, err := os.ReadFile(db); err != nil || !slices.Equal(old, after) {
		t.Errorf("the old database has changed, %v", err)
	}
	if got, err := etcd.RevisionOf(t.Context(), w, databaseOf(dir)); err != nil || got != last.Header.Revision+bump {
		t.Errorf("RevisionOf what was restored = %d, %v; want %d", got, err, last.Header.Revision+bump)
	}
	r := serve(t, dir, func(c *embed.Config) {
		c.AdvertisePeerUrls = []url.URL{*peer}
		c.InitialCluster, c.InitialClusterToken = c.InitialClusterFromName(c.Name), "after-the-fire"
	})
	all, err := r.Client.Get(t.Context(), "/registry/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if all.Count != live+1 || string(all.Kvs[0].Key) != "/registry/last" || string(all.Kvs[0].Value) != "acknowledged just before" {
		t.Errorf("%d keys, first %s; want %d", all.Count, all.Kvs[0], live+1)
	}
	for i, kv := range all.Kvs[1:] {
		if want := fmt.Sprintf("value-%s", kv.Key[len(kv.Key)-3:]); string(kv.Value) != want {
			t.Errorf("key %d: %s, want %s", i, kv, want)
		}
	}
}

// TestDatabaseKeys of a stopped etcd are those that it held, and neither a running one's nor a damaged one's can be had.
func TestDatabaseKeys(t *testing.T) {
	w := worker(t, "work")
	s := serve(t, t.TempDir(), nil)
	live := s.put(t, 50)
	db := databaseOf(s.Config().Dir)
	none := func(etcd.KeyValue) error { return nil }
	if _, err := etcd.DatabaseKeys(t.Context(), w, db, none); err == nil {
		t.Error("the database of a running etcd was read")
	}
	var want []etcd.KeyValue
	revision, err := etcd.LiveKeys(t.Context(), s.Endpoint, collect(&want))
	if err != nil || int64(len(want)) != live {
		t.Fatalf("%d keys, %v", len(want), err)
	}
	s.Stop()
	var got []etcd.KeyValue
	if of, err := etcd.DatabaseKeys(t.Context(), w, db, collect(&got)); err != nil || of != revision || !reflect.DeepEqual(got, want) {
		t.Errorf("%d keys of revision %d, %v; want %d of %d", len(got), of, err, len(want), revision)
	}
	if _, err := etcd.SnapshotKeys(t.Context(), w, db, none); !errors.Is(err, etcd.ErrNoTrailer) {
		t.Errorf("taken for a snapshot: %v", err)
	}
	if err := os.Truncate(db, 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.DatabaseKeys(t.Context(), w, db, none); !errors.Is(err, etcd.ErrTruncated) {
		t.Errorf("cut short: %v", err)
	}
}

func TestRevisionOf(t *testing.T) {
	w := worker(t, "work")
	t.Run("empty store", func(t *testing.T) {
		s := serve(t, t.TempDir(), nil)
		s.Stop()
		if got, err := etcd.RevisionOf(t.Context(), w, databaseOf(s.Config().Dir)); err != nil || got != 1 {
			t.Errorf("RevisionOf = %d, %v; want 1", got, err)
		}
	})
	t.Run("compacted to the end", func(t *testing.T) {
		s := serve(t, t.TempDir(), nil)
		s.put(t, 10) // the last write deletes a key
		status, err := etcd.StatusOf(t.Context(), s.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Client.Compact(t.Context(), status.Revision, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
		s.Stop()
		if got, err := etcd.RevisionOf(t.Context(), w, databaseOf(s.Config().Dir)); err != nil || got != status.Revision {
			t.Errorf("RevisionOf = %d, %v; want %d", got, err, status.Revision)
		}
	})
	t.Run("snapshot", func(t *testing.T) {
		snap := savedSnapshot(t, 30)
		info, err := etcd.Verify(t.Context(), w, snap)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := etcd.RevisionOf(t.Context(), w, snap); err != nil || got != info.Revision {
			t.Errorf("RevisionOf = %d, %v; want %d", got, err, info.Revision)
		}
	})
	t.Run("missing", func(t *testing.T) {
		if _, err := etcd.RevisionOf(t.Context(), w, filepath.Join(t.TempDir(), "gone")); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("silent worker", func(t *testing.T) {
		if _, err := etcd.RevisionOf(t.Context(), worker(t, "silent"), os.DevNull); !errors.Is(err, etcd.ErrWorker) {
			t.Error(err)
		}
	})
}

// lastLeaf is the number of the last page of the database that holds records: one that is free may hold anything.
func lastLeaf(t *testing.T, body []byte) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	last := -1
	err = db.View(func(tx *bolt.Tx) error {
		for id := 0; ; {
			info, err := tx.Page(id)
			if err != nil || info == nil {
				return err
			}
			if info.Type == "leaf" {
				last = id
			}
			id += 1 + info.OverflowCount
		}
	})
	if err != nil || last < 0 {
		t.Fatalf("page %d, %v", last, err)
	}
	return last
}

// TestDamagedRaw has databases that nothing but their own content tells from sound ones.
func TestDamagedRaw(t *testing.T) {
	w, snap, peer := worker(t, "work"), savedSnapshot(t, 300), peerURL(t)
	whole, err := os.ReadFile(snap)
	if err != nil {
		t.Fatal(err)
	}
	body, page := whole[:len(whole)-sha256.Size], os.Getpagesize()
	used := lastLeaf(t, body)
	filled := func(from, to int, by byte) []byte {
		b := slices.Clone(body)
		for i := from; i < to; i++ {
			b[i] = by
		}
		return b
	}
	for _, c := range []struct {
		name    string
		content []byte
		want    error
		// sure says that the way to the last record is damaged as well.
		sure bool
	}{
		{"empty", nil, etcd.ErrEmpty, true},
		{"zeros", make([]byte, 4*page), etcd.ErrNotSnapshot, true},
		{"half", body[:len(body)/2/page*page], etcd.ErrTruncated, true},
		{"one page short", body[:len(body)-page], etcd.ErrTruncated, true},
		{"a zeroed page", filled(used*page, (used+1)*page, 0), etcd.ErrDamaged, false},
		{"zeroed pages", filled(2*page, len(body), 0), etcd.ErrDamaged, true},
		{"rubbish pages", filled(2*page, len(body), 0xff), etcd.ErrDamaged, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := filepath.Join(t.TempDir(), "db")
			if err := os.WriteFile(db, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			parent := t.TempDir()
			o := restoreOptions(db, filepath.Join(parent, "new"), peer)
			o.Raw = true
			if err := etcd.Restore(t.Context(), w, o); !errors.Is(err, c.want) {
				t.Errorf("Restore = %v, want %v", err, c.want)
			}
			onlyHas(t, parent)
			if _, err := etcd.VerifyDatabase(t.Context(), w, db); !errors.Is(err, c.want) {
				t.Errorf("VerifyDatabase = %v, want %v", err, c.want)
			}
			if _, err := etcd.RevisionOf(t.Context(), w, db); c.sure && !errors.Is(err, c.want) {
				t.Errorf("RevisionOf = %v, want %v", err, c.want)
			}
		})
	}
}
