package proof

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// MembersAgree asks every etcd member, on its own address, who is in its cluster and what it holds. Half a restore looks like a whole one
// from outside, as long as a quorum answers.
//
// The hashes are compared as etcd's own corruption check does: all up to the revision of the first
// (https://etcd.io/docs/v3.6/op-guide/data_corruption/).
func MembersAgree(s *Subject) plan.Check {
	return plan.Check{
		Name:    "members-agree",
		Summary: "etcd has as many members as there are control planes, all started and voting, in one cluster with one leader, with equal HashKV and no alarm",
		Phase:   plan.Prove,
		Timeout: 3 * time.Minute, // etcd reads all it holds for its hash, for which etcd.HashKV gives it 2 minutes
		Look:    func(ctx context.Context) (plan.Finding, error) { return membersAgree(ctx, s) },
	}
}

func membersAgree(ctx context.Context, s *Subject) (plan.Finding, error) {
	if len(s.Members) == 0 || len(s.Endpoints) != len(s.Members) {
		return plan.Failed(fmt.Sprintf("%d control planes and %d ways to reach etcd are known", len(s.Members), len(s.Endpoints)), "this is a defect of drill").ForGood(), nil
	}
	var d []plan.Difference
	var right []string
	for i, m := range s.Members {
		members, err := etcd.Members(ctx, s.Endpoints[i])
		if err != nil {
			return plan.Finding{}, fmt.Errorf("etcd on %s: %w", m.Name, err)
		}
		wrong := s.membership(m.Name, members)
		if len(wrong) == 0 {
			right = append(right, fmt.Sprintf("etcd on %s: %d members, all started and voting", m.Name, len(members)))
		}
		d = append(d, wrong...)
	}
	states, err := s.statuses(ctx)
	if err != nil {
		return plan.Finding{}, err
	}
	wrong := s.sameCluster(states)
	d = append(d, wrong...)
	if len(wrong) == 0 {
		right = append(right, fmt.Sprintf("cluster ID %x, led by %x, no alarm", states[0].ClusterID, states[0].LeaderID))
	}
	wrong, hash, err := s.sameHash(ctx)
	if err != nil {
		return plan.Finding{}, err
	}
	d = append(d, wrong...)
	if len(wrong) == 0 {
		right = append(right, hash)
	}
	if len(d) > 0 {
		return plan.Differs(fmt.Sprintf("%d statements of etcd's members don't fit together", len(d)),
			"a member that was not restored, or not from this snapshot with this --initial-cluster-token, is a stranger: restore all members from one snapshot, each with its own --name and peer URL; "+
				"`etcdctl member list` shows who is there and `etcdctl member remove` ends a membership that nobody fills", d, right...), nil
	}
	return plan.Passed(fmt.Sprintf("%d of %d members are one cluster and hold the same", len(s.Members), len(s.Members)), right...), nil
}

// membership holds the members that one of them knows against the control planes.
func (s *Subject) membership(on string, members []etcd.Member) []plan.Difference {
	var d []plan.Difference
	subject := "member list of etcd on " + on
	if len(members) != len(s.Members) {
		d = append(d, plan.Difference{Subject: subject, Expected: fmt.Sprintf("%d members, one a control plane", len(s.Members)), Seen: fmt.Sprintf("%d: %s", len(members), names(members))})
	}
	for _, m := range s.Members {
		if !slices.ContainsFunc(members, func(x etcd.Member) bool { return x.Name == m.Etcd.Name }) {
			d = append(d, plan.Difference{Subject: subject, Expected: "member " + m.Etcd.Name, Seen: names(members)})
		}
	}
	for _, m := range members {
		name := memberName(m)
		if !m.Started {
			d = append(d, plan.Difference{Subject: subject, Expected: name + " to have started", Seen: "it never did"})
		}
		if m.Learner {
			d = append(d, plan.Difference{Subject: subject, Expected: name + " to have a vote", Seen: "a learner"})
		}
	}
	return d
}

func names(members []etcd.Member) string {
	var out []string
	for _, m := range members {
		out = append(out, memberName(m))
	}
	return strings.Join(out, ", ")
}

// memberName is a member's name or, as it has none before it has started, its ID.
func memberName(m etcd.Member) string {
	if m.Name == "" {
		return fmt.Sprintf("%x", m.ID)
	}
	return m.Name
}

// statuses asks every member about itself, in the order of Members.
func (s *Subject) statuses(ctx context.Context) ([]etcd.Status, error) {
	var out []etcd.Status
	for i, m := range s.Members {
		st, err := etcd.StatusOf(ctx, s.Endpoints[i])
		if err != nil {
			return nil, fmt.Errorf("etcd on %s: %w", m.Name, err)
		}
		out = append(out, st)
	}
	return out, nil
}

func (s *Subject) sameCluster(states []etcd.Status) []plan.Difference {
	var d []plan.Difference
	for i, st := range states {
		subject := "etcd on " + s.Members[i].Name
		if st.ClusterID != states[0].ClusterID {
			d = append(d, plan.Difference{Subject: subject, Expected: fmt.Sprintf("cluster ID %x, as on %s", states[0].ClusterID, s.Members[0].Name), Seen: fmt.Sprintf("%x", st.ClusterID)})
		}
		if st.LeaderID == 0 || st.LeaderID != states[0].LeaderID {
			d = append(d, plan.Difference{Subject: subject, Expected: fmt.Sprintf("leader %x, as on %s", states[0].LeaderID, s.Members[0].Name), Seen: fmt.Sprintf("%x", st.LeaderID)})
		}
		for _, e := range st.Errors {
			d = append(d, plan.Difference{Subject: subject, Expected: "no alarm and no error", Seen: e})
		}
	}
	return d
}

// sameHash compares the members' histories. The answer may not be had up to the first's revision yet where another lags: that is an
// error, and the next look asks anew.
func (s *Subject) sameHash(ctx context.Context) (d []plan.Difference, right string, err error) {
	var first etcd.KVHash
	for i, m := range s.Members {
		h, err := etcd.HashKV(ctx, s.Endpoints[i], first.HashRevision)
		if err != nil {
			return nil, "", fmt.Errorf("hash of etcd on %s: %w", m.Name, err)
		}
		switch {
		case i == 0:
			first = h
		case h.CompactRevision != first.CompactRevision:
			return nil, "", fmt.Errorf("etcd on %s is compacted up to revision %d and on %s up to %d: their hashes can't be compared now", m.Name, h.CompactRevision, s.Members[0].Name, first.CompactRevision)
		case h.Hash != first.Hash:
			d = append(d, plan.Difference{
				Subject:  fmt.Sprintf("HashKV of etcd on %s at revision %d", m.Name, first.HashRevision),
				Expected: fmt.Sprintf("%08x, as on %s", first.Hash, s.Members[0].Name), Seen: fmt.Sprintf("%08x", h.Hash),
			})
		}
	}
	return d, fmt.Sprintf("HashKV %08x at revision %d, compacted up to %d", first.Hash, first.HashRevision, first.CompactRevision), nil
}
