package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// Errors that callers tell apart.
var (
	// ErrNoRun: there is no run of that name.
	ErrNoRun = errors.New("no such run")
	// ErrNothingToDo: the run has come to its end, and left nothing that could be carried on or put back.
	ErrNothingToDo = errors.New("there is nothing to do")
	// ErrCantResume: the run can be put back only.
	ErrCantResume = errors.New("it can't be carried on")
	// ErrCantRollBack: the run has come to an end after which the old state can't be put back any more.
	ErrCantRollBack = errors.New("the old state can't be put back")
)

// settings are what a journal keeps of a job.
type settings struct {
	BumpRevision  *uint64       `json:"bumpRevision,omitempty"`
	KeepRunning   []string      `json:"keepRunning,omitempty"`
	Renew         []string      `json:"renew,omitempty"`
	WorkloadImage string        `json:"workloadImage,omitempty"`
	LateWrites    int           `json:"lateWrites,omitempty"`
	Literal       bool          `json:"literal,omitempty"`
	Keep          bool          `json:"keep,omitempty"`
	EvidenceDir   string        `json:"evidenceDir,omitempty"`
	ReportDir     string        `json:"reportDir,omitempty"`
	Disposable    bool          `json:"disposable,omitempty"`
	Settle        time.Duration `json:"settle,omitempty"`
	Patience      time.Duration `json:"patience,omitempty"`
	OutageLimit   time.Duration `json:"outageLimit,omitempty"`
	// DataDirMode is that of the procedure; empty is the default, as in journals from before there was another.
	DataDirMode procedure.DataDirMode `json:"dataDirMode,omitempty"`
	// Altered says that a fault was put into the plan. It is not known which, and so such a run can only be put back.
	Altered  bool            `json:"altered,omitempty"`
	Snapshot *stage.Snapshot `json:"snapshot,omitempty"`
}

// entry is what the journal of the job begins with.
func (j Job) entry(began time.Time) journal.Run {
	b, err := json.Marshal(settings{
		j.BumpRevision, j.KeepRunning, j.Renew, j.WorkloadImage, j.LateWrites, j.Literal, j.Keep, absolute(j.EvidenceDir), absolute(j.ReportDir), j.Disposable, j.Settle, j.Patience, j.OutageLimit, j.Procedure.DataDirMode(), j.Alter != nil, j.Snapshot,
	})
	if err != nil {
		panic(err) // these types can always be written
	}
	return journal.Run{
		ID: j.ID, Scenario: j.Scenario.Name, Procedure: j.Procedure.Name, Provider: j.Cluster.Provider(), Cluster: j.Cluster.Name(), Place: j.Place, StartedAt: began.UTC(),
		Settings: b,
	}
}

// absolute is the path from wherever the run is taken up again; empty stays empty.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	abs, err := filepath.Abs(path)
	if err != nil { // the working directory is gone, and nobody can say where it was
		return path
	}
	return abs
}

// Listed is a run in the state directory.
type Listed struct {
	journal.State
	// AtWork says that a process of this machine is at work on it.
	AtWork bool
	// Err says why nothing else is known of it; nil where something is.
	Err error
}

// HoldsCluster says whether the run keeps others from its cluster. One that was begun on a cluster of its own, and has ended, left no cluster.
func (l Listed) HoldsCluster() bool {
	var s settings
	thrownAway := l.End != nil && json.Unmarshal(l.Run.Settings, &s) == nil && s.Disposable
	return !l.Settled() && !thrownAway
}

// List returns the runs that have a folder in the state directory and a journal in it, oldest first.
func List(stateDir string) ([]Listed, error) {
	entries, err := os.ReadDir(filepath.Dir(Dir(stateDir, "any")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the runs: %w", err)
	}
	var out []Listed
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), fetching) {
			continue
		}
		l, err := Find(stateDir, e.Name())
		if errors.Is(err, ErrNoRun) {
			continue
		}
		if err != nil {
			l = Listed{State: journal.State{Run: journal.Run{ID: e.Name()}}, Err: err}
		}
		out = append(out, l)
	}
	return out, nil
}

