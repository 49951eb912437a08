package procedure_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
)

// replacing is a node whose container runtime says, look after look, on which directories etcd runs; the last answer stays.
type replacing struct {
	recorder
	dirs []string
}

func (r *replacing) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	if err := ctx.Err(); err != nil {
		return cluster.Result{}, err
	}
	dir := r.dirs[0]
	listing := cmd.Argv[1] == "ps"
	if !listing && len(r.dirs) > 1 {
		r.dirs = r.dirs[1:]
	}
	switch {
	case dir == "gone": // the runtime doesn't answer
		r.dirs = r.dirs[1:]
		return cluster.Result{}, fmt.Errorf("connection refused")
	case dir == "none":
		if len(r.dirs) > 1 {
			r.dirs = r.dirs[1:]
		}
		return cluster.Result{Stdout: []byte(`{"containers":[]}`)}, nil
	case listing:
		return cluster.Result{Stdout: []byte(`{"containers":[{"id":"c","metadata":{"name":"etcd"},"createdAt":"1",` +
			`"labels":{"io.kubernetes.pod.namespace":"kube-system"}}]}`)}, nil
	default:
		return cluster.Result{Stdout: fmt.Appendf(nil,
			`{"status":{"id":"c","state":"CONTAINER_RUNNING","mounts":[{"hostPath":%q,"containerPath":"/var/lib/etcd"}]}}`, dir)}, nil
	}
}

func TestWaitUntilEtcdIsReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		dirs []string
		want string // part of the error; empty if it ends well
	}{
		"at last":            {[]string{"/var/lib/etcd", "gone", "none", "/var/lib/etcd", "/new/etcd"}, ""},
		"never":              {[]string{"/new/etcd-of-another-run", "/var/lib/etcd"}, "node cp-a: waiting until etcd runs on /new/etcd: patience is over; last seen: etcd on /var/lib/etcd"},
		"no etcd any more":   {[]string{"/var/lib/etcd", "none"}, "last seen: no running etcd"},
		"as good as told so": {[]string{"gone", "/var/lib/etcd"}, "last seen: etcd on /var/lib/etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target := three()
				target.Members = target.Members[:1]
				target.Members[0].Node = &replacing{recorder: recorder{name: "cp-a"}, dirs: c.dirs}
				steps := procedure.ManifestEdit().Build(target).Steps
				i := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Name == "wait-etcd-replaced" })
				ctx, cancel := context.WithTimeoutCause(t.Context(), steps[i].Timeout, fmt.Errorf("patience is over"))
				defer cancel()
				began := time.Now()
				err := steps[i].Do(ctx)
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("after %s: %v, want %q", time.Since(began), err, c.want)
				}
			})
		})
	}
}
