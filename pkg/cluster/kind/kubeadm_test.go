package kind

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// listing is a control plane that has these files.
type listing struct {
	cluster.Node
	name  string
	files []string
}

func (l listing) Name() string     { return l.name }
func (listing) Role() cluster.Role { return cluster.ControlPlane }

func (l listing) Exec(_ context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	out := cluster.Result{Stdout: []byte(strings.Join(l.files, "\n") + "\n")}
	if len(l.files) < 3 { // find says of others that they aren't there
		return out, &cluster.ExitError{Node: l.name, Cmd: cmd, Code: 1}
	}
	return out, nil
}

type listings struct {
	cluster.Cluster
	nodes []cluster.Node
}

func (l listings) Nodes() []cluster.Node { return l.nodes }

// TestCheckKubeadm: where a run has the cluster, on whichever control plane it says so, manifests may be away for a while, on any of them.
func TestCheckKubeadm(t *testing.T) {
	for name, c := range map[string]struct {
		first, second []string
		want          string
	}{
		"as kubeadm made them":                 {[]string{adminConf, etcdManifest}, []string{adminConf, etcdManifest}, ""},
		"an external etcd":                     {[]string{adminConf, etcdManifest}, []string{adminConf}, "node cp-b has no " + etcdManifest},
		"the second one's manifest moved away": {[]string{adminConf, etcdManifest, cluster.LockFile}, []string{adminConf}, ""},
		"both moved away":                      {[]string{adminConf, cluster.LockFile}, []string{adminConf}, ""},
		"not kubeadm's":                        {[]string{adminConf, etcdManifest, cluster.LockFile}, nil, "node cp-b has no " + adminConf},
	} {
		err := checkKubeadm(t.Context(), listings{nodes: []cluster.Node{listing{name: "cp-a", files: c.first}, listing{name: "cp-b", files: c.second}}})
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, cluster.ErrNotKubeadm) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
