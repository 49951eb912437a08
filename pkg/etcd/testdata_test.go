package etcd_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
)

// realSnapshots are those of real servers; README.md says what is in them.
const realSnapshots = "../../testdata"

// Snapshots that were written by the servers of four versions of etcd are sound, hold what is written down about them, and are served by the etcd that is built into this program.
func TestSnapshotsOfRealServers(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(realSnapshots, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{"3.4": "", "3.5": "", "3.6": "3.6.0", "3.7": "3.7.0"} // before 3.6 it isn't in the file
	for version, inFile := range versions {
		t.Run(version, func(t *testing.T) {
			path := filepath.Join(realSnapshots, "kubeadm-v1.37-etcd-"+version+".db")
			info, err := etcd.Verify(t.Context(), etcdtest.Worker(t), path)
			if err != nil {
				t.Fatal(err)
			}
			row := fmt.Sprintf("| %d | %d | %s |", info.Revision, info.Keys, info.SHA256)
			if line := lineWith(string(readme), filepath.Base(path)); !strings.HasSuffix(line, row) || !strings.Contains(line, "etcd "+version+".") {
				t.Errorf("it has %s, and README.md says %s", row, line)
			}
			if info.EtcdVersion != inFile {
				t.Errorf("etcd version %q, want %q", info.EtcdVersion, inFile)
			}
			written := map[string]string{}
			if _, err := etcd.SnapshotKeys(t.Context(), etcdtest.Worker(t), path, func(kv etcd.KeyValue) error { written[string(kv.Key)] = string(kv.Value); return nil }); err != nil {
				t.Fatal(err)
			}
			data := filepath.Join(t.TempDir(), "data")
			if err := etcd.Restore(t.Context(), etcdtest.Worker(t), etcd.RestoreOptions{Snapshot: path, DataDir: data, Name: "member-a", PeerURLs: []string{etcdtest.Free(t)[0].String()}}); err != nil {
				t.Fatal(err)
			}
			served := map[string]string{}
			revision, err := etcd.LiveKeys(t.Context(), etcdtest.Serve(t, data, nil).Endpoint, func(kv etcd.KeyValue) error { served[string(kv.Key)] = string(kv.Value); return nil })
			if err != nil || revision != info.Revision || int64(len(served)) != info.Keys || !maps.Equal(served, written) {
				t.Errorf("%v; served are %d keys at revision %d, of %d at %d", err, len(served), revision, info.Keys, info.Revision)
			}
		})
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimRight(line, "\n")
		}
	}
	return ""
}
