package stage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
)

// SaveSnapshot takes the snapshot, or uses the one that was given.
func (s *Stage) SaveSnapshot() plan.Step {
	if s.given != nil {
		return s.useSnapshot()
	}
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
	return []plan.Command{s.typed("mkdir", "-p", "-m", "0700", s.Target.StateDir)}
}

func (s *Stage) saveSnapshot(ctx context.Context) error {
	info, err := etcd.Save(ctx, s.endpoint, s.snapshotPath(), etcd.VerifyWith(s.Subject.Worker))
	if s.recalled && errors.Is(err, etcd.ErrTargetExists) { // it gets its name when it is whole
		info, err = s.savedBefore(ctx)
	}
	if err != nil {
		return err
	}
	s.Subject.Snapshot = &info
	return nil
}

// savedBefore describes the snapshot that an earlier process has saved.
func (s *Stage) savedBefore(ctx context.Context) (plan.SnapshotInfo, error) {
	info, err := etcd.Verify(ctx, s.Subject.Worker, s.snapshotPath())
	if err != nil {
		return info, err
	}
	file, err := os.Stat(s.snapshotPath())
	if err != nil {
		return info, err
	}
	info.TakenAt = file.ModTime()
	return info, nil
}

// learnSnapshot fetches the snapshot from the node when it was taken there by hand.
func (s *Stage) learnSnapshot(ctx context.Context) error {
	if s.Subject.Snapshot != nil {
		return nil
	}
	if err := fetch(ctx, s.Target.Members[0].Node, s.Target.NodeSnapshot, s.snapshotPath()); err != nil {
		return err
	}
	info, err := etcd.Verify(ctx, s.Subject.Worker, s.snapshotPath())
	if err != nil {
		return err
	}
	if info.TakenAt, err = writtenAt(ctx, s.Target.Members[0].Node, s.Target.NodeSnapshot); err != nil {
		return err
	}
	s.Subject.Snapshot = &info
	return nil
}

// writtenAt is when a file of a node was last written, by the node's clock.
func writtenAt(ctx context.Context, n cluster.Node, path string) (time.Time, error) {
	out, err := cluster.Run(ctx, n, "stat", "--format=%Y", "--", path)
	if err != nil {
		return time.Time{}, err
	}
	sec, err := strconv.ParseInt(out, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("node %s: stat says %q for the time of %s", n.Name(), out, path)
	}
	return time.Unix(sec, 0), nil
}

// fetch copies a file of a node to a new file on this machine, which only its owner can read.
func fetch(ctx context.Context, n cluster.Node, from, to string) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = n.Exec(ctx, cluster.Cmd{Argv: []string{"cat", "--", from}, Stdout: f})
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("fetching %s from node %s: %w", from, n.Name(), err)
	}
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
		Commands: []plan.Command{s.typed("etcdutl", "snapshot", "status", s.Target.NodeSnapshot, "--write-out=table")},
		Expect:   "A table with the hash, the revision, the number of keys and the size.",
		Do: func(ctx context.Context) error {
			info, err := proof.VerifySnapshot(ctx, s.Subject.Worker, *s.Subject.Snapshot)
			if err != nil {
				return err
			}
			if recorded := s.Subject.Snapshot.SHA256; info.SHA256 != recorded {
				return fmt.Errorf("%s is not the file that was saved: SHA-256 %s then, %s now", s.snapshotPath(), recorded, info.SHA256)
			}
			return nil
		},
	}
}

// RecordBefore notes what there is before the break, so that what is lost can be named afterwards.
func (s *Stage) RecordBefore() plan.Step {
	return plan.Step{
		Name:  "record-before",
		Phase: plan.Protect,
		Title: "Note every object there is, to know later what was lost",
		Why:   "What was written after the snapshot will be gone. Only somebody who looked before the loss can say what that was.",
		Do: func(ctx context.Context) (err error) {
			if s.before.holders, err = s.holders(ctx); err != nil {
				return err
			}
			// To be masked later on, when perhaps nobody can tell them any more.
			if err := s.knowSecrets(ctx); err != nil {
				return err
			}
			s.Subject.Before.AtBreak, err = inventory.Read(ctx, inventory.FromEtcd(s.endpoint))
			return err
		},
	}
}

