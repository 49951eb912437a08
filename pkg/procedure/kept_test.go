package procedure_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
)

// living is a node whose container runtime and systemd say what runs.
type living struct {
	recorder
	mu sync.Mutex
	// ids are those of the containers of kube-system by their names; pid is kubelet's, and since when it runs.
	ids        map[string]string
	pid, since string
	silent     error
}

func newLiving(name string) *living {
	l := &living{recorder: recorder{name: name}, ids: map[string]string{"etcd": "e"}, pid: "632", since: "1000"}
	for _, c := range procedure.Components() {
		l.ids[c] = name + "-" + c
	}
	return l
}

func (l *living) Exec(_ context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent != nil {
		return cluster.Result{}, l.silent
	}
	switch strings.Join(cmd.Argv[:2], " ") {
	case "systemctl show":
		return cluster.Result{Stdout: fmt.Appendf(nil, "MainPID=%s\nActiveEnterTimestampMonotonic=%s\n", l.pid, l.since)}, nil
	case "crictl ps":
		list := []string{`{"id":"theirs","metadata":{"name":"kube-scheduler"},"createdAt":"1","labels":{"io.kubernetes.pod.namespace":"default"}}`}
		for name, id := range l.ids {
			list = append(list, fmt.Sprintf(`{"id":%q,"metadata":{"name":%q},"createdAt":"1","labels":{"io.kubernetes.pod.namespace":"kube-system"}}`, id, name))
		}
		return cluster.Result{Stdout: []byte(`{"containers":[` + strings.Join(list, ",") + `]}`)}, nil
	case "crictl inspect":
		var out []string
		for _, id := range cmd.Argv {
			out = append(out, fmt.Sprintf(`{"status":{"id":%q,"state":"CONTAINER_RUNNING"}}`, id))
		}
		return cluster.Result{Stdout: []byte("[" + strings.Join(out[5:], ",") + "]")}, nil
	default:
		return cluster.Result{}, fmt.Errorf("unexpected: %q", cmd.Argv)
	}
}

// TestWhatWasKeptIsLookedAt: that nobody ends a component doesn't say that it lives on.
func TestWhatWasKeptIsLookedAt(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(a, b *living)
		want      []string
	}{
		"all live on":               {func(a, b *living) {}, nil},
		"one is there anew":         {func(a, b *living) { b.ids["kube-scheduler"] = "another" }, []string{"kube-scheduler"}},
		"one is gone":               {func(a, b *living) { delete(a.ids, "kube-apiserver") }, []string{"kube-apiserver"}},
		"etcd is not meant":         {func(a, b *living) { a.ids["etcd"] = "another" }, nil},
		"kubelet is restarted":      {func(a, b *living) { a.pid = "700" }, []string{"kubelet"}},
		"kubelet has an old number": {func(a, b *living) { a.since = "2000" }, []string{"kubelet"}},
		"kubelet is down":           {func(a, b *living) { a.pid = "0" }, []string{"kubelet"}},
		"several": {func(a, b *living) {
			a.ids["kube-controller-manager"], b.ids["kube-controller-manager"], b.pid = "x", "y", "9"
		}, []string{"kube-controller-manager", "kubelet"}},
	} {
		for _, p := range procedure.All() {
			t.Run(name+" with "+p.Name, func(t *testing.T) {
				a, b := newLiving("cp-a"), newLiving("cp-b")
				look := noteKept(t, p, a, b)
				c.meanwhile(a, b)
				if got, err := look(t.Context()); err != nil || !slices.Equal(got, c.want) {
					t.Errorf("got %q, %v, want %q", got, err, c.want)
				}
			})
		}
	}
	t.Run("nobody answers", func(t *testing.T) {
		a, b := newLiving("cp-a"), newLiving("cp-b")
		look := noteKept(t, procedure.ManifestEdit(), a, b)
		b.silent = errors.New("no such node")
		synctest.Test(t, func(t *testing.T) {
			if got, err := look(t.Context()); err == nil || got != nil || !strings.Contains(err.Error(), "node cp-b") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	})
}

// noteKept carries out the last step before the outage, where everything is to live on, and returns the look that it hands over.
func noteKept(t *testing.T, p procedure.Procedure, nodes ...*living) func(context.Context) ([]string, error) {
	t.Helper()
	target := three()
	target.Members = target.Members[:len(nodes)]
	for i, n := range nodes {
		target.Members[i].Node = n
	}
	target.KeepRunning = p.Renews
	noted := false
	target.NoteLast = func(context.Context) error { noted = true; return nil }
	var look func(context.Context) ([]string, error)
	target.NoteKept = func(f func(context.Context) ([]string, error)) { look = f }
	steps := p.Build(target).Steps
	i := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Name == "note-last" })
	if err := steps[i].Do(t.Context()); err != nil || !noted || look == nil {
		t.Fatalf("noting what is there: %v, %v", err, noted)
	}
	return look
}

// TestNothingKeptNothingNoted: where everything begins anew nobody is asked.
func TestNothingKeptNothingNoted(t *testing.T) {
	target := three()
	target.NoteLast = func(context.Context) error { return nil }
	steps := procedure.KubeletStop().Build(target).Steps
	i := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Name == "note-last" })
	if err := steps[i].Do(t.Context()); err != nil {
		t.Error(err)
	}
}
