//go:build unix

package etcd

import (
	"os/exec"
	"syscall"
)

// ownGroup puts the command and all that it starts into a process group of its own, and has the whole group killed when
// its context ends. A terminal sends Ctrl-C to every process of the group in its foreground: without this, the restore that
// takes back a half-done recovery would die of the very key that asked for it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
