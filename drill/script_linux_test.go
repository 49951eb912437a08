package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// setpriv is a part of util-linux.
const setpriv = "/usr/bin/setpriv"

// condition says whether this machine, and this user, can do what some scripts need.
func condition(name string) (bool, error) {
	switch name {
	case "mount":
		return os.Geteuid() == 0, nil
	case "obeying":
		_, err := exec.LookPath(setpriv)
		return os.Geteuid() != 0 || err == nil, nil
	default:
		return false, fmt.Errorf("unknown condition %q", name)
	}
}

func fifo(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fifo FILE")
	}
	ts.Check(syscall.Mkfifo(ts.MkAbs(args[0]), 0o600))
}

func disk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: disk DIR SIZE [OPTION]")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	var flags uintptr
	if len(args) > 2 {
		if args[2] != "ro" {
			ts.Fatalf("unknown option %s", args[2])
		}
		flags = syscall.MS_RDONLY
	}
	ts.Check(syscall.Mount("tmpfs", dir, "tmpfs", flags, "mode=0700,size="+args[1]))
	ts.Defer(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// obeying takes from root what lets it read and write everything.
func obeying(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: obeying STATUS PROGRAM ARG...")
	}
	if os.Geteuid() == 0 {
		args = append([]string{args[0], setpriv, "--bounding-set", "-dac_override,-dac_read_search"}, args[1:]...)
	}
	exits(ts, false, args)
}

// A name under which each process finds another file is refused: more than one of them reads a snapshot.
func TestFileOfAProcess(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := checkFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err == nil || !strings.Contains(err.Error(), "name the file itself") {
		t.Error(err)
	}
	if err := checkFile(f.Name()); err != nil {
		t.Error(err)
	}
}