// noteLast looks once more, just before the control plane is taken down: until then others may go on writing, and all of that is lost.
func (s *Stage) noteLast(ctx context.Context) error {
	last, err := inventory.Read(ctx, inventory.FromEtcd(s.endpoint), s.Subject.Before.AtBreak)
	if err != nil {
		return err
	}
	status, err := etcd.StatusOf(ctx, s.endpoint)
	if err != nil {
		return err
	}
	if s.Subject.Before.Clocks, err = s.clocks(ctx); err != nil {
		return err
	}
	s.Subject.Before.AtOutage = last
	s.Subject.Before.Revision = status.Revision
	return nil
}

// noteOld reads what the old data directories hold, once nothing runs on them any more: others could write for a moment after noteLast, until the old etcd
// ended, and that is lost as well.
//
// The database of an etcd that was killed may lack its last writes, which are in the write-ahead log alone (see etcd.DatabaseKeys), so what noteLast saw stands unless
// the database is further. Where the old etcd still runs, what noteLast saw stands, too; and so it does when an error is returned.
func (s *Stage) noteOld(ctx context.Context) (err error) {
	if used, err := s.oldInUse(ctx); err != nil || used {
		return err
	}
	db, revision, err := s.furthest(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Dir(db))) }()
	b := &s.Subject.Before
	b.Revision = max(b.Revision, revision)
	if revision <= b.AtOutage.Revision {
		return nil
	}
	old, err := inventory.Read(ctx, inventory.FromDatabase(s.Subject.Worker, db), b.AtOutage, b.AtBreak)
	if err == nil {
		b.AtOutage = old
	}
	return err
}

