//go:build unix

package proof

import (
	"io/fs"
	"os"
	"syscall"
)

// ownedByMe returns the ID of the user who owns a file, and whether that is who runs this process.
func ownedByMe(info fs.FileInfo) (uint32, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, int(st.Uid) == os.Geteuid()
}
