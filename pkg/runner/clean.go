package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/stage"
)

// Errors by which Clean refuses a run.
var (
	// ErrNotSettled: the run may still be carried on or put back, and needs what it has left for that.
	ErrNotSettled = errors.New("it is not settled")
	// ErrInUse: something runs on what the run has left, or would when it is started next.
	ErrInUse = errors.New("what it has left is in use")
)

// Leaving is something that a run has left, and that Clean removes.
type Leaving struct {
	// Node is where it lies; empty for this machine.
	Node string `json:"node"`
	Path string `json:"path"`
	// Bytes is how much room it takes.
	Bytes int64 `json:"bytes"`
}

// Cleaning is what came of Clean.
type Cleaning struct {
	// Leavings are what was removed, or what would be.
	Leavings []Leaving
	// Notes tell what a person should know of it.
	Notes []string
}

// idPattern is that of NewID. What is removed by its name must be nothing but a run's.
var idPattern = regexp.MustCompile(`^[0-9]{8}-[0-9]{6}-[a-z2-7]{4}$`)

// Clean removes what a settled run has left of the cluster's data: its folders on every control plane, and the snapshot and what was found out in its folder on this machine. The journal, the reports and
// the evidence stay. With dryRun nothing is touched, and told is what would be removed.
//
// A cluster that is nil is gone for certain, see Whereabouts. Then nothing can be carried on or put back any more, and a run need not be settled.
//
// All of a run is removed or nothing of it: where anything on any control plane uses what it has left, the snapshot from which that came stays, too. The error wraps ErrNoRun, ErrNotSettled,
// ErrInUse, ErrClaimed or journal.ErrAtWork, or says what could not be found out, and then nothing was removed. Where Leavings are returned beside an error, those were removed before it; calling Clean
// again goes on from there.
//
// While it works it has the cluster as a run has it, so that none can begin.
func (j Job) Clean(ctx context.Context, dryRun bool) (Cleaning, error) {
	if !idPattern.MatchString(j.ID) {
		return Cleaning{}, fmt.Errorf("%w: %q can't be a run's name", ErrNoRun, j.ID)
	}
	dir := Dir(j.StateDir, j.ID)
	if info, err := os.Lstat(dir); err == nil && !info.IsDir() {
		return Cleaning{}, fmt.Errorf("%w: %s is no folder, and links are not followed", ErrNoRun, dir)
	}
	if dryRun {
		l, err := Find(j.StateDir, j.ID)
		switch {
		case err != nil:
			return Cleaning{}, err
		case l.AtWork:
			return Cleaning{}, fmt.Errorf("%w: %s", journal.ErrAtWork, l.Owner)
		}
		return j.leavings(ctx, l.State)
	}
	book, state, err := journal.Open(ctx, dir)
	if errors.Is(err, journal.ErrNone) {
		err = fmt.Errorf("%w: %w", ErrNoRun, err)
	}
	if err != nil {
		return Cleaning{}, err
	}
	c, err := j.clean(ctx, book, state)
	return c, errors.Join(err, book.Close())
}

func (j Job) clean(ctx context.Context, book *journal.Journal, state journal.State) (Cleaning, error) {
	found, err := j.leavings(ctx, state)
	if err != nil {
		return Cleaning{}, err
	}
	owner := journal.Self()
	if err := book.Append(journal.Entry{At: time.Now().UTC(), Kind: journal.Cleaning, Owner: &owner}); err != nil {
		return Cleaning{}, err
	}
	removed := Cleaning{Notes: found.Notes}
	if j.Cluster != nil {
		if err := j.claim(ctx); err != nil {
			return removed, err
		}
		// What was found above may have changed until nobody else could begin.
		if found, err = j.leavings(ctx, state); err == nil {
			err = j.removeOnNodes(ctx, found, &removed)
		}
		// The folder is gone, and the lock is a name of its own.
		if err = errors.Join(err, j.release(ctx)); err != nil {
			return removed, err
		}
	}
	// This machine comes last: its journal is by which a run is known that was not cleaned to the end.
	for _, l := range found.Leavings {
		if l.Node != "" {
			continue
		}
		if err := os.RemoveAll(l.Path); err != nil {
			return removed, fmt.Errorf("removing what run %s has left here: %w", j.ID, err)
		}
		removed.Leavings = append(removed.Leavings, l)
	}
	return removed, book.Append(journal.Entry{At: time.Now().UTC(), Kind: journal.Cleaned})
}

func (j Job) removeOnNodes(ctx context.Context, found Cleaning, removed *Cleaning) error {
	for _, n := range cluster.ControlPlanes(j.Cluster) {
		for _, l := range found.Leavings {
			if l.Node != n.Name() {
				continue
			}
			if _, err := cluster.Run(ctx, n, "rm", "-rf", "--one-file-system", "--", l.Path); err != nil {
				return fmt.Errorf("removing what run %s has left: %w", j.ID, err)
			}
			if err := cluster.Absent(ctx, n, l.Path); err != nil {
				return fmt.Errorf("removing what run %s has left: %w", j.ID, err)
			}
			removed.Leavings = append(removed.Leavings, l)
		}
	}
	return nil
}