// Find returns the run of that name. The error wraps ErrNoRun where there is none.
func Find(stateDir, id string) (Listed, error) {
	dir := Dir(stateDir, id)
	if err := checkName(id); err != nil {
		return Listed{}, err
	}
	state, err := journal.Read(dir)
	if errors.Is(err, journal.ErrNone) {
		return Listed{}, fmt.Errorf("%w: %s: there is no journal in %s", ErrNoRun, id, dir)
	}
	if errors.Is(err, journal.ErrDamaged) {
		err = fmt.Errorf("%w; the control planes have copies: move %s away, and call `drill rollback %s --cluster NAME`", err, dir, id)
	}
	if err != nil {
		return Listed{}, err
	}
	atWork, err := journal.AtWork(dir)
	return Listed{State: state, AtWork: atWork}, err
}

// checkName says whether a run can be called that: the name becomes a folder's.
func checkName(id string) error {
	if id == "" || id == "." || id == ".." || id != filepath.Base(id) {
		return fmt.Errorf("%w: %q can't be a run's name", ErrNoRun, id)
	}
	return nil
}

// JobOf is the job of which a journal tells, without what it doesn't: the cluster itself, the state directory, the worker and the observers.
func JobOf(r journal.Run) (Job, error) {
	var s settings
	if err := json.Unmarshal(r.Settings, &s); err != nil {
		return Job{}, fmt.Errorf("run %s: reading how it was begun: %w", r.ID, err)
	}
	all, ways := scenarios.All(), procedure.All()
	i := slices.IndexFunc(all, func(sc scenarios.Scenario) bool { return sc.Name == r.Scenario })
	k := slices.IndexFunc(ways, func(p procedure.Procedure) bool { return p.Name == r.Procedure })
	if i < 0 || k < 0 {
		return Job{}, fmt.Errorf("run %s is of scenario %s with procedure %s, which this drill doesn't have: use the version that began it", r.ID, r.Scenario, r.Procedure)
	}
	way, err := ways[k].In(s.DataDirMode)
	if err != nil {
		return Job{}, fmt.Errorf("run %s: %w; use the version of drill that began it", r.ID, err)
	}
	return Job{
		ID: r.ID, Scenario: all[i], Procedure: way, BumpRevision: s.BumpRevision, KeepRunning: s.KeepRunning, Renew: s.Renew, WorkloadImage: s.WorkloadImage,
		LateWrites: s.LateWrites, Literal: s.Literal, Keep: s.Keep, EvidenceDir: s.EvidenceDir, ReportDir: s.ReportDir, Settle: s.Settle, Patience: s.Patience, OutageLimit: s.OutageLimit, Snapshot: s.Snapshot,
	}, nil
}

// Resume carries the run on that an earlier process has left, from where that stopped. Where it was putting the old state back, so does Resume. The error wraps ErrNothingToDo,
// ErrCantResume, ErrCantRollBack, journal.ErrAtWork or stage.ErrForgotten, and then nothing was touched; otherwise it is for a report that could not be kept. With ErrNothingToDo comes what the run had come
// to before.
func (j Job) Resume(ctx context.Context) (report.Run, error) {
	return j.takeUp(ctx, func(s journal.State) (undo bool, err error) {
		var with settings
		if err := json.Unmarshal(s.Run.Settings, &with); err != nil {
			return false, err
		}
		switch {
		case s.Settled():
			return false, fmt.Errorf("%w: run %s has come to its end: %s", ErrNothingToDo, s.Run.ID, s.End.Verdict)
		case s.End != nil && s.End.Rollback == "":
			return false, fmt.Errorf("%w: it has come to its end (%s) and was kept as it was; put the old state back instead", ErrCantResume, s.End.Verdict)
		case s.Undoing || s.End != nil || s.Judged == plan.VerdictFailed:
			return true, nil
		case slices.ContainsFunc(s.Steps, func(st journal.Step) bool { return st.Status == plan.StatusFailed }):
			return true, nil // it was about to put the old state back
		case s.Proof != nil:
			return false, nil // nothing is left to be typed, altered or watched
		case with.Literal:
			return false, fmt.Errorf("%w: its commands were typed, and one that was cut off may have done half of what it does; put the old state back instead", ErrCantResume)
		case with.Altered:
			return false, fmt.Errorf("%w: a fault was put into it, which is not known any more; put the old state back instead", ErrCantResume)
		case len(with.KeepRunning) > 0:
			return false, fmt.Errorf("%w: what was to live on was watched by the process that is gone; put the old state back instead", ErrCantResume)
		}
		return false, nil
	})
}

