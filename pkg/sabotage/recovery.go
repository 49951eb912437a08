package sabotage

import (
	"context"
	"fmt"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/stage"
)

// StaleAPIServer restores without raising the revision and lets the API server live on: what most tutorials teach.
func StaleAPIServer() Fault {
	return Fault{
		Entry:     plan.Entry{Name: "stale-api-server", Summary: "the revision is not raised, and the old API server is kept, as most tutorials teach"},
		Breaks:    []string{"reads-agree", "status-backed", "control-plane-renewed", "revision-forward", "watches-honest"},
		Also:      []string{"no-phantoms", "service-answers", "new-work-runs", "node-heartbeat"},
		Procedure: procedure.ManifestEdit().Name,
	}
}

// KeptKubelet raises the revision and starts everything anew but kubelet, which goes on with what it remembers of its pods.
func KeptKubelet() Fault {
	return Fault{
		Entry:       plan.Entry{Name: "kept-kubelet", Summary: "the revision is raised, and the old kubelet is kept"},
		Breaks:      []string{"control-plane-renewed"},
		Also:        []string{"status-backed", "no-phantoms", "service-answers", "new-work-runs"},
		KeepRunning: []string{procedure.Kubelet},
	}
}

// LowerRevision starts everything anew, on an etcd whose revision went back, below what live informers have seen.
func LowerRevision() Fault {
	return Fault{
		Entry:        plan.Entry{Name: "lower-revision", Summary: "the revision is not raised, while informers are open that have seen later ones"},
		Breaks:       []string{"revision-forward", "watches-honest"},
		Also:         []string{"service-answers", "new-work-runs"}, // kube-proxy and the DNS server are such informers
		BumpRevision: ptr[uint64](0),
	}
}

// stagedManifest is where procedures prepare the manifest before they put it in place.
const stagedManifest = "/etc/kubernetes/etcd.yaml.restored"

// EmptyEtcd lets the manifest name a directory that was never restored into: etcd starts empty, and healthy.
func EmptyEtcd() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "empty-etcd", Summary: "the manifest names a wrong data directory, and etcd starts empty"},
		Breaks: []string{"objects-restored", "reads-agree", "control-plane-renewed", "revision-forward", "ledger-exact", "new-work-runs"},
		// Nobody may read anything any more, so that most checks can't be evaluated.
		Also: []string{"status-backed", "no-phantoms", "service-answers", "watches-honest", "node-heartbeat", "no-drift", "secrets-safe"},
		Insert: at("prepare-manifest", "wrong-directory", "Let the prepared manifest name another directory", func(ctx context.Context, s *stage.Stage) error {
			return controlplane.Each(ctx, s.Target.Members, func(ctx context.Context, m controlplane.Member) error {
				dir := s.Subject.DataDir
				_, err := cluster.Run(ctx, m.Node, "sed", "-i", fmt.Sprintf("s#path: %s$#path: %s-wrong#", dir, dir), stagedManifest)
				return err
			})
		}),
		// An empty cluster knows no roles, so nobody may look at Leases: the run would end there, and no check be asked.
		Drop: []string{"release-leases"},
	}
}
