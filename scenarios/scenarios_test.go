package scenarios_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// TestPlans: every scenario with every procedure is a plan that the engine walks and a lesson can be made of.
func TestPlans(t *testing.T) {
	for _, sc := range scenarios.All() {
		if sc.Name == "" || sc.Summary == "" || sc.Nodes < 1 {
			t.Errorf("scenario %+v", sc.Entry)
		}
		for _, proc := range procedure.All() {
			t.Run(sc.Name+" with "+proc.Name, func(t *testing.T) {
				p := scenarios.Plan(sc, proc, stage.Textbook("lab-control-plane", proc, ""))
				if err := engine.Validate(p); err != nil {
					t.Fatal(err)
				}
				if p.Scenario != sc.Entry || p.Procedure != proc.Entry || p.Measure == nil || p.Evidence == nil || p.Close == nil || len(p.Rollback) == 0 {
					t.Errorf("the plan is not complete: %+v", p)
				}
				outages := 0
				for _, s := range p.Steps {
					if s.Outage {
						outages++
					}
				}
				if outages != 1 {
					t.Errorf("%d steps begin the outage", outages)
				}
				other := scenarios.Plan(sc, proc, stage.Textbook("other", proc, ""))
				for i, s := range append(slices.Clone(p.Steps), p.Rollback...) {
					if s.Why == "" || len(s.Commands) > 0 && s.Expect == "" {
						t.Errorf("step %s doesn't say why, or what to expect", s.Name)
					}
					typed(t, "step "+s.Name, s.Commands, append(slices.Clone(other.Steps), other.Rollback...)[i].Commands)
				}
				for i, c := range p.Checks {
					typed(t, "check "+c.Name, c.Commands, other.Checks[i].Commands)
				}
			})
		}
	}
}

// typed holds commands against what every command must be; other are the same commands for another node.
func typed(t *testing.T, where string, commands, other []plan.Command) {
	t.Helper()
	for i, c := range commands {
		if c.On != "lab-control-plane" || len(c.Argv) == 0 {
			t.Errorf("%s: %q is typed on %q", where, c, c.On)
		}
		for _, argv := range [][]string{c.Argv, c.PipeTo} {
			if !slices.ContainsFunc(argv, func(a string) bool { return a == "sh" || strings.HasSuffix(a, "bash") || strings.HasSuffix(a, "/sh") }) {
				continue
			}
			// A shell may run a text that is always the same; no value ever becomes a part of it.
			if where != "step find-tools" || !slices.Equal(c.Argv, other[i].Argv) {
				t.Errorf("%s: %q goes through a shell", where, c)
			}
		}
	}
}

// TestPlanLeavesTheScenarioAlone: joining it with one procedure must not show in the next plan.
func TestPlanLeavesTheScenarioAlone(t *testing.T) {
	for _, sc := range scenarios.All() {
		for _, proc := range procedure.All() {
			s := stage.Textbook("lab-control-plane", proc, "")
			first, second := scenarios.Plan(sc, proc, s), scenarios.Plan(sc, proc, s)
			if len(first.Steps) != len(second.Steps) || &first.Steps[0] == &second.Steps[0] {
				t.Errorf("%s with %s: the plans share their steps", sc.Name, proc.Name)
			}
		}
	}
}
