package proof

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// SnapshotIntact verifies the snapshot before anything is broken: the SHA-256 that etcd appends to a snapshot, bbolt's pages, and the
// order of revisions. It also compares the file with what was recorded when it was taken.
func SnapshotIntact(s *Subject) plan.Check {
	return plan.Check{
		Name:    "snapshot-intact",
		Summary: "the snapshot is the file that was saved, and its checksum, pages and revisions are sound; looked at before anything is broken",
		Phase:   plan.Protect,
		Timeout: 10 * time.Minute, // it reads the whole file
		Look:    func(ctx context.Context) (plan.Finding, error) { return snapshotIntact(ctx, s) },
	}
}

func snapshotIntact(ctx context.Context, s *Subject) (plan.Finding, error) {
	if s.Snapshot == nil {
		return plan.Failed("there is no snapshot", "the step that takes it did not record one").ForGood(), nil
	}
	const remedy = "do not rely on this snapshot: take another, and find out what damaged this one, the disk or a copy that was cut short for example"
	got, err := etcd.Verify(ctx, s.Worker, s.Snapshot.Path)
	switch {
	case errors.Is(err, etcd.ErrWorker) || ctx.Err() != nil: // says nothing about the file
		return plan.Finding{}, err
	case err != nil:
		return plan.Differs("the snapshot is not sound", remedy, []plan.Difference{{
			Subject: s.Snapshot.Path, Expected: "a snapshot whose checksum, pages and revisions are sound", Seen: err.Error(),
		}}).ForGood(), nil
	case got.SHA256 != s.Snapshot.SHA256:
		return plan.Differs("the snapshot is another file than the one that was saved", remedy, []plan.Difference{{
			Subject: "SHA-256 of " + s.Snapshot.Path, Expected: s.Snapshot.SHA256 + ", as when it was saved", Seen: got.SHA256,
		}}).ForGood(), nil
	}
	return plan.Passed(fmt.Sprintf("%d keys at revision %d, %d bytes", got.Keys, got.Revision, got.Bytes), "sha256 "+got.SHA256), nil
}
