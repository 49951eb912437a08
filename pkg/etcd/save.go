package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
)

// SaveOption changes how Save works.
type SaveOption func(*saveOptions)

type saveOptions struct{ verify *Worker }

// VerifyWith makes Save examine the snapshot as Verify does before it gets its name, so that a file of that name is always
// a sound one, and makes the result hold its revision and number of keys.
func VerifyWith(w Worker) SaveOption { return func(o *saveOptions) { o.verify = &w } }

// Save takes a snapshot from one member into the file path, as `etcdctl snapshot save` does.
//
// The folder is created with mode 0700 where it is missing; one that other users can enter is refused with
// ErrFolderOpen, because a snapshot holds every Secret of the cluster. The snapshot is streamed to a dot-file beside path
// with mode 0600, its trailer is checked (etcd appends the SHA-256 of what it sent), and it is synced before it gets its
// name. An existing path is refused with ErrTargetExists. On failure nothing is left behind.
//
// The result's Revision and Keys are 0 unless VerifyWith was given: they can be had only by opening the file. TakenAt is also
// the file's modification time.
func Save(ctx context.Context, ep Endpoint, path string, opts ...SaveOption) (info plan.SnapshotInfo, err error) {
	var o saveOptions
	for _, opt := range opts {
		opt(&o)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("save snapshot %s: %w", path, err)
		}
	}()
	if path == "" {
		return info, errors.New("no file name given")
	}
	dir := filepath.Dir(path)
	if err := refuseExisting(path); err != nil {
		return info, err
	}
	if err := privateFolder(dir); err != nil {
		return info, err
	}

	cli, err := dial(ctx, ep)
	if err != nil {
		return info, err
	}
	defer func() { _ = cli.Close() }()

	// The stream is retried without end when nobody answers; a question isn't.
	st, err := StatusOf(ctx, ep)
	if err != nil {
		return info, err
	}
	// Without the monotonic reading: the value is written down and compared.
	takenAt := time.Now().Round(0)
	stream, err := cli.SnapshotWithVersion(ctx)
	if err != nil {
		return info, fmt.Errorf("snapshot of etcd at %s: %w", ep.URL, explain(ctx, err))
	}
	defer func() { _ = stream.Snapshot.Close() }()

	// CreateTemp makes files with mode 0600, and a name that no other run is using.
	part, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.part")
	if err != nil {
		return info, err
	}
	defer func() {
		_ = part.Close()
		if rmErr := os.Remove(part.Name()); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("the unfinished file could not be removed: %w", rmErr))
		}
	}()
	size, err := io.Copy(part, stream.Snapshot)
	if err != nil {
		return info, fmt.Errorf("snapshot of etcd at %s broke off after %d bytes: %w", ep.URL, size, explain(ctx, err))
	}
	if err := part.Sync(); err != nil {
		return info, err
	}
	sum, err := checkTrailer(ctx, part.Name())
	if err != nil {
		return info, fmt.Errorf("what etcd at %s sent is no good: %w", ep.URL, err)
	}
	version := stream.Version
	if version == "" {
		// Servers before 3.6 don't say it in the stream, nor is it in the file.
		version = st.Version
	}
	info = plan.SnapshotInfo{Path: path, SHA256: sum, Bytes: size, EtcdVersion: version, TakenAt: takenAt}
	if o.verify != nil {
		seen, err := Verify(ctx, *o.verify, part.Name())
		if err != nil {
			return plan.SnapshotInfo{}, fmt.Errorf("what etcd at %s sent is no good: %w", ep.URL, err)
		}
		info.Revision, info.Keys, info.ClusterVersion = seen.Revision, seen.Keys, seen.ClusterVersion
	}
	if err := os.Chtimes(part.Name(), time.Time{}, takenAt); err != nil {
		return plan.SnapshotInfo{}, err
	}
	if err := part.Close(); err != nil {
		return plan.SnapshotInfo{}, err
	}
	if err := publish(part.Name(), path); err != nil {
		return plan.SnapshotInfo{}, err
	}
	return info, syncFolder(dir)
}

// publish gives the finished file its name and never replaces a file that came to have it meanwhile.
func publish(part, path string) error {
	// A hard link, unlike a rename, fails when the name is taken.
	err := os.Link(part, path)
	switch {
	case err == nil:
		return os.Remove(part)
	case errors.Is(err, fs.ErrExist):
		return refuseExisting(path)
	}
	// Some file systems have no hard links.
	if err := refuseExisting(path); err != nil {
		return err
	}
	return os.Rename(part, path)
}

func refuseExisting(path string) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return fmt.Errorf("%w: %s; a snapshot is never overwritten, choose another name", ErrTargetExists, path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

// privateFolder makes dir, or sees to it that nobody else can look into it.
func privateFolder(dir string) error {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.MkdirAll(dir, 0o700)
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case st.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w: %s has mode %04o, and a snapshot holds every Secret of the cluster; run `chmod 0700 %s` or "+
			"name a folder that doesn't exist yet", ErrFolderOpen, dir, st.Mode().Perm(), dir)
	}
	return nil
}

// syncFolder makes a new name in dir survive a power cut.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
