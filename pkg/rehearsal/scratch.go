package rehearsal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/etcd-drill/drill/pkg/etcd"
)

const (
	// prefix begins the names of scratch folders, and making those of folders whose lock isn't held yet.
	prefix = "drill-rehearsal-"
	making = ".drill-rehearsal-"
	// lockFile is in each scratch folder.
	lockFile = "lock"
	// abandonedAfter is how old a folder must be that never came to have its name.
	abandonedAfter = time.Hour
)

// named are the names that newScratch gives, and no other: what else begins like that may be somebody's.
var named = regexp.MustCompile(`^\.?` + prefix + `[a-z2-7]{26}$`)

// scratch is a folder that this process alone uses.
type scratch struct {
	dir     string
	lock    *flock.Flock
	sweeper *etcd.Sweeper
}

// newScratch makes a scratch folder in a folder. Who removes it should drill be killed is there before it is; and it gets its name only when its lock is held, so that
// nobody takes it for an abandoned one.
func newScratch(ctx context.Context, w etcd.Worker, in string) (s *scratch, err error) {
	name := strings.ToLower(rand.Text())
	made := filepath.Join(in, making+name)
	s = &scratch{dir: filepath.Join(in, prefix+name), lock: flock.New(filepath.Join(made, lockFile))}
	if s.sweeper, err = etcd.SweepWhenGone(ctx, w, made, s.dir); err != nil {
		return nil, err
	}
	if err = os.Mkdir(made, 0o700); err == nil {
		var held bool
		if held, err = s.lock.TryLock(); err == nil && !held {
			err = errors.New("somebody else holds its lock")
		}
		if err == nil {
			err = os.Rename(made, s.dir)
		}
		if err != nil {
			err = errors.Join(err, os.RemoveAll(made))
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a scratch folder in %s: %w; name another place with --scratch-dir", in, err), s.remove())
	}
	return s, nil
}

// remove removes the folder, with all that is in it.
func (s *scratch) remove() error {
	defer s.sweeper.Stop()
	var err error
	if _, none := os.Lstat(s.dir); !errors.Is(none, fs.ErrNotExist) { // where nothing can be written, there being nothing to remove would be an error, too
		err = os.RemoveAll(s.dir)
	}
	return errors.Join(err, s.lock.Close())
}

// removeAbandoned removes scratch folders that belong to nobody. Those of other users are theirs.
func removeAbandoned(in string) error {
	entries, err := os.ReadDir(in)
	if errors.Is(err, fs.ErrPermission) {
		return nil // what can be made there is found out next
	}
	if err != nil {
		return fmt.Errorf("scratch folder: %w; name another place with --scratch-dir", err)
	}
	for _, e := range entries {
		dir := filepath.Join(in, e.Name())
		info, err := e.Info()
		if err != nil || !e.IsDir() || !named.MatchString(e.Name()) {
			continue // it is gone again, or none
		}
		switch {
		case strings.HasPrefix(e.Name(), making):
			if time.Since(info.ModTime()) > abandonedAfter {
				_ = os.RemoveAll(dir) // it may be another user's
			}
		case strings.HasPrefix(e.Name(), prefix):
			lock := flock.New(filepath.Join(dir, lockFile), flock.SetFlag(os.O_RDWR))
			held, err := lock.TryLock()
			if held || errors.Is(err, fs.ErrNotExist) && time.Since(info.ModTime()) > abandonedAfter { // its removal was cut off
				_ = os.RemoveAll(dir)
			}
			_ = lock.Close()
		}
	}
	return nil
}