// Rollback puts the old state back that the run has changed, and proves it. It may be called again, also while the control plane is down. Errors are as with Resume.
func (j Job) Rollback(ctx context.Context) (report.Run, error) {
	return j.takeUp(ctx, func(s journal.State) (undo bool, err error) {
		switch {
		case s.End == nil:
			return true, nil
		case s.End.Rollback == plan.StatusPassed:
			return false, fmt.Errorf("%w: the state from before run %s was put back at %s", ErrNothingToDo, s.Run.ID, s.End.At.Format(time.RFC3339))
		case s.OutageBegan.IsZero():
			return false, fmt.Errorf("%w: run %s ended (%s) before it changed anything on the control plane", ErrNothingToDo, s.Run.ID, s.End.Verdict)
		case !s.Cleaned.IsZero():
			return false, fmt.Errorf("%w: what run %s had left was removed at %s; a backup can be restored instead", ErrCantRollBack, s.Run.ID, s.Cleaned.Format(time.RFC3339))
		case s.End.Verdict == plan.VerdictPassed:
			return false, fmt.Errorf("%w: run %s passed, and what has been written since would be lost; its report says which objects the recovery has lost", ErrCantRollBack, s.Run.ID)
		}
		return true, nil
	})
}

// takeUp takes the run up as its journal says it was left.
func (j Job) takeUp(ctx context.Context, decide func(journal.State) (undo bool, err error)) (report.Run, error) {
	dir := Dir(j.StateDir, j.ID)
	book, state, err := journal.Open(ctx, dir)
	if err != nil {
		return report.Run{}, err
	}
	run, err := j.takeUpWith(ctx, book, state, decide)
	if err != nil {
		return run, errors.Join(err, book.Close())
	}
	return run, nil
}

func (j Job) takeUpWith(ctx context.Context, book *journal.Journal, state journal.State, decide func(journal.State) (undo bool, err error)) (report.Run, error) {
	var unlearnt error
	if !state.Settled() {
		var err error
		if len(state.Steps) > 0 {
			err = j.reachable(ctx)
		}
		if err == nil {
			state, unlearnt, err = j.catchUp(ctx, book, state)
		}
		if err != nil {
			return report.Run{}, err
		}
	}
	undo, err := decide(state)
	switch { // the process that ended the run may have been killed before it gave the cluster back
	case errors.Is(err, ErrNothingToDo):
		return j.reported(state), errors.Join(err, j.release(ctx))
	case errors.Is(err, ErrCantRollBack):
		return report.Run{}, errors.Join(err, j.release(ctx))
	}
	if err == nil && undo && len(state.Steps) == 0 {
		return j.settle(ctx, book, state)
	}
	if err == nil && len(state.Steps) == 0 { // else it was asked above
		err = j.reachable(ctx)
	}
	if err == nil {
		err = j.owns(ctx, state)
	}
	if err != nil {
		return report.Run{}, err
	}
	var builder report.Builder
	s, err := stage.Recall(ctx, j.Cluster, j.Procedure, j.stageOptions(Dir(j.StateDir, j.ID), &builder))
	if errors.Is(err, stage.ErrForgotten) && len(state.Steps) == 0 { // it was killed before it did anything
		if err := j.answers(ctx); err != nil {
			return report.Run{}, err
		}
		s, err = stage.Set(ctx, j.Cluster, j.Procedure, j.stageOptions(Dir(j.StateDir, j.ID), &builder))
	}
	if err != nil {
		return report.Run{}, err
	}
	if err := s.Missing(); err != nil && !undo && state.Proof == nil {
		return report.Run{}, fmt.Errorf("%w here: %w; the machine that began the run can, or put the old state back instead", ErrCantResume, err)
	}
	if err := s.Target.Reach(ctx); err != nil {
		return report.Run{}, fmt.Errorf("cluster %s can't be worked on: %w; nothing was touched, call this again when it can", j.Cluster.Name(), err)
	}
	if !undo && state.OutageBegan.IsZero() {
		if err := j.answers(ctx); err != nil {
			return report.Run{}, err
		}
	}
	if err := j.claim(ctx); err != nil {
		return report.Run{}, err
	}
	kind, how := journal.Resumed, engine.Run
	if undo {
		kind, how = journal.Undoing, engine.Undo
		j.Keep = false    // that was for what the run left
		j.Literal = false // what is typed takes for granted that nothing was put back yet
	}
	unkept, err := announce(book, kind, state)
	if err != nil {
		return report.Run{}, err
	}
	past := &engine.Past{
		Done: map[string]time.Duration{}, Begun: map[string]bool{}, Resumed: state.Resumed + 1, Began: state.Run.StartedAt,
		Marks: plan.Marks{BreakBegan: state.BreakBegan, OutageBegan: state.OutageBegan},
	}
	if !undo {
		past.Proof = state.Proof
	}
	if state.End != nil {
		past.Verdict, past.Reason = state.End.Verdict, state.End.Reason
	}
	for _, st := range state.Steps {
		past.Begun[st.Name] = true
		if st.Status == plan.StatusPassed && st.Phase != plan.Rollback {
			past.Done[st.Name] = time.Duration(st.Seconds * float64(time.Second))
		}
	}
	return j.walk(ctx, book, s, &builder, how, past, unlearnt, unkept)
}

