package etcd_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// through is a proxy in front of a server that lets limit bytes of what the server says pass, and then either cuts the
// connection or says nothing more.
func through(t *testing.T, s *server, limit int64, cut bool) etcd.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", s.Clients[0].Addr().String())
			if err != nil {
				_ = client.Close()
				return
			}
			t.Cleanup(func() { _, _ = client.Close(), upstream.Close() })
			go func() { _, _ = io.Copy(upstream, client) }()
			go func() {
				_, _ = io.CopyN(client, upstream, limit)
				if cut {
					_, _ = client.Close(), upstream.Close()
				}
			}()
		}
	}()
	return etcd.Endpoint{URL: "http://" + l.Addr().String()}
}

func TestSaveBrokenOff(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	for i := range 8 {
		if _, err := s.Client.Put(t.Context(), fmt.Sprint(i), strings.Repeat("x", 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	for _, cut := range []bool{true, false} {
		t.Run(fmt.Sprintf("cut=%t", cut), func(t *testing.T) {
			dir := vault(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := etcd.Save(ctx, through(t, s, 2<<20, cut), filepath.Join(dir, "snap.db"))
			if err == nil || !strings.Contains(err.Error(), "broke off after") {
				t.Errorf("Save = %v", err)
			}
			if !cut && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Save = %v, want context.DeadlineExceeded", err)
			}
			onlyHas(t, dir)
		})
	}
}

// silent accepts connections on a loopback port and never answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

const bump = 1_000_000_000

func restoreOptions(snap, dir string, peer *url.URL) etcd.RestoreOptions {
	return etcd.RestoreOptions{
		Snapshot: snap, DataDir: dir, Name: "member-a", PeerURLs: []string{peer.String()},
		Token: "after-the-fire", BumpRevision: bump, MarkCompacted: true,
	}
}

func TestRoundTrip(t *testing.T) {
	w := worker(t, "work")
	s := serve(t, t.TempDir(), nil)
	live := s.put(t, 50)
	path := filepath.Join(vault(t), "snap.db")
	before := time.Now()
	saved, err := etcd.Save(t.Context(), s.Endpoint, path, etcd.VerifyWith(w))
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := etcd.StatusOf(t.Context(), s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	if saved.Path != path || saved.SHA256 != hex.EncodeToString(sum[:]) || saved.Bytes != int64(len(content)) ||
		saved.Revision != st.Revision || saved.Keys != live || saved.EtcdVersion != st.StorageVersion {
		t.Errorf("Save = %+v; the server says %+v", saved, st)
	}
	if saved.TakenAt.Before(before.Round(0)) || saved.TakenAt.After(time.Now()) {
		t.Errorf("taken at %v", saved.TakenAt)
	}
	seen, err := etcd.Verify(t.Context(), w, path)
	if err != nil {
		t.Fatal(err)
	}
	if !seen.TakenAt.Equal(saved.TakenAt) {
		t.Errorf("Verify says taken at %v, Save %v", seen.TakenAt, saved.TakenAt)
	}
	seen.TakenAt = saved.TakenAt
	if seen != saved {
		t.Errorf("Verify = %+v, Save = %+v", seen, saved)
	}
	agreesWithEtcdutl(t, path, seen.Revision, seen.Keys, seen.EtcdVersion)
	onlyHas(t, filepath.Dir(path), "snap.db")
	modesAre(t, filepath.Dir(path))

	// What is written after the snapshot is lost by going back to it.
	lost, err := s.Client.Put(t.Context(), "/registry/late", "x")
	if err != nil {
		t.Fatal(err)
	}
	idBefore := st.ClusterID
	s.Stop()

	dir := filepath.Join(t.TempDir(), "etcd-restored")
	peer := peerURL(t)
	if err := etcd.Restore(t.Context(), w, restoreOptions(path, dir, peer)); err != nil {
		t.Fatal(err)
	}
	onlyHas(t, filepath.Dir(dir), "etcd-restored")
	modesAre(t, dir)

	r := serve(t, dir, func(c *embed.Config) {
		c.AdvertisePeerUrls = []url.URL{*peer}
		c.InitialCluster, c.InitialClusterToken = c.InitialClusterFromName(c.Name), "after-the-fire"
	})
	if err := etcd.Health(t.Context(), r.Endpoint); err != nil {
		t.Fatal(err)
	}
	members, err := etcd.Members(t.Context(), r.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	if len(members) != 1 || members[0].Name != "member-a" || !slices.Equal(members[0].PeerURLs, []string{peer.String()}) {
		t.Errorf("members = %+v", members)
	}
	after, err := etcd.StatusOf(t.Context(), r.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	if after.Revision != saved.Revision+bump || after.Revision <= lost.Header.Revision {
		t.Errorf("revision %d after the restore; in the snapshot %d, lost %d", after.Revision, saved.Revision, lost.Header.Revision)
	}
	if after.ClusterID == idBefore {
		t.Error("a fresh token, but the same cluster ID")
	}
	all, err := r.Client.Get(t.Context(), "/registry/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if all.Count != live || string(all.Kvs[0].Value) != "value-000" {
		t.Errorf("%d keys, first %s; want %d", all.Count, all.Kvs[0], live)
	}
	// A client that held a revision from before must notice.
	old := <-r.Client.Watch(t.Context(), "/registry/", clientv3.WithPrefix(), clientv3.WithRev(lost.Header.Revision))
	if !errors.Is(old.Err(), rpctypes.ErrCompacted) || old.CompactRevision != after.Revision {
		t.Errorf("a watch from before the restore got %v, compacted at %d; want ErrCompacted at %d", old.Err(), old.CompactRevision, after.Revision)
	}
	if _, err := r.Client.Get(t.Context(), "/registry/things/000", clientv3.WithRev(lost.Header.Revision)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a read from before the restore got %v; want ErrCompacted", err)
	}

	// A restored cluster can be saved and restored in its turn.
	if _, err := r.Client.Put(t.Context(), "/registry/new", "y"); err != nil {
		t.Fatal(err)
	}
	second, err := etcd.Save(t.Context(), r.Endpoint, filepath.Join(vault(t), "second.db"), etcd.VerifyWith(w))
	if err != nil {
		t.Fatal(err)
	}
	if second.Revision != after.Revision+1 || second.Keys != live+1 {
		t.Errorf("the second snapshot: %+v", second)
	}
	dir2 := filepath.Join(t.TempDir(), "twice")
	if err := etcd.Restore(t.Context(), w, restoreOptions(second.Path, dir2, peer)); err != nil {
		t.Error(err)
	}
}

// agreesWithEtcdutl compares with what `etcdutl snapshot status` says.
func agreesWithEtcdutl(t *testing.T, path string, revision, keys int64, version string) {
	t.Helper()
	st, err := snapshot.NewV3(zap.NewNop()).Status(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Revision != revision || int64(st.TotalKey) != keys || st.Version != version {
		t.Errorf("Verify: revision %d, %d keys, version %s; etcdutl: %+v", revision, keys, version, st)
	}
}

// TestRestoreEqualsEtcdutl compares with what etcdutl makes of the same snapshot by
// --bump-revision 1000000000 --mark-compacted, and without.
func TestRestoreEqualsEtcdutl(t *testing.T) {
	w, snap, peer := worker(t, "work"), savedSnapshot(t, 30), peerURL(t)
	for _, by := range []uint64{0, bump} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			o := restoreOptions(snap, filepath.Join(t.TempDir(), "ours"), peer)
			o.BumpRevision, o.MarkCompacted = by, by > 0
			if err := etcd.Restore(t.Context(), w, o); err != nil {
				t.Fatal(err)
			}
			theirs := filepath.Join(t.TempDir(), "theirs")
			err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
				SnapshotPath: snap, OutputDataDir: theirs, Name: o.Name, PeerURLs: o.PeerURLs,
				InitialCluster: o.Name + "=" + peer.String(), InitialClusterToken: o.Token,
				RevisionBump: by, MarkCompacted: by > 0,
			})
			if err != nil {
				t.Fatal(err)
			}
			a, b := dump(t, filepath.Join(o.DataDir, "member/snap/db")), dump(t, filepath.Join(theirs, "member/snap/db"))
			if !slices.Equal(a, b) {
				t.Errorf("the databases differ: %d and %d entries", len(a), len(b))
			}
		})
	}
}

// dump lists everything in a database.
func dump(t *testing.T, path string) []string {
	t.Helper()
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var out []string
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				out = append(out, fmt.Sprintf("%s %x %x", name, k, v))
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func onlyHas(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		t.Errorf("%s has %q, want %q", dir, got, names)
	}
}

func modesAre(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", path, st.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSaveRefuses(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	t.Run("existing file", func(t *testing.T) {
		dir := vault(t)
		path := filepath.Join(dir, "snap.db")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := etcd.Save(t.Context(), s.Endpoint, path); !errors.Is(err, etcd.ErrTargetExists) {
			t.Errorf("Save = %v", err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
			t.Errorf("the file now holds %q, %v", b, err)
		}
		onlyHas(t, dir, "snap.db")
	})
	t.Run("dangling link", func(t *testing.T) {
		dir := vault(t)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "snap.db")
		if err := os.Symlink("/nowhere", path); err != nil {
			t.Fatal(err)
		}
		if _, err := etcd.Save(t.Context(), s.Endpoint, path); !errors.Is(err, etcd.ErrTargetExists) {
			t.Errorf("Save = %v", err)
		}
	})
	t.Run("open folder", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := etcd.Save(t.Context(), s.Endpoint, filepath.Join(dir, "snap.db")); !errors.Is(err, etcd.ErrFolderOpen) {
			t.Errorf("Save = %v", err)
		}
		onlyHas(t, dir)
	})
	t.Run("no name", func(t *testing.T) {
		if _, err := etcd.Save(t.Context(), s.Endpoint, ""); err == nil {
			t.Error("no error")
		}
	})
}

