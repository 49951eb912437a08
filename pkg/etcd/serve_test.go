package etcd_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
)

// TestContents: a server tells of every key what the snapshot holds, wherever its reading is split.
func TestContents(t *testing.T) {
	w, snap, peer := worker(t, "work"), savedSnapshot(t, 50), peerURL(t)
	prints := etcd.NewFingerprints()
	want := map[etcd.Fingerprint]etcd.Fingerprint{}
	var keys []string
	at, err := etcd.SnapshotKeys(t.Context(), w, snap, func(kv etcd.KeyValue) error {
		keys = append(keys, string(kv.Key))
		want[prints.Key(kv)] = prints.Content(kv)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	o := restoreOptions(snap, dir, peer)
	if err := etcd.Restore(t.Context(), w, o); err != nil {
		t.Fatal(err)
	}
	for _, split := range []string{"", "\x00", keys[0], keys[len(keys)/2], keys[len(keys)/2] + "\x00", keys[len(keys)-1], "\xff"} {
		t.Run(fmt.Sprintf("%q", split), func(t *testing.T) {
			server, err := etcd.Serve(t.Context(), w, etcd.ServeOptions{DataDir: dir, Name: o.Name, PeerURL: o.PeerURLs[0], Quota: 1 << 30, Prints: prints, Split: split})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Stop()
			got, err := server.Contents(t.Context())
			if err != nil || got.Revision != at+bump || !maps.Equal(got.Prints, want) {
				t.Errorf("%d keys at revision %d, %v; want %d at %d", len(got.Prints), got.Revision, err, len(want), at+bump)
			}
		})
	}
}

// TestRestoredRevision: what ends with a lease is still read, as of the revision that the server started with.
func TestRestoredRevision(t *testing.T) {
	w, peer := worker(t, "work"), peerURL(t)
	origin := etcdtest.Serve(t, t.TempDir(), nil)
	lease, err := origin.Client.Grant(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := origin.Client.Put(t.Context(), "passing", "value", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	snap := filepath.Join(t.TempDir(), "leased.db")
	if _, err := etcd.Save(t.Context(), origin.Endpoint, snap, etcd.InAnyFolder()); err != nil {
		t.Fatal(err)
	}
	origin.Stop()
	o := restoreOptions(snap, filepath.Join(t.TempDir(), "restored"), peer)
	if err := etcd.Restore(t.Context(), w, o); err != nil {
		t.Fatal(err)
	}
	server, err := etcd.Serve(t.Context(), w, etcd.ServeOptions{DataDir: o.DataDir, Name: o.Name, PeerURL: o.PeerURLs[0], Quota: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	count := func(at int64) (n int) {
		t.Helper()
		if _, err := etcd.LiveKeysAtOnce(t.Context(), server.Endpoint, at, func(etcd.KeyValue) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for deadline := time.Now().Add(time.Minute); count(0) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the lease doesn't end")
		}
	}
	if n := count(server.Revision); n != 1 {
		t.Errorf("%d keys at revision %d, want 1", n, server.Revision)
	}
}
