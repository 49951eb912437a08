package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/proof"
)

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(context.Background(), m)) }

// oldNode is a node whose disk is this machine's, with an etcd container that has a folder mounted.
type oldNode struct {
	brokenNode
	mounted string
	fetched *int
}

func (n oldNode) Exec(_ context.Context, c cluster.Cmd) (cluster.Result, error) {
	switch {
	case c.Argv[0] == "cat":
		*n.fetched++
		f, err := os.Open(c.Argv[2])
		if err != nil {
			return cluster.Result{}, err
		}
		defer f.Close()
		_, err = io.Copy(c.Stdout, f)
		return cluster.Result{}, err
	case c.Argv[0] == "crictl" && c.Argv[1] == "ps":
		return cluster.Result{Stdout: []byte(`{"containers": [{"id": "c", "metadata": {"name": "etcd"}, "labels": {"io.kubernetes.pod.namespace": "kube-system"}}]}`)}, nil
	case c.Argv[0] == "crictl" && c.Argv[1] == "inspect":
		return cluster.Result{Stdout: fmt.Appendf(nil, `{"status": {"id": "c", "mounts": [{"hostPath": "/etc/kubernetes/pki/etcd"}, {"hostPath": %q}]}}`, n.mounted)}, nil
	}
	return cluster.Result{}, errors.New("not known here: " + c.String())
}

// stopped is the data directory of an etcd that held a ConfigMap for each name, written in this order, and was stopped; with its last revision.
func stopped(t *testing.T, names ...string) (dir string, revision int64) {
	t.Helper()
	dir = t.TempDir()
	server := etcdtest.Serve(t, dir, nil)
	defer server.Stop()
	for _, name := range names {
		r, err := server.Client.Put(t.Context(), "/registry/configmaps/default/"+name, fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"uid":%q}}`, name, name))
		if err != nil {
			t.Fatal(err)
		}
		revision = r.Header.GetRevision()
	}
	return dir, revision
}

// noted is a stage on which noteLast saw one object, and whose two members' etcds ran on these directories.
func noted(t *testing.T, mounted string, fetched *int, dirs ...string) *Stage {
	t.Helper()
	s := &Stage{opt: Options{Dir: t.TempDir()}}
	s.Subject.Worker = etcdtest.Worker(t)
	s.Subject.Before = proof.Before{Revision: 3, AtOutage: inventory.Inventory{Revision: 2, Objects: map[string]inventory.Object{"/registry/configmaps/default/a": {}}}}
	for i, dir := range dirs {
		s.Target.Members = append(s.Target.Members, controlplane.Member{
			Name: fmt.Sprint("n", i), Node: oldNode{mounted: mounted, fetched: fetched}, Etcd: controlplane.EtcdConfig{HostDataDir: dir},
		})
	}
	return s
}

// TestNoteOld: what was written between the last look and the end of the old etcd is read from its data; nothing that was seen is given up for it.
func TestNoteOld(t *testing.T) {
	further, revision := stopped(t, "a", "b", "c", "d")
	behind, _ := stopped(t, "a")
	for name, c := range map[string]struct {
		mounted  string
		dirs     []string
		objects  int
		revision int64
		fetched  int
		err      error
	}{
		"the furthest member counts":         {"/new", []string{behind, further}, 4, revision, 2, nil},
		"what was seen is as far or further": {"/new", []string{behind}, 1, 3, 1, nil},
		"the old etcd still runs":            {further, []string{further}, 1, 3, 0, nil},
		"it runs on what is above":           {filepath.Dir(further), []string{further}, 1, 3, 0, nil},
		"a name that begins alike is not it": {further[:len(further)-1], []string{further}, 4, revision, 1, nil},
		"the old data is gone":               {"/new", []string{t.TempDir()}, 1, 3, 1, fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			fetched := 0
			s := noted(t, c.mounted, &fetched, c.dirs...)
			err := s.noteOld(t.Context())
			b := s.Subject.Before
			if !errors.Is(err, c.err) || len(b.AtOutage.Objects) != c.objects || b.Revision != c.revision || fetched != c.fetched {
				t.Errorf("%d objects, revision %d, fetched %d times, %v", len(b.AtOutage.Objects), b.Revision, fetched, err)
			}
			if left, err := os.ReadDir(s.opt.Dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	s := noted(t, "/new", new(int), further)
	s.Target.Members[0].Node = brokenNode{}
	if err := s.noteOld(t.Context()); err == nil || !strings.Contains(err.Error(), "does not answer") || s.Subject.Before.Revision != 3 {
		t.Errorf("%v, %+v", err, s.Subject.Before)
	}
}
