package kind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	kindcluster "sigs.k8s.io/kind/pkg/cluster"
	kindexec "sigs.k8s.io/kind/pkg/exec"

	"github.com/etcd-drill/drill/pkg/cluster"
)

const (
	// DefaultWait is CreateOptions.Wait where that is 0.
	DefaultWait = 3 * time.Minute

	// createTimeout bounds kind's own part. kubeadm gives up on each of its waits after some minutes.
	createTimeout = 20 * time.Minute
	// cleanupTimeout bounds the removal of what a creation left behind.
	cleanupTimeout = 90 * time.Second
	// settleTime is for how long no container must show up before a creation counts as cleaned up.
	settleTime  = time.Second
	cleanupPoll = 250 * time.Millisecond
	notePoll    = 500 * time.Millisecond
	// interruptGrace is how long to wait for the context to end after kind's commands were interrupted.
	interruptGrace = time.Second
)

// CreateOptions describe a new cluster.
type CreateOptions struct {
	// Name is its name; see ValidateName.
	Name string
	// ControlPlanes is 1 or 3; 0 means 1.
	ControlPlanes int
	// Workers is how many nodes besides. Without any, workloads run on the control planes.
	Workers int
	// Image is the node image; when empty, ResolveImage chooses.
	Image string
	// Wait bounds the wait until a workload can run, after kind is done; 0 means DefaultWait.
	Wait time.Duration
	// Retain keeps the containers of a creation that failed, to look at; Delete removes them. What is left of one that
	// was cancelled is removed all the same.
	Retain bool
}

// Validate says what is wrong with the options, before anything is touched; see ValidateName for names.
func (o CreateOptions) Validate() error {
	if err := ValidateName(o.Name); err != nil {
		return err
	}
	switch {
	case o.ControlPlanes != 0 && o.ControlPlanes != 1 && o.ControlPlanes != 3:
		return fmt.Errorf("%d control planes asked for: it must be 1 or 3", o.ControlPlanes)
	case o.Workers < 0:
		return fmt.Errorf("%d workers asked for: it can't be less than 0", o.Workers)
	case o.Wait < 0:
		return fmt.Errorf("a wait of %s asked for: it can't be less than 0", o.Wait)
	}
	return nil
}

