//go:build linux || darwin

package rehearsal

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// enoughRoom says whether the file system of a folder has room for so many bytes.
func enoughRoom(dir string, wanted int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("scratch folder %s: %w; name another place with --scratch-dir", dir, err)
	}
	if there := int64(s.Bavail) * int64(s.Bsize); there < wanted { //nolint:unconvert // their types differ between systems
		return fmt.Errorf("there are %d MB left in %s, and %d MB are needed to restore it; name another place with --scratch-dir", there>>20, dir, wanted>>20)
	}
	return nil
}
