package scenarios

import (
	"slices"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/stage"
)

// DeploymentLoss is the loss that tutorials begin with: somebody deletes a Deployment, and the manifest is nowhere to be found.
func DeploymentLoss() Scenario {
	return Scenario{
		Entry: plan.Entry{
			Name:    "deployment-loss",
			Summary: "a Deployment is deleted after the snapshot was taken; the restore must bring it back, running",
		},
		Nodes: 1,
		Steps: func(s *stage.Stage) []plan.Step {
			return slices.Concat([]plan.Step{
				s.CheckNames(),
			}, s.BringSnapshot(), []plan.Step{
				s.Deploy(),
				s.Tools(),
				s.ReadEtcdCommand(),
				s.EtcdHealth(),
				s.EtcdStatus(),
				s.WatchOutage(),
				s.OpenWatches(),
				s.SaveSnapshot(),
				s.SnapshotStatus(),
			}, s.LateWrites(), []plan.Step{
				s.RecordBefore(),
				s.DeleteWorkload(),
			})
		},
	}
}
