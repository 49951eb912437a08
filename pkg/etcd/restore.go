package etcd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// DefaultBump is by how much a restore raises the revision: etcd's documentation suggests a billion, which no cluster uses up between
// a snapshot and its restore (https://etcd.io/docs/v3.6/op-guide/recovery/#restoring-with-revision-bump).
const DefaultBump uint64 = 1_000_000_000

// RestoreOptions says what to restore, and as whom. The names of `etcdutl snapshot restore`'s flags are in brackets.
type RestoreOptions struct {
	// Snapshot is the file to restore from.
	Snapshot string `json:"snapshot"`
	// Raw says that Snapshot is no snapshot but the database of a stopped etcd, DATADIR/member/snap/db. It has no trailer, so only
	// its own pages and records tell whether it is sound, and all are read for that [--skip-hash-check]. What etcd had acknowledged is in it only if etcd was
	// stopped with a signal that it could act on: the rest would be in its write-ahead log.
	Raw bool `json:"raw,omitempty"`
	// DataDir is the new data directory [--data-dir]. It must not exist, or be empty.
	DataDir string `json:"dataDir"`
	// Name is the member's name [--name].
	Name string `json:"name"`
	// PeerURLs are the peer URLs that the member advertises [--initial-advertise-peer-urls].
	PeerURLs []string `json:"peerURLs"`
	// InitialCluster lists the members as NAME=PEERURL joined by commas [--initial-cluster]. Left empty, this is
	// the only member.
	InitialCluster string `json:"initialCluster,omitempty"`
	// Token makes the new cluster's ID differ from those of others with the same members [--initial-cluster-token]. Members
	// that are restored together need the same. Left empty it is etcd's own default, "etcd-cluster".
	Token string `json:"token,omitempty"`
	// BumpRevision is by how much the restored store's revision is moved forward [--bump-revision], and MarkCompacted marks
	// everything up to there as compacted [--mark-compacted]. With both, clients that hold a revision from before
	// see it as compacted and list anew, instead of going on from a history that no longer exists
	// (https://etcd.io/docs/v3.6/op-guide/recovery/#restoring-with-revision-bump). etcdutl accepts neither without
	// the other, and so does Restore.
	BumpRevision  uint64 `json:"bumpRevision,omitempty"`
	MarkCompacted bool   `json:"markCompacted,omitempty"`
	// VerifiedElsewhere says that the caller has the file verified itself, at the same time or before, so that nothing is looked at here [--skip-hash-check].
	VerifiedElsewhere bool `json:"verifiedElsewhere,omitempty"`
}

// defaultToken is what etcd and etcdutl take when none is given.
const defaultToken = "etcd-cluster"

// check finds everything that can be known to be wrong without touching the snapshot or the target.
func (o RestoreOptions) check() error {
	switch {
	case o.Snapshot == "":
		return errors.New("no snapshot given")
	case o.DataDir == "":
		return errors.New("no data directory given")
	case o.Name == "":
		return errors.New("no member name given; it is the --name of the etcd static pod")
	case len(o.PeerURLs) == 0:
		return errors.New("no peer URL given; it is the --initial-advertise-peer-urls of the etcd static pod")
	case (o.BumpRevision > 0) != o.MarkCompacted:
		return errors.New("a revision bump and marking as compacted go together: give both or neither")
	}
	if _, err := types.NewURLs(o.PeerURLs); err != nil {
		return fmt.Errorf("peer URLs %q: %w", strings.Join(o.PeerURLs, ","), err)
	}
	members, err := types.NewURLsMap(o.initialCluster())
	if err != nil {
		return fmt.Errorf("initial cluster %q: %w; it looks like NAME=https://HOST:2380,NAME=…", o.initialCluster(), err)
	}
	if _, ok := members[o.Name]; !ok {
		return fmt.Errorf("initial cluster %q doesn't have member %q", o.initialCluster(), o.Name)
	}
	return nil
}

func (o RestoreOptions) initialCluster() string {
	if o.InitialCluster != "" {
		return o.InitialCluster
	}
	var members []string
	for _, u := range o.PeerURLs {
		members = append(members, o.Name+"="+u)
	}
	return strings.Join(members, ",")
}

