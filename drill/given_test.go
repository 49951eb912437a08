package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestOwnFiles: a file that each process finds under another name is refused, also behind a link; what only lies among the devices is not.
func TestOwnFiles(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems have no such folders, or others")
	}
	f, err := os.CreateTemp(t.TempDir(), "snapshot")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	own := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(own, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{own, fmt.Sprintf("/dev/fd/%d", f.Fd()), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), link} {
		if err := checkFile(path); err == nil || !strings.Contains(err.Error(), "another file for each process") {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{f.Name(), fmt.Sprintf("/proc/%d/root%s", os.Getpid(), f.Name())} {
		if err := checkFile(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
