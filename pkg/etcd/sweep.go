package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Sweeper removes folders should this process be killed.
type Sweeper struct {
	end   context.CancelFunc
	ended chan struct{}
}

// SweepWhenGone starts a child process that does nothing until this process is gone, however that came about, and then removes the folders with all that is in them: what other children of this process, which end then as
// well, may have left there. When it returns, they may be made; who has removed them calls Stop.
func SweepWhenGone(ctx context.Context, w Worker, folders ...string) (*Sweeper, error) {
	for i, folder := range folders {
		abs, err := filepath.Abs(folder)
		if err != nil {
			return nil, err
		}
		folders[i] = abs
	}
	child, end := context.WithCancel(context.WithoutCancel(ctx))
	cmd, in, _, err := w.prepare(child, request{Op: opSweep, Folders: folders})
	if err == nil {
		var stdin io.WriteCloser
		if stdin, err = cmd.StdinPipe(); err == nil { // Wait closes it
			if err = cmd.Start(); err == nil {
				_, err = stdin.Write(in)
			}
		}
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("start what cleans up should drill be killed: %w: %w", ErrWorker, err)
	}
	s := &Sweeper{end: end, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		_ = cmd.Wait() // it is killed in the end
	}()
	return s, nil
}

// Stop ends the child, and leaves the folders alone.
func (s *Sweeper) Stop() {
	s.end()
	<-s.ended
}

const (
	// sweepLimit is how long others may take to end, sweepPause how often it is looked, and sweepQuiet how long nothing may have come anew.
	sweepLimit = 30 * time.Second
	sweepPause = 100 * time.Millisecond
	sweepQuiet = orphanGrace + time.Second
)

// sweep removes folders until they stay away: others may still be writing there.
func sweep(ctx context.Context, folders []string) error {
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	pause := time.NewTicker(sweepPause)
	defer pause.Stop()
	var last error
	for seen := time.Now(); time.Since(seen) < sweepQuiet; {
		for _, folder := range folders {
			if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
				seen = time.Now()
				last = os.RemoveAll(folder)
			}
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%q can't be removed: %w", folders, ctx.Err()), last)
		}
	}
	return nil
}
