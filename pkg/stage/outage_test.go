package stage

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
)

// answering starts a server that gives one answer to everything, and an asker of it.
func answering(t *testing.T, status int, body string) asker {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return asker{client: clientWith(nil), base: s.URL}
}

func withDeployment() *Stage {
	s := &Stage{}
	s.Subject.Workload = proof.Workload{Namespace: "default", Name: "nginx", Objects: []proof.Object{
		{Resource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, Name: "nginx", UID: "u1"},
		{Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Name: "nginx-a", UID: "p1"},
		{Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Name: "nginx-b", UID: "p2"},
	}}
	return s
}

// TestProbeIsNotFooled: an answer is not enough, it must say the right thing.
func TestProbeIsNotFooled(t *testing.T) {
	ctx := t.Context()
	for name, c := range map[string]struct {
		err  error
		want string // "" means that the service counts as there
	}{
		"etcd healthy":             {answering(t, 200, `{"health":"true"}`).health(ctx), ""},
		"etcd says no":             {answering(t, 200, `{"health":"false","reason":"no leader"}`).health(ctx), "no leader"},
		"etcd unavailable":         {answering(t, 503, `{"health":"false"}`).health(ctx), "503"},
		"API server ready":         {answering(t, 200, "ok").ready(ctx), ""},
		"API server not ready":     {answering(t, 500, "etcd failed").ready(ctx), "etcd failed"},
		"LIST has it":              {answering(t, 200, `{"items":[{"metadata":{"uid":"u1"}}]}`).readsWorkload(ctx, withDeployment()), ""},
		"LIST is empty":            {answering(t, 200, `{"items":[]}`).readsWorkload(ctx, withDeployment()), "not the one with UID u1"},
		"LIST has a namesake":      {answering(t, 200, `{"items":[{"metadata":{"uid":"u2"}}]}`).readsWorkload(ctx, withDeployment()), "not the one with UID u1"},
		"LIST is no JSON":          {answering(t, 200, `<html>`).readsWorkload(ctx, withDeployment()), "invalid character"},
		"write acknowledged":       {answering(t, 201, "{}").writes(ctx), ""},
		"write refused":            {answering(t, 409, "conflict").writes(ctx), "409"},
		"write merely accepted":    {answering(t, 202, "{}").writes(ctx), "202"},
		"Service answers":          {serviceAt(t, answering(t, 200, "hello")).ask(ctx), ""},
		"Service without endpoint": {serviceAt(t, answering(t, 503, "")).ask(ctx), "503"},
	} {
		switch {
		case c.want == "" && c.err != nil:
			t.Errorf("%s: %v", name, c.err)
		case c.want != "" && (c.err == nil || !strings.Contains(c.err.Error(), c.want)):
			t.Errorf("%s: got %v, want an error with %q", name, c.err, c.want)
		}
	}
}

func serviceAt(t *testing.T, a asker) serviceAddress {
	t.Helper()
	u, err := url.Parse(a.base)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseInt(u.Port(), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return serviceAddress{host: u.Hostname(), port: int32(port)}
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

// TestBump: by how much the revision is raised is the procedure's choice, unless somebody says otherwise, 0 included; a rollback always goes above.
func TestBump(t *testing.T) {
	zero, five := uint64(0), uint64(5_000_000_000)
	for _, c := range []struct {
		procedure procedure.Procedure
		option    *uint64
		want      uint64
	}{
		{procedure.KubeletStop(), nil, DefaultBump},
		{procedure.KubeletStop(), &zero, 0},
		{procedure.KubeletStop(), &five, five},
		{procedure.ManifestEdit(), nil, 0},
		{procedure.ManifestEdit(), &five, five},
	} {
		s := &Stage{opt: Options{RunID: "r", BumpRevision: c.option}}
		s.cast([]controlplane.Member{{Name: "n", Etcd: textbookEtcd("n")}}, c.procedure, "nginx:1", "/var/lib/drill/r")
		if s.Target.BumpRevision != c.want || s.Target.RollbackBump <= c.want {
			t.Errorf("%s with %v: bump %d, rollback %d; want %d and more", c.procedure.Name, c.option, s.Target.BumpRevision, s.Target.RollbackBump, c.want)
		}
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
