package proof

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// SnapshotIntact verifies the snapshot before anything is broken: the SHA-256 that etcd appends to a snapshot, bbolt's pages, and the
// order of revisions. It also compares the file with what was recorded when it was taken.
func SnapshotIntact(s *Subject) plan.Check {
	return plan.Check{
		Name:    "snapshot-intact",
		Summary: "the snapshot's checksum, pages and revisions are sound, and only its owner can read it; looked at before anything is broken",
		Phase:   plan.Protect,
		Timeout: 10 * time.Minute, // it reads the whole file
		Look:    func(ctx context.Context) (plan.Finding, error) { return snapshotIntact(ctx, s) },
	}
}

func snapshotIntact(ctx context.Context, s *Subject) (plan.Finding, error) {
	if s.Snapshot == nil {
		return plan.Failed("there is no snapshot", "the step that takes it did not record one"), nil
	}
	const remedy = "do not rely on this snapshot: take another, and find out what damaged this one"
	got, err := etcd.Verify(ctx, s.Worker, s.Snapshot.Path)
	if err != nil {
		return plan.Failed(err.Error(), remedy), nil
	}
	if got.SHA256 != s.Snapshot.SHA256 {
		return plan.Failed(fmt.Sprintf("expected SHA-256 %s as when it was taken, seen %s", s.Snapshot.SHA256, got.SHA256), remedy), nil
	}
	info, err := os.Stat(s.Snapshot.Path)
	if err != nil {
		return plan.Finding{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return plan.Failed(fmt.Sprintf("expected mode 0600, seen %04o: others can read every Secret in it", info.Mode().Perm()),
			"chmod 600 "+s.Snapshot.Path), nil
	}
	return plan.Passed(fmt.Sprintf("%d keys at revision %d, %d bytes", got.Keys, got.Revision, got.Bytes), "sha256 "+got.SHA256), nil
}
