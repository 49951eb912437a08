package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/etcd-drill/drill/pkg/plan"
)

// SaveOption changes how Save works.
type SaveOption func(*saveOptions)

type saveOptions struct {
	verify    func(ctx context.Context, path string) (plan.SnapshotInfo, error)
	anyFolder bool
	progress  func(done, total int64)
}

// VerifyWith makes Save examine the snapshot as Verify does before it gets its name, so that a file of that name is always
// a sound one, and makes the result hold its revision and number of keys.
func VerifyWith(w Worker) SaveOption {
	return VerifyBy(func(ctx context.Context, path string) (plan.SnapshotInfo, error) { return Verify(ctx, w, path) })
}

// VerifyBy is VerifyWith for another way to examine it. An error of it is one of Save.
func VerifyBy(verify func(ctx context.Context, path string) (plan.SnapshotInfo, error)) SaveOption {
	return func(o *saveOptions) { o.verify = verify }
}

// InAnyFolder makes Save accept a folder that other users can look into, as anybody's home directory is: the file is for its owner alone all the same. One in which others can rename
// files is refused, and so is one that doesn't exist; see CheckFolder.
func InAnyFolder() SaveOption { return func(o *saveOptions) { o.anyFolder = true } }

// WithProgress has tell called, from the goroutine of Save, with how many bytes have come and about how many there will be.
func WithProgress(tell func(done, total int64)) SaveOption {
	return func(o *saveOptions) { o.progress = tell }
}

// Save takes a snapshot from one member into the file path, as `etcdctl snapshot save` does.
//
// The folder is created with mode 0700 where it is missing; one that other users can enter is refused with
// ErrFolderOpen, because a snapshot holds every Secret of the cluster. The snapshot is streamed to a dot-file beside path
// with mode 0600, its trailer is checked (etcd appends the SHA-256 of what it sent), and it is synced before it gets its
// name. An existing path is refused with ErrTargetExists. On failure nothing has that name, unless all that failed is to sync the folder.
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
	folder := privateFolder
	if o.anyFolder {
		folder = CheckFolder
	}
	if err := folder(dir); err != nil {
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
	part, err := os.CreateTemp(dir, partPrefix+filepath.Base(path)+".*"+partSuffix)
	if err != nil {
		return info, err
	}
	// Who looks for what killed processes have left sees that this one goes on. Where there are no locks, that can't be seen.
	lock := flock.New(part.Name(), flock.SetFlag(os.O_RDONLY))
	_, _ = lock.TryRLock() // who verifies it takes such a lock, too
	defer func() { _ = lock.Unlock() }()
	defer func() {
		_ = part.Close()
		if rmErr := os.Remove(part.Name()); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("the unfinished file could not be removed: %w", rmErr))
		}
	}()
	into := &writer{file: part, total: st.DBSize, tell: o.progress}
	size, err := io.Copy(into, stream.Snapshot)
	if into.failed != nil {
		return info, fmt.Errorf("after %d bytes of some %d: %w; make room there, or name another folder", size, st.DBSize, into.failed)
	}
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
		seen, err := o.verify(ctx, part.Name())
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
		_ = os.Remove(part) // the snapshot is there, whether or not it has this name, too
		return nil
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

// CheckFolder sees to it that dir is there and that nobody else can exchange what is put into it: one that others may write to and that has no sticky bit is refused with ErrFolderOpen.
func CheckFolder(dir string) error {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w; make the folder first, for its owner alone: mkdir -m 0700 %s", err, dir)
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case st.Mode().Perm()&0o022 != 0 && st.Mode()&fs.ModeSticky == 0:
		return fmt.Errorf("%w: %s has mode %04o, so that others can put another file in the place of the snapshot; run `chmod go-w %s` or name another folder", ErrFolderOpen, dir, st.Mode().Perm(), dir)
	}
	return nil
}

// writer writes what etcd sends to a file, and tells how much that was. What goes wrong with the file is no fault of etcd's, and kept apart.
type writer struct {
	file        io.Writer
	done, total int64
	tell        func(done, total int64) // may be nil
	failed      error
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.done, w.failed = w.done+int64(n), err
	if w.tell != nil {
		w.tell(w.done, max(w.total, w.done))
	}
	return n, err
}

// The names of files that are not finished begin and end like this.
const partPrefix, partSuffix = ".", ".part"

// Unfinished are files in a folder that Save had begun with and that no process goes on with, nor has written to since then: it was killed, most likely. They hold what a snapshot holds, every Secret of the cluster among it. Where a file
// system has no locks, one with which a process goes on may be among them.
func Unfinished(dir string, since time.Time) (paths []string) {
	found, err := filepath.Glob(filepath.Join(globbed(dir), partPrefix+"*"+partSuffix))
	if err != nil {
		return nil // not reached: the pattern is right
	}
	for _, path := range found {
		// Those of sidecars are of no interest.
		random := filepath.Ext(strings.TrimSuffix(path, partSuffix))
		if _, err := strconv.ParseUint(strings.TrimPrefix(random, "."), 10, 64); err != nil || strings.HasSuffix(strings.TrimSuffix(path, random+partSuffix), sidecarSuffix) {
			continue
		}
		st, err := os.Lstat(path)
		if err != nil || !st.Mode().IsRegular() || st.Mode().Perm() != 0o600 || !st.ModTime().Before(since) {
			continue
		}
		lock := flock.New(path, flock.SetFlag(os.O_RDWR))
		if free, err := lock.TryLock(); free || err != nil {
			paths = append(paths, path)
		}
		_ = lock.Unlock()
	}
	return paths
}

// globbed is a path that a pattern means as it is.
func globbed(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
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
