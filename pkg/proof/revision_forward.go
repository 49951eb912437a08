package proof

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Revisions follows etcd's revision, which must never go back: clients take what has a lower revision than they have seen for old news.
// Its zero value is ready to use. Methods may be called concurrently.
type Revisions struct {
	mu      sync.Mutex
	highest int64
	at      time.Time
	back    *step
}

// step is one fall of the revision.
type step struct {
	from, to         int64
	fromSeen, toSeen time.Time
}

// Note takes in a revision that etcd had at a moment.
func (r *Revisions) Note(at time.Time, revision int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case revision >= r.highest:
		r.highest, r.at = revision, at
	case r.back == nil:
		r.back = &step{from: r.highest, to: revision, fromSeen: r.at, toSeen: at}
	}
}

// Highest is the highest revision seen so far; 0 when none was.
func (r *Revisions) Highest() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.highest
}

// fall returns the first time that the revision went back; nil if it never did.
func (r *Revisions) fall() *step {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.back
}

// RevisionForward holds etcd's revision after the recovery against the one before the break. That it is higher now is not enough: an etcd
// that was set back catches up within seconds, while it hands out numbers for the second time. So every revision that was seen
// from before the break on must be at least as high as the one seen before it.
//
// Clients rely on it: a watch goes on from the last revision seen, and one that lies in the future misses what happens until then
// (https://etcd.io/docs/v3.6/op-guide/recovery/#restoring-with-revision-bump).
func RevisionForward(s *Subject) plan.Check {
	return plan.Check{
		Name:    "revision-forward",
		Summary: "etcd's revision never went back, from before the break until now, and no member is behind what it was just before the outage",
		Phase:   plan.Prove,
		Look:    func(ctx context.Context) (plan.Finding, error) { return revisionForward(ctx, s) },
	}
}

func revisionForward(ctx context.Context, s *Subject) (plan.Finding, error) {
	const remedy = "restore with --bump-revision and --mark-compacted: without them etcd's revision goes back to the snapshot's, and every informer and every " +
		"controller that has seen a later one misses what happens until it is reached again"
	if s.Revisions == nil || s.Before.Revision == 0 {
		return plan.Failed("it is not known what etcd's revision was before the outage", "the step that notes it was not carried out").ForGood(), nil
	}
	if fell := s.Revisions.fall(); fell != nil {
		return plan.Differs("etcd's revision went back", remedy, []plan.Difference{{
			Subject:  "revision of etcd seen at " + clock(fell.toSeen),
			Expected: fmt.Sprintf("at least %d, as seen at %s", fell.from, clock(fell.fromSeen)),
			Seen:     fmt.Sprint(fell.to),
		}}).ForGood(), nil
	}
	wrong, right, err := behind(ctx, s)
	if err != nil {
		return plan.Finding{}, err
	}
	if len(wrong) > 0 {
		return plan.Differs(fmt.Sprintf("%d of %d members are behind", len(wrong), len(s.Members)), remedy, wrong, right...), nil
	}
	return plan.Passed(fmt.Sprintf("no revision below one seen before, from %d before the outage to %d", s.Before.Revision, s.Revisions.Highest()), right...), nil
}

// behind holds each member's revision now against the one before the outage.
func behind(ctx context.Context, s *Subject) (wrong []plan.Difference, right []string, err error) {
	for i, m := range s.Members {
		status, err := etcd.StatusOf(ctx, s.Endpoints[i])
		if err != nil {
			return nil, nil, fmt.Errorf("etcd on %s: %w", m.Name, err)
		}
		if status.Revision < s.Before.Revision {
			wrong = append(wrong, plan.Difference{
				Subject:  "revision of etcd on " + m.Name,
				Expected: fmt.Sprintf("at least %d, as before the outage", s.Before.Revision),
				Seen:     fmt.Sprint(status.Revision),
			})
		} else {
			right = append(right, fmt.Sprintf("etcd on %s is at revision %d, after %d before the outage", m.Name, status.Revision, s.Before.Revision))
		}
	}
	return wrong, right, nil
}
