//go:build !unix

package proof

import "io/fs"

// ownedByMe can't be told here.
func ownedByMe(fs.FileInfo) (uint32, bool) { return 0, true }
