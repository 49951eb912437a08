// Package cache keeps the results of steps, each under a key that is a hash of all that went into it. A result is made
// under another name and renamed when it is whole, so an interrupted step leaves nothing that could be taken for one.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Key identifies a result by everything that went into it.
type Key string

// keyDigits is how much of the hash is used: enough to never collide, short enough to read.
const keyDigits = 24

// Store is a folder of results.
type Store struct{ dir string }

// Open returns the store in dir, which is created when it is missing.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("opening the cache: %w", err)
	}
	return &Store{dir: dir}, nil
}

// DefaultDir is where results go unless the caller says otherwise.
func DefaultDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the user's cache folder: %w (set XDG_CACHE_HOME)", err)
	}
	return filepath.Join(base, "drill", "nodeimage"), nil
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

// Lookup returns the folder of the result name-key, and whether it is there.
func (s *Store) Lookup(name string, key Key) (string, bool) {
	path := filepath.Join(s.dir, entry(name, key))
	_, err := os.Stat(path)
	return path, err == nil
}

// Ensure returns the folder of the result name-key. When it is not there yet, make is called with an empty folder to
// fill; what make leaves there becomes the result if it returns nil, and is removed if it doesn't.
func (s *Store) Ensure(name string, key Key, make func(dir string) error) (path string, err error) {
	path, ok := s.Lookup(name, key)
	if ok {
		return path, nil
	}
	work, err := os.MkdirTemp(s.dir, partial+name+"-")
	if err != nil {
		return "", fmt.Errorf("making room for %s in the cache: %w", name, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := os.Chmod(work, 0o755); err != nil {
		return "", fmt.Errorf("making room for %s in the cache: %w", name, err)
	}
	if err := make(work); err != nil {
		return "", err
	}
	if err := os.Rename(work, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return path, nil // somebody else made the same in the meantime
		}
		return "", fmt.Errorf("keeping %s in the cache: %w", name, err)
	}
	return path, nil
}

// partial leads the name of a folder that is being filled.
const partial = ".partial-"

// DropOthers removes the results that have the same name and another key, so that the cache holds one of each.
func (s *Store) DropOthers(name string, key Key) error {
	found, err := filepath.Glob(filepath.Join(s.dir, entry(name, Key(strings.Repeat("?", keyDigits)))))
	if err != nil {
		return fmt.Errorf("looking for older results of %s: %w", name, err)
	}
	for _, path := range found {
		if filepath.Base(path) == entry(name, key) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing an older result of %s: %w", name, err)
		}
	}
	return nil
}

// Clear removes the whole store.
func (s *Store) Clear() error {
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("removing the cache: %w", err)
	}
	return nil
}

// Free is the number of free bytes on the store's disk.
func (s *Store) Free() (uint64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &stat); err != nil {
		return 0, fmt.Errorf("looking for free disk in %s: %w", s.dir, err)
	}
	return stat.Bavail * uint64(stat.Bsize), nil
}

// Lock waits until no other process uses the store, and returns what lets it go again. It also removes what interrupted
// runs have left half made.
func (s *Store) Lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the cache: %w", err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("locking the cache: %w", err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for another run to let go of %s: %w", file.Name(), context.Cause(ctx)), file.Close())
		case <-tick.C:
		}
	}
	unlock = func() { _ = file.Close() } // closing lets the lock go
	if err := s.dropPartial(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func (s *Store) dropPartial() error {
	found, err := filepath.Glob(filepath.Join(s.dir, partial+"*"))
	if err != nil {
		return fmt.Errorf("looking for half-made results: %w", err)
	}
	for _, path := range found {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing a half-made result: %w", err)
		}
	}
	return nil
}

// Entries lists the results by name, without what is only half made.
func (s *Store) Entries() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the cache: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), partial) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func entry(name string, key Key) string {
	return strings.ReplaceAll(name, "/", "-") + "-" + string(key)
}

// Hash makes a key of parts. Each part is led by its length, so no two different lists give the same key.
func Hash(parts ...string) Key {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s\n", len(p), p)
	}
	return Key(hex.EncodeToString(h.Sum(nil))[:keyDigits])
}

// HashFiles makes a key of the files below the roots (files or folders): their paths relative to the root, their
// content, and whether they may be executed. Go's test files are left out: they go into nothing.
func HashFiles(roots ...string) (Key, error) {
	h := sha256.New()
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			rel, err := filepath.Rel(filepath.Dir(root), path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%s %v %d\n", rel, info.Mode()&0o111 != 0, len(data))
			h.Write(data)
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("reading the inputs below %s: %w", root, err)
		}
	}
	return Key(hex.EncodeToString(h.Sum(nil))[:keyDigits]), nil
}
