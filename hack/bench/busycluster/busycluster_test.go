package busycluster_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/etcd-drill/drill/hack/bench/busycluster"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/dbwriter"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/inventory"
)

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(context.Background(), m)) }

const size = 8 << 20

// recorded writes what it is told to into another store, and keeps a checksum of it.
type recorded struct {
	busycluster.Store
	sum  []byte
	live map[string]string
}

func (r *recorded) note(what string, value []byte, n int64) {
	h := sha256.New()
	_, _ = h.Write(r.sum)
	_, _ = fmt.Fprintf(h, "%s %d ", what, n)
	_ = binary.Write(h, binary.BigEndian, int64(len(value)))
	_, _ = h.Write(value)
	r.sum = h.Sum(nil)
}

func (r *recorded) Put(key string, value []byte, lease int64) int64 {
	r.note("put "+key, value, lease)
	r.live[key] = string(value)
	return r.Store.Put(key, value, lease)
}

func (r *recorded) Delete(key string) int64 {
	r.note("delete "+key, nil, 0)
	delete(r.live, key)
	return r.Store.Delete(key)
}

func (r *recorded) Grant(id, seconds int64) {
	r.note("grant", nil, id)
	r.Store.Grant(id, seconds)
}

func (r *recorded) Compact(ctx context.Context, revision int64) error {
	r.note("compact", nil, revision)
	return r.Store.Compact(ctx, revision)
}

// fill makes a snapshot, and returns what was written into it.
func fill(t *testing.T, seed uint64) (path string, info dbwriter.Info, r *recorded) {
	t.Helper()
	dir := t.TempDir()
	w, err := dbwriter.New(filepath.Join(dir, "making"))
	if err != nil {
		t.Fatal(err)
	}
	r = &recorded{Store: w, live: map[string]string{}}
	path = filepath.Join(dir, "busy.db")
	err = busycluster.Fill(t.Context(), r, seed, size)
	if err == nil {
		info, err = w.Save(t.Context(), path)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return path, info, r
}

// The same seed gives the same calls, and another one others.
func TestRepeatable(t *testing.T) {
	_, first, a := fill(t, 7)
	_, second, b := fill(t, 7)
	if string(a.sum) != string(b.sum) || first.Revision != second.Revision || first.Keys != second.Keys {
		t.Errorf("%+v and %+v of the same seed differ", first, second)
	}
	if _, _, c := fill(t, 8); string(a.sum) == string(c.sum) {
		t.Error("two seeds give the same")
	}
}

// A snapshot that was made up is sound, Kubernetes can read every value in it, there is history in it, and a real etcd that starts on what is restored from it serves exactly what was written.
func TestRealServerServesIt(t *testing.T) {
	path, info, written := fill(t, 1)
	found, err := inventory.VerifyHere(t.Context(), path, false)
	if err != nil {
		t.Fatal(err)
	}
	s, f := found.Snapshot, found.Facts
	if s.SHA256 != info.SHA256 || s.Bytes != info.Bytes || s.Revision != info.Revision || s.Keys != info.Keys || s.Keys != int64(len(written.live)) || s.EtcdVersion == "" || s.ClusterVersion == "" {
		t.Errorf("written %+v with %d keys, found %+v", info, len(written.live), s)
	}
	if f.Records <= s.Keys || found.Values <= s.Keys {
		t.Errorf("%d records and %d values of %d keys: no history", f.Records, found.Values, s.Keys)
	}
	data := filepath.Join(t.TempDir(), "data")
	peers := etcdtest.Free(t)
	if err := etcd.Restore(t.Context(), etcdtest.Worker(t), etcd.RestoreOptions{Snapshot: path, DataDir: data, Name: "member-a", PeerURLs: []string{peers[0].String()}}); err != nil {
		t.Fatal(err)
	}
	server := etcdtest.Serve(t, data, nil)
	served := map[string]string{}
	leased := 0
	revision, err := etcd.LiveKeys(t.Context(), server.Endpoint, func(kv etcd.KeyValue) error {
		served[string(kv.Key)] = string(kv.Value)
		if kv.Lease != 0 {
			leased++
		}
		return nil
	})
	if err != nil || revision != info.Revision || !maps.Equal(served, written.live) {
		t.Errorf("%v; served are %d keys at revision %d, written %d at %d", err, len(served), revision, len(written.live), info.Revision)
	}
	leases, err := server.Client.Leases(t.Context())
	if err != nil || len(leases.Leases) == 0 || leased == 0 {
		t.Errorf("%v; %+v leases, %d keys with one", err, leases, leased)
	}
	if kinds := slices.Sorted(maps.Keys(served)); kinds[0] != "/registry/apiextensions.k8s.io/customresourcedefinitions/applications.argoproj.io" {
		t.Errorf("the first key is %s", kinds[0])
	}
}