// catchUp takes in what other processes have written to the copies of the journal on the control planes, which this machine may know nothing of: one elsewhere has taken the run up, or this one's disk
// was full. Where it can't be kept here, unkept is why; that is no reason to leave a control plane that was taken down as it is.
func (j Job) catchUp(ctx context.Context, book *journal.Journal, state journal.State) (_ journal.State, unkept, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, reachTimeout, fmt.Errorf("it gave no answer within %s", reachTimeout))
	defer cancel()
	nodes := cluster.ControlPlanes(j.Cluster)
	type files struct{ journal, memory []byte }
	copies := make([]files, len(nodes))
	var reading errgroup.Group
	for i, n := range nodes {
		reading.Go(func() error {
			for name, to := range map[string]*[]byte{journal.FileName: &copies[i].journal, stage.MemoryFile: &copies[i].memory} {
				b, err := n.ReadFile(ctx, path.Join(stage.NodeDirs, j.ID, name))
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("nothing was touched: node %s: looking whether another process has taken run %s up: %w", n.Name(), j.ID, err)
				}
				*to = b
			}
			return nil
		})
	}
	if err := reading.Wait(); err != nil {
		return state, nil, err
	}
	for i, c := range copies {
		if c.journal == nil {
			continue
		}
		behind, err := book.Behind(c.journal)
		if err != nil {
			return state, nil, fmt.Errorf("nothing was touched: the copy of the journal on node %s: %w", nodes[i].Name(), err)
		}
		if !behind {
			continue
		}
		state, unkept = book.Adopt(c.journal)
		if c.memory != nil {
			if err := renameio.WriteFile(filepath.Join(Dir(j.StateDir, j.ID), stage.MemoryFile), c.memory, 0o600); err != nil {
				unkept = errors.Join(unkept, err)
			}
		}
		if unkept != nil && state.OutageBegan.IsZero() {
			return state, nil, fmt.Errorf("nothing was touched: what others have done of run %s can't be kept here: %w", j.ID, unkept)
		}
	}
	return state, unkept, nil
}

// reported is what the run has come to, as it was reported. Where there is no report of it any more, it is what the journal says.
func (j Job) reported(s journal.State) report.Run {
	content, err := os.ReadFile(filepath.Join(Dir(j.StateDir, j.ID), report.JSONFile))
	var doc report.Document
	if err == nil && json.Unmarshal(content, &doc) == nil && len(doc.Runs) == 1 && doc.Runs[0].ID == j.ID {
		return doc.Runs[0]
	}
	r := report.Run{ID: j.ID, Scenario: s.Run.Scenario, Procedure: s.Run.Procedure, StartedAt: s.Run.StartedAt, Resumed: s.Resumed}
	r.Cluster.Name = s.Run.Cluster
	r.Verdict, r.Reason, r.Rollback = s.End.Verdict, s.End.Reason, s.End.Rollback
	r.Warnings = []string{"there is no report of this run any more: this is what its journal says"}
	return r
}

// How often a control plane is asked whether it answers, and how long it may take to do so.
const (
	answerPoll  = time.Second
	answerLimit = 3 * time.Minute
)

