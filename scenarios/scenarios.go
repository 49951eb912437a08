// Package scenarios holds what can go wrong, one file each: an ordered list of steps that reads from top to bottom, to which a
// procedure adds its own and which the checks conclude.
package scenarios

import (
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
	"github.com/etcd-drill/drill/pkg/stage"
)

// Scenario is one kind of loss.
type Scenario struct {
	plan.Entry
	// Nodes is how many control planes a cluster that is made for it has by default.
	Nodes int
	// Steps are those up to and including the loss: phases Arrange, Protect and Break.
	Steps func(*stage.Stage) []plan.Step
}

// All returns every scenario.
func All() []Scenario { return []Scenario{DeploymentLoss()} }

// Plan joins a scenario with a procedure on a stage.
func Plan(sc Scenario, p procedure.Procedure, s *stage.Stage) plan.Plan {
	recovery := p.Build(s.Target)
	s.Subject.TakenAway = recovery.TakenAway
	return plan.Plan{
		Scenario:       sc.Entry,
		Procedure:      p.Entry,
		Variant:        recovery.Variant,
		Cluster:        s.Info,
		Warnings:       s.Warnings(),
		Steps:          append(sc.Steps(s), recovery.Steps...),
		Checks:         proof.Checks(&s.Subject),
		Rollback:       recovery.Rollback,
		RollbackChecks: proof.RolledBack(&s.Subject),
		Measure:        s.Measure,
		Evidence:       s.Evidence,
		Clear:          s.Clear,
		Close:          s.Close,
	}
}