// leavings finds what the run has left, on the control plane and here, and whether it may be removed. Nothing is touched.
func (j Job) leavings(ctx context.Context, state journal.State) (Cleaning, error) {
	var c Cleaning
	if j.Cluster != nil {
		if !state.Settled() {
			return c, j.unsettled(state)
		}
		if _, err := j.vacant(ctx); err != nil {
			return c, err
		}
		for _, n := range cluster.ControlPlanes(j.Cluster) {
			if err := j.leavingsOn(ctx, n, &c); err != nil {
				return Cleaning{}, fmt.Errorf("node %s: %w", n.Name(), err)
			}
		}
	}
	data, err := stage.Data(Dir(j.StateDir, j.ID))
	if err != nil {
		return Cleaning{}, fmt.Errorf("looking what run %s has left here: %w", j.ID, err)
	}
	for _, p := range data {
		size, err := room(p)
		if err != nil {
			return Cleaning{}, fmt.Errorf("looking what run %s has left here: %w", j.ID, err)
		}
		c.Leavings = append(c.Leavings, Leaving{Path: p, Bytes: size})
	}
	return c, nil
}

// unsettled says what is to be done before a run can be cleaned.
func (j Job) unsettled(state journal.State) error {
	why := "its drill ended before it did; `drill resume RUN` carries it on, `drill rollback RUN` puts the old state back"
	switch {
	case state.End != nil && state.End.Rollback == plan.StatusFailed:
		why = "its old state is not proven to be back; `drill rollback RUN` tries again"
	case state.End != nil:
		why = "it ended and was kept as it was; `drill rollback RUN` puts the old state back"
	case state.Undoing:
		why = "its old state was being put back; `drill rollback RUN` goes on with that"
	}
	return fmt.Errorf("%w: %s; or delete cluster %s, if nobody needs it any more", ErrNotSettled, strings.ReplaceAll(why, "RUN", j.ID), j.Cluster.Name())
}

// leavingsOn adds what the run has left on one control plane. The error wraps ErrInUse where it is needed there.
func (j Job) leavingsOn(ctx context.Context, n cluster.Node, c *Cleaning) error {
	own, moved := path.Join(stage.NodeDirs, j.ID), procedure.MovedDir(j.ID)
	here, err := filepath.EvalSymlinks(Dir(j.StateDir, j.ID)) // by which name processes have it open, this one among them
	if err != nil {
		return err
	}
	exchanged, err := stage.ExchangedBy(Dir(j.StateDir, j.ID), own)
	if err != nil {
		return err
	}
	by := exchanged[n.Name()]
	if err := runsOn(ctx, n, by); err != nil {
		return err
	}
	dirs := []string{own, moved}
	if by.Home != "" && by.Home != own {
		dirs = append(dirs, by.Home)
	}
	for _, dir := range dirs {
		err := cluster.Absent(ctx, n, dir)
		if err == nil {
			continue
		}
		if !errors.Is(err, cluster.ErrOccupied) {
			return err
		}
		if kind, err := cluster.Run(ctx, n, "find", dir, "-maxdepth", "0", "-printf", "%y"); err != nil || kind != "d" {
			return errors.Join(err, fmt.Errorf("%s is no folder (find says it is %q), and links are not followed", dir, kind))
		}
		users, err := controlplane.Users(ctx, n, dir, here)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return fmt.Errorf("%w: %s: %s; hint: the next run that passes moves etcd to a directory of its own, and this one can be cleaned then", ErrInUse, dir, enumerated(users))
		}
		size, err := cluster.Run(ctx, n, "du", "--summarize", "--one-file-system", "--block-size=1", "--", dir)
		if err != nil {
			return err
		}
		text, _, _ := strings.Cut(size, "\t")
		bytes, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("how large %s is: du says %q: %w", dir, size, err)
		}
		if dir == moved {
			err = allBack(ctx, n, moved)
		} else {
			err = j.neededByOthers(ctx, n, c)
		}
		if err != nil {
			return err
		}
		c.Leavings = append(c.Leavings, Leaving{Node: n.Name(), Path: dir, Bytes: bytes})
	}
	return nil
}

// runsOn makes sure that etcd doesn't run on a directory that the run has renamed to where another was. Nothing names the run then; but what the old directory holds is only in the run's
// folder, and the snapshot is the backup of what etcd runs on.
func runsOn(ctx context.Context, n cluster.Node, by stage.Exchanged) error {
	if len(by.Inodes) == 0 {
		return nil
	}
	config, err := controlplane.ReadEtcdConfig(ctx, n)
	if err != nil {
		return err
	}
	now, err := controlplane.Directories(ctx, n, config.HostDataDir)
	if err != nil {
		return fmt.Errorf("which directory etcd's manifest names: %w", err)
	}
	if slices.Contains(by.Inodes, now[0].Inode) {
		return fmt.Errorf("%w: etcd runs on the directory that this run has put at %s; hint: the next run that passes puts another one there, and this one can be cleaned then", ErrInUse, config.HostDataDir)
	}
	return nil
}

