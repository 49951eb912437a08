package etcd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
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
	opJob      op = "job"
	opServe    op = "serve"
	opSweep    op = "sweep"
)

// Job is work of another package that a worker does, since it, too, reads what may be damaged: the child's death is an ordinary error to the process that asked.
type Job struct {
	// Name is how Do asks for it.
	Name string
	// Run gets what Do was given, as JSON. What it sends reaches Do's each at once; what it returns reaches Do's out, as JSON, and is at most 128 MiB. An error keeps its
	// text, and its identity where it wraps a sentinel of this package.
	Run func(ctx context.Context, in json.RawMessage, send func(record []byte) error) (out any, err error)
}

// Do has a child do the job of that name, which its WorkerMain must have been given. in and out are what json.Marshal and json.Unmarshal take; each, which may be nil, is
// called with every record that the job sends, from this goroutine, and an error of it ends the child and is returned. However the child ends, Do returns, with an
// error that wraps ErrDamaged where a Go program died of what it read, and ErrWorker where no snapshot is known to be the reason.
func (w Worker) Do(ctx context.Context, job string, in, out any, each func(record []byte) error) error {
	content, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%w: encode request: %w", ErrWorker, err)
	}
	if each == nil {
		each = func([]byte) error { return nil }
	}
	a, err := w.stream(ctx, request{Op: opJob, Job: job, In: content}, each)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(a.Out))
	d.UseNumber() // where out takes anything: some numbers of objects don't fit into a float64
	if err := d.Decode(out); err != nil {
		return fmt.Errorf("%w: %s gave no answer that could be read: %w", ErrWorker, job, err)
	}
	return nil
}

// request is what a child reads: one JSON document, and then nothing more until the stream ends, which tells it that nobody
// waits for its answer any more.
type request struct {
	Op   op     `json:"op"`
	Path string `json:"path,omitempty"`
	// Raw says that Path is no snapshot but the database of a stopped etcd; for opKeys and opVerify.
	Raw     bool            `json:"raw,omitempty"`
	Restore *RestoreOptions `json:"restore,omitempty"`
	Serve   *ServeOptions   `json:"serve,omitempty"`
	// Folders are for opSweep.
	Folders []string `json:"folders,omitempty"`
	// Job and In are for opJob.
	Job string          `json:"job,omitempty"`
	In  json.RawMessage `json:"in,omitempty"`
}

// what names what is asked for.
func (r request) what() string {
	if r.Op == opJob {
		return r.Job
	}
	return string(r.Op)
}

// answer is what a child prints: one JSON document. Before it, when keys or a job are asked for, come records; see writeRecord.
type answer struct {
	Out      json.RawMessage    `json:"out,omitempty"`
	Snapshot *plan.SnapshotInfo `json:"snapshot,omitempty"`
	Revision int64              `json:"revision,omitempty"`
	Error    string             `json:"error,omitempty"`
	// Kind names the sentinel that the error wraps; see kinds.
	Kind string `json:"kind,omitempty"`
}

// kind is an error that keeps its identity on its way from the child to the parent, and its name there.
type kind struct {
	name string
	err  error
}

// kinds are those of which one is told; of an error that wraps several, the first.
func kinds() []kind {
	return []kind{
		{"worker", ErrWorker}, {"changed", ErrChanged}, {"empty", ErrEmpty}, {"not-snapshot", ErrNotSnapshot}, {"compressed", ErrCompressed}, {"truncated", ErrTruncated}, {"no-trailer", ErrNoTrailer},
		{"newer", ErrNewer}, {"trailer-mismatch", ErrTrailerMismatch}, {"damaged", ErrDamaged}, {"not-exist", os.ErrNotExist}, {"permission", os.ErrPermission},
		{"canceled", context.Canceled}, {"deadline", context.DeadlineExceeded},
	}
}

// kindNamed returns the error of that name; nil for none.
func kindNamed(name string) error {
	for _, k := range kinds() {
		if k.name == name {
			return k.err
		}
	}
	return nil
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
	maxAnswer, maxLog = 128 << 20, 64 << 10
	// How long a child that was told to end may hold on to its output.
	workerGrace = 5 * time.Second
	// orphanGrace is how long a child whose parent is gone may take to end what it has started.
	orphanGrace = time.Second
)

// call starts a child, gives it the request, and returns its answer. However the child ends, call returns.
func (w Worker) call(ctx context.Context, req request) (answer, error) {
	cmd, in, log, err := w.prepare(ctx, req)
	if err != nil {
		return answer{}, err
	}
	out := &tail{max: maxAnswer}
	cmd.Stdout = out
	if err := whyEnded(ctx, req.what(), runWith(cmd, in, nil), log); err != nil {
		return answer{}, err
	}
	return decode(req.what(), out.kept)
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
			rest, broken = io.ReadAll(io.LimitReader(out, maxAnswer+1))
			if len(rest) > maxAnswer {
				broken = fmt.Errorf("its answer is longer than %d MB", maxAnswer>>20)
			}
		}
		if broken != nil && !ended(broken) {
			end() // nobody reads on
		}
	})
	if refused != nil {
		return answer{}, refused
	}
	if ctx.Err() == nil && broken != nil && !ended(broken) {
		return answer{}, fmt.Errorf("%w: %s printed something else than records: %w", ErrWorker, req.what(), broken)
	}
	if err := whyEnded(ctx, req.what(), runErr, log); err != nil {
		return answer{}, err
	}
	if broken != nil {
		return answer{}, fmt.Errorf("%w: %s ended before its answer: %w", ErrWorker, req.what(), broken)
	}
	return decode(req.what(), rest)
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
func whyEnded(ctx context.Context, what string, runErr error, log *tail) error {
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s was stopped: %w", what, ctx.Err())
	case runErr == nil:
		return nil
	case log.lacksMeans():
		return fmt.Errorf("%w: %s could not get what it needs of this machine, which says nothing about the snapshot; its last lines:\n%s", ErrWorker, what, log.lastLines(crashLines))
	case log.saysWhyGoDied():
		return fmt.Errorf("%w: reading it made %s die; %s; its last lines:\n%s", ErrDamaged, what, takeAnother, log.lastLines(crashLines))
	case errors.As(runErr, &exit):
		// The kernel ends processes like this when memory runs out, so the snapshot need not be the reason.
		killed := ""
		if exit.ExitCode() < 0 {
			killed = " (which it is when memory runs out)"
		}
		return fmt.Errorf("%w: %s ended with %w%s and without an answer; its last lines:\n%s", ErrWorker, what, exit, killed, log.lastLines(crashLines))
	default:
		return fmt.Errorf("%w: %w", ErrWorker, runErr)
	}
}

