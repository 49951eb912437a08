//go:build unix

package runner

import (
	"errors"
	"syscall"
)

// alive says whether there is a process of that number on this machine.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
