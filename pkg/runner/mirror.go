package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// mirrorTimeout bounds one attempt to copy what a run keeps to the nodes.
const mirrorTimeout = 15 * time.Second

// mirror keeps a copy of files on nodes, for when this machine is what is lost. It copies in the background, so that an outage doesn't wait for it; flush waits.
type mirror struct {
	nodes []cluster.Node
	// dir is the folder on each node.
	dir  string
	wake chan struct{}
	// done ends run, which closes over.
	done, over chan struct{}
	cancel     context.CancelFunc

	mu    sync.Mutex
	files map[string][]byte
	// want counts what was put, and have what of that is on every node.
	want, have int
	// begun counts attempts to copy, ended is the last that has ended, and err what came of it. changed is closed then, and made anew.
	begun, ended int
	err          error
	changed      chan struct{}
}

// newMirror begins to keep copies. ctx only lends its values: it ends with close.
func newMirror(ctx context.Context, nodes []cluster.Node, dir string) *mirror {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m := &mirror{
		nodes: nodes, dir: dir, wake: make(chan struct{}, 1), done: make(chan struct{}), over: make(chan struct{}), cancel: cancel,
		files: map[string][]byte{}, changed: make(chan struct{}),
	}
	go m.run(ctx)
	return m
}

// put makes the file of that name hold this on every node, some time later. It doesn't block.
func (m *mirror) put(name string, content []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.done:
		return
	default:
	}
	m.files[name] = content
	m.want++
	select {
	case m.wake <- struct{}{}:
	default: // it is awake
	}
}

func (m *mirror) run(ctx context.Context) {
	defer close(m.over)
	for {
		select {
		case <-m.done:
			return
		case <-m.wake:
		}
		m.mu.Lock()
		files, upTo := maps.Clone(m.files), m.want
		m.begun++
		m.mu.Unlock()
		err := m.copy(ctx, files)
		m.mu.Lock()
		if m.err, m.ended = err, m.begun; err == nil {
			m.have = upTo
			for name, content := range files {
				if bytes.Equal(m.files[name], content) {
					delete(m.files, name) // it is there
				}
			}
		}
		close(m.changed)
		m.changed = make(chan struct{})
		m.mu.Unlock()
	}
}

func (m *mirror) copy(ctx context.Context, files map[string][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	var copying errgroup.Group // one node that fails doesn't keep the others from their copies
	for _, n := range m.nodes {
		copying.Go(func() error {
			if _, err := cluster.Run(ctx, n, "mkdir", "-p", "-m", "0700", "--", m.dir); err != nil {
				return err
			}
			for name, content := range files {
				if err := n.WriteFile(ctx, path.Join(m.dir, name), 0o600, bytes.NewReader(content)); err != nil {
					return fmt.Errorf("node %s: keeping a copy of %s: %w", n.Name(), name, err)
				}
			}
			return nil
		})
	}
	return copying.Wait()
}

// flush waits until all that was put before is on every node, or an attempt to copy it that began meanwhile has failed.
func (m *mirror) flush(ctx context.Context) error {
	m.mu.Lock()
	want, earlier := m.want, m.begun
	if m.have < want {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
	m.mu.Unlock()
	for {
		m.mu.Lock()
		have, err, changed := m.have, m.err, m.changed
		if m.ended <= earlier { // an attempt from before says nothing
			err = nil
		}
		m.mu.Unlock()
		switch {
		case have >= want:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("copying what the run keeps to its nodes: %w", context.Cause(ctx))
		case <-changed:
		}
	}
}

// close waits for what was put, and ends the copying.
func (m *mirror) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	err := m.flush(ctx)
	m.mu.Lock()
	select {
	case <-m.done:
		m.mu.Unlock()
		return errors.Join(err, errors.New("the mirror was closed before"))
	default:
	}
	close(m.done)
	m.mu.Unlock()
	m.cancel()
	<-m.over
	return err
}