func TestSaveCancelledLeavesNothing(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	dir := vault(t)
	for name, w := range map[string]etcd.Worker{"before it began": {}, "while verifying": worker(t, "hang")} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			want := context.DeadlineExceeded
			if w.Command == nil {
				cancel()
				want = context.Canceled
			}
			if _, err := etcd.Save(ctx, s.Endpoint, filepath.Join(dir, "snap.db"), etcd.VerifyWith(w)); !errors.Is(err, want) {
				t.Errorf("Save = %v, want %v", err, want)
			}
			onlyHas(t, dir)
		})
	}
}

func TestRestoreRefusesAndLeavesNothing(t *testing.T) {
	w, snap, peer := worker(t, "work"), savedSnapshot(t, 5), peerURL(t)
	good := func(dir string) etcd.RestoreOptions { return restoreOptions(snap, dir, peer) }

	t.Run("occupied", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := etcd.Restore(t.Context(), w, good(dir)); !errors.Is(err, etcd.ErrTargetExists) {
			t.Errorf("Restore = %v", err)
		}
		onlyHas(t, dir, "precious")
	})
	t.Run("file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := etcd.Restore(t.Context(), w, good(file)); !errors.Is(err, etcd.ErrTargetExists) {
			t.Errorf("Restore = %v", err)
		}
	})
	t.Run("empty directory is fine", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "new")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := etcd.Restore(t.Context(), w, good(dir)); err != nil {
			t.Error(err)
		}
		modesAre(t, dir)
	})
	t.Run("deadline", func(t *testing.T) {
		parent := t.TempDir()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := etcd.Restore(ctx, worker(t, "hang"), good(filepath.Join(parent, "new"))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Restore = %v", err)
		}
		onlyHas(t, parent)
	})
	for name, tune := range map[string]func(*etcd.RestoreOptions){
		"no snapshot":          func(o *etcd.RestoreOptions) { o.Snapshot = "" },
		"no data dir":          func(o *etcd.RestoreOptions) { o.DataDir = "" },
		"no name":              func(o *etcd.RestoreOptions) { o.Name = "" },
		"no peer URL":          func(o *etcd.RestoreOptions) { o.PeerURLs = nil },
		"bad peer URL":         func(o *etcd.RestoreOptions) { o.PeerURLs = []string{"127.0.0.1:2380"} },
		"bump alone":           func(o *etcd.RestoreOptions) { o.MarkCompacted = false },
		"compacted alone":      func(o *etcd.RestoreOptions) { o.BumpRevision = 0 },
		"bad cluster":          func(o *etcd.RestoreOptions) { o.InitialCluster = "x" },
		"not in the cluster":   func(o *etcd.RestoreOptions) { o.InitialCluster = "other=" + peer.String() },
		"other peer URL there": func(o *etcd.RestoreOptions) { o.InitialCluster = "member-a=http://127.0.0.1:1" },
		"missing snapshot":     func(o *etcd.RestoreOptions) { o.Snapshot += ".gone" },
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			o := good(filepath.Join(parent, "new"))
			tune(&o)
			if err := etcd.Restore(t.Context(), w, o); err == nil {
				t.Error("no error")
			} else if name == "missing snapshot" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Restore = %v, want fs.ErrNotExist", err)
			}
			onlyHas(t, parent)
		})
	}
}

