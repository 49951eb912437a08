package sabotage_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
	"github.com/etcd-drill/drill/pkg/sabotage"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

func checks() []string {
	var out []string
	for _, c := range proof.Checks(&proof.Subject{}) {
		out = append(out, c.Name)
	}
	return out
}

// TestEveryCheckIsSabotaged: a check that nothing makes fail proves nothing.
func TestEveryCheckIsSabotaged(t *testing.T) {
	broken := map[string]bool{}
	names := map[string]bool{}
	for _, f := range sabotage.All() {
		if f.Name == "" || f.Summary == "" || names[f.Name] || len(f.Breaks) == 0 {
			t.Errorf("fault %q has no name or summary, or not one of its own, or breaks nothing", f.Name)
		}
		names[f.Name] = true
		for _, c := range f.Breaks {
			broken[c] = true
			if slices.Contains(f.Also, c) {
				t.Errorf("fault %s: check %s must fail and may fail", f.Name, c)
			}
		}
		for _, c := range slices.Concat(f.Breaks, f.Also) {
			if !slices.Contains(checks(), c) {
				t.Errorf("fault %s names %q, which is no check", f.Name, c)
			}
		}
	}
	for _, c := range checks() {
		if !broken[c] {
			t.Errorf("no fault breaks check %s", c)
		}
	}
}

// TestPlans: with each fault in it there is still a plan that the engine walks, and what is left out was there.
func TestPlans(t *testing.T) {
	for _, f := range sabotage.All() {
		p := f.Sabotaged()
		if f.Procedure != "" && p.Name != f.Procedure {
			t.Errorf("fault %s is of procedure %q, which there isn't", f.Name, f.Procedure)
		}
		for _, c := range f.Needs {
			if !slices.Contains(procedure.Components(), c) || slices.Contains(p.Renews, c) {
				t.Errorf("fault %s needs that %s lives on, and %s doesn't leave it alone", f.Name, c, p.Name)
			}
		}
		s := stage.Textbook("cp-a", p, "")
		sound := scenarios.Plan(scenarios.DeploymentLoss(), p, s)
		altered := f.Alter(sound, s)
		if err := engine.Validate(altered); err != nil {
			t.Errorf("fault %s: %v", f.Name, err)
		}
		added, left := 0, 0
		for _, x := range altered.Steps {
			if strings.HasPrefix(x.Name, "sabotage-") {
				added++
			} else {
				left++
			}
		}
		if len(sound.Steps)-left != len(f.Drop) {
			t.Errorf("fault %s: %d of %d steps are left, and %d were to be dropped", f.Name, left, len(sound.Steps), len(f.Drop))
		}
		if added == 0 && len(f.Drop) == 0 && f.Procedure == "" && f.BumpRevision == nil && len(f.KeepRunning) == 0 {
			t.Errorf("fault %s changes nothing", f.Name)
		}
		if slices.ContainsFunc(sound.Steps, func(x plan.Step) bool { return strings.HasPrefix(x.Name, "sabotage-") }) {
			t.Errorf("fault %s changed the plan that it was given", f.Name)
		}
	}
}
