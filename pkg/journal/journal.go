package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/etcd-drill/drill/pkg/plan"
)

// FileName is the journal's, in the run's folder and in its folder on a node.
const FileName = "journal.jsonl"

// lockName is the file in the run's folder that is locked for as long as a process is at work on the run. The lock ends with the process, however that ends.
const lockName = "journal.lock"

// version is that of the entries that this package writes.
const version = 1

// Errors that callers tell apart.
var (
	// ErrNone: there is no journal.
	ErrNone = errors.New("no journal")
	// ErrAtWork: another process is at work on the run.
	ErrAtWork = errors.New("another process is at work on the run")
	// ErrDamaged: a line in the journal's midst can't be read, or the first one is missing.
	ErrDamaged = errors.New("the journal is damaged")
)

// Run says which run a journal is of.
type Run struct {
	ID        string `json:"id"`
	Scenario  string `json:"scenario"`
	Procedure string `json:"procedure"`
	Provider  string `json:"provider"`
	Cluster   string `json:"cluster"`
	// Place is where the provider has the cluster: of two places each may have one of that name. Empty where it wasn't told.
	Place     string    `json:"place,omitempty"`
	StartedAt time.Time `json:"startedAt"`
	// Settings are what else is needed to carry the run on, as whoever began it wrote them.
	Settings json.RawMessage `json:"settings,omitempty"`
}

// Owner is the process at work on a run.
type Owner struct {
	Host string `json:"host"`
	PID  int    `json:"pid"`
}

// String names the process as a person would look for it.
func (o Owner) String() string { return fmt.Sprintf("process %d on %s", o.PID, o.Host) }

// Self is the process that calls.
func Self() Owner {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	return Owner{Host: host, PID: os.Getpid()}
}

// Kind says what an entry tells of.
type Kind string

// The kinds of entries.
const (
	// Began is the first entry: the run begins.
	Began Kind = "began"
	// Resumed: another process carries the run on.
	Resumed Kind = "resumed"
	// Undoing: a process is about to put the old state back.
	Undoing Kind = "undoing"
	// StepBegins: a step is about to be carried out.
	StepBegins Kind = "step-begins"
	// StepEnded: it was, with the status given.
	StepEnded Kind = "step-ended"
	// NotBegun: the step that was about to be carried out was not, because the copies of the journal could not be made.
	NotBegun Kind = "not-begun"
	// Judged: the verdict is known, and what follows from it is about to be done.
	Judged Kind = "judged"
	// Ended: the run has come to its end.
	Ended Kind = "ended"
	// Cleaning: a process is about to remove what the run has left, and Cleaned: it has.
	Cleaning Kind = "cleaning"
	Cleaned  Kind = "cleaned"
)

