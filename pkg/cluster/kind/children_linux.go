package kind

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// inFlight tells how many children of this process are about to start a container of the named cluster.
//
// kind starts all nodes at once and returns on the first failure, leaving the other command lines to run on with
// nobody to wait for them (errors.UntilErrorConcurrent): a container could appear after everything was cleaned up.
// They are recognised by the label that each is told to put on its container.
func inFlight(name string) int {
	label := clusterLabel + "=" + name
	self := strconv.Itoa(os.Getpid())
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var n int
	for _, stat := range stats {
		if parentOf(stat) != self {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		args := strings.Split(string(cmdline), "\x00")
		if len(args) > 1 && args[1] == "run" && slices.Contains(args, label) {
			n++
		}
	}
	return n
}

// parentOf reads a process's parent from its stat file: the second field after the command's name, which stands in
// parentheses and may itself hold any character (proc_pid_stat(5)).
func parentOf(stat string) string {
	b, _ := os.ReadFile(stat) // the process may have ended meanwhile
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 2 {
		return ""
	}
	return string(fields[1])
}
