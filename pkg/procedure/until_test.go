package procedure_test

import (
	"context"
	"slices"
	"testing"

	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
)

// TestWhatMustLast: whatever takes something of the control plane down must hold until the step that lets it run again, since a node that is started anew meanwhile runs it, too. A rollback is always
// begun from its first step, so nothing of it need be said to hold.
func TestWhatMustLast(t *testing.T) {
	for _, c := range []struct {
		procedure procedure.Procedure
		want      map[string]string
	}{
		{procedure.KubeletStop(), map[string]string{"stop-kubelet": "start-kubelet", "stop-control-plane": "start-kubelet"}},
		{procedure.ManifestMove(), map[string]string{
			"move-control-plane-away": "move-back", "wait-control-plane-gone": "move-back", "move-etcd-away": "swap-manifest", "wait-etcd-gone": "swap-manifest",
		}},
		{procedure.ManifestEdit(), nil},
	} {
		r := c.procedure.Build(three())
		for _, s := range slices.Concat(r.Steps, r.Rollback) {
			if s.Until != c.want[s.Name] {
				t.Errorf("%s: step %s must hold until %q, want %q", c.procedure.Name, s.Name, s.Until, c.want[s.Name])
			}
		}
		yes := func(context.Context) (plan.Finding, error) { return plan.Passed("yes"), nil }
		if err := engine.Validate(plan.Plan{Steps: r.Steps, Rollback: r.Rollback, Checks: []plan.Check{{Name: "any", Phase: plan.Prove, Look: yes}}}); err != nil {
			t.Errorf("%s: %v", c.procedure.Name, err)
		}
	}
}
