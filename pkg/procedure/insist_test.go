package procedure_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
)

// busy is a node whose container runtime gives no answer in time, for so many calls.
type busy struct {
	recorder
	silent, calls int
}

func (b *busy) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	if cmd.Argv[0] != "crictl" || cmd.Argv[1] != "ps" {
		return cluster.Result{Stdout: []byte(`{"items":[]}`)}, ctx.Err()
	}
	if b.calls++; b.calls <= b.silent {
		return cluster.Result{}, &cluster.ExitError{Node: b.name, Cmd: cmd, Code: 1, Output: "context deadline exceeded"}
	}
	if slices.Contains(cmd.Argv, "json") {
		return cluster.Result{Stdout: []byte(`{"containers":[]}`)}, nil
	}
	return cluster.Result{}, nil
}

// TestBusyRuntime: a runtime that doesn't answer in time is asked again, and not for ever.
func TestBusyRuntime(t *testing.T) {
	for name, c := range map[string]struct {
		procedure procedure.Procedure
		renew     []string
	}{
		"stop-control-plane":  {procedure.KubeletStop(), nil},
		"renew-network":       {procedure.KubeletStop(), nil},
		"renew-control-plane": {procedure.ManifestEdit(), []string{"kube-apiserver"}},
	} {
		for _, silent := range []int{0, 2, 1000} {
			synctest.Test(t, func(t *testing.T) {
				target := three()
				target.Members = target.Members[:1]
				target.Members[0].Node = &busy{recorder: recorder{name: "cp-a"}, silent: silent}
				target.Renew = c.renew
				steps := c.procedure.Build(target).Steps
				i := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Name == name })
				err := steps[i].Do(t.Context())
				var exit *cluster.ExitError
				if fine := silent < 1000; (err == nil) != fine || !fine && (!errors.As(err, &exit) || !strings.Contains(err.Error(), "deadline exceeded")) {
					t.Errorf("%s, silent for %d calls: %v", name, silent, err)
				}
			})
		}
	}
}
