package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Worker says how to start the child process that opens snapshots.
type Worker struct {
	// Command is a program and arguments by which the new process reaches WorkerMain, for example the path of the running
	// binary and the name of a hidden command.
	Command []string
}

// op names what a child is asked to do.
type op string

const (
	opVerify   op = "verify"
	opRevision op = "revision"
	opRestore  op = "restore"
)

// request is what a child reads: one JSON document, and then nothing more until the stream ends, which tells it that nobody
// waits for its answer any more.
type request struct {
	Op      op              `json:"op"`
	Path    string          `json:"path,omitempty"`
	Restore *RestoreOptions `json:"restore,omitempty"`
}

// answer is what a child prints: one JSON document.
type answer struct {
	Snapshot *plan.SnapshotInfo `json:"snapshot,omitempty"`
	Revision int64              `json:"revision,omitempty"`
	Error    string             `json:"error,omitempty"`
	// Kind names the sentinel that the error wraps; see kinds.
	Kind string `json:"kind,omitempty"`
}

// kinds maps names to the errors that keep their identity on their way from the child to the parent.
func kinds() map[string]error {
	return map[string]error{
		"empty": ErrEmpty, "not-snapshot": ErrNotSnapshot, "truncated": ErrTruncated, "no-trailer": ErrNoTrailer,
		"trailer-mismatch": ErrTrailerMismatch, "damaged": ErrDamaged,
		"not-exist": os.ErrNotExist, "permission": os.ErrPermission,
		"canceled": context.Canceled, "deadline": context.DeadlineExceeded,
	}
}

// told is an error as the child told it: its text, and the sentinel behind it.
type told struct {
	text string
	kind error
}

func (t *told) Error() string { return t.text }
func (t *told) Unwrap() error { return t.kind }

const (
	// How much is kept of what a child prints: an answer is far smaller; the log must hold a panic with its stack.
	maxAnswer, maxLog = 1 << 20, 64 << 10
	// How long a child that was told to end may hold on to its output.
	workerGrace = 5 * time.Second
)

// call starts a child, gives it the request, and returns its answer. However the child ends, call returns.
func (w Worker) call(ctx context.Context, req request) (answer, error) {
	var none answer
	if len(w.Command) == 0 {
		return none, fmt.Errorf("%w: no command is configured to start it", ErrWorker)
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	in, err := json.Marshal(req)
	if err != nil {
		return none, fmt.Errorf("%w: encode request: %w", ErrWorker, err)
	}
	out, log := &tail{max: maxAnswer}, &tail{max: maxLog}
	cmd := exec.CommandContext(ctx, w.Command[0], w.Command[1:]...)
	cmd.Stdout, cmd.Stderr = out, log
	cmd.WaitDelay = workerGrace
	ownGroup(cmd)
	runErr := runWith(cmd, in)
	if ctx.Err() != nil {
		return none, fmt.Errorf("%s was stopped: %w", req.Op, ctx.Err())
	}
	if runErr != nil && log.saysWhyGoDied() {
		return none, fmt.Errorf("%w: reading it made %s die; %s; its last lines:\n%s", ErrDamaged, req.Op, takeAnother, log.lastLines(crashLines))
	}
	var exit *exec.ExitError
	if errors.As(runErr, &exit) {
		// The kernel ends processes like this when memory runs out, so the snapshot need not be the reason.
		return none, fmt.Errorf("%w: %s ended with %w and without an answer; its last lines:\n%s", ErrWorker, req.Op, exit, log.lastLines(crashLines))
	}
	if runErr != nil {
		return none, fmt.Errorf("%w: %w", ErrWorker, runErr)
	}
	var a answer
	if err := json.Unmarshal(out.kept, &a); err != nil {
		return none, fmt.Errorf("%w: %s printed no answer that could be read (%w): %s", ErrWorker, req.Op, err, out.lastLines(1))
	}
	if a.Error == "" {
		return a, nil
	}
	return none, &told{text: a.Error, kind: kinds()[a.Kind]}
}

// runWith runs cmd with in as the first thing on its standard input, which it keeps open until cmd has ended: should this
// process die, the child sees the end of it.
func runWith(cmd *exec.Cmd, in []byte) error {
	stdin, err := cmd.StdinPipe() // Wait closes it
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, writeErr := stdin.Write(in)
	if err := cmd.Wait(); err != nil {
		return err // why it did not read the request as well
	}
	if writeErr != nil {
		return fmt.Errorf("passing on the request: %w", writeErr)
	}
	return nil
}

// crashLines is enough for the reason of a panic and the top of its stack.
const crashLines = 12

// tail keeps the end of what is written to it.
type tail struct {
	max  int
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - t.max; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

// lines returns what was kept, from the line on that says why a Go program died, if there is one.
func (t *tail) lines() (lines []string, died bool) {
	lines = strings.Split(strings.TrimSpace(string(t.kept)), "\n")
	for i, l := range lines {
		for _, reason := range []string{"panic:", "fatal error:", "unexpected fault address"} {
			if strings.HasPrefix(l, reason) {
				return lines[i:], true
			}
		}
	}
	return lines, false
}

func (t *tail) saysWhyGoDied() bool { _, died := t.lines(); return died }

// lastLines returns the n lines that say most: those from the reason on where a Go program died, or else the last.
func (t *tail) lastLines(n int) string {
	lines, died := t.lines()
	if died {
		return strings.Join(lines[:min(n, len(lines))], "\n")
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// WorkerMain is the child's side: it reads one request from stdin, does it, and writes one answer to stdout. It returns an
// error only when it could not read the one or write the other; that a snapshot is bad is an answer. A bad snapshot
// may well end the whole process: call it from a process that does nothing else.
//
// stdin has to stay open until the answer is there. When it ends before, the process that asked is gone, and WorkerMain
// returns an error at once, though the work may still be going on: the process should end then, and the work with it.
//
// etcd's own log goes to the standard error of the process, from where the parent takes the last lines when the child
// dies.
func WorkerMain(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var req request
	if err := json.NewDecoder(stdin).Decode(&req); err != nil {
		return fmt.Errorf("read request: %w; this command is started by drill itself", err)
	}
	orphaned := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, stdin)
		orphaned <- err
	}()
	answered := make(chan answer, 1)
	go func() { answered <- req.do(ctx) }()
	select {
	case a := <-answered:
		if err := json.NewEncoder(stdout).Encode(a); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
		return nil
	case err := <-orphaned:
		return errors.Join(fmt.Errorf("%s is given up: the process that asked for it is gone", req.Op), err)
	}
}

// do does what is asked for.
func (r request) do(ctx context.Context) (a answer) {
	var err error
	switch {
	case r.Op == opVerify:
		var info plan.SnapshotInfo
		if info, err = verifyHere(ctx, r.Path); err == nil {
			a.Snapshot = &info
		}
	case r.Op == opRevision:
		a.Revision, err = revisionHere(ctx, r.Path)
	case r.Op == opRestore && r.Restore != nil:
		lg := zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()),
			zapcore.Lock(os.Stderr), zap.WarnLevel))
		err = restoreHere(ctx, lg, *r.Restore)
	default:
		err = fmt.Errorf("%w: unknown request %q", ErrWorker, r.Op)
	}
	if err == nil {
		return a
	}
	a.Error = err.Error()
	for name, kind := range kinds() {
		if errors.Is(err, kind) {
			a.Kind = name
		}
	}
	return a
}
