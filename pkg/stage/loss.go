package stage

import (
	"context"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/proof"
)

// loss says what the restore gave up: everything that was acknowledged after the snapshot, up to the moment when the control plane was
// taken down. What there is now is read from etcd.
func (s *Stage) loss(ctx context.Context, marks plan.Marks) (plan.Loss, error) {
	l := plan.Loss{UntilOutageSeconds: s.lostUntil(marks.OutageBegan)}
	if !marks.BreakBegan.IsZero() {
		l.Seconds = s.lostUntil(marks.BreakBegan)
	}
	if s.Subject.Before.Revision > 0 {
		r := max(0, s.Subject.Before.Revision-s.Subject.Snapshot.Revision)
		l.Revisions = &r
	}
	if s.Subject.Before.Revision == 0 {
		return l, nil
	}
	var err error
	l.Objects, l.Reverted, l.Revived, err = proof.Loss(ctx, &s.Subject)
	return l, err
}

// lostUntil is how long after the snapshot the last write was acknowledged, up to a moment, that it doesn't hold: one of a later revision.
func (s *Stage) lostUntil(moment time.Time) *float64 {
	last := s.probe.Series(probeWrite).LastLost(s.Subject.Snapshot.Revision, moment)
	if last.IsZero() {
		return seconds(0)
	}
	return seconds(max(0, last.Sub(s.Subject.Snapshot.TakenAt)))
}