// sealed appends the trailer that content would have.
func sealed(content []byte) []byte {
	sum := sha256.Sum256(content)
	return append(slices.Clone(content), sum[:]...)
}

func TestBadFiles(t *testing.T) {
	w, snap, peer := worker(t, "work"), savedSnapshot(t, 300), peerURL(t)
	whole, err := os.ReadFile(snap)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	body := whole[:len(whole)-sha256.Size]
	changed := func(from, to int, by byte) []byte {
		b := slices.Clone(body)
		for i := from; i < to; i++ {
			b[i] = by
		}
		return b
	}
	flipped := slices.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	flippedTrailer := slices.Clone(whole)
	flippedTrailer[len(flippedTrailer)-1] ^= 0x80
	otherDB := func(bucket, key string) []byte {
		p := filepath.Join(t.TempDir(), "other.db")
		db, err := bolt.Open(p, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			if _, err := tx.CreateBucket([]byte("meta")); err != nil {
				return err
			}
			b, err := tx.CreateBucket([]byte(bucket))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), []byte("value"))
		})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := db.View(func(tx *bolt.Tx) error { _, err := tx.WriteTo(&out); return err }); err != nil {
			t.Fatal(err)
		}
		return sealed(out.Bytes())
	}
	// In a row of well-formed revisions, two that are written the same but for the tombstone mark.
	rev := "\x00\x00\x00\x00\x00\x00\x00\x07_\x00\x00\x00\x00\x00\x00\x00\x00"

	cases := []struct {
		name    string
		content []byte
		want    error
	}{
		{"empty", nil, etcd.ErrEmpty},
		{"one byte", []byte("x"), etcd.ErrNotSnapshot},
		{"text", []byte(strings.Repeat("apiVersion: v1\n", 2000)), etcd.ErrNotSnapshot},
		{"text of one page and a trailer's length", bytes.Repeat([]byte("x"), page+sha256.Size), etcd.ErrNotSnapshot},
		{"zeros", make([]byte, len(whole)), etcd.ErrNotSnapshot},
		{"made by gzip", []byte("\x1f\x8b\x08\x00 and so on"), etcd.ErrCompressed},
		{"made by zstd", []byte("\x28\xb5\x2f\xfd and so on"), etcd.ErrCompressed},
		{"made by tar", append(bytes.Repeat([]byte("n"), 257), "ustar\x0000 and so on"...), etcd.ErrCompressed},
		{"first page only", whole[:page], etcd.ErrTruncated},
		{"half", whole[:len(whole)/2], etcd.ErrTruncated},
		{"half, on a page boundary", whole[:len(whole)/2/page*page], etcd.ErrTruncated},
		{"half, with the length of a sealed file", whole[:len(whole)/2/page*page+sha256.Size], etcd.ErrTruncated},
		{"half, sealed again", sealed(whole[:len(whole)/2/page*page]), etcd.ErrTruncated},
		{"one byte less", whole[:len(whole)-1], etcd.ErrTruncated},
		{"no trailer", body, etcd.ErrNoTrailer},
		{"one byte more", append(slices.Clone(whole), 'x'), etcd.ErrTrailerMismatch},
		{"padded to whole pages", append(slices.Clone(whole), make([]byte, page-sha256.Size)...), etcd.ErrTrailerMismatch},
		{"flipped bit", flipped, etcd.ErrTrailerMismatch},
		{"flipped bit in the trailer", flippedTrailer, etcd.ErrTrailerMismatch},
		{"zeroed tail", append(changed(len(body)/2, len(body), 0), whole[len(body):]...), etcd.ErrTrailerMismatch},
		{"zeroed page, sealed again", sealed(changed(len(body)-2*page, len(body)-page, 0)), etcd.ErrDamaged},
		{"zeroed half, sealed again", sealed(changed(2*page, len(body)/2, 0)), etcd.ErrDamaged},
		{"rubbish pages, sealed again", sealed(changed(2*page, len(body), 0xff)), etcd.ErrDamaged},
		{"zeroed header, sealed again", sealed(changed(0, 2*page, 0)), etcd.ErrNotSnapshot},
		{"another program's database", otherDB("things", "a"), etcd.ErrNotSnapshot},
		{"a key that is no revision", otherDB("key", "a"), etcd.ErrDamaged},
		{"a value that is no key-value pair", otherDB("key", rev), etcd.ErrDamaged},
	}
	// One bit in every part of every kind of page. Whatever comes of it, the child has an answer: some bits are of no account, in a value for example.
	for i := 0; i < len(body); i += len(body)/23 + 7 {
		b := slices.Clone(body)
		b[i] ^= 0x41
		cases = append(cases, struct {
			name    string
			content []byte
			want    error
		}{fmt.Sprintf("flipped bits at %d, sealed again", i), sealed(b), nil})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "snap.db")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := etcd.Verify(t.Context(), w, path)
			if c.want == nil {
				if condition, known := etcd.ConditionOf(err); !known || condition != etcd.ConditionSound && condition != etcd.ConditionDamaged && condition != etcd.ConditionNotSnapshot && condition != etcd.ConditionTruncated {
					t.Errorf("Verify = %v", err)
				}
				if err != nil && strings.Contains(err.Error(), "made verify die") {
					t.Errorf("the child died: %v", err)
				}
				return
			}
			if !errors.Is(err, c.want) {
				t.Errorf("Verify = %v, want %v", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), path) {
				t.Errorf("Verify = %v, want the path named", err)
			}
			if errors.Is(c.want, etcd.ErrDamaged) || c.name == "another program's database" {
				// Its trailer is right, so only Verify finds it out.
				return
			}
			parent := t.TempDir()
			if err := etcd.Restore(t.Context(), w, restoreOptions(path, filepath.Join(parent, "new"), peer)); !errors.Is(err, c.want) {
				t.Errorf("Restore = %v, want %v", err, c.want)
			}
			onlyHas(t, parent)
		})
	}
}

