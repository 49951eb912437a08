package etcd_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	"github.com/etcd-drill/drill/pkg/etcd"
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
