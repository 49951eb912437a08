package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSignals: the first signal of each kind asks for an orderly end. A terminal that is closed may say so twice, and who has drill ignore that is not bothered.
func TestSignals(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// What this process ignores, since it was started so, its children would ignore too; what it is told of they begin with the default of.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	// A container engine that lets everybody wait, and says when it was asked.
	bin := t.TempDir()
	asked := filepath.Join(bin, "asked")
	engine := "#!/bin/sh\necho asked >" + asked + "\nexec /bin/sleep 60\n"
	if err := errors.Join(os.WriteFile(filepath.Join(bin, "docker"), []byte(engine), 0o700), syscall.Mkfifo(asked, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		before  string // what the shell does first
		signals []syscall.Signal
		deaf    bool // nobody reads any more what drill tells
	}{
		"interrupt":             {"", []syscall.Signal{syscall.SIGINT}, false},
		"terminate":             {"", []syscall.Signal{syscall.SIGTERM}, false},
		"hang up":               {"", []syscall.Signal{syscall.SIGHUP}, false},
		"hang up twice":         {"", []syscall.Signal{syscall.SIGHUP, syscall.SIGHUP}, false},
		"hang up, then another": {"", []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM}, false},
		"ignored, then another": {"trap '' HUP; ", []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM}, false},
		"with its reader":       {"", []syscall.Signal{syscall.SIGHUP}, true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "sh", "-c", c.before+`exec -a drill "$0" cluster list`, self)
			cmd.Path, cmd.Args[0] = "/bin/bash", "bash" // which knows exec -a
			cmd.Env = append(os.Environ(), "PATH="+bin, "XDG_STATE_HOME="+t.TempDir(), "KIND_EXPERIMENTAL_PROVIDER=docker")
			var said strings.Builder
			cmd.Stderr = &said
			if c.deaf {
				reader, writer, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				cmd.Stdout, cmd.Stderr = writer, writer
				defer func() { _ = writer.Close() }()
				_ = reader.Close()
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pipe, err := os.Open(asked) // as soon as the other end is opened, too
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bufio.NewReader(pipe).ReadString('\n'); err != nil {
				t.Error(err)
			}
			_ = pipe.Close()
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			_, mask, _ := strings.Cut(string(status), "SigIgn:\t") // proc_pid_status(5); hangup is the lowest bit
			mask, _, _ = strings.Cut(mask, "\n")
			if bits, err := strconv.ParseUint(mask, 16, 64); err != nil || (bits&1 == 1) != (c.before != "") {
				t.Errorf("signals that are ignored: %q, %v", mask, err)
			}
			for _, s := range c.signals {
				if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Error(err)
				}
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
				t.Errorf("%v: %s", err, said.String())
			}
		})
	}
}
