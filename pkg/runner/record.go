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
	// down says that the outage began in an earlier process: nothing that leads up to it is put off any more.
	down bool
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
		if err := r.journal.Append(entry); err != nil || !e.Step.Outage || r.down {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(ctx, flushTimeout, fmt.Errorf("it took longer than %s", flushTimeout))
		defer cancel()
		err := r.mirror.flush(ctx)
		if err != nil {
			entry.Kind = journal.NotBegun
			err = errors.Join(err, r.journal.Append(entry))
		}
		return err
	case plan.StepFinished:
		if e.Earlier || e.Status == plan.StatusSkipped {
			return nil
		}
		if e.Status == plan.StatusPassed {
			if err := r.remember(); err != nil {
				return err
			}
		}
		entry := journal.Entry{At: e.At.UTC(), Kind: journal.StepEnded, Step: e.Step.Name, Phase: e.Step.Phase, Status: e.Status, Seconds: e.Elapsed.Seconds()}
		if e.Err != nil {
			entry.Error = e.Err.Error()
		}
		return r.journal.Append(entry)
	case plan.Judged:
		return r.journal.Append(journal.Entry{At: e.At.UTC(), Kind: journal.Judged, Verdict: e.Verdict, Reason: e.Reason, Proof: e.Proof})
	case plan.RunFinished:
		return r.journal.Append(journal.Entry{At: e.At.UTC(), Kind: journal.Ended, Verdict: e.Verdict, Reason: e.Reason, Rollback: e.Rollback})
	default:
		return nil
	}
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
