package etcd

import (
	"bufio"
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
	opKeys     op = "keys"
)

// request is what a child reads: one JSON document, and then nothing more until the stream ends, which tells it that nobody
// waits for its answer any more.
type request struct {
	Op   op     `json:"op"`
	Path string `json:"path,omitempty"`
	// Raw says that Path is no snapshot but the database of a stopped etcd; for opKeys and opVerify.
	Raw     bool            `json:"raw,omitempty"`
	Restore *RestoreOptions `json:"restore,omitempty"`
}

// answer is what a child prints: one JSON document. Before it, when keys are asked for, come their records; see writeRecord.
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
		"empty": ErrEmpty, "not-snapshot": ErrNotSnapshot, "compressed": ErrCompressed, "truncated": ErrTruncated, "no-trailer": ErrNoTrailer,
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
	cmd, in, log, err := w.prepare(ctx, req)
	if err != nil {
		return answer{}, err
	}
	out := &tail{max: maxAnswer}
	cmd.Stdout = out
	if err := whyEnded(ctx, req.Op, runWith(cmd, in, nil), log); err != nil {
		return answer{}, err
	}
	return decode(req.Op, out.kept)
}

// stream is like call for a request whose answer comes after records: each is called with every one of them, from this goroutine. An error of each ends the
// child, and is returned.
func (w Worker) stream(ctx context.Context, req request, each func(record []byte) error) (answer, error) {
	childCtx, end := context.WithCancel(ctx)
	defer end()
	cmd, in, log, err := w.prepare(childCtx, req)
	if err != nil {
		return answer{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrWorker, err)
	}
	// Should somebody hold the other end of the pipe after the child's death, reading ends all the same.
	defer context.AfterFunc(childCtx, func() { _ = stdout.Close() })()
	out := bufio.NewReader(stdout)
	var refused, broken error
	var rest []byte
	runErr := runWith(cmd, in, func() {
		broken = readRecords(out, func(record []byte) error {
			refused = each(record)
			return refused
		})
		if broken == nil {
			rest, broken = io.ReadAll(io.LimitReader(out, maxAnswer))
		}
		if broken != nil && !ended(broken) {
			end() // nobody reads on
		}
	})
	if refused != nil {
		return answer{}, refused
	}
	if ctx.Err() == nil && broken != nil && !ended(broken) {
		return answer{}, fmt.Errorf("%w: %s printed something else than records: %w", ErrWorker, req.Op, broken)
	}
	if err := whyEnded(ctx, req.Op, runErr, log); err != nil {
		return answer{}, err
	}
	if broken != nil {
		return answer{}, fmt.Errorf("%w: %s ended before its answer: %w", ErrWorker, req.Op, broken)
	}
	return decode(req.Op, rest)
}

// ended says whether an error of reading is only that the other side has come to its end.
func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// prepare returns the command of a child, the request as it is to be written to it, and where its log goes.
func (w Worker) prepare(ctx context.Context, req request) (cmd *exec.Cmd, in []byte, log *tail, err error) {
	if len(w.Command) == 0 {
		return nil, nil, nil, fmt.Errorf("%w: no command is configured to start it", ErrWorker)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, nil, err
	}
	if in, err = json.Marshal(req); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: encode request: %w", ErrWorker, err)
	}
	cmd, log = exec.CommandContext(ctx, w.Command[0], w.Command[1:]...), &tail{max: maxLog}
	cmd.Stderr, cmd.WaitDelay = log, workerGrace
	ownGroup(cmd)
	return cmd, in, log, nil
}

// whyEnded turns the end of a child into an error, unless it ended as it should.
func whyEnded(ctx context.Context, what op, runErr error, log *tail) error {
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s was stopped: %w", what, ctx.Err())
	case runErr == nil:
		return nil
	case log.saysWhyGoDied():
		return fmt.Errorf("%w: reading it made %s die; %s; its last lines:\n%s", ErrDamaged, what, takeAnother, log.lastLines(crashLines))
	case errors.As(runErr, &exit):
		// The kernel ends processes like this when memory runs out, so the snapshot need not be the reason.
		return fmt.Errorf("%w: %s ended with %w and without an answer; its last lines:\n%s", ErrWorker, what, exit, log.lastLines(crashLines))
	default:
		return fmt.Errorf("%w: %w", ErrWorker, runErr)
	}
}

// decode reads an answer.
func decode(what op, out []byte) (answer, error) {
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		return answer{}, fmt.Errorf("%w: %s printed no answer that could be read (%w): %s", ErrWorker, what, err, (&tail{kept: out}).lastLines(1))
	}
	if a.Error == "" {
		return a, nil
	}
	return answer{}, &told{text: a.Error, kind: kinds()[a.Kind]}
}

// runWith runs cmd with in as the first thing on its standard input, which it keeps open until cmd has ended: should this
// process die, the child sees the end of it. read, where given, reads what cmd prints to its pipe, which is gone once cmd has ended.
func runWith(cmd *exec.Cmd, in []byte, read func()) error {
	stdin, err := cmd.StdinPipe() // Wait closes it
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, writeErr := stdin.Write(in)
	if read != nil {
		read()
	}
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
	go func() { answered <- req.do(ctx, stdout) }()
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

// do does what is asked for. Records go to stdout, before the answer.
func (r request) do(ctx context.Context, stdout io.Writer) (a answer) {
	var err error
	switch {
	case r.Op == opVerify:
		var info plan.SnapshotInfo
		if info, err = verifyHere(ctx, r.Path, r.Raw); err == nil {
			a.Snapshot = &info
		}
	case r.Op == opRevision:
		a.Revision, err = revisionHere(ctx, r.Path)
	case r.Op == opRestore && r.Restore != nil:
		lg := zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()),
			zapcore.Lock(os.Stderr), zap.WarnLevel))
		err = restoreHere(ctx, lg, *r.Restore)
	case r.Op == opKeys:
		records := bufio.NewWriter(stdout)
		a.Revision, err = keysHere(ctx, r.Path, r.Raw, func(record []byte) error { return writeRecord(records, record) })
		err = errors.Join(err, endOfRecords(records), records.Flush())
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