// oldInUse says whether an etcd runs on any member's old data directory.
func (s *Stage) oldInUse(ctx context.Context) (bool, error) {
	for _, m := range s.Target.Members {
		running, err := controlplane.Containers(ctx, m.Node, false)
		if err != nil {
			return false, err
		}
		for _, c := range running {
			if c.PodNamespace != metav1.NamespaceSystem || c.Name != controlplane.Etcd {
				continue
			}
			if s.Target.Mode == procedure.DataDirSwap { // by its path it can't be told from the restored one
				if old, err := s.oldMounted(ctx, m, c); err != nil || old {
					return old, err
				}
				continue
			}
			for _, mount := range c.Mounts {
				if mount.HostPath == m.Etcd.HostDataDir || strings.HasPrefix(m.Etcd.HostDataDir, mount.HostPath+"/") {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// clocks reads each node's own clock, so that what a node says later about when it did something can be held against it whatever
// other clocks say.
func (s *Stage) clocks(ctx context.Context) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	for _, n := range s.Subject.Cluster.Nodes() {
		text, err := cluster.Run(ctx, n, "date", "--utc", "+%Y-%m-%dT%H:%M:%S.%NZ")
		if err != nil {
			return nil, fmt.Errorf("reading the clock of node %s: %w", n.Name(), err)
		}
		if out[n.Name()], err = time.Parse(time.RFC3339Nano, text); err != nil {
			return nil, fmt.Errorf("reading the clock of node %s: %w", n.Name(), err)
		}
	}
	return out, nil
}

// restore makes the new data directory on one node from the snapshot, and keeps room for that of a rollback.
func (s *Stage) restore(ctx context.Context, m controlplane.Member) error {
	err := s.restoreInto(ctx, m, s.Target.DataDir, etcd.RestoreOptions{
		Snapshot: s.Subject.Snapshot.Path, Raw: s.Subject.Snapshot.NoChecksum, Token: s.Target.Token, BumpRevision: s.Target.BumpRevision,
	})
	if err != nil {
		return err
	}
	return s.reserve(ctx, m)
}

// restoreOld makes the data directory of a rollback on every node from what the old ones hold: from the one that is furthest, since a member may
// have been stopped before it had applied what the others had agreed on.
func (s *Stage) restoreOld(ctx context.Context) (err error) {
	// Without this directory a rollback puts the old one itself in place.
	if s.Subject.Old, err = s.expectOld(ctx); err != nil {
		return err
	}
	if err := s.Unreserve(ctx); err != nil {
		return err
	}
	if s.recalled {
		used, err := s.rolledBackBefore(ctx)
		if err != nil {
			return err
		}
		if used {
			s.Subject.Old = s.usedThird()
			s.Subject.Old.Used = true
			return nil
		}
	}
	db, _, err := s.furthest(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Dir(db))) }()
	held, err := inventory.Read(ctx, inventory.FromDatabase(s.Subject.Worker, db), s.Subject.Before.AtOutage, s.Subject.Before.AtBreak)
	if err != nil {
		return err
	}
	s.Subject.Old.Objects = held
	err = controlplane.Each(ctx, s.Target.Members, func(ctx context.Context, m controlplane.Member) error {
		return s.restoreInto(ctx, m, s.Target.RollbackDir, etcd.RestoreOptions{
			Snapshot: db, Raw: true, Token: s.Target.RollbackToken(), BumpRevision: s.Target.RollbackBump,
		})
	})
	if err != nil {
		return err
	}
	third, err := s.expectThird(ctx)
	if err != nil {
		return err
	}
	third.Objects = held
	s.Subject.Old = third
	return nil
}

// rolledBackBefore says whether an earlier rollback has put its directory in place on every control plane, so that etcd may have run on it, and been written to. What there is of it
// otherwise is moved aside: it may be of one node alone, or older than what the old directories hold.
func (s *Stage) rolledBackBefore(ctx context.Context) (bool, error) {
	for _, m := range s.Target.Members {
		used, err := s.thirdInPlace(ctx, m)
		if err == nil && used {
			continue
		}
		var exit *cluster.ExitError
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &exit) {
			return false, err
		}
		return false, controlplane.Each(ctx, s.Target.Members, func(ctx context.Context, m controlplane.Member) error {
			err := cluster.Absent(ctx, m.Node, s.Target.RollbackDir)
			if !errors.Is(err, cluster.ErrOccupied) {
				return err
			}
			_, err = cluster.Run(ctx, m.Node, "mv", "-T", "--backup=numbered", "--", s.Target.RollbackDir, s.Target.RollbackDir+"-given-up")
			return err
		})
	}
	return true, nil
}

// thirdInPlace says whether the directory of a rollback is the one that the member's manifest names.
func (s *Stage) thirdInPlace(ctx context.Context, m controlplane.Member) (bool, error) {
	if s.Target.Mode == procedure.DataDirSwap {
		return s.backInPlace(ctx, m)
	}
	now, err := controlplane.ReadEtcdConfig(ctx, m.Node)
	return err == nil && now.HostDataDir == s.Target.RollbackDir, err
}

// furthest fetches the database of every member's old data directory and returns the path of the one with the highest revision, in a
// new folder of its own, and that revision.
func (s *Stage) furthest(ctx context.Context) (best string, highest int64, err error) {
	dir, err := os.MkdirTemp(s.opt.Dir, "old-")
	if err != nil {
		return "", 0, err
	}
	for _, m := range s.Target.Members {
		db := filepath.Join(dir, m.Name+".db")
		old, err := s.oldDir(ctx, m)
		if err == nil {
			err = fetch(ctx, m.Node, old+"/member/snap/db", db)
		}
		if err != nil {
			return "", 0, errors.Join(err, os.RemoveAll(dir))
		}
		revision, err := etcd.RevisionOf(ctx, s.Subject.Worker, db)
		if err != nil {
			return "", 0, errors.Join(fmt.Errorf("the old data of node %s: %w", m.Name, err), os.RemoveAll(dir))
		}
		if best == "" || revision > highest {
			best, highest = db, revision
		}
	}
	return best, highest, nil
}

// restoreInto restores as the member and puts the result into dir on its node. etcdutl's code restores here, in a child process, and the result is
// sent: the node needs no tool of ours and no architecture like this machine's.
func (s *Stage) restoreInto(ctx context.Context, m controlplane.Member, dir string, o etcd.RestoreOptions) (err error) {
	local := filepath.Join(s.opt.Dir, filepath.Base(dir)+"-"+m.Name)
	if s.recalled {
		if _, err := cluster.Run(ctx, m.Node, "test", "-d", dir+"/member"); err == nil {
			return nil // it got its name when it was whole, and etcd may have written to it since
		}
		if err := os.RemoveAll(local); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(local)) }()
	o.DataDir, o.Name, o.PeerURLs, o.InitialCluster = local, m.Etcd.Name, m.Etcd.PeerURLs, s.Target.InitialCluster()
	o.MarkCompacted = o.BumpRevision > 0
	if err := etcd.Restore(ctx, s.Subject.Worker, o); err != nil {
		return err
	}
	if _, err := cluster.Run(ctx, m.Node, "mkdir", "-p", "-m", "0700", "--", path.Dir(dir)); err != nil {
		return err
	}
	return cluster.SendDir(ctx, m.Node, local, dir)
}
