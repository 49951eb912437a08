package stage

import (
	"context"
	"fmt"

	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// loss says what the restore gave up: everything that was acknowledged after the snapshot, up to the moment when the control plane was
// taken down. readable says whether the cluster can be asked what it has now.
func (s *Stage) loss(ctx context.Context, marks plan.Marks, readable bool) (plan.Loss, error) {
	var l plan.Loss
	if last := s.probe.Series(probeWrite).LastGood(marks.OutageBegan); !last.IsZero() {
		l.Seconds = seconds(max(0, last.Sub(s.Subject.Snapshot.TakenAt)))
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
