//go:build linux || darwin

package stage

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// roomOf is what an ordinary user may still store in the file system that holds the folder dir of this machine.
func roomOf(dir string) (room, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return room{}, fmt.Errorf("statfs %s: %w", dir, err)
	}
	r := room{on: "the file system of " + dir, bytes: int64(s.Bavail) * int64(s.Bsize), inodes: -1} //nolint:unconvert // their types differ between systems
	if s.Files > 0 {
		r.inodes = int64(s.Ffree)
	}
	return r, nil
}