func TestVerifyOfWhatIsNoFile(t *testing.T) {
	w := worker(t, "work")
	if _, err := etcd.Verify(t.Context(), w, filepath.Join(t.TempDir(), "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := etcd.Verify(t.Context(), w, t.TempDir()); !errors.Is(err, etcd.ErrNotSnapshot) {
		t.Errorf("a folder: %v", err)
	}
	s := serve(t, t.TempDir(), nil)
	if _, err := etcd.Verify(t.Context(), w, filepath.Join(s.Config().Dir, "member/snap/db")); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("the database of a running server: %v", err)
	}
}

func TestBadWorkers(t *testing.T) {
	snap := savedSnapshot(t, 1)
	for name, w := range map[string]etcd.Worker{
		"none":      {},
		"not there": {Command: []string{filepath.Join(t.TempDir(), "gone")}},
		"silent":    worker(t, "silent"),
		"killed":    worker(t, "killed"),
		"usage":     worker(t, "usage"),
	} {
		if _, err := etcd.Verify(t.Context(), w, snap); !errors.Is(err, etcd.ErrWorker) {
			t.Errorf("%s: %v, want ErrWorker", name, err)
		}
	}
	_, err := etcd.Verify(t.Context(), worker(t, "panic"), snap)
	if !errors.Is(err, etcd.ErrDamaged) || !strings.Contains(err.Error(), "page 7") {
		t.Errorf("panic: %v, want ErrDamaged and the reason", err)
	}
	if err := etcd.WorkerMain(t.Context(), strings.NewReader("hello"), &bytes.Buffer{}); err == nil {
		t.Error("WorkerMain with no request: no error")
	}
	stdin, ask := io.Pipe()
	defer func() { _ = ask.Close() }() // an asker who waits for the answer
	go func() { _, _ = io.WriteString(ask, `{"op":"dance"}`) }()
	var out bytes.Buffer
	if err := etcd.WorkerMain(t.Context(), stdin, &out); err != nil || !strings.Contains(out.String(), "dance") {
		t.Errorf("WorkerMain with an unknown request: %v, %s", err, out.String())
	}
}

// What a save has left that was killed is found by its name, its mode and its age, in folders of whatever name.
func TestUnfinished(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a [folder]*")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, mode := range map[string]os.FileMode{".a.db.123.part": 0o600, ".young.db.123.part": 0o600, ".others.db.1.part": 0o644, "a.db": 0o600, ".b.part.txt": 0o600} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		if name != ".young.db.123.part" {
			if err := os.Chtimes(path, now, now.Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, want := etcd.Unfinished(dir, now.Add(-time.Minute)), []string{filepath.Join(dir, ".a.db.123.part")}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