// decode reads an answer.
func decode(what string, out []byte) (answer, error) {
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		return answer{}, fmt.Errorf("%w: %s printed no answer that could be read (%w): %s", ErrWorker, what, err, (&tail{kept: out}).lastLines(1))
	}
	if a.Error == "" {
		return a, nil
	}
	return answer{}, &told{text: a.Error, kind: kindNamed(a.Kind)}
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

// lacksMeans says whether a Go program died for want of memory or of threads, as Go itself calls that, or of what else a machine must have, as etcd says when it panics for that.
func (t *tail) lacksMeans() bool {
	lines, died := t.lines()
	return died && (LacksMeans(errors.New(lines[0])) ||
		slices.ContainsFunc([]string{"out of memory", "failed to reserve", "newosproc", "pthread_create"}, func(said string) bool { return strings.Contains(lines[0], said) }))
}

// lastLines returns the n lines that say most: those from the reason on where a Go program died, or else the last.
func (t *tail) lastLines(n int) string {
	lines, died := t.lines()
	if strings.TrimSpace(strings.Join(lines, "")) == "" {
		return "(it wrote nothing)"
	}
	if died {
		return strings.Join(lines[:min(n, len(lines))], "\n")
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// WorkerMain is the child's side: it reads one request from stdin, does it, and writes one answer to stdout. It returns an
// error only when it could not read the one or write the other; that a snapshot is bad is an answer. A bad snapshot
// may well end the whole process: call it from a process that does nothing else. Besides what this package asks for it does the jobs that it is given.
//
// stdin has to stay open until the answer is there. When it ends before, the process that asked is gone, and WorkerMain
// returns an error soon, though the work may still be going on: the process should end then, and the work with it.
//
// etcd's own log goes to the standard error of the process, from where the parent takes the last lines when the child
// dies.
func WorkerMain(ctx context.Context, stdin io.Reader, stdout io.Writer, jobs ...Job) error {
	var req request
	if err := json.NewDecoder(stdin).Decode(&req); err != nil {
		return fmt.Errorf("read request: %w; this command is started by drill itself", err)
	}
	orphaned := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, stdin)
		orphaned <- err
	}()
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	answered := make(chan answer, 1)
	go func() { answered <- req.do(ctx, stdout, jobs) }()
	select {
	case a := <-answered:
		if err := json.NewEncoder(stdout).Encode(a); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
		return nil
	case err := <-orphaned:
		if req.Op == opSweep {
			return sweep(ctx, req.Folders)
		}
		if req.Op == opJob || req.Op == opServe { // a job may have started a program, and has to end that
			giveUp()
			select {
			case <-answered:
			case <-time.After(orphanGrace):
			}
		}
		return errors.Join(fmt.Errorf("%s is given up: the process that asked for it is gone", req.what()), err)
	}
}

// do does what is asked for. Records go to stdout, before the answer.
func (r request) do(ctx context.Context, stdout io.Writer, jobs []Job) (a answer) {
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
		err = restoreHere(ctx, warnings(), *r.Restore)
	case r.Op == opServe && r.Serve != nil:
		err = serveHere(ctx, warnings(), *r.Serve, func(record []byte) error { return writeRecord(stdout, record) })
		err = errors.Join(err, endOfRecords(stdout))
	case r.Op == opSweep:
		<-ctx.Done() // see sweep
		err = ctx.Err()
	case r.Op == opKeys:
		records := bufio.NewWriter(stdout)
		a.Revision, err = keysHere(ctx, r.Path, r.Raw, func(record []byte) error { return writeRecord(records, record) })
		err = errors.Join(err, endOfRecords(records), records.Flush())
	case r.Op == opJob:
		a.Out, err = r.job(ctx, stdout, jobs)
		err = errors.Join(err, endOfRecords(stdout))
	default:
		err = fmt.Errorf("%w: unknown request %q", ErrWorker, r.Op)
	}
	if err == nil {
		return a
	}
	a.Error = err.Error()
	if i := slices.IndexFunc(kinds(), func(k kind) bool { return errors.Is(err, k.err) }); i >= 0 {
		a.Kind = kinds()[i].name
	}
	return a
}

// warnings is a log of what etcd finds worth a warning, on standard error.
func warnings() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(os.Stderr), zap.WarnLevel))
}

// job does what Do asked for.
func (r request) job(ctx context.Context, stdout io.Writer, jobs []Job) (json.RawMessage, error) {
	i := slices.IndexFunc(jobs, func(j Job) bool { return j.Name == r.Job })
	if i < 0 {
		return nil, fmt.Errorf("%w: unknown job %q", ErrWorker, r.Job)
	}
	out, err := jobs[i].Run(ctx, r.In, func(record []byte) error { return writeRecord(stdout, record) })
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}