// Create makes a cluster and returns when a workload can run on it. When it fails or ctx ends it removes all that it made
// before it returns, within a minute and a half; an error of that is part of what it returns. Errors wrap
// cluster.ErrBadName; cluster.ErrExists, also for a cluster of that name that drill made on another engine;
// cluster.ErrNoImage; or the context's.
func (p *Provider) Create(ctx context.Context, o CreateOptions) (cluster.Cluster, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.ControlPlanes == 0 {
		o.ControlPlanes = 1
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	s := shape{controlPlanes: o.ControlPlanes, workers: o.Workers, cgroupVersion: p.engine.CgroupVersion}
	image, err := p.ResolveImage(ctx, o.Image)
	if err != nil {
		return nil, err
	}
	s.image = image

	release, err := p.store.lock(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	there, err := p.engine.containers(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("%w: %s; hint: use it with --cluster %s, or choose another name", cluster.ErrExists, o.Name, o.Name)
	}
	rec, err := p.store.loadIfAny(o.Name)
	if err != nil {
		return nil, err
	}
	if rec != nil && !p.sameEngine(rec) {
		// One record a name: with a new one, the cluster over there could never be deleted by drill again.
		return nil, fmt.Errorf("%w: %w; or choose another name", cluster.ErrExists, p.elsewhere(rec))
	}
	images := []string{image}
	if s.controlPlanes > 1 {
		images = append(images, LoadBalancerImage)
	}
	for _, image := range images {
		if err := p.engine.ensureImage(ctx, image, p.progress); err != nil {
			return nil, err
		}
	}
	c, err := p.create(ctx, o, s)
	if err != nil {
		return nil, fmt.Errorf("creating cluster %s: %w", o.Name, err)
	}
	return c, nil
}

// create is Create once it is certain that the name is free and the images are there.
func (p *Provider) create(ctx context.Context, o CreateOptions, s shape) (cluster.Cluster, error) {
	// What an earlier cluster of that name left would be taken for this one's.
	if err := p.store.forget(o.Name); err != nil {
		return nil, err
	}
	now, err := askInfo(ctx, p.engine.Name)
	if err != nil {
		return nil, err
	}
	rec := &record{
		Name: o.Name, Engine: p.engine.Name, EngineID: p.engine.ID, Created: now.Now.UTC(),
		Image: s.image, Nodes: nodeNames(o.Name, s.controlPlanes, s.workers),
	}
	if err := p.store.save(rec); err != nil {
		return nil, errors.Join(err, p.store.forget(o.Name))
	}
	c, err := p.provision(ctx, o, s, rec)
	if err == nil {
		return c, nil
	}
	if ctx.Err() != nil {
		// Whatever broke on the way out, the reason is that somebody asked to stop.
		err = ctx.Err()
	} else if errors.Is(err, cluster.ErrExists) {
		return nil, errors.Join(err, p.store.forget(o.Name)) // what is there is somebody else's
	} else if o.Retain {
		rec.Complete = true
		return nil, errors.Join(fmt.Errorf("%w; its nodes are kept; hint: `drill cluster delete %s` removes them", err, o.Name),
			p.note(ctx, rec), p.store.save(rec))
	}
	p.progress("Removing what was created of cluster " + o.Name)
	// The context may be over, and this must be done nonetheless.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if removeErr := p.remove(cleanup, rec); removeErr != nil {
		return nil, fmt.Errorf("%w; and removing what was created failed: %w; hint: `drill cluster delete %s`", err, removeErr, o.Name)
	}
	return nil, err
}

// provision has kind create the cluster, and waits until a workload can run. It returns only when kind has, unless kind
// does not within cleanupTimeout after ctx's end.
func (p *Provider) provision(ctx context.Context, o CreateOptions, s shape, rec *record) (*kindCluster, error) {
	log := &logger{progress: p.progress}
	bounded, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- p.kind(log).Create(o.Name,
			kindcluster.CreateWithV1Alpha4Config(s.config(o.Name)),
			kindcluster.CreateWithKubeconfigPath(p.store.kubeconfigPath(o.Name)),
			kindcluster.CreateWithRetain(true), // keeping or removing is decided here, by one rule
			kindcluster.CreateWithDisplayUsage(false),
			kindcluster.CreateWithDisplaySalutation(false))
	}()
	if err := p.follow(bounded, done, rec); err != nil {
		if strings.Contains(err.Error(), "node(s) already exist") {
			// kind looks once more, and somebody was quicker. The message is all that tells this error from others.
			return nil, fmt.Errorf("%w: %w", cluster.ErrExists, err)
		}
		if ctx.Err() == nil && bounded.Err() != nil {
			err = fmt.Errorf("it took more than %s", createTimeout)
		}
		return nil, fmt.Errorf("%s: %w", log.lastStep(), err)
	}
	if err := p.note(ctx, rec); err != nil {
		return nil, err
	}
	p.progress("Waiting until a workload can run")
	c, err := p.open(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	config, err := os.ReadFile(p.store.kubeconfigPath(o.Name))
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig that kind wrote: %w", err)
	}
	if err := waitReady(ctx, config, s, o.Wait); err != nil {
		return nil, err
	}
	rec.Complete = true
	return c, p.store.save(rec)
}

// follow waits for kind's Create, whose result comes over done, and meanwhile notes the containers that it makes. kind
// takes no context; when ctx ends, its containers are taken away from under it, on which it fails at once.
func (p *Provider) follow(ctx context.Context, done <-chan error, rec *record) error {
	tick := time.NewTicker(notePoll)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return interruptedOr(ctx, err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), p.starve(ctx, done, rec.Name))
		case <-tick.C:
			if len(rec.Containers) < len(rec.Nodes) {
				// Only so that a killed creation can be told apart later; the next round, or the end, makes up for a failure.
				_ = p.note(ctx, rec)
			}
		}
	}
}

