package stage

import (
	"context"
	"fmt"
	"time"

	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// loss says what the restore gave up: everything that was acknowledged after the snapshot, up to the moment when the control plane was
// taken down. readable says whether the cluster can be asked what it has now.
func (s *Stage) loss(ctx context.Context, marks plan.Marks, readable bool) (plan.Loss, error) {
	l := plan.Loss{UntilOutageSeconds: s.lostUntil(marks.OutageBegan)}
	if !marks.BreakBegan.IsZero() {
		l.Seconds = s.lostUntil(marks.BreakBegan)
	}
	if s.Subject.Before.Revision > 0 {
		r := max(0, s.Subject.Before.Revision-s.Subject.Snapshot.Revision)
		l.Revisions = &r
	}
	if s.Subject.Before.Revision == 0 || !readable {
		return l, nil
	}
	after, err := inventory.Live(ctx, s.Subject.Servers[0].Config)
	if err != nil {
		return l, fmt.Errorf("which objects are gone: %w", err)
	}
	l.Objects = []plan.Object{}
	for _, k := range inventory.Missing(s.before.objects, after) {
		l.Objects = append(l.Objects, plan.Object{Kind: k.Resource.Resource, Namespace: k.Namespace, Name: k.Name})
	}
	return l, nil
}

// lostUntil is how long after the snapshot the last write was acknowledged, up to a moment, that it doesn't hold: one of a later revision.
func (s *Stage) lostUntil(moment time.Time) *float64 {
	last := s.probe.Series(probeWrite).LastLost(s.Subject.Snapshot.Revision, moment)
	if last.IsZero() {
		return seconds(0)
	}
	return seconds(max(0, last.Sub(s.Subject.Snapshot.TakenAt)))
}
