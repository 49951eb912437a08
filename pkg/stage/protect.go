package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// SaveSnapshot takes the snapshot.
func (s *Stage) SaveSnapshot() plan.Step {
	return plan.Step{
		Name:  "save-snapshot",
		Phase: plan.Protect,
		Title: "Save a snapshot of etcd",
		Why: "A snapshot is the whole key space at one revision, with a checksum at its end. It holds every Secret of the cluster: " +
			"whoever can read the file can read them all.",
		Commands: append(s.snapshotFolder(), s.etcdctl("snapshot", "save", s.Target.NodeSnapshot)),
		Expect:   "`Snapshot saved at " + s.Target.NodeSnapshot + "`.",
		Do:       s.saveSnapshot,
		Learn:    s.learnSnapshot,
	}
}

// snapshotFolder makes the run's folder on the node, unless the snapshot goes to a place that is there anyway.
func (s *Stage) snapshotFolder() []plan.Command {
	if filepath.Dir(s.Target.NodeSnapshot) != s.Target.StateDir {
		return nil
	}
	return []plan.Command{s.type1("mkdir", "-p", "-m", "0700", s.Target.StateDir)}
}

func (s *Stage) saveSnapshot(ctx context.Context) error {
	info, err := etcd.Save(ctx, s.endpoint, s.snapshotPath())
	if err != nil {
		return err
	}
	s.Subject.Snapshot = &info
	return nil
}

// learnSnapshot fetches the snapshot from the node when it was taken there by hand.
func (s *Stage) learnSnapshot(ctx context.Context) error {
	if s.Subject.Snapshot != nil {
		return nil
	}
	f, err := os.OpenFile(s.snapshotPath(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = s.Target.Members[0].Node.Exec(ctx, cluster.Cmd{Argv: []string{"cat", s.Target.NodeSnapshot}, Stdout: f})
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("fetching the snapshot from node %s: %w", s.node(), err)
	}
	info, err := etcd.Verify(ctx, s.Subject.Worker, s.snapshotPath())
	if err != nil {
		return err
	}
	s.Subject.Snapshot = &info
	return nil
}

// SnapshotStatus looks into the snapshot.
func (s *Stage) SnapshotStatus() plan.Step {
	return plan.Step{
		Name:  "snapshot-status",
		Phase: plan.Protect,
		Title: "Look at the snapshot: hash, revision, keys, size",
		Why: "A file that can't be opened is no backup. `etcdutl snapshot status` opens it and counts; it does not check the checksum at the file's end, " +
			"which is why drill checks that itself.",
		Commands: []plan.Command{s.type1("etcdutl", "snapshot", "status", s.Target.NodeSnapshot, "--write-out=table")},
		Expect:   "A table with the hash, the revision, the number of keys and the size.",
		Do: func(ctx context.Context) error {
			info, err := etcd.Verify(ctx, s.Subject.Worker, s.snapshotPath())
			if err != nil {
				return err
			}
			taken := s.Subject.Snapshot.TakenAt
			info.TakenAt = taken
			if info.EtcdVersion == "" {
				info.EtcdVersion = s.Subject.Snapshot.EtcdVersion
			}
			s.Subject.Snapshot = &info
			return nil
		},
	}
}

// RecordBefore notes what there is just before the break, so that what is lost can be named afterwards.
func (s *Stage) RecordBefore() plan.Step {
	return plan.Step{
		Name:  "record-before",
		Phase: plan.Protect,
		Title: "Note every object and etcd's revision, to know later what was lost",
		Why:   "What was written after the snapshot will be gone. Only somebody who looked before the loss can say what that was.",
		Do: func(ctx context.Context) error {
			objects, err := inventory.Live(ctx, s.Subject.Servers[0].Config)
			if err != nil {
				return err
			}
			status, err := etcd.StatusOf(ctx, s.endpoint)
			if err != nil {
				return err
			}
			holders, err := s.holders(ctx)
			if err != nil {
				return err
			}
			s.before = before{objects: objects, revision: status.Revision, holders: holders}
			return nil
		},
	}
}

// restore makes the new data directory on one node: etcdutl's code restores it here, in a child process, and the result is sent.
// The node needs no tool of ours and no architecture like this machine's.
func (s *Stage) restore(ctx context.Context, m controlplane.Member) (err error) {
	local := filepath.Join(s.opt.Dir, "restored-"+m.Name)
	defer func() { err = errors.Join(err, os.RemoveAll(local)) }()
	err = etcd.Restore(ctx, s.Subject.Worker, etcd.RestoreOptions{
		Snapshot:       s.Subject.Snapshot.Path,
		DataDir:        local,
		Name:           m.Etcd.Name,
		PeerURLs:       m.Etcd.PeerURLs,
		InitialCluster: s.Target.InitialCluster(),
		Token:          s.Target.Token,
		BumpRevision:   s.Target.BumpRevision,
		MarkCompacted:  s.Target.BumpRevision > 0,
	})
	if err != nil {
		return err
	}
	if _, err := cluster.Run(ctx, m.Node, "mkdir", "-p", "-m", "0700", "--", s.Target.StateDir); err != nil {
		return err
	}
	return cluster.SendDir(ctx, m.Node, local, s.Target.DataDir)
}
