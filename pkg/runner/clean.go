package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/stage"
)

// ErrInUse says that what a run has made is what the cluster lives on.
var ErrInUse = errors.New("the cluster lives on what the run has made")

// Clean removes what a run has left: on the control planes its restored data directories, the copy of the manifest and of the journal, and on this machine its folder, with the
// snapshot, the journal and the report. It returns what was removed. The old data directory is not the run's, and stays.
//
// A run that hasn't come to its end is refused, and so is one on whose directories an etcd runs (ErrInUse) or that another process is at work on (journal.ErrAtWork); nothing was
// touched then. c is nil where the cluster is no more.
func Clean(ctx context.Context, c cluster.Cluster, stateDir, id string) (removed []string, err error) {
	dir := Dir(stateDir, id)
	book, state, err := journal.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, book.Close()) }()
	if c == nil {
		return []string{dir}, os.RemoveAll(dir)
	}
	if !state.Settled() {
		return nil, fmt.Errorf("run %s has not come to its end: `drill resume %s` carries it on, `drill rollback %s` puts the old state back", id, id, id)
	}
	var members []controlplane.Member
	for _, n := range cluster.ControlPlanes(c) {
		members = append(members, controlplane.Member{Name: n.Name(), Node: n})
	}
	on := stage.NodeDirs + "/" + id
	err = controlplane.Each(ctx, members, func(ctx context.Context, m controlplane.Member) error {
		now, err := controlplane.ReadEtcdConfig(ctx, m.Node)
		if err == nil && (now.HostDataDir == on || strings.HasPrefix(now.HostDataDir, on+"/")) {
			err = fmt.Errorf("%w: etcd runs on %s", ErrInUse, now.HostDataDir)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	err = controlplane.Each(ctx, members, func(ctx context.Context, m controlplane.Member) error {
		for _, path := range []string{on, procedure.MovedDir(id)} {
			if cluster.Absent(ctx, m.Node, path) == nil {
				continue
			}
			if _, err := cluster.Run(ctx, m.Node, "rm", "-rf", "--", path); err != nil {
				return err
			}
			mu.Lock()
			removed = append(removed, path+" on node "+m.Name)
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return removed, err // the run's folder stays, so that this can be called again
	}
	return append(removed, dir), os.RemoveAll(dir)
}
