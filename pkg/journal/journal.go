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
	// content is all that the file holds, and watch is told of it after each entry.
	content []byte
	watch   func(content []byte)
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

func create(dir string, lock *flock.Flock, run Run, at time.Time) (*Journal, error) {
	f, err := os.OpenFile(filepath.Join(dir, FileName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{lock: lock, file: f}
	owner := Self()
	if err := errors.Join(j.Append(Entry{Version: version, At: at, Kind: Began, Run: &run, Owner: &owner}), syncDir(dir)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
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
		content = content[:bytes.LastIndexByte(content, '\n')+1]
		err = f.Truncate(int64(len(content)))
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, State{}, errors.Join(err, f.Close())
	}
	return &Journal{lock: lock, file: f, content: content, unwritable: unwritable}, s, nil
}

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
	s, err := Read(dir)
	if err != nil || s.Owner == (Owner{}) {
		return ErrAtWork
	}
	return fmt.Errorf("%w: %s", ErrAtWork, s.Owner)
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

// Append writes an entry and returns when it is on the disk.
func (j *Journal) Append(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	line = append(line, '\n')
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.unwritable != nil {
		return fmt.Errorf("writing to the journal: %w", j.unwritable)
	}
	if _, err := j.file.Write(line); err != nil {
		// A part may have been written. Without it the next entry has a line of its own again.
		err = errors.Join(err, j.file.Truncate(int64(len(j.content))))
		_, seekErr := j.file.Seek(int64(len(j.content)), io.SeekStart)
		return fmt.Errorf("writing to the journal: %w", errors.Join(err, seekErr))
	}
	j.content = append(j.content, line...)
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	if j.watch != nil {
		j.watch(bytes.Clone(j.content))
	}
	return nil
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
