//go:build unix

package apiserver

import (
	"os"
	"os/exec"
	"syscall"
)

// killWithGroup has the end of the command's context kill all of the process group that this process leads, itself among it: a program that is started by a script has a parent that dies without it. In a group that others lead, only the command is killed.
func killWithGroup(cmd *exec.Cmd) {
	cmd.Cancel = func() error {
		if syscall.Getpgrp() == os.Getpid() {
			return syscall.Kill(0, syscall.SIGKILL)
		}
		return cmd.Process.Kill()
	}
}
