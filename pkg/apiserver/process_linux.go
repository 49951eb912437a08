package apiserver

import (
	"os/exec"
	"runtime"
	"syscall"
)

// dieWithParent has the kernel kill the command when this process dies, however that comes about. The kernel goes by the thread that starts it, which therefore must live until the command has ended: that is what the answer is
// to be called for (prctl(2), PR_SET_PDEATHSIG).
func dieWithParent(cmd *exec.Cmd) (unlock func()) {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return runtime.UnlockOSThread
}
