package proof

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// rolledBack is the check of that name after a rollback.
func rolledBack(t *testing.T, s *Subject, name string) func(context.Context) (plan.Finding, error) {
	t.Helper()
	all := RolledBack(s)
	i := slices.IndexFunc(all, func(c plan.Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("there is no check %s", name)
	}
	return all[i].Look
}

func TestRolledBack(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range RolledBack(&Subject{}) {
		if c.Phase != plan.Rollback || c.Summary == "" || c.Alters || seen[c.Name] {
			t.Errorf("%+v", c)
		}
		seen[c.Name] = true
		// As long as nothing was put back, nothing is proven to be.
		if f, err := c.Look(t.Context()); err != nil || f.Status != plan.StatusFailed || !f.Final {
			t.Errorf("%s: %+v, %v", c.Name, f, err)
		}
	}
}

func TestOldLedger(t *testing.T) {
	c := newLedgerCase(t)
	look := rolledBack(t, c.s, "ledger-exact")
	c.s.Old = &Old{DataDir: "/old", Objects: c.now(t)}
	c.put(t, keyDeployment, webOf(2, 1))                                                      // its status
	c.put(t, keyOwn, storedAs("v1", "ConfigMap", "probe", "uid-probe", `,"data":{"at":"2"}`)) // drill's own
	c.put(t, "/registry/events/default/f", storedAs("v1", "Event", "f", "uid-f", ""))         // comes and goes
	if f, err := look(t.Context()); err != nil || f.Status != plan.StatusPassed {
		t.Errorf("%+v, %v; want a pass", f, err)
	}
	c.put(t, keyConfigMap, settingsOf("uid-settings", `{"a":"2"}`))
	f, err := look(t.Context())
	differs(t, f, err, "ConfigMap default/settings", "as in the old data directory", "another content")
	c.remove(t, keyConfigMap)
	f, err = look(t.Context())
	differs(t, f, err, "ConfigMap default/settings", "there, as in the old data directory", "nothing")
	c.put(t, "/registry/configmaps/default/new", storedAs("v1", "ConfigMap", "new", "uid-new", ""))
	f, err = look(t.Context())
	differs(t, f, err, "ConfigMap default/new", "nothing, as in the old data directory", "there")
	// The database of an etcd that was killed may end before what was acknowledged.
	old := c.now(t)
	c.s.Old = &Old{DataDir: "/old", Objects: old}
	c.put(t, "/registry/events/default/g", storedAs("v1", "Event", "g", "uid-g", "")) // comes and goes
	c.s.Before.AtOutage = c.now(t)
	if f, err := look(t.Context()); err != nil || f.Status != plan.StatusPassed {
		t.Errorf("%+v, %v; want a pass", f, err)
	}
	c.put(t, "/registry/configmaps/default/last", storedAs("v1", "ConfigMap", "last", "uid-last", ""))
	c.s.Before.AtOutage = c.now(t)
	c.remove(t, "/registry/configmaps/default/last")
	f, err = look(t.Context())
	differs(t, f, err, "ConfigMap default/last", "there, as just before the outage", "nothing")
	if !f.Final || !strings.Contains(f.Detail, "the old database ends at revision") {
		t.Errorf("%+v", f)
	}
	// Where nobody could read what there was, that is said.
	c.s.Old = &Old{DataDir: "/old"}
	if f, err := look(t.Context()); err != nil || f.Status != plan.StatusSkipped {
		t.Errorf("%+v, %v; want it skipped", f, err)
	}
}

// TestRevisionRegained: that the recovery which was given up had set the revision back is not held against the rollback.
func TestRevisionRegained(t *testing.T) {
	ep, cli := realEtcd(t, "a")
	now := put(t, cli, "/registry/x")
	s := &Subject{Members: []controlplane.Member{memberNamed("a")}, Endpoints: []etcd.Endpoint{ep}, Revisions: &Revisions{}, Old: &Old{}}
	s.Revisions.Note(s.Revisions.at, now+9)
	s.Revisions.Note(s.Revisions.at, now-1)
	look := rolledBack(t, s, "revision-forward")
	s.Before.Revision = now
	if f, err := look(t.Context()); err != nil || f.Status != plan.StatusPassed {
		t.Errorf("%+v, %v; want a pass", f, err)
	}
	s.Before.Revision = 0
	if f, err := look(t.Context()); err != nil || f.Status != plan.StatusFailed {
		t.Errorf("%+v, %v; want a failure: whatever it is, it is not below nothing", f, err)
	}
	s.Before.Revision = now + 1
	f, err := look(t.Context())
	differs(t, f, err, "revision of etcd on node-a", "at least", "2")
	// The old directory itself is behind what the recovery has shown, if that has shown anything.
	s.Before.Revision, s.Old.Itself = now, true
	f, err = look(t.Context())
	differs(t, f, err, "revision of etcd on node-a", fmt.Sprintf("at least %d, as seen of the recovery that was given up", now+9), "2")
	s.Revisions = &Revisions{}
	s.Revisions.Note(s.Revisions.at, now)
	if f, err := look(t.Context()); err != nil || f.Status != plan.StatusPassed {
		t.Errorf("%+v, %v; want a pass", f, err)
	}
	s.Resumed = true
	if f, err := look(t.Context()); err != nil || f.Status != plan.StatusFailed || !f.Final {
		t.Errorf("%+v, %v; want a failure: it is not known what was shown", f, err)
	}
}
