package stage

import (
	"context"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/proof"
)

// OpenWatches opens informers that stay open until the plan is closed.
func (s *Stage) OpenWatches() plan.Step {
	return plan.Step{
		Name:  "open-watches",
		Phase: plan.Arrange,
		Title: "Open watches, as every controller has them",
		Why: "Controllers don't ask: they keep a watch open and act on what they are told. Whether a watch from before the loss tells the truth afterwards can be " +
			"seen only by one that was there.",
		Do: func(ctx context.Context) (err error) {
			s.Subject.Watchers, err = proof.OpenWatchers(ctx, s.Subject.Servers)
			return err
		},
		Live: true,
	}
}