// Restore makes a data directory from a snapshot, with etcdutl's own code, in a child process.
//
// It restores into a hidden directory beside the target, syncs that, and renames it: the target is either not there or
// whole. Directories get mode 0700 and files 0600. A target that holds anything is refused with ErrTargetExists before
// anything is touched; a snapshot without a right trailer, or a raw database that isn't sound, is refused with the same errors as by Verify. On failure
// nothing is left behind.
func Restore(ctx context.Context, w Worker, o RestoreOptions) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore %s into %s: %w", o.Snapshot, o.DataDir, err)
		}
	}()
	if err := o.check(); err != nil {
		return err
	}
	// The child may run in another folder.
	if o.Snapshot, err = filepath.Abs(o.Snapshot); err != nil {
		return err
	}
	target, err := filepath.Abs(o.DataDir)
	if err != nil {
		return err
	}
	if err := refuseOccupied(target); err != nil {
		return err
	}
	parent := filepath.Dir(target)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	// MkdirTemp makes directories with mode 0700.
	part, err := os.MkdirTemp(parent, "."+filepath.Base(target)+".*.part")
	if err != nil {
		return err
	}
	defer func() {
		if rmErr := os.RemoveAll(part); rmErr != nil {
			err = errors.Join(err, fmt.Errorf("the unfinished directory could not be removed: %w", rmErr))
		}
	}()
	inner := o
	inner.DataDir = part
	if _, err := w.call(ctx, request{Op: opRestore, Restore: &inner}); err != nil {
		return err
	}
	if err := settle(part); err != nil {
		return err
	}
	// Where the target exists it is empty: Remove refuses any other. A rename would not replace it on every system.
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s: %w", ErrTargetExists, target, err)
	}
	if err := os.Rename(part, target); err != nil {
		return err
	}
	return syncFolder(parent)
}

// refuseOccupied accepts a target that is not there, or is an empty directory.
func refuseOccupied(target string) error {
	st, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%w: %s is not a directory; choose another name", ErrTargetExists, target)
	}
	entries, err := os.ReadDir(target)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s holds %s and %d more; a data directory is never overwritten, choose another name",
			ErrTargetExists, target, entries[0].Name(), len(entries)-1)
	}
	return nil
}

// settle gives everything below dir its mode (etcdutl leaves the Raft snapshot's to the umask) and syncs it.
func settle(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		if d.IsDir() {
			mode = 0o700
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
		return syncFolder(path)
	})
}

// restoreHere does in the child what Restore asked for.
func restoreHere(ctx context.Context, lg *zap.Logger, o RestoreOptions) error {
	// etcdutl would find a wrong trailer too, but can't say in what way it is wrong; and without one it looks at next to nothing.
	check := func() error { _, err := checkTrailer(ctx, o.Snapshot); return err }
	switch {
	case o.VerifiedElsewhere:
		check = func() error { return nil }
	case o.Raw:
		check = func() error { return checkRaw(ctx, o.Snapshot) }
	}
	if err := check(); err != nil {
		return err
	}
	token := o.Token
	if token == "" {
		token = defaultToken
	}
	source, err := os.Stat(o.Snapshot)
	if err != nil {
		return err
	}
	flushing, end := context.WithCancel(ctx)
	flushed := make(chan error, 1)
	go func() {
		flushed <- flushEarly(flushing, filepath.Join(o.DataDir, "member", "snap", "db"), source.Size()-sha256.Size)
	}()
	err = snapshot.NewV3(lg).Restore(snapshot.RestoreConfig{
		SnapshotPath:        o.Snapshot,
		SkipHashCheck:       o.Raw || o.VerifiedElsewhere,
		Name:                o.Name,
		OutputDataDir:       o.DataDir,
		PeerURLs:            o.PeerURLs,
		InitialCluster:      o.initialCluster(),
		InitialClusterToken: token,
		RevisionBump:        o.BumpRevision,
		MarkCompacted:       o.MarkCompacted,
	})
	end()
	return errors.Join(err, <-flushed)
}

// flushPoll is how often flushEarly looks whether there is something to write.
const flushPoll = 20 * time.Millisecond

// flushEarly writes a file to disk once it is so long. etcdutl copies the database, reads all of it, and then waits with its first change until the copy is on disk: begun earlier, the one goes on beside the other. An error must not be
// lost: of writing behind, the system may tell it to the first that asks alone.
func flushEarly(ctx context.Context, path string, size int64) error {
	tick := time.NewTicker(flushPoll)
	defer tick.Stop()
	for {
		if st, err := os.Stat(path); err == nil && st.Size() >= size {
			return syncFolder(path)
		}
		select {
		case <-ctx.Done(): // the restore has ended, and what it left is synced by settle
			return nil
		case <-tick.C:
		}
	}
}
