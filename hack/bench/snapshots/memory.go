package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// watchEach is how often a tree of processes is looked at.
const watchEach = 100 * time.Millisecond

// memory is the peak of a process and all below it, in bytes: the sum of the peaks of each (VmHWM of /proc/PID/status, which the kernel keeps). They need not have peaked at the same time, so that
// the tree together never had more; what a process grows by in its last watchEach isn't seen.
type memory map[int]int64

func (m memory) peak() (sum int64) {
	for _, bytes := range m {
		sum += bytes
	}
	return sum
}

// watch looks at the tree of the process pid until ctx ends.
func (m memory) watch(ctx context.Context, pid int) {
	tick := time.NewTicker(watchEach)
	defer tick.Stop()
	for {
		m.look(pid)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look notes the peaks of a process and of those below it. One that has ended keeps what was noted.
func (m memory) look(pid int) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return
	}
	if bytes, ok := highWater(string(status)); ok {
		m[pid] = max(m[pid], bytes)
	}
	tasks, _ := filepath.Glob(filepath.Join(dir, "task", "*", "children")) // the pattern is right
	for _, task := range tasks {
		children, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for child := range strings.FieldsSeq(string(children)) {
			if id, err := strconv.Atoi(child); err == nil {
				m.look(id)
			}
		}
	}
}

// highWater finds VmHWM; a process that has ended and wasn't waited for has none.
func highWater(status string) (bytes int64, ok bool) {
	for line := range strings.Lines(status) {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			var kib int64
			if _, err := fmt.Sscanf(rest, "%d kB", &kib); err == nil {
				return kib << 10, true
			}
		}
	}
	return 0, false
}
