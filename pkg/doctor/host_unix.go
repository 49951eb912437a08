//go:build linux || darwin

package doctor

import "golang.org/x/sys/unix"

// writable says why a folder can't be written to by this process.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// freeBytes is what an ordinary user may still store in the file system that holds path.
func freeBytes(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // their types differ between systems
}