// answers waits until etcd and the API servers do, whose nodes may have been started anew since the run was left. Nothing is touched.
func (j Job) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var all errgroup.Group
	for _, n := range cluster.ControlPlanes(j.Cluster) {
		all.Go(func() error {
			err := controlplane.WaitReady(ctx, n, controlplane.Etcd, answerPoll)
			if err == nil {
				err = controlplane.WaitReady(ctx, n, controlplane.APIServer, answerPoll)
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return fmt.Errorf("cluster %s does not answer: %w; nothing was touched, call this again when it does", j.Cluster.Name(), err)
	}
	return nil
}

// announce writes down that this process takes the run up. Where that can't be written down nothing is begun, but for a rollback of a control plane that was taken down: a disk that is full or can't
// be written to is no reason to leave it so. Then unkept is why.
func announce(book *journal.Journal, kind journal.Kind, state journal.State) (unkept, err error) {
	owner := journal.Self()
	err = book.Append(journal.Entry{At: time.Now().UTC(), Kind: kind, Owner: &owner})
	if err != nil && kind == journal.Undoing && !state.OutageBegan.IsZero() {
		return err, nil
	}
	return nil, err
}

// settle is for a run that is to be put back and has done nothing: that is said, and the cluster is given back. What might keep a run from beginning on it doesn't matter for that.
func (j Job) settle(ctx context.Context, book *journal.Journal, state journal.State) (report.Run, error) {
	if err := j.release(ctx); err != nil {
		return report.Run{}, err
	}
	run := j.untouched(state.Run.StartedAt)
	owner := journal.Self()
	for _, e := range []journal.Entry{{Kind: journal.Undoing, Owner: &owner}, {Kind: journal.Ended, Verdict: run.Verdict, Reason: run.Reason}} {
		e.At = time.Now().UTC()
		if err := book.Append(e); err != nil {
			return report.Run{}, err
		}
	}
	return run, errors.Join(keep(Dir(j.StateDir, j.ID), run), book.Close())
}

// reachTimeout bounds the question whether a control plane can be reached.
const reachTimeout = 15 * time.Second

// reachable says whether all control planes that the run began with are there and can be reached. What is put back or carried on on some of them alone leaves an etcd whose members don't agree,
// so it is not begun; who has lost one for good has to recover the cluster without it.
func (j Job) reachable(ctx context.Context) error {
	nodes := cluster.ControlPlanes(j.Cluster)
	lost := make([]error, len(nodes))
	var asking sync.WaitGroup
	for i, n := range nodes {
		asking.Go(func() {
			ctx, cancel := context.WithTimeoutCause(ctx, reachTimeout, fmt.Errorf("it gave no answer within %s", reachTimeout))
			defer cancel()
			if _, err := cluster.Run(ctx, n, "true"); err != nil {
				if cause := context.Cause(ctx); cause != nil {
					err = cause
				}
				lost[i] = fmt.Errorf("control plane %s can't be reached: %w", n.Name(), err)
			}
		})
	}
	asking.Wait()
	remembered, err := stage.ControlPlanes(Dir(j.StateDir, j.ID))
	if err != nil && !errors.Is(err, stage.ErrForgotten) {
		return err
	}
	for _, name := range remembered {
		if !slices.ContainsFunc(nodes, func(n cluster.Node) bool { return n.Name() == name }) {
			lost = append(lost, fmt.Errorf("control plane %s, which cluster %s had when the run began, is no more; is it another cluster of that name?", name, j.Cluster.Name()))
		}
	}
	if err := errors.Join(lost...); err != nil {
		return fmt.Errorf("nothing was touched, since run %s can be taken up on all of its control planes only, whose etcds must agree: %w; hint: bring it back and call this again; "+
			"if it is lost for good, the others hold what etcd held before, in member/snap/db of their old data directories (%s), from which `etcdutl snapshot restore --skip-hash-check` makes a new cluster of them",
			j.ID, err, "whose path is in "+path.Join(stage.NodeDirs, j.ID, "etcd.yaml.before"))
	}
	return nil
}

// setAside renames a file that is about to be written anew.
func setAside(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Rename(path, path+"."+info.ModTime().UTC().Format("20060102-150405"))
}

// owns says whether what the run has left is still what there is: until it is settled, the cluster is its own. Another cluster of that name, or one that was given to others since, must not
// be put back to what the run has found.
func (j Job) owns(ctx context.Context, state journal.State) error {
	if len(state.Steps) == 0 {
		return nil // it has done nothing
	}
	n := cluster.ControlPlanes(j.Cluster)[0]
	held, err := holder(ctx, n)
	switch {
	case err != nil:
		return err
	case held == nil:
		return fmt.Errorf("run %s does not have cluster %s: nobody has; is it another cluster of that name, or has somebody removed %s? if it is the same one, and nothing has drilled it since, "+
			"this on node %s gives it back to the run: ln %s %s", j.ID, j.Cluster.Name(), cluster.LockFile, n.Name(), path.Join(stage.NodeDirs, j.ID, ownerFile), cluster.LockFile)
	case held.Run != j.ID:
		return j.explained(&ClaimedError{Cluster: j.Cluster.Name(), Claim: *held})
	}
	return nil
}

// explained adds to a *ClaimedError what a person can do about the run that has the cluster.
func (j Job) explained(err error) error {
	var claimed *ClaimedError
	if !errors.As(err, &claimed) {
		return err
	}
	id, gone := claimed.Claim.Run, "if that process is no more"
	if claimed.Claim.Host == journal.Self().Host {
		gone = "that process is no more"
	}
	l, findErr := Find(j.StateDir, id)
	switch {
	case findErr != nil && !errors.Is(findErr, ErrNoRun):
		return fmt.Errorf("%w; what is known of it here can't be read: %w", err, findErr)
	case findErr != nil:
		return fmt.Errorf("%w; its journal is not in %s: if that process is no more, call `drill resume %s` where it ran, or `drill rollback %s --cluster %s` here",
			err, j.StateDir, id, id, claimed.Cluster)
	case l.AtWork:
		return fmt.Errorf("%w; it is at work: wait until it has ended, or interrupt it", err)
	case l.End != nil:
		return fmt.Errorf("%w; that run has ended (%s), and its old state was not put back: `drill rollback %s` does that", err, l.End.Verdict, id)
	case l.OutageBegan.IsZero():
		return fmt.Errorf("%w; %s, and the control plane was not taken down: `drill rollback %s` ends the run and changes nothing, `drill resume %s` carries it on, and what was "+
			"written since %s is lost", err, gone, id, id, l.Run.StartedAt.UTC().Format(time.RFC3339))
	default:
		return fmt.Errorf("%w; %s: `drill resume %s` carries the run on, `drill rollback %s` puts the old state back", err, gone, id, id)
	}
}

// Abandoned fetches what a run has left on the control planes of a cluster, for a machine that has no journal of it: the old state can be put back with that. The run's folder must
// not be there yet.
func Abandoned(ctx context.Context, c cluster.Cluster, stateDir, id string) error {
	if err := checkName(id); err != nil {
		return err
	}
	n := cluster.ControlPlanes(c)[0]
	held, err := holder(ctx, n)
	if err != nil {
		return err
	}
	has := held != nil && held.Run == id
	if self := journal.Self(); has && held.Host == self.Host && held.PID != self.PID && alive(held.PID) {
		return fmt.Errorf("%w: %s, with another state directory; if that process is not drill, another one has its number by now: this on node %s says that nobody is at work any more: echo '{\"run\":\"%s\"}' >%s",
			journal.ErrAtWork, held.Owner, n.Name(), id, cluster.LockFile)
	}
	files := map[string][]byte{}
	for _, name := range []string{journal.FileName, stage.MemoryFile} {
		b, err := n.ReadFile(ctx, stage.NodeDirs+"/"+id+"/"+name)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s: node %s of cluster %s has no %s of it", ErrNoRun, id, n.Name(), c.Name(), name)
			if has {
				err = fmt.Errorf("%w: so it ended before it took the control plane down, and this on that node gives the cluster back: rm %s", err, cluster.LockFile)
			}
			return err
		}
		if err != nil {
			return err
		}
		files[name] = b
	}
	state, err := journal.Parse(files[journal.FileName])
	if err == nil && state.Run.ID != id {
		err = fmt.Errorf("it is of run %s", state.Run.ID)
	}
	if err != nil {
		return fmt.Errorf("the copy of the journal on node %s: %w", n.Name(), err)
	}
	return fetched(Dir(stateDir, id), files)
}

// fetched makes a run's folder of files, whole or not at all: with a part of them it would be a run of which not enough is known, and couldn't be fetched again.
func fetched(dir string, files map[string][]byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("fetching what the run has left: %s %w: move it away", dir, fs.ErrExist))
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), fetching) // 0700
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(part))
		}
	}()
	for name, content := range files {
		f, err := os.OpenFile(filepath.Join(part, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return os.Rename(part, dir) // which overwrites no folder that holds anything
}

// fetching is how the names of folders begin in which a run is being put together.
const fetching = ".fetching-"
