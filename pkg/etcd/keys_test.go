package etcd_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// history writes what etcd can hold, by random decisions of the given seed: puts, deletions, keys that are made again, transactions of several changes, leases, a key with
// bytes that no name has, compactions, and values so large that a page of keys doesn't fit into one answer. It returns the keys that live in the end.
func (s *server) history(t *testing.T, seed uint64) map[string]string {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	want := map[string]string{}
	lease, err := s.Client.Grant(t.Context(), 3600)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, value string, opts ...clientv3.OpOption) clientv3.Op {
		want[key] = value
		return clientv3.OpPut(key, value, opts...)
	}
	do := func(ops ...clientv3.Op) int64 {
		t.Helper()
		done, err := s.Client.Txn(t.Context()).Then(ops...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		return done.Header.Revision
	}
	name := func() string { return fmt.Sprintf("/registry/things/%03d", r.IntN(900)) }
	for i := range 1500 {
		switch key := name(); {
		case i%10 < 6:
			do(put(key, fmt.Sprint("value ", i)))
		case i%10 < 8:
			do(clientv3.OpDelete(key))
			delete(want, key)
		case i%10 < 9:
			do(put(key, fmt.Sprint("leased ", i), clientv3.WithLease(lease.ID)))
		default:
			first, second := fmt.Sprintf("/registry/a/%d", i%50), fmt.Sprintf("/registry/z/%d", i%70)
			revision := do(put(first, "txn"), clientv3.OpDelete(key), put(second, "txn"))
			delete(want, key)
			if i%100 == 59 {
				if _, err := s.Client.Compact(t.Context(), revision, clientv3.WithCompactPhysical()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i := range 40 {
		do(put(fmt.Sprintf("large/%02d", i), strings.Repeat("x", 1<<20)))
	}
	do(put("compact_rev_key", "7"), put("\x00", "first of all"), put("\xff\xff\x00/", "last of all"), put("empty", ""))
	return want
}

// collect keeps what it is called with, in order.
func collect(into *[]etcd.KeyValue) func(etcd.KeyValue) error {
	return func(kv etcd.KeyValue) error {
		*into = append(*into, kv)
		return nil
	}
}

// same reports where two readings differ, field by field.
func same(t *testing.T, got, want []etcd.KeyValue) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if len(got[i].Value) == 0 && len(want[i].Value) == 0 {
			got[i].Value, want[i].Value = nil, nil
		}
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("key %d: %.200v, want %.200v", i, got[i], want[i])
		}
	}
}

// TestKeys reads what an etcd holds in both ways, before and after it was restored.
func TestKeys(t *testing.T) {
	w := worker(t, "work")
	s := serve(t, t.TempDir(), nil)
	want := s.history(t, 1)

	var live []etcd.KeyValue
	revision, err := etcd.LiveKeys(t.Context(), s.Endpoint, collect(&live))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for i, kv := range live {
		seen[string(kv.Key)] = string(kv.Value)
		if i > 0 && bytes.Compare(live[i-1].Key, kv.Key) >= 0 {
			t.Errorf("key %q comes after %q", kv.Key, live[i-1].Key)
		}
	}
	if !reflect.DeepEqual(seen, want) || len(live) != len(want) {
		t.Errorf("%d keys, %d names; want %d", len(live), len(seen), len(want))
	}

	path := filepath.Join(vault(t), "snap.db")
	info, err := etcd.Save(t.Context(), s.Endpoint, path, etcd.VerifyWith(w))
	if err != nil {
		t.Fatal(err)
	}
	var kept []etcd.KeyValue
	of, err := etcd.SnapshotKeys(t.Context(), w, path, collect(&kept))
	if err != nil || of != revision || of != info.Revision || int64(len(kept)) != info.Keys {
		t.Errorf("snapshot: revision %d, %d keys, %v; live %d; verified %+v", of, len(kept), err, revision, info)
	}
	same(t, kept, live)
	s.Stop()

	dir, peer := filepath.Join(t.TempDir(), "restored"), peerURL(t)
	if err := etcd.Restore(t.Context(), w, restoreOptions(path, dir, peer)); err != nil {
		t.Fatal(err)
	}
	restored := serve(t, dir, func(c *embed.Config) {
		c.AdvertisePeerUrls = []url.URL{*peer}
		c.InitialCluster, c.InitialClusterToken = c.InitialClusterFromName(c.Name), "after-the-fire"
	})
	var after, again []etcd.KeyValue
	revision, err = etcd.LiveKeys(t.Context(), restored.Endpoint, collect(&after))
	if err != nil || revision != info.Revision+bump {
		t.Errorf("after the restore: revision %d, %v", revision, err)
	}
	same(t, after, live)
	// Such a snapshot has a record without a key, at the revision that was jumped to.
	second := filepath.Join(vault(t), "second.db")
	if _, err := etcd.Save(t.Context(), restored.Endpoint, second); err != nil {
		t.Fatal(err)
	}
	if of, err := etcd.SnapshotKeys(t.Context(), w, second, collect(&again)); err != nil || of != revision {
		t.Errorf("snapshot of the restored: revision %d, %v; want %d", of, err, revision)
	}
	same(t, again, live)
}

func TestKeysOfAnEmptyEtcd(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	none := func(kv etcd.KeyValue) error { return fmt.Errorf("there is %q", kv.Key) }
	if revision, err := etcd.LiveKeys(t.Context(), s.Endpoint, none); revision != 1 || err != nil {
		t.Errorf("live: %d, %v", revision, err)
	}
	path := filepath.Join(vault(t), "snap.db")
	if _, err := etcd.Save(t.Context(), s.Endpoint, path); err != nil {
		t.Fatal(err)
	}
	if revision, err := etcd.SnapshotKeys(t.Context(), worker(t, "work"), path, none); revision != 1 || err != nil {
		t.Errorf("snapshot: %d, %v", revision, err)
	}
}

// TestSnapshotKeysAfterTheLastRecordWasCompacted: a compaction takes deleted keys out of the history, and may leave nothing at the last revision.
func TestSnapshotKeysAfterTheLastRecordWasCompacted(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	s.put(t, 3)
	gone, err := s.Client.Delete(t.Context(), "/registry/things/002")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client.Compact(t.Context(), gone.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(vault(t), "snap.db")
	if _, err := etcd.Save(t.Context(), s.Endpoint, path); err != nil {
		t.Fatal(err)
	}
	var kept []etcd.KeyValue
	if revision, err := etcd.SnapshotKeys(t.Context(), worker(t, "work"), path, collect(&kept)); err != nil || revision != gone.Header.Revision || len(kept) != 2 {
		t.Errorf("revision %d, %d keys, %v; want %d, 2", revision, len(kept), err, gone.Header.Revision)
	}
}

// TestLiveKeysAreOfOneRevision changes everything while it is being read.
func TestLiveKeysAreOfOneRevision(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	const keys = 1200
	for i := range keys {
		if _, err := s.Client.Put(t.Context(), fmt.Sprintf("%04d", i), "before"); err != nil {
			t.Fatal(err)
		}
	}
	st, err := etcd.StatusOf(t.Context(), s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	revision, err := etcd.LiveKeys(t.Context(), s.Endpoint, func(kv etcd.KeyValue) error {
		if want := fmt.Sprintf("%04d", n); string(kv.Key) != want || string(kv.Value) != "before" {
			t.Errorf("%q is %q; want %q before the changes", kv.Key, kv.Value, want)
		}
		if n++; n > 1 {
			return nil
		}
		if _, err := s.Client.Put(t.Context(), "0500x", "new"); err != nil {
			return err
		}
		if _, err := s.Client.Put(t.Context(), "0700", "changed"); err != nil {
			return err
		}
		_, err := s.Client.Delete(t.Context(), "08", clientv3.WithPrefix())
		return err
	})
	if err != nil || revision != st.Revision || n != keys {
		t.Errorf("revision %d, %d keys, %v; want %d, %d", revision, n, err, st.Revision, keys)
	}
}

func TestLiveKeysCompactedMeanwhile(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	for i := range 1200 {
		if _, err := s.Client.Put(t.Context(), fmt.Sprint(i), ""); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	_, err := etcd.LiveKeys(t.Context(), s.Endpoint, func(etcd.KeyValue) error {
		if n++; n > 1 {
			return nil
		}
		later, err := s.Client.Put(t.Context(), "later", "")
		if err != nil {
			return err
		}
		_, err = s.Client.Compact(t.Context(), later.Header.Revision)
		return err
	})
	if !errors.Is(err, etcd.ErrCompacted) {
		t.Errorf("%v after %d keys, want ErrCompacted", err, n)
	}
}

// TestKeysEnd: reading ends when the caller has had enough, and when its context ends.
func TestKeysEnd(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	s.history(t, 2)
	path := filepath.Join(vault(t), "snap.db")
	if _, err := etcd.Save(t.Context(), s.Endpoint, path); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	for name, read := range map[string]func(context.Context, func(etcd.KeyValue) error) (int64, error){
		"live": func(ctx context.Context, each func(etcd.KeyValue) error) (int64, error) {
			return etcd.LiveKeys(ctx, s.Endpoint, each)
		},
		"snapshot": func(ctx context.Context, each func(etcd.KeyValue) error) (int64, error) {
			return etcd.SnapshotKeys(ctx, worker(t, "work"), path, each)
		},
	} {
		n := 0
		if _, err := read(t.Context(), func(etcd.KeyValue) error { n++; return enough }); err != enough || n != 1 {
			t.Errorf("%s: %v after %d keys", name, err, n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err := read(ctx, func(etcd.KeyValue) error { cancel(); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
		if _, err := read(ctx, func(etcd.KeyValue) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, begun too late: %v", name, err)
		}
	}
	if _, err := etcd.LiveKeys(t.Context(), etcd.Endpoint{URL: "http://127.0.0.1:1"}, func(etcd.KeyValue) error { return nil }); err == nil {
		t.Error("nobody answers, and no error")
	}
}

// TestSnapshotKeysOfBadFiles: whatever the file is, this process lives on and knows what is wrong with it.
func TestSnapshotKeysOfBadFiles(t *testing.T) {
	w, snap := worker(t, "work"), savedSnapshot(t, 300)
	whole, err := os.ReadFile(snap)
	if err != nil {
		t.Fatal(err)
	}
	page, body := os.Getpagesize(), whole[:len(whole)-sha256.Size]
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	over := func(from, to int, by byte) []byte {
		return sealed(append(append(bytes.Clone(body[:from]), bytes.Repeat([]byte{by}, to-from)...), body[to:]...))
	}
	for _, c := range []struct {
		name    string
		content []byte
		want    error
	}{
		{"empty", nil, etcd.ErrEmpty},
		{"text", []byte(strings.Repeat("apiVersion: v1\n", 2000)), etcd.ErrNotSnapshot},
		{"first page only", whole[:page], etcd.ErrTruncated},
		{"half", whole[:len(whole)/2], etcd.ErrTruncated},
		{"half, sealed again", sealed(whole[:len(whole)/2/page*page]), etcd.ErrTruncated},
		{"one byte less", whole[:len(whole)-1], etcd.ErrTruncated},
		{"no trailer", body, etcd.ErrNoTrailer},
		{"flipped bit", flipped, etcd.ErrTrailerMismatch},
		{"zeroed half, sealed again", over(2*page, len(body)/2, 0), etcd.ErrDamaged},
		{"rubbish pages, sealed again", over(2*page, len(body), 0xff), etcd.ErrDamaged},
		{"zeroed header, sealed again", over(0, 2*page, 0), etcd.ErrNotSnapshot},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "snap.db")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := etcd.SnapshotKeys(t.Context(), w, path, func(etcd.KeyValue) error { return nil })
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), path) {
				t.Errorf("%v, want %v with the path", err, c.want)
			}
		})
	}
	// One bit in every part of every kind of page, under a right trailer: an error or not, but no crash and no end.
	for i := 0; i < len(body); i += len(body)/17 + 5 {
		b := bytes.Clone(body)
		b[i] ^= 0x41
		path := filepath.Join(t.TempDir(), "snap.db")
		if err := os.WriteFile(path, sealed(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := etcd.SnapshotKeys(t.Context(), w, path, func(etcd.KeyValue) error { return nil }); errors.Is(err, etcd.ErrWorker) {
			t.Errorf("flipped bits at %d: %v", i, err)
		}
	}
	if _, err := etcd.SnapshotKeys(t.Context(), w, filepath.Join(t.TempDir(), "gone"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestBadWorkersOfKeys has children that don't send what they should.
func TestBadWorkersOfKeys(t *testing.T) {
	snap := savedSnapshot(t, 1)
	none := func(kv etcd.KeyValue) error { return fmt.Errorf("there is %q", kv.Key) }
	for name, w := range map[string]etcd.Worker{
		"none":      {},
		"not there": {Command: []string{filepath.Join(t.TempDir(), "gone")}},
		"silent":    worker(t, "silent"),
		"killed":    worker(t, "killed"),
		"usage":     worker(t, "usage"),
		"text":      {Command: []string{"echo", "unknown command: what is printed here is longer than the length that its first letter stands for, which is one hundred and seventeen"}},
		"no end":    {Command: []string{"yes"}},
		"zero":      {Command: []string{"head", "-c", "1000000", "/dev/zero"}},
	} {
		if _, err := etcd.SnapshotKeys(t.Context(), w, snap, none); !errors.Is(err, etcd.ErrWorker) {
			t.Errorf("%s: %v, want ErrWorker", name, err)
		}
	}
	_, err := etcd.SnapshotKeys(t.Context(), worker(t, "panic"), snap, none)
	if !errors.Is(err, etcd.ErrDamaged) || !strings.Contains(err.Error(), "page 7") {
		t.Errorf("panic: %v, want ErrDamaged and the reason", err)
	}
	witness := fifo(t)
	t.Setenv(witnessEnv, witness)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { _, err := etcd.SnapshotKeys(ctx, worker(t, "family"), os.DevNull, none); asked <- err }()
	_, gone := read(t, witness)
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	gone()
}