// starve removes the containers of a creation again and again until kind's Create returns.
func (p *Provider) starve(ctx context.Context, done <-chan error, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	tick := time.NewTicker(cleanupPoll)
	defer tick.Stop()
	for {
		if all, err := p.engine.containers(ctx, name); err == nil {
			_ = p.engine.removeContainers(ctx, all) // remove, which follows, reports what can't be removed
		}
		select {
		case <-done: //nolint:errcheck // what kind says of a creation that was cut short tells nobody anything
			return nil
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("kind did not stop within %s", cleanupTimeout)
		}
	}
}

// interruptedOr makes of kind's error the context's, where kind failed because its commands were interrupted. A Ctrl-C on
// a terminal reaches the engine's command lines that kind runs as well as this process, and they may be quicker to end.
func interruptedOr(ctx context.Context, err error) error {
	if err == nil || !interrupted(err) {
		return withOutput(err)
	}
	grace := time.NewTimer(interruptGrace)
	defer grace.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-grace.C:
		return withOutput(err)
	}
}

// interrupted recognises a command that an interrupt ended: by itself, or with the status that stands for it.
func interrupted(err error) bool {
	run := kindexec.RunErrorForError(err)
	if run == nil {
		return false
	}
	var exit *exec.ExitError
	if !errors.As(run.Inner, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return exit.ExitCode() == 128+int(syscall.SIGINT) || ok && status.Signaled() && status.Signal() == syscall.SIGINT
}

// withOutput adds the end of what a command printed to an error of kind's, which carries but doesn't show it.
func withOutput(err error) error {
	run := kindexec.RunErrorForError(err)
	if run == nil || len(run.Output) == 0 {
		return err
	}
	return fmt.Errorf("%w:\n%s", err, tail(string(run.Output), 20))
}

// note puts the containers that exist by now on record.
func (p *Provider) note(ctx context.Context, rec *record) error {
	all, err := p.engine.containers(ctx, rec.Name)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(c container) bool { return !rec.owns(c) })
	if !rec.add(all) {
		return nil
	}
	return p.store.save(rec)
}

// remove removes every container of a cluster, and then what is kept about it. The caller has made sure that they are
// drill's, and holds the lock.
//
// After a creation that didn't come to its end more may still appear: kind's commands may be running (see inFlight), and
// the engine may be making a container whose command was interrupted, which no list shows before it is done. So nothing must
// show up for a while, and in the end the names of all nodes must be free, for the engine takes a name first of all and
// gives it back last of all, after the volumes.
func (p *Provider) remove(ctx context.Context, rec *record) error {
	tick := time.NewTicker(cleanupPoll)
	defer tick.Stop()
	var (
		lastErr error
		quiet   time.Time // since when nothing has been there
	)
	for {
		all, err := p.engine.containers(ctx, rec.Name)
		switch {
		case err != nil:
			lastErr = err
		case len(all) > 0:
			quiet = time.Time{}
			if lastErr = p.engine.removeContainers(ctx, all); lastErr == nil {
				continue
			}
		case rec.Complete:
			return p.store.forget(rec.Name)
		case inFlight(rec.Name) > 0:
			quiet, lastErr = time.Time{}, errors.New("kind's commands still run")
		case quiet.IsZero():
			quiet = time.Now()
		case time.Since(quiet) >= settleTime:
			if lastErr = p.engine.namesAreFree(ctx, rec); lastErr == nil {
				return p.store.forget(rec.Name)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("cluster %s may still have containers: %w", rec.Name, errors.Join(ctx.Err(), lastErr))
		}
	}
}

// namesAreFree takes the name of each node for a moment, with a container that is never started. That fails as long as
// the engine is making or removing a container by that name, and then the error says so.
func (e *engine) namesAreFree(ctx context.Context, rec *record) error {
	for _, name := range rec.Nodes {
		out, err := e.output(ctx, askTimeout, "create", "--name", name, "--label", clusterLabel+"="+rec.Name, rec.Image)
		if err != nil {
			if said := err.Error(); strings.Contains(said, "already in use") || strings.Contains(said, "already used") || errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("the name %s is not free yet: %w", name, err)
			}
			continue // the engine can't make any container just now, so neither is one in the making
		}
		for _, id := range lines(out) {
			if err := e.removeContainers(ctx, []container{{ID: id}}); err != nil {
				return err
			}
		}
	}
	return nil
}