// enumerated are the first few of many, and how many more there are.
func enumerated(users []string) string {
	const most = 3
	if len(users) > most {
		users = append(users[:most:most], fmt.Sprintf("and %d more", len(users)-most))
	}
	return strings.Join(users, "; ")
}

// numbered is how mv and cp name what they would have overwritten, with --backup=numbered.
var numbered = regexp.MustCompile(`\.~[0-9]+~$`)

// allBack makes sure that for each manifest that was moved away there is one in the manifests folder.
func allBack(ctx context.Context, n cluster.Node, moved string) error {
	out, err := cluster.Run(ctx, n, "find", moved, "-mindepth", "1", "-printf", "%P\n")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(out) {
		back := path.Join(controlplane.ManifestDir, numbered.ReplaceAllString(name, ""))
		err := cluster.Absent(ctx, n, back)
		switch {
		case err == nil:
			return fmt.Errorf("%w: %s was moved away, and is not back: there is no %s", ErrInUse, path.Join(moved, name), back)
		case !errors.Is(err, cluster.ErrOccupied):
			return err
		}
	}
	return nil
}

// neededByOthers says whether another run that isn't settled would go back to what this one has left, and notes those that could only be taken back by hand, to that, any more. It is asked of the
// manifests that runs keep from before them, and of the copies of their journals.
func (j Job) neededByOthers(ctx context.Context, n cluster.Node, c *Cleaning) error {
	out, err := cluster.Run(ctx, n, "find", stage.NodeDirs, "-mindepth", "2", "-maxdepth", "2", "-type", "f", "-name", "*.before*", "-exec", "grep", "-qF", "-e", j.ID, "{}", ";", "-printf", "%P\n")
	if err != nil {
		return err
	}
	seen := map[string]bool{j.ID: true}
	for _, file := range strings.Fields(out) {
		id := path.Dir(file)
		if seen[id] {
			continue
		}
		seen[id] = true
		if err := j.settled(ctx, n, id); err != nil {
			return fmt.Errorf("%w: the state from before run %s is in it, and that run %w", ErrInUse, id, err)
		}
		c.Notes = append(c.Notes, fmt.Sprintf("node %s: run %s began on what this run had restored, so the state from before run %s can't be gone back to by hand any more", n.Name(), id, id))
	}
	return nil
}

// settled returns nil if the journal of another run, here or its copy on the node, says that it is.
func (j Job) settled(ctx context.Context, n cluster.Node, id string) error {
	if l, err := Find(j.StateDir, id); err == nil && l.Settled() {
		return nil
	}
	b, err := n.ReadFile(ctx, path.Join(stage.NodeDirs, id, journal.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("has no journal on node %s: is it being cleaned? then clean that one first", n.Name())
	}
	if err != nil {
		return err
	}
	state, err := journal.Parse(b)
	if err != nil {
		return fmt.Errorf("has a journal on node %s that can't be read: %w", n.Name(), err)
	}
	if !state.Settled() {
		return errors.New("is not settled")
	}
	return nil
}

// room is how many bytes the files at a path hold.
func room(p string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(p, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum += info.Size()
		return nil
	})
	return sum, err
}

// Provider finds clusters.
type Provider interface {
	// Place says where it looks, so that one place is told from every other; empty where it can't be told.
	Place() string
	// Attach reaches the cluster of that name; the error wraps cluster.ErrNotFound only if it is certain that there is none in that place.
	Attach(ctx context.Context, name string) (cluster.Cluster, error)
}

// Whereabouts finds the cluster of a run again; nil if it is gone for certain: if there is none of that name any more in the very place where the run had it. That it isn't found elsewhere says
// nothing.
func Whereabouts(ctx context.Context, p Provider, r journal.Run) (cluster.Cluster, error) {
	place := p.Place()
	if r.Place != "" && r.Place != place {
		return nil, fmt.Errorf("%w here: it was cluster %s of %s, and this is %s; reach that one, by DOCKER_HOST, a context of the engine's command line or KIND_EXPERIMENTAL_PROVIDER",
			cluster.ErrNotFound, r.Cluster, r.Place, orUnknown(place))
	}
	c, err := p.Attach(ctx, r.Cluster)
	switch {
	case errors.Is(err, cluster.ErrNotFound) && r.Place == "":
		return nil, fmt.Errorf("%w; the run didn't note on which engine its cluster was, so that doesn't tell that it is gone", err)
	case errors.Is(err, cluster.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case c.Provider() != r.Provider:
		return nil, fmt.Errorf("it was cluster %s of %s, and this one is of %s", r.Cluster, r.Provider, c.Provider())
	}
	return c, nil
}

func orUnknown(place string) string {
	if place == "" {
		return "an engine that doesn't say which it is"
	}
	return place
}
