package stage

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/probe"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
)

func withDeployment() *Stage {
	s := &Stage{}
	s.Subject.Workload = proof.Workload{Namespace: "default", Name: "nginx", Objects: []proof.Object{
		{Resource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, Name: "nginx", UID: "u1"},
		{Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Name: "nginx-a", UID: "p1"},
		{Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Name: "nginx-b", UID: "p2"},
	}}
	return s
}

// TestWorkBack: the workload is back with its last pod, and not at all while one is missing.
func TestWorkBack(t *testing.T) {
	s, began := withDeployment(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	started := func(seconds int) controlplane.Container {
		return controlplane.Container{StartedAt: began.Add(time.Duration(seconds) * time.Second)}
	}
	if got := s.workBack(map[string]controlplane.Container{"p1": started(3)}, began); got != nil {
		t.Errorf("one of two pods runs, and the workload counts as back after %v s", *got)
	}
	if got := s.workBack(map[string]controlplane.Container{"p1": started(3), "p2": started(7)}, began); got == nil || *got != 7 {
		t.Errorf("got %v, want 7", got)
	}
	if got := s.workBack(map[string]controlplane.Container{"p1": started(-9), "p2": started(-8)}, began); got == nil || *got != 0 {
		t.Errorf("never stopped: got %v, want 0", got)
	}
}

// TestReadingNeedsBoth: what GET shows and LIST doesn't is not back.
func TestReadingNeedsBoth(t *testing.T) {
	two, three := 2.0, 3.0
	for _, c := range []struct{ get, list, want *float64 }{
		{&two, &three, &three}, {&three, &two, &three}, {nil, &two, nil}, {&two, nil, nil}, {nil, nil, nil},
	} {
		if got := later(c.get, c.list); got != c.want {
			t.Errorf("GET %v, LIST %v: got %v, want %v", c.get, c.list, got, c.want)
		}
	}
}

// TestFloor: the longer of two starts, each from its own container's start to its first answer.
func TestFloor(t *testing.T) {
	zero := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return zero.Add(time.Duration(seconds * float64(time.Second))) }
	answers := func(seconds ...float64) probe.Series {
		s := probe.Series{{Began: at(-1)}} // what ran before
		for _, v := range seconds {
			s = append(s, probe.Sample{Began: at(v - 0.1), Took: 100 * time.Millisecond})
		}
		return append(s, probe.Sample{Began: at(30), Err: errors.New("refused")})
	}
	started := func(etcd, server float64) map[string]time.Time {
		return map[string]time.Time{"etcd": at(etcd), "kube-apiserver": at(server)}
	}
	for name, test := range map[string]struct {
		started      map[string]time.Time
		etcd, server probe.Series
		want         *float64
	}{
		"the API server's":           {started(1, 1.5), answers(2), answers(4.5), seconds(3 * time.Second)},
		"etcd's":                     {started(1, 7.5), answers(8), answers(9), seconds(7 * time.Second)},
		"etcd lived on":              {map[string]time.Time{"kube-apiserver": at(1)}, answers(2), answers(4), nil},
		"the API server is not back": {started(1, 1.5), answers(2), answers(), nil},
	} {
		if got := floorOf(test.started, test.etcd, test.server); (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// TestBump: by how much the revision is raised is the procedure's choice, unless somebody says otherwise, 0 included; a rollback always goes above.
func TestBump(t *testing.T) {
	zero, five, usual := uint64(0), uint64(5_000_000_000), etcd.DefaultBump
	for _, c := range []struct {
		procedure procedure.Procedure
		option    *uint64
		want      uint64
		own       bool
	}{
		{procedure.KubeletStop(), nil, etcd.DefaultBump, true},
		{procedure.KubeletStop(), &zero, 0, false},
		{procedure.KubeletStop(), &five, five, false},
		{procedure.ManifestEdit(), nil, 0, true},
		{procedure.ManifestEdit(), &five, five, false},
		{procedure.KubeletStop(), &usual, etcd.DefaultBump, true},
	} {
		s := &Stage{opt: Options{RunID: "r", BumpRevision: c.option}}
		s.cast([]controlplane.Member{{Name: "n", Etcd: textbookEtcd("n", 0)}}, c.procedure, "nginx:1", "/var/lib/drill/r")
		if s.Target.BumpRevision != c.want || s.Target.RollbackBump <= c.want {
			t.Errorf("%s with %v: bump %d, rollback %d; want %d and more", c.procedure.Name, c.option, s.Target.BumpRevision, s.Target.RollbackBump, c.want)
		}
		if v := s.opt.Variant(c.procedure); v.Own != c.own || v.BumpRevision != c.want {
			t.Errorf("%s with a bump of %d: %+v, want its own way: %v", c.procedure.Name, c.want, v, c.own)
		}
	}
}

// TestMeasureAsksWhatLivedOn: once there was an outage, and only where something was to live on.
func TestMeasureAsksWhatLivedOn(t *testing.T) {
	var s Stage
	s.cast([]controlplane.Member{{Name: "n", Etcd: textbookEtcd("n", 0)}}, procedure.ManifestEdit(), "nginx:1", "/var/lib/drill/r")
	outage := plan.Marks{OutageBegan: time.Unix(1, 0)}
	if m, err := s.Measure(t.Context(), outage); err != nil || m.EndedByThemselves != nil {
		t.Errorf("nothing to look at: %q, %v", m.EndedByThemselves, err)
	}
	trouble := errors.New("no answer")
	s.Target.NoteKept(func(context.Context) ([]string, error) { return []string{"kubelet"}, trouble })
	if m, err := s.Measure(t.Context(), plan.Marks{}); err != nil || m.EndedByThemselves != nil {
		t.Errorf("without an outage: %q, %v", m.EndedByThemselves, err)
	}
	if m, err := s.Measure(t.Context(), outage); !errors.Is(err, trouble) || len(m.EndedByThemselves) != 1 {
		t.Errorf("%q, %v", m.EndedByThemselves, err)
	}
}

func TestTypistNeedsANode(t *testing.T) {
	err := Typist{Cluster: noNodes{}}.Type(t.Context(), plan.Command{On: "elsewhere", Argv: []string{"true"}})
	if err == nil || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("got %v", err)
	}
}

type noNodes struct{ cluster.Cluster }

func (noNodes) Name() string          { return "empty" }
func (noNodes) Nodes() []cluster.Node { return nil }
