//go:build e2e

package e2e

import (
	"context"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
)

// live is a run that goes on in the background while the specs follow it, one a step.
type live struct {
	mu     sync.Mutex
	steps  map[string]plan.StepFinished
	checks map[string]plan.CheckFinished
	result *report.Run
	err    error
}

// patience is how long a recovery may take here.
const patience = 6 * time.Minute

// start begins a run. It is stopped when the specs around are done, should it go on so long.
func start(job runner.Job) *live {
	l := &live{steps: map[string]plan.StepFinished{}, checks: map[string]plan.CheckFinished{}}
	job.ID = runner.NewID(time.Now())
	job.StateDir, job.Worker, job.Place = shared.stateDir, shared.worker(), shared.provider.Place()
	if job.OutageLimit == 0 {
		job.OutageLimit = patience // a machine that is busy is no procedure that fails
	}
	job.Observers = append(job.Observers, l)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		defer GinkgoRecover()
		r, err := job.Run(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.result, l.err = &r, err
	})
	DeferCleanup(func() {
		cancel()
		done.Wait()
	})
	return l
}

// Observe is part of plan.Observer.
func (l *live) Observe(e plan.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e := e.(type) {
	case plan.StepFinished:
		l.steps[e.Step.Name] = e
	case plan.CheckFinished:
		if e.Check.Phase != plan.Rollback { // those have the same names
			l.checks[e.Check.Name] = e
		}
	}
}

// step waits for the step of that name to end.
func (l *live) step(ctx context.Context, name string) plan.StepFinished {
	GinkgoHelper()
	return await(ctx, l, func() (plan.StepFinished, bool) { e, ok := l.steps[name]; return e, ok })
}

// check waits for the check of that name.
func (l *live) check(ctx context.Context, name string) plan.CheckFinished {
	GinkgoHelper()
	return await(ctx, l, func() (plan.CheckFinished, bool) { e, ok := l.checks[name]; return e, ok })
}

// run waits for the run to end.
func (l *live) run(ctx context.Context) report.Run {
	GinkgoHelper()
	r := await(ctx, l, func() (*report.Run, bool) { return l.result, l.result != nil })
	l.mu.Lock()
	defer l.mu.Unlock()
	Expect(l.err).NotTo(HaveOccurred())
	return *r
}

// await waits until look finds something; look is called with l locked.
func await[T any](ctx context.Context, l *live, look func() (T, bool)) (found T) {
	GinkgoHelper()
	Eventually(ctx, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		var ok bool
		found, ok = look()
		return ok || l.result != nil
	}).WithPolling(50 * time.Millisecond).Should(BeTrue())
	l.mu.Lock()
	defer l.mu.Unlock()
	var ok bool
	found, ok = look()
	Expect(ok).To(BeTrue(), "the run ended (%+v) before this was reached", l.result)
	return found
}
