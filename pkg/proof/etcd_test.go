package proof

import (
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/plan"
)

// realEtcd is an etcd of one member, which another one may join that can't be reached.
func realEtcd(t *testing.T, name string) (etcd.Endpoint, *clientv3.Client) {
	t.Helper()
	s := etcdtest.Serve(t, t.TempDir(), func(cfg *embed.Config) {
		cfg.Name, cfg.InitialCluster, cfg.InitialClusterToken = name, cfg.InitialClusterFromName(name), name
		cfg.StrictReconfigCheck = false
	})
	return s.Endpoint, s.Client
}

func memberNamed(name string) controlplane.Member {
	return controlplane.Member{Name: "node-" + name, Etcd: controlplane.EtcdConfig{Name: name}}
}

func put(t *testing.T, cli *clientv3.Client, key string) int64 {
	t.Helper()
	r, err := cli.Put(t.Context(), key, "value")
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.GetRevision()
}

// differs fails the test unless the finding is false because of a difference with these parts.
func differs(t *testing.T, f plan.Finding, err error, subject, expected, seen string) {
	t.Helper()
	if err != nil || f.Status != plan.StatusFailed || f.Remedy == "" {
		t.Fatalf("%+v, %v; want a failure with a remedy", f, err)
	}
	for _, d := range f.Differences {
		if strings.Contains(d.Subject, subject) && strings.Contains(d.Expected, expected) && strings.Contains(d.Seen, seen) {
			return
		}
	}
	t.Errorf("%+v; want a difference of %q: expected %q, seen %q", f.Differences, subject, expected, seen)
}

// TestMembersAgreeGivesTheHashItsTime: a look that ends before etcd.HashKV gives up, after 2 minutes, would never see the hash of a large etcd.
func TestMembersAgreeGivesTheHashItsTime(t *testing.T) {
	if c := MembersAgree(&Subject{}); c.Timeout <= 2*time.Minute {
		t.Errorf("%v", c.Timeout)
	}
}

func TestMembersAgree(t *testing.T) {
	ep, cli := realEtcd(t, "a")
	put(t, cli, "/registry/x")
	s := &Subject{Members: []controlplane.Member{memberNamed("a")}, Endpoints: []etcd.Endpoint{ep}}
	f, err := membersAgree(t.Context(), s)
	if err != nil || f.Status != plan.StatusPassed || !holds(f.Evidence, "HashKV", "at revision 2") || !holds(f.Evidence, "cluster ID") {
		t.Errorf("%+v, %v; want a pass with hash and cluster ID", f, err)
	}

	id, err := etcd.AddLearner(t.Context(), ep, "http://127.0.0.1:2")
	if err != nil {
		t.Fatal(err)
	}
	f, err = membersAgree(t.Context(), s)
	differs(t, f, err, "member list of etcd on node-a", "1 members", "2: ")
	differs(t, f, err, "member list of etcd on node-a", "to have started", "it never did")
	differs(t, f, err, "member list of etcd on node-a", "to have a vote", "a learner")
	if err := etcd.RemoveMember(t.Context(), ep, id); err != nil {
		t.Fatal(err)
	}
	if f, err = membersAgree(t.Context(), s); err != nil || f.Status != plan.StatusPassed {
		t.Errorf("%+v, %v; want a pass again", f, err)
	}

	s.Members[0].Etcd.Name = "other"
	f, err = membersAgree(t.Context(), s)
	differs(t, f, err, "member list of etcd on node-a", "member other", "a")
}

// TestStrangers: two etcds that each are a cluster of their own, as after a restore that left one out.
func TestStrangers(t *testing.T) {
	epA, cliA := realEtcd(t, "a")
	epB, cliB := realEtcd(t, "b")
	put(t, cliA, "/registry/x")
	put(t, cliB, "/registry/y")
	s := &Subject{Members: []controlplane.Member{memberNamed("a"), memberNamed("b")}, Endpoints: []etcd.Endpoint{epA, epB}}
	f, err := membersAgree(t.Context(), s)
	differs(t, f, err, "member list of etcd on node-a", "2 members", "1: a")
	differs(t, f, err, "etcd on node-b", "cluster ID", "")
	differs(t, f, err, "etcd on node-b", "leader", "")
	differs(t, f, err, "HashKV of etcd on node-b at revision 2", "as on node-a", "")
}

func TestMembersThatCannotBeAsked(t *testing.T) {
	s := &Subject{Members: []controlplane.Member{memberNamed("a")}, Endpoints: []etcd.Endpoint{{URL: "http://127.0.0.1:1"}}}
	if f, err := membersAgree(t.Context(), s); err == nil {
		t.Errorf("%+v; want an error", f)
	}
	s.Endpoints = nil
	if f, err := membersAgree(t.Context(), s); err != nil || f.Status != plan.StatusFailed {
		t.Errorf("%+v, %v; want a failure: nothing is known of how to reach etcd", f, err)
	}
}

func TestRevisionForward(t *testing.T) {
	ep, cli := realEtcd(t, "a")
	now := put(t, cli, "/registry/x")
	at := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	subject := func(before int64, seen ...int64) *Subject {
		s := &Subject{Members: []controlplane.Member{memberNamed("a")}, Endpoints: []etcd.Endpoint{ep}, Revisions: &Revisions{}}
		s.Before.Revision = before
		for i, r := range seen {
			s.Revisions.Note(at.Add(time.Duration(i)*time.Second), r)
		}
		return s
	}

	f, err := revisionForward(t.Context(), subject(now, now-1, now))
	if err != nil || f.Status != plan.StatusPassed {
		t.Errorf("%+v, %v; want a pass", f, err)
	}
	// It was set back and has caught up since.
	f, err = revisionForward(t.Context(), subject(now, 900, 880, 881, 950))
	differs(t, f, err, "revision of etcd seen at 03:00:01.000", "at least 900, as seen at 03:00:00.000", "880")
	if !f.Final {
		t.Error("a revision that went back has gone back for good")
	}
	f, err = revisionForward(t.Context(), subject(now+1, now+1))
	differs(t, f, err, "revision of etcd on node-a", "as before the outage", "2")
	for name, s := range map[string]*Subject{
		"the revision before the outage is not known": subject(0, now),
		"nobody followed it":                          {Before: Before{Revision: now}},
	} {
		if f, err := revisionForward(t.Context(), s); err != nil || f.Status != plan.StatusFailed || !f.Final {
			t.Errorf("%s: %+v, %v; want a final failure", name, f, err)
		}
	}
}
