package stage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/proof"
)

// loss says what the restore gave up: everything that was acknowledged after the snapshot, up to the end of the old etcd. What there is now is read from etcd. If the
// old data can't be read, the rest is still told, up to the last look before the control plane was taken down, along with the error.
func (s *Stage) loss(ctx context.Context, marks plan.Marks) (plan.Loss, error) {
	var l plan.Loss
	if s.probe != nil && s.comparable() {
		l.UntilOutageSeconds = s.lostUntil(marks.OutageBegan)
		if !marks.BreakBegan.IsZero() {
			l.Seconds = s.lostUntil(marks.BreakBegan)
		}
	}
	if s.Subject.Before.Revision == 0 {
		return l, nil
	}
	oldErr := s.noteOld(ctx)
	if oldErr != nil {
		oldErr = fmt.Errorf("what was written in the last moments of the old etcd, after the last look: %w", oldErr)
	}
	if s.comparable() {
		r := max(0, s.Subject.Before.Revision-s.Subject.Snapshot.Revision)
		l.Revisions = &r
	}
	var err error
	l.Objects, l.Reverted, l.Revived, err = proof.Loss(ctx, &s.Subject)
	return l, errors.Join(oldErr, err)
}

// comparable says whether the snapshot's revision is of the same count as the cluster's: one that was given may be of another cluster, or of a history that a restore has ended.
func (s *Stage) comparable() bool {
	return s.given == nil || !s.given.OtherCluster && s.Subject.Snapshot.Revision <= max(s.Subject.Before.Revision, s.Subject.Before.AtBreak.Revision)
}

// lostUntil is how long after the snapshot the last write was acknowledged, up to a moment, that it doesn't hold: one of a later revision. It is nil where nobody asked before that moment, as after a
// break by a process that is no more.
func (s *Stage) lostUntil(moment time.Time) *float64 {
	writes := s.probe.Series(probeWrite)
	last := writes.LastLost(s.Subject.Snapshot.Revision, moment)
	switch {
	case len(writes) == 0 || !writes[0].Began.Before(moment):
		return nil
	case last.IsZero():
		return seconds(0)
	case s.given != nil && s.given.Info.TakenAt.After(last):
		return nil // the file's time was changed since: the snapshot doesn't hold what was written before
	}
	return seconds(max(0, last.Sub(s.Subject.Snapshot.TakenAt)))
}