// Entry is one line.
type Entry struct {
	// Version is that of the format; in the first entry only.
	Version int       `json:"version,omitempty"`
	At      time.Time `json:"at"`
	Kind    Kind      `json:"kind"`
	// Run is told in the first entry, and Owner in each with which a process takes the run up.
	Run   *Run   `json:"run,omitempty"`
	Owner *Owner `json:"owner,omitempty"`

	// Step and Phase are of StepBegins and StepEnded; Outage says of StepBegins that the control plane is about to be taken away.
	Step   string     `json:"step,omitempty"`
	Phase  plan.Phase `json:"phase,omitempty"`
	Outage bool       `json:"outage,omitempty"`
	// Status, Seconds and Error are of StepEnded.
	Status  plan.Status `json:"status,omitempty"`
	Seconds float64     `json:"seconds,omitempty"`
	Error   string      `json:"error,omitempty"`

	// Verdict, Reason and Rollback are of Ended, see plan.RunFinished; the first two also of Judged.
	Verdict  plan.Verdict `json:"verdict,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	Rollback plan.Status  `json:"rollback,omitempty"`
	// Proof is of Judged, for a run that passed.
	Proof *plan.Proof `json:"proof,omitempty"`
}

// Journal is a run's journal, open for writing. Methods may be called concurrently.
type Journal struct {
	lock *flock.Flock

	mu     sync.Mutex
	file   *os.File
	closed bool
	// unwritable is why nothing can be written to the file; nil where it can.
	unwritable error
	// content is all that was appended, and watch is told of it after each entry.
	content []byte
	watch   func(content []byte)
	// kept is how much of content the file holds, in bytes. What it lacks is written with the next entry, should the disk have room again.
	kept int
}

// Create begins the journal of a run in the run's folder, which must exist and hold none. The calling process is its owner until Close.
func Create(ctx context.Context, dir string, run Run, at time.Time) (*Journal, error) {
	lock, err := take(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("beginning the journal of run %s: %w", run.ID, err)
	}
	j, err := create(dir, lock, run, at)
	if err != nil {
		return nil, fmt.Errorf("beginning the journal of run %s: %w", run.ID, errors.Join(err, lock.Close()))
	}
	return j, nil
}

// create makes the file under another name first: one without a whole first line would be a damaged journal for good.
func create(dir string, lock *flock.Flock, run Run, at time.Time) (*Journal, error) {
	path := filepath.Join(dir, FileName)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, fmt.Errorf("%s: %w", path, fs.ErrExist))
	}
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{lock: lock, file: f}
	owner := Self()
	err = j.Append(Entry{Version: version, At: at, Kind: Began, Run: &run, Owner: &owner})
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), remove(f.Name()))
	}
	return j, nil
}

// remove removes a file that may be gone.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Open takes up the journal in the run's folder and returns what it tells. The calling process is its owner until Close. The error wraps ErrNone, ErrAtWork or ErrDamaged.
//
// A journal that can only be read is taken up, too, and then each Append fails: what it tells may be needed to bring a control plane back.
func Open(ctx context.Context, dir string) (*Journal, State, error) {
	if _, err := os.Stat(filepath.Join(dir, FileName)); errors.Is(err, fs.ErrNotExist) {
		return nil, State{}, fmt.Errorf("%w in %s", ErrNone, dir)
	}
	lock, err := take(ctx, dir)
	if err != nil {
		return nil, State{}, fmt.Errorf("taking up the journal in %s: %w", dir, err)
	}
	j, s, err := open(dir, lock)
	if err != nil {
		return nil, State{}, fmt.Errorf("taking up the journal in %s: %w", dir, errors.Join(err, lock.Close()))
	}
	return j, s, nil
}

func open(dir string, lock *flock.Flock) (*Journal, State, error) {
	path := filepath.Join(dir, FileName)
	f, unwritable := os.OpenFile(path, os.O_RDWR, 0)
	if unwritable != nil {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, State{}, err
		}
	}
	content, err := io.ReadAll(f)
	var s State
	if err == nil {
		s, err = Parse(content)
	}
	if err == nil && unwritable == nil {
		// What was cut short tells of nothing that was begun, and the next entry must not be joined to it.
		content = whole(content)
		err = f.Truncate(int64(len(content)))
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, State{}, errors.Join(err, f.Close())
	}
	return &Journal{lock: lock, file: f, content: content, kept: len(content), unwritable: unwritable}, s, nil
}

// whole is the content without a last line that was cut short.
func whole(content []byte) []byte { return content[:bytes.LastIndexByte(content, '\n')+1] }

// Somebody who looks whether a process is at work shares the lock for a moment, and takePoll and takeLimit say how often and how long it is tried to take it nevertheless.
const (
	takePoll  = 5 * time.Millisecond
	takeLimit = 5 * time.Second
)

// take locks the run's folder for this process. Who has it locked is told by the journal.
func take(ctx context.Context, dir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeoutCause(ctx, takeLimit, fmt.Errorf("it was not to be had within %s", takeLimit))
	defer cancel()
	tick := time.NewTicker(takePoll)
	defer tick.Stop()
	for {
		held, err := lock.TryLock()
		switch {
		case err != nil:
			return nil, fmt.Errorf("locking the run: %w", err)
		case held:
			return lock, nil
		}
		atWork, err := owned(dir)
		if atWork {
			err = atWorkError(dir)
		}
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("locking the run: %w", context.Cause(ctx)), lock.Close())
		case <-tick.C:
		}
	}
}

// atWorkError is ErrAtWork with the process, if the journal can be read.
func atWorkError(dir string) error {
	const hint = "wait until it has ended, or interrupt it"
	s, err := Read(dir)
	if err != nil || s.Owner == (Owner{}) {
		return fmt.Errorf("%w; %s", ErrAtWork, hint)
	}
	return fmt.Errorf("%w: %s; %s", ErrAtWork, s.Owner, hint)
}

// owned says whether a process has the run's folder for itself. It shares the lock while it looks, so that two who look don't take each other for an owner.
func owned(dir string) (bool, error) {
	lock := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	shared, err := lock.TryRLock()
	if err != nil {
		return false, fmt.Errorf("looking whether a process is at work on the run: %w", err)
	}
	return !shared, lock.Close()
}

// AtWork says whether a process of this machine is at work on the run with that folder.
func AtWork(dir string) (bool, error) {
	if _, err := os.Stat(filepath.Join(dir, lockName)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return owned(dir)
}

// Read tells what the journal in the run's folder says, whoever is at work on it. The error wraps ErrNone or ErrDamaged.
func Read(dir string) (State, error) {
	content, err := os.ReadFile(filepath.Join(dir, FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("%w in %s", ErrNone, dir)
	}
	if err != nil {
		return State{}, err
	}
	s, err := Parse(content)
	if err != nil {
		return State{}, fmt.Errorf("reading the journal in %s: %w", dir, err)
	}
	return s, nil
}

// Append writes an entry and returns when it is on the disk. Where it can't be written, whoever watches is told of it all the same: a copy elsewhere may be all that tells of it.
func (j *Journal) Append(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.content = append(append(j.content, line...), '\n')
	err = j.write()
	if j.watch != nil {
		j.watch(bytes.Clone(j.content))
	}
	return err
}

// write writes what the file lacks, and returns when that is on the disk. What was written in part is taken away again.
func (j *Journal) write() error {
	err := j.unwritable
	if err == nil {
		if _, err = j.file.Write(j.content[j.kept:]); err == nil {
			err = j.file.Sync()
		}
		if err != nil {
			_, seekErr := j.file.Seek(int64(j.kept), io.SeekStart)
			err = errors.Join(err, j.file.Truncate(int64(j.kept)), seekErr)
		}
	}
	if err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	j.kept = len(j.content)
	return nil
}

// Behind says whether a copy of the journal tells of more than this one does: it goes on where this one ends. Where they part, it does if more processes have taken the run up in it or, of as many,
// one later: each goes by what was written before it. The error says why the copy is none of this journal.
func (j *Journal) Behind(other []byte) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	other = whole(other)
	its, err := Parse(other)
	if err != nil {
		return false, err
	}
	own, err := Parse(j.content)
	if err != nil {
		return false, err
	}
	switch {
	case its.Run.ID != own.Run.ID:
		return false, fmt.Errorf("it is of run %s", its.Run.ID)
	case bytes.HasPrefix(j.content, other):
		return false, nil
	case bytes.HasPrefix(other, j.content):
		return true, nil
	}
	mine, last := takers(j.content)
	others, latest := takers(other)
	return others > mine || others == mine && latest.After(last), nil
}

// takers counts the processes that have taken the run up, and says when the last one did.
func takers(content []byte) (n int, last time.Time) {
	for line := range bytes.Lines(content) {
		var e Entry
		if json.Unmarshal(line, &e) == nil && e.Owner != nil {
			n, last = n+1, e.At
		}
	}
	return n, last
}

// Adopt makes the journal what a copy of it has become, and returns what that tells. What it held besides is kept in a file beside it. With an error, which says that this can't be written,
// comes what the copy tells, too, as with a journal that can only be read.
func (j *Journal) Adopt(other []byte) (State, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	other = whole(other)
	s, err := Parse(other)
	if err != nil {
		return State{}, err
	}
	common := 0
	for common < min(len(other), len(j.content)) && other[common] == j.content[common] {
		common++
	}
	common = len(whole(other[:common]))
	own := j.content
	j.content = bytes.Clone(other)
	if j.unwritable == nil && common < j.kept {
		aside := filepath.Join(filepath.Dir(j.file.Name()), FileName+"."+time.Now().UTC().Format("20060102-150405"))
		if err = os.WriteFile(aside, own, 0o600); err == nil {
			err = j.file.Truncate(int64(common))
		}
		if err == nil {
			_, err = j.file.Seek(int64(common), io.SeekStart)
		}
		if err != nil {
			j.unwritable = err
			return s, fmt.Errorf("writing to the journal: %w", err)
		}
	}
	j.kept = min(j.kept, common)
	return s, j.write()
}

// Watch calls f with all that the journal holds, now and after each further entry. It must not block.
func (j *Journal) Watch(f func(content []byte)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.watch = f
	f(bytes.Clone(j.content))
}

// Close ends this process' ownership. Calling it again does nothing.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	return errors.Join(j.file.Close(), j.lock.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
