// Package run starts other programs and makes their failures readable: an error says what was being done, shows the
// command in a form that can be pasted into a shell, and ends with the last of the output.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// killGrace is how long a program gets between SIGTERM and SIGKILL when the context ends.
const killGrace = 10 * time.Second

// tailBytes is how much of a failed program's output an error shows.
const tailBytes = 4 << 10

// Cmd is one program to run.
type Cmd struct {
	Argv  []string
	Dir   string
	Env   []string // added to this process's environment
	Stdin io.Reader
	// Output receives standard output; when it is nil, standard output is only kept for the error.
	Output io.Writer
	// Follow receives standard error (and standard output, when Output is nil) while the program runs.
	Follow io.Writer
}

// Run runs c to its end. When ctx ends first, c and all its children are told to stop and, if need be, killed.
func Run(ctx context.Context, c Cmd) error {
	seen := &tail{limit: tailBytes}
	var both io.Writer = seen
	if c.Follow != nil {
		both = io.MultiWriter(seen, c.Follow)
	}
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdin = c.Stdin
	cmd.Stderr = both
	cmd.Stdout = both
	if c.Output != nil {
		cmd.Stdout = c.Output
	}
	// A group of its own, so that the compilers which the go command starts go down with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killGrace
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if cmd.Process != nil {
		// What ignored SIGTERM must not outlive its parent; a group that is already gone is fine.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%s: stopped: %w", c.Argv[0], cause)
	}
	return &Error{Cmd: c, Output: seen.String(), Err: err}
}

// Output runs c and returns its standard output without the last line break.
func Output(ctx context.Context, c Cmd) (string, error) {
	var out bytes.Buffer
	c.Output = &out
	if err := Run(ctx, c); err != nil {
		return "", err
	}
	return strings.TrimRight(out.String(), "\n"), nil
}

// Error is a program that failed.
type Error struct {
	Cmd    Cmd
	Output string
	Err    error
}

// Error names the command so that it can be pasted, and the end of what it said.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n  command: %s", e.Err, e.Cmd)
	if out := strings.TrimSpace(e.Output); out != "" {
		b.WriteString("\n  its last words:\n    " + strings.ReplaceAll(out, "\n", "\n    "))
	}
	return b.String()
}

// Unwrap gives access to *exec.ExitError.
func (e *Error) Unwrap() error { return e.Err }

// Exited reports whether err is a program that ran and ended by itself with a failure, as opposed to one that could
// not be started or was stopped.
func Exited(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit)
}

// String is the command as a person would type it.
func (c Cmd) String() string {
	var words []string
	for _, env := range c.Env {
		name, value, _ := strings.Cut(env, "=")
		words = append(words, name+"="+quote(value))
	}
	for _, arg := range c.Argv {
		words = append(words, quote(arg))
	}
	line := strings.Join(words, " ")
	if c.Dir != "" {
		return fmt.Sprintf("(cd %s && %s)", quote(c.Dir), line)
	}
	return line
}

// quote protects s from a shell where it needs to be.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@,+%", r)
	}
	if s != "" && strings.TrimFunc(s, plain) == "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// tail keeps the last limit bytes written to it.
type tail struct {
	limit int
	kept  []byte
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - t.limit; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

// String is what was kept.
func (t *tail) String() string { return string(t.kept) }
