package proof

import (
	"context"
	"fmt"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Old is the state from before the outage as a rollback has put it back.
type Old struct {
	// DataDir is the host path on which etcd must run: a directory restored from the old one or, where that could not be made, the old one itself.
	DataDir string
	// Swap is as in Subject.
	Swap *Swap
	// Objects are what the old directory held; none where that isn't known.
	Objects inventory.Inventory
	// Itself says that it is the old one, whose revision is not above those that the recovery which was given up has shown.
	Itself bool
	// Used says that an earlier rollback had put the directory in place already: what etcd holds may have been written since.
	Used bool
}

// RolledBack returns the checks that say whether the state from before the outage is back after a rollback. They ask what the checks of the proof ask, of the old state: what the
// scenario has deployed may be there or not, and watches from before the outage were given up with the recovery.
func RolledBack(s *Subject) []plan.Check {
	of := func(c func(*Subject) plan.Check) plan.Check {
		named := c(s)
		return plan.Check{
			Name: named.Name, Summary: named.Summary, Phase: plan.Rollback, Timeout: named.Timeout,
			Look: func(ctx context.Context) (plan.Finding, error) {
				if s.Old == nil {
					return plan.Failed("it is not known what was put back", "a step of the rollback was not carried out").ForGood(), nil
				}
				then := *s
				then.DataDir, then.Swap, then.TakenAway, then.Workload.Objects = s.Old.DataDir, s.Old.Swap, nil, nil
				return c(&then).Look(ctx)
			},
		}
	}
	return []plan.Check{
		of(ControlPlaneRenewed),
		of(revisionRegained),
		of(oldLedger),
		of(MembersAgree),
		of(NoDrift),
		of(StatusBacked),
		of(NoPhantoms),
		of(NodeHeartbeat),
	}
}

// revisionRegained holds the revision against the one before the outage only: the recovery that was given up may have set it back.
func revisionRegained(s *Subject) plan.Check {
	return plan.Check{
		Name:    "revision-forward",
		Summary: "no member's revision is below what it was just before the outage; nor, where the old directory itself is used, below what the recovery that was given up had shown",
		Look: func(ctx context.Context) (plan.Finding, error) {
			if s.Before.Revision == 0 || len(s.Members) == 0 {
				return plan.Failed("it is not known what etcd's revision was before the outage", "the step that notes it was not carried out").ForGood(), nil
			}
			if s.Old.Itself && s.Resumed {
				return plan.Failed("etcd runs on the old directory itself, and it is not known which revisions the recovery that was given up had shown to clients",
					"find out why the third directory could not be made, and put the old state back once more").ForGood(), nil
			}
			wrong, right, err := behind(ctx, s)
			if err != nil {
				return plan.Finding{}, err
			}
			if highest := s.Revisions.Highest(); s.Old.Itself && highest > s.Before.Revision {
				for i, m := range s.Members {
					status, err := etcd.StatusOf(ctx, s.Endpoints[i])
					if err != nil {
						return plan.Finding{}, fmt.Errorf("etcd on %s: %w", m.Name, err)
					}
					if status.Revision < highest {
						wrong = append(wrong, plan.Difference{
							Subject: "revision of etcd on " + m.Name, Expected: fmt.Sprintf("at least %d, as seen of the recovery that was given up", highest), Seen: fmt.Sprint(status.Revision),
						})
					}
				}
			}
			if len(wrong) > 0 {
				return plan.Differs(fmt.Sprintf("%d of %d members are behind", len(wrong), len(s.Members)), "see which data directory etcd runs on", wrong, right...), nil
			}
			return plan.Passed(fmt.Sprintf("no member is behind revision %d, as before the outage", s.Before.Revision), right...), nil
		},
	}
}

// oldLedger holds what etcd holds now against what the old directory held.
func oldLedger(s *Subject) plan.Check {
	return plan.Check{
		Name:    "ledger-exact",
		Summary: "every key that etcd holds is as in the old data directory, but for what Kubernetes itself rewrites",
		Timeout: ledgerTimeout,
		Look: func(ctx context.Context) (plan.Finding, error) {
			if s.Old.Used {
				return plan.Skipped("an earlier rollback had put this directory in place, so that others may have written since"), nil
			}
			if len(s.Old.Objects.Objects) == 0 {
				return plan.Skipped("what the old data directory held could not be read while nothing ran on it"), nil
			}
			now, err := inventory.Read(ctx, inventory.FromEtcd(s.Endpoints[0]), s.Old.Objects)
			if err != nil {
				return plan.Finding{}, err
			}
			found := inventory.Compare(inventory.Inventory{}, s.Old.Objects, now, inventory.Options{Own: s.Own})
			if d := apart(found, "as in the old data directory"); len(d) > 0 {
				return plan.Differs(several(len(d), "key")+" not as in the old data directory",
					"somebody has written since; or another directory was put in place: see the etcd manifest", d, ledgerEvidence(found)...), nil
			}
			// The database of an etcd that was killed may lack its last writes, which are in the write-ahead log alone (see etcd.DatabaseKeys).
			if seen := s.Before.AtOutage; seen.Objects != nil && s.Old.Objects.Revision < seen.Revision {
				lacks := inventory.Compare(inventory.Inventory{}, seen, s.Old.Objects, inventory.Options{Own: s.Own})
				if d := apart(lacks, "as just before the outage"); len(d) > 0 {
					return plan.Differs(fmt.Sprintf("%s not as just before the outage: the old database ends at revision %d, and %d was seen", several(len(d), "key"), s.Old.Objects.Revision, seen.Revision),
						"the old etcd was killed, and its last writes are in its write-ahead log alone: an etcd that is started on a copy of the old data directory has them", d, ledgerEvidence(found)...).ForGood(), nil
				}
			}
			return plan.Passed(fmt.Sprintf("%s as in the old data directory", several(found.Kept(), "key")), ledgerEvidence(found)...), nil
		},
	}
}

// apart are the keys in which two inventories differ, the first of which was to be kept as is.
func apart(l inventory.Ledger, as string) []plan.Difference {
	var d []plan.Difference
	for _, part := range []struct {
		lines          []inventory.Line
		expected, seen string
	}{
		{l.Missing, "there, " + as, "nothing"},
		{l.Added, "nothing, " + as, "there"},
		{l.Changed, as, "another content"},
	} {
		for _, line := range part.lines {
			d = append(d, plan.Difference{Subject: line.String(), Expected: part.expected, Seen: part.seen})
		}
	}
	return d
}
