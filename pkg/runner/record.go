package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/stage"
)

// recorder is the engine's journal: a file in the run's folder and, with what the stage remembers, a copy on every control plane.
type recorder struct {
	dir     string
	journal *journal.Journal
	stage   *stage.Stage
	mirror  *mirror
	// memory is what the mirror was given last.
	memory []byte
	// down says that the outage has begun: nothing that leads up to it is put off any more.
	down bool
	// owns returns an error if the cluster is not this process's any more.
	owns func(context.Context) error
}

// flushTimeout bounds how long the outage is put off until the copies on the nodes are complete.
const flushTimeout = 30 * time.Second

// Record keeps a transition. What a step has found out is on the disk before it is that the step has ended; and before the control plane is taken down, a copy of all is on its nodes,
// so that the old state can be put back even if this machine is lost.
func (r *recorder) Record(ctx context.Context, e plan.Event) error {
	switch e := e.(type) {
	case plan.RunStarted:
		return r.remember() // that the run begins, or goes on, is in the journal already
	case plan.StepStarted:
		entry := journal.Entry{At: e.At.UTC(), Kind: journal.StepBegins, Step: e.Step.Name, Phase: e.Step.Phase, Outage: e.Step.Outage}
		err := r.journal.Append(entry)
		if r.down {
			return err // it is begun all the same
		}
		if err == nil && e.Step.Outage {
			err = r.ready(ctx)
		}
		if err != nil {
			entry.Kind = journal.NotBegun
			return errors.Join(err, r.journal.Append(entry))
		}
		r.down = e.Step.Outage
		return nil
	case plan.StepFinished:
		if e.Earlier || e.Status == plan.StatusSkipped {
			return nil
		}
		var err error
		if e.Status == plan.StatusPassed {
			err = r.remember()
		}
		entry := journal.Entry{At: e.At.UTC(), Kind: journal.StepEnded, Step: e.Step.Name, Phase: e.Step.Phase, Status: e.Status, Seconds: e.Elapsed.Seconds()}
		if e.Err != nil {
			entry.Error = e.Err.Error()
		}
		return errors.Join(err, r.journal.Append(entry)) // that it has ended is so in any case
	case plan.Judged:
		return r.journal.Append(journal.Entry{At: e.At.UTC(), Kind: journal.Judged, Verdict: e.Verdict, Reason: e.Reason, Proof: e.Proof})
	case plan.RunFinished:
		return r.journal.Append(journal.Entry{At: e.At.UTC(), Kind: journal.Ended, Verdict: e.Verdict, Reason: e.Reason, Rollback: e.Rollback})
	default:
		return nil
	}
}

// ready returns when the control plane may be taken down: nobody has taken the run over, and there are copies of the journal.
func (r *recorder) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, flushTimeout, fmt.Errorf("it took longer than %s", flushTimeout))
	defer cancel()
	if err := r.owns(ctx); err != nil {
		return err
	}
	return r.mirror.flush(ctx)
}

func (r *recorder) remember() error {
	if err := r.stage.Remember(); err != nil {
		return err
	}
	memory, err := os.ReadFile(filepath.Join(r.dir, stage.MemoryFile))
	if err != nil {
		return err
	}
	if !bytes.Equal(memory, r.memory) {
		r.mirror.put(stage.MemoryFile, memory)
		r.memory = memory
	}
	return nil
}
