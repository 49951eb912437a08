package etcd_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/plan"
)

func TestCanRead(t *testing.T) {
	for _, c := range []struct {
		reader, storage, cluster string
		newer                    bool
	}{
		{"3.7.0", "3.7.0", "3.7.0", false},
		{"3.7.1", "3.7.9", "3.7.0", false}, // patches don't change how files are written
		{"3.7.0", "3.6.0", "3.6.0", false},
		{"3.5.21", "", "3.5.0", false},
		{"3.5.21", "", "", false}, // before 3.5 nothing is said
		{"3.7.0-alpha.0", "3.7.0", "3.7.0", false},
		{"3.6.4", "3.7.0", "3.6.0", true},
		{"3.6.4", "3.6.0", "3.7.0", true},
		{"3.5.21", "", "3.6.0", true},
		{"3.7.0", "4.0.0", "", true},
		{"3.7.0", "soon", "", true},
	} {
		err := etcd.CanRead(c.reader, plan.SnapshotInfo{EtcdVersion: c.storage, ClusterVersion: c.cluster})
		if errors.Is(err, etcd.ErrNewer) != c.newer || (err != nil) != c.newer {
			t.Errorf("etcd %s, storage version %q, cluster version %q: %v", c.reader, c.storage, c.cluster, err)
		}
	}
	if err := etcd.CanRead("who knows", plan.SnapshotInfo{}); err == nil || errors.Is(err, etcd.ErrNewer) {
		t.Errorf("no version: %v", err)
	}
}

// TestVersionsOfAFile: both are read from a real snapshot, and the code in drill can read what an etcd of its version writes.
func TestVersionsOfAFile(t *testing.T) {
	w, snap := worker(t, "work"), savedSnapshot(t, 3)
	info, err := etcd.Verify(t.Context(), w, snap)
	if err != nil {
		t.Fatal(err)
	}
	own := etcd.OwnVersion()
	if !strings.HasPrefix(own, strings.TrimSuffix(info.EtcdVersion, ".0")+".") || info.ClusterVersion != info.EtcdVersion {
		t.Errorf("storage version %s, cluster version %s, and etcd is %s", info.EtcdVersion, info.ClusterVersion, own)
	}
	if err := etcd.CanRead(own, info); err != nil {
		t.Error(err)
	}
	newer, err := etcd.Verify(t.Context(), w, etcdtest.Newer(t, snap))
	if err != nil || newer.EtcdVersion != "3.99.0" || newer.Keys != info.Keys {
		t.Errorf("%+v, %v", newer, err)
	}
	if err := etcd.CanRead(own, newer); !errors.Is(err, etcd.ErrNewer) {
		t.Error(err)
	}
}
