package kind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
)

// record says that drill created a cluster, and which containers that is. It is on disk before the first container is, so
// that a creation which was killed can still be told from somebody else's cluster.
type record struct {
	Name string `json:"name"`
	// Engine and EngineID say where: the same name on another engine is another cluster.
	Engine   string `json:"engine"`
	EngineID string `json:"engineID,omitempty"`
	// Created is the engine's clock just before kind was asked to create the cluster.
	Created time.Time `json:"created"`
	Image   string    `json:"image"`
	// Nodes are the names that kind was going to give to the containers.
	Nodes []string `json:"nodes"`
	// Containers are the IDs of those that were seen.
	Containers []string `json:"containers,omitempty"`
	// Complete is set when the creation came to its end.
	Complete bool `json:"complete"`
}

// creationWindow is how long after record.Created kind may still have been starting containers. Images are made
// available before, so it starts them at once.
const creationWindow = 2 * time.Minute

// owns says whether the record covers a container. Once a container's ID is on record, that alone decides: a cluster of the
// same name that somebody made later has other IDs. A creation that was killed before the IDs could be noted is known by the
// names, the image, and the time at which its containers were made.
func (r *record) owns(c container) bool {
	if slices.Contains(r.Containers, c.ID) {
		return true
	}
	if r.Complete || !slices.Contains(r.Nodes, c.Name) || c.isNode() && c.Image != r.Image {
		return false
	}
	return !c.Created.Before(r.Created) && c.Created.Before(r.Created.Add(creationWindow))
}

// add notes the IDs of containers and says whether any was new.
func (r *record) add(all []container) bool {
	var grown bool
	for _, c := range all {
		if !slices.Contains(r.Containers, c.ID) {
			r.Containers = append(r.Containers, c.ID)
			grown = true
		}
	}
	return grown
}

// store keeps records and locks below a state directory.
type store struct{ dir string }

func (s store) recordPath(name string) string { return filepath.Join(s.dir, "clusters", name+".json") }
func (s store) kubeconfigPath(name string) string {
	return filepath.Join(s.dir, "clusters", name+".kubeconfig")
}
func (s store) lockPath(name string) string { return filepath.Join(s.dir, "locks", name+".lock") }

// load reads the record of a cluster; the error wraps fs.ErrNotExist when there is none.
func (s store) load(name string) (*record, error) {
	path := s.recordPath(name)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the record of cluster %s: %w", name, err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("reading the record of cluster %s: %s is damaged: %w", name, path, err)
	}
	return &r, nil
}

// loadIfAny is load, with nil for a record that doesn't exist.
func (s store) loadIfAny(name string) (*record, error) {
	r, err := s.load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return r, err
}

// save writes a record whole or not at all, and returns when it is on disk.
func (s store) save(r *record) error {
	if err := s.write(r); err != nil {
		return fmt.Errorf("noting that cluster %s is drill's: %w", r.Name, err)
	}
	return nil
}

func (s store) write(r *record) error {
	path := s.recordPath(r.Name)
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+r.Name+".json.*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // fails once it is renamed
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// forget removes all that is kept about a cluster.
func (s store) forget(name string) error {
	var errs []error
	for _, path := range []string{
		s.kubeconfigPath(name),
		s.kubeconfigPath(name) + ".lock", // kind's own; left behind when it is killed, and would stop it for good
		s.recordPath(name),               // last: as long as it is there, the cluster is known to be ours
	} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("forgetting cluster %s: %w", name, err)
	}
	return nil
}

// lock makes the caller the only one that creates or deletes the named cluster, and returns what ends that. It doesn't wait
// for another holder: it fails, since the other may well take minutes.
//
// The file stays when the lock is let go. Removing it would let two holders in: one waiting on the removed file, one on
// its successor.
func (s store) lock(ctx context.Context, name string) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path := s.lockPath(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("locking cluster %s: %w", name, err)
	}
	l := flock.New(path, flock.SetPermissions(0o600))
	got, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking cluster %s: %w", name, err)
	}
	if !got {
		return nil, fmt.Errorf("cluster %s is being created or deleted by another drill right now; it holds %s", name, path)
	}
	return func() { _ = l.Unlock() }, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
