// Package sabotage holds faults, each of which a check must catch. A fault is put into a plan like any other step, so that the run goes through the
// same engine as every other, and must end failed on the checks that the fault breaks and on no unrelated one.
//
// A check that nothing can make fail proves nothing. So every check has at least one fault here, which a test of this package makes sure of.
package sabotage

import (
	"context"
	"errors"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/stage"
)

// Fault is one thing that goes wrong.
type Fault struct {
	plan.Entry
	// Breaks are the checks that must fail.
	Breaks []string
	// Also are checks that may fail, because they see consequences of the same fault. No other check may.
	Also []string
	// Procedure names the one that is sabotaged, where that is not the default one.
	Procedure string
	// BumpRevision and KeepRunning are of the run, where the fault is a wrong choice of these; see runner.Job.
	BumpRevision *uint64
	KeepRunning  []string
	// Needs are components without whose living on there is no fault. A run in which one of them ended by itself (plan.Measurement.EndedByThemselves) says nothing.
	Needs []string
	// Insert are steps of the fault, and where they go.
	Insert func(s *stage.Stage) []Insertion
	// Drop names steps that are left out.
	Drop []string
	// Undo takes back what the fault did, as far as a rollback doesn't. It must also work where the fault was never carried out.
	Undo func(ctx context.Context, s *stage.Stage) error
	// Harmless says that the control plane is sound once the fault is undone: there is nothing to roll back.
	Harmless bool
}

// Sabotaged is the procedure that the fault is put into.
func (f Fault) Sabotaged() procedure.Procedure {
	for _, p := range procedure.All() {
		if p.Name == f.Procedure {
			return p
		}
	}
	return procedure.KubeletStop()
}

// undoTimeout bounds Undo, and tidying up after it.
const undoTimeout = time.Minute

func bounded(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return f(ctx)
}

// Insertion is a step of a fault.
type Insertion struct {
	// After is the name of the step that it follows; empty means the last one of the recovery.
	After string
	Step  plan.Step
}

// All returns every fault: those that leave the control plane sound first, and then those after which the old state must be put back.
func All() []Fault {
	return []Fault{
		DamagedSnapshot(),
		ForeignSnapshot(),
		ObjectChanged(),
		ObjectRemoved(),
		HungKubelet(),
		Phantom(),
		StrangerMember(),
		SecondManifest(),
		DirectoryRenamed(),
		FrozenProxy(),
		NoHeartbeat(),
		NoNewPods(),
		ReadableSnapshot(),
		SecretInLog(),
		LowerRevision(),
		KeptKubelet(),
		StaleAPIServer(),
		EmptyEtcd(),
	}
}

// Alter returns the plan with the fault in it.
func (f Fault) Alter(p plan.Plan, s *stage.Stage) plan.Plan {
	p.Steps = slices.DeleteFunc(slices.Clone(p.Steps), func(x plan.Step) bool { return slices.Contains(f.Drop, x.Name) })
	if f.Insert != nil {
		for _, i := range f.Insert(s) {
			p.Steps = insert(p.Steps, i)
		}
	}
	if f.Harmless {
		p.Rollback, p.RollbackChecks = nil, nil
	}
	tidy := p.Close
	p.Close = func(ctx context.Context, all bool) error {
		var err error
		if f.Undo != nil { // within a bound of its own, so that what the run made is removed even when it takes all of that
			err = bounded(ctx, func(ctx context.Context) error { return f.Undo(ctx, s) })
		}
		if tidy != nil {
			err = errors.Join(err, bounded(ctx, func(ctx context.Context) error { return tidy(ctx, all) }))
		}
		return err
	}
	return p
}

// insert puts a step behind the one that it is to follow, in that one's phase. The name of a step that there isn't is a defect, which the
// engine reports because of the step's missing phase.
func insert(steps []plan.Step, i Insertion) []plan.Step {
	at := len(steps) - 1
	if i.After != "" {
		at = slices.IndexFunc(steps, func(x plan.Step) bool { return x.Name == i.After })
	}
	if at >= 0 {
		i.Step.Phase = steps[at].Phase
	}
	i.Step.Name = "sabotage-" + i.Step.Name
	i.Step.Why = "This run is sabotaged on purpose, to see that a check catches it."
	return slices.Insert(steps, at+1, i.Step)
}

// last makes a fault of one step after the recovery.
func last(name, title string, do func(ctx context.Context, s *stage.Stage) error) func(*stage.Stage) []Insertion {
	return at("", name, title, do)
}

// at makes a fault of one step that follows another.
func at(after, name, title string, do func(ctx context.Context, s *stage.Stage) error) func(*stage.Stage) []Insertion {
	return func(s *stage.Stage) []Insertion { return []Insertion{one(s, after, name, title, do)} }
}

func one(s *stage.Stage, after, name, title string, do func(ctx context.Context, s *stage.Stage) error) Insertion {
	return Insertion{After: after, Step: plan.Step{Name: name, Title: title, Do: func(ctx context.Context) error { return do(ctx, s) }}}
}

// name is what faults call the objects that they make.
const name = "drill-sabotage"

func client(s *stage.Stage) (kubernetes.Interface, error) {
	return kubernetes.NewForConfig(s.Subject.Servers[0].Config)
}

func ptr[T any](v T) *T { return &v }
