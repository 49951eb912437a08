package stage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
)

// downCluster is a cluster of one node that holds etcd's certificates and answers nothing else: its control plane is down.
type downCluster struct {
	kubeconfigOf
	node cluster.Node
}

func (c downCluster) Nodes() []cluster.Node { return []cluster.Node{c.node} }

type vault struct {
	brokenNode
	files map[string][]byte
}

func (v vault) ReadFile(_ context.Context, path string) ([]byte, error) {
	if b, ok := v.files[path]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func newDownCluster(t *testing.T) downCluster {
	t.Helper()
	crt, key, err := certutil.GenerateSelfSignedCertKey("127.0.0.1", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return downCluster{kubeconfigOf{&rest.Config{Host: "https://127.0.0.1:1"}}, vault{files: map[string][]byte{"/ca": crt, "/crt": crt, "/key": key}}}
}

// TestMemory: a stage that another process recalls knows all that later steps and checks need, though nothing of the cluster answers.
func TestMemory(t *testing.T) {
	c := newDownCluster(t)
	dir, now := t.TempDir(), time.Now().Round(0).UTC()
	o := Options{RunID: "a-run", Dir: dir, LateWrites: 3}
	member := controlplane.Member{Name: "n", Node: c.node, Etcd: controlplane.EtcdConfig{
		Name: "n", HostDataDir: "/var/lib/etcd", DataDir: "/var/lib/etcd", DataVolume: "etcd-data", AdvertiseClientURLs: []string{"https://127.0.0.1:1"},
		PeerURLs: []string{"https://127.0.0.1:2"}, CACert: "/ca", Cert: "/crt", Key: "/key", Flags: map[string]string{"name": "n"},
	}}
	s := &Stage{opt: o, vacated: true, service: serviceAddress{"127.0.0.1", 30000}, Info: plan.ClusterInfo{Provider: "none", Name: "probed", Nodes: 1, Kubernetes: "v1", Etcd: "3"}}
	s.cast([]controlplane.Member{member}, procedure.KubeletStop(), "nginx:1", dirOnNodes("a-run"))
	s.Subject.Workload.Objects = []proof.Object{{
		Resource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, Namespace: "default", Name: "nginx", UID: "u",
		Spec: map[string]any{"replicas": int64(2), "paused": false, "ratio": 0.5},
	}}
	s.Subject.Snapshot = &plan.SnapshotInfo{Path: "/snapshot.db", SHA256: "abc", Bytes: 7, Revision: 6, TakenAt: now}
	s.Subject.Revisions = &proof.Revisions{}
	s.Subject.Revisions.Note(now, 12)
	s.before.holders = map[string]string{"kube-scheduler": "n_1"}
	s.Subject.Before = proof.Before{
		AtBreak:  inventory.Inventory{Revision: 8, Objects: map[string]inventory.Object{"/registry/configmaps/default/a": {ModRevision: 7}}},
		AtOutage: inventory.Inventory{Revision: 11, Objects: map[string]inventory.Object{"/registry/configmaps/default/b": {ModRevision: 11}}},
		Revision: 11, Clocks: map[string]time.Time{"n": now},
	}
	if err := s.Remember(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{MemoryFile, atBreakFile, atOutageFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}

	got, err := Recall(t.Context(), c, procedure.KubeletStop(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !got.vacated || !got.recalled || !got.Subject.Resumed || got.service != s.service || got.Info != s.Info || got.endpoint.URL != "https://127.0.0.1:1" || got.endpoint.TLS == nil {
		t.Errorf("%+v", got)
	}
	for what, pair := range map[string][2]any{
		"workload": {got.Subject.Workload, s.Subject.Workload}, "snapshot": {got.Subject.Snapshot, s.Subject.Snapshot}, "before": {got.Subject.Before, s.Subject.Before},
		"holders": {got.before, s.before}, "members": {got.Subject.Members, []controlplane.Member{member}}, "highest": {got.Subject.Revisions.Highest(), int64(12)},
		"directories": {[]string{got.Target.DataDir, got.Target.RollbackDir, got.Target.StateDir}, []string{s.Target.DataDir, s.Target.RollbackDir, s.Target.StateDir}},
		"written":     {[]int64{got.written.atBreak, got.written.atOutage}, []int64{s.written.atBreak, s.written.atOutage}},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: recalled %+v, want %+v", what, pair[0], pair[1])
		}
	}
}

// TestInventoriesAreWrittenOnce: they can be large, and an outage must not wait for them again and again.
func TestInventoriesAreWrittenOnce(t *testing.T) {
	s := &Stage{opt: Options{Dir: t.TempDir()}}
	path := filepath.Join(s.opt.Dir, atBreakFile)
	s.Subject.Before.AtBreak = inventory.Inventory{Revision: 8, Objects: map[string]inventory.Object{}}
	for range 2 {
		if err := s.Remember(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("written again: %v", err)
	}
	s.Subject.Before.AtBreak.Revision = 9
	if err := s.Remember(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("a new one was not written: %v", err)
	}
}

func TestForgotten(t *testing.T) {
	c := newDownCluster(t)
	o := Options{RunID: "a-run", Dir: t.TempDir()}
	if _, err := Recall(t.Context(), c, procedure.KubeletStop(), o); !errors.Is(err, ErrForgotten) {
		t.Error(err)
	}
	for content, want := range map[string]string{
		"{":                             "reading what is known of the run",
		`{"members":[{"node":"gone"}]}`: "no control plane gone any more",
		fmt.Sprintf(`{"members":[{"node":%q,"address":"192.0.2.7"}]}`, c.node.Name()): "had the address 192.0.2.7 when the run began and has " + c.node.Address() + " now",
	} {
		if err := os.WriteFile(filepath.Join(o.Dir, MemoryFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Recall(t.Context(), c, procedure.KubeletStop(), o); err == nil || errors.Is(err, ErrForgotten) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
