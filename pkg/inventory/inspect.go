package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/errgroup"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Inspection is what is in a file.
type Inspection struct {
	Snapshot plan.SnapshotInfo
	Facts    etcd.Facts
	Survey   Survey
}

const jobInspect = "inspect"

// inspectRequest is what Inspect asks a child for.
type inspectRequest struct {
	fileRequest
	Options SurveyOptions `json:"options"`
}

// FromFile is what an open file holds; its keys come in the order of etcd.File's Live.
func FromFile(f *etcd.File) Source { return f.Live }

// Inspect takes the survey of a snapshot or, with raw, of a database that has no trailer. A child process reads it, and looks whether it is sound as etcd.Verify does; the error wraps a sentinel of package etcd where the file
// is to blame.
func Inspect(ctx context.Context, w etcd.Worker, path string, raw bool, o SurveyOptions) (Inspection, error) {
	file, err := newFileRequest(path, raw)
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect snapshot %s: %w", path, err)
	}
	var out Inspection
	if err := w.Do(ctx, jobInspect, inspectRequest{file, o}, &out, nil); err != nil {
		return Inspection{}, fmt.Errorf("inspect snapshot %s: %w", path, err)
	}
	out.Snapshot.Path = path
	if err := etcd.CanReadHere(out.Snapshot); err != nil { // what it says would be half of the truth
		return Inspection{}, fmt.Errorf("inspect snapshot %s: %w", path, err)
	}
	return out, nil
}

// inspectHere does in the child what Inspect asked for.
func inspectHere(ctx context.Context, request json.RawMessage, _ func([]byte) error) (any, error) {
	var in inspectRequest
	if err := json.Unmarshal(request, &in); err != nil {
		return nil, err
	}
	debug.SetMemoryLimit(childMemory)
	var out Inspection
	var both errgroup.Group // the one that fails doesn't end the other: what is wrong with the file says more than what its objects look like then
	var examined, surveyed error
	both.Go(func() error {
		out.Snapshot, out.Facts, examined = etcd.Examine(ctx, in.Path, etcd.ExamineOptions{Raw: in.Raw})
		return nil
	})
	both.Go(func() error {
		f, err := etcd.OpenFile(ctx, in.Path, in.Raw)
		if err != nil {
			surveyed = err
			return nil
		}
		out.Survey, err = TakeSurvey(ctx, FromFile(f), in.Options)
		surveyed = errors.Join(err, f.Close())
		return nil
	})
	_ = both.Wait() // they return none
	if examined != nil {
		return nil, examined
	}
	out.Survey.Hazards = raised(out.Facts.Alarms, out.Survey.Hazards)
	return out, surveyed
}
