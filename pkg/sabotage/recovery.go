package sabotage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/stage"
)

// StaleAPIServer restores without raising the revision and lets the API server live on: what most tutorials teach.
//
// kubelet may end the API server all the same: its liveness probe fails as long as etcd is away, and kubeadm gives it 80 s. So the old etcd is ended as
// soon as kubelet has asked it to end, which otherwise takes the 30 s that kubelet gives it: an etcd with open connections doesn't end by itself.
func StaleAPIServer() Fault {
	return Fault{
		Entry:     plan.Entry{Name: "stale-api-server", Summary: "the revision is not raised, and the old API server is kept, as most tutorials teach"},
		Breaks:    []string{"reads-agree", "status-backed", "control-plane-renewed", "revision-forward", "watches-honest"},
		Also:      []string{"no-phantoms", "service-answers", "new-work-runs", "node-heartbeat"},
		Procedure: procedure.ManifestEdit().Name,
		Needs:     []string{controlplane.APIServer},
		Insert: at("edit-manifest", "end-old-etcd", "End the old etcd as soon as kubelet has asked it to end", func(ctx context.Context, s *stage.Stage) error {
			n := s.Target.Members[0].Node
			var old string
			err := wait(ctx, "kubelet asks the old etcd to end", func(ctx context.Context) (bool, string) {
				running, err := controlplane.Containers(ctx, n, false)
				if err != nil {
					return false, err.Error()
				}
				if old == "" {
					i := slices.IndexFunc(running, func(c controlplane.Container) bool {
						return c.Name == controlplane.Etcd && c.PodNamespace == metav1.NamespaceSystem
					})
					if i < 0 {
						return true, ""
					}
					old = running[i].ID
				}
				if !slices.ContainsFunc(running, func(c controlplane.Container) bool { return c.ID == old }) {
					old = "" // it ended by itself
					return true, ""
				}
				out, err := cluster.Run(ctx, n, "sh", "-c", `exec crictl logs --tail 100 "$0" 2>&1`, old)
				if err != nil {
					return false, err.Error()
				}
				return strings.Contains(out, "received signal"), "it was not told to"
			})
			if err != nil || old == "" {
				return err
			}
			_, err = cluster.Run(ctx, n, "crictl", controlplane.CrictlTimeout, "stop", "--timeout", "0", old)
			return err
		}),
	}
}

// KeptKubelet raises the revision and starts everything anew but kubelet, which goes on with what it remembers of its pods.
func KeptKubelet() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "kept-kubelet", Summary: "the revision is raised, and the old kubelet is kept"},
		Breaks: []string{"control-plane-renewed"},
		// It takes half a minute until there is an API server, and informers that were without one for so long ask again late.
		Also:        []string{"status-backed", "no-phantoms", "service-answers", "new-work-runs", "watches-honest"},
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
