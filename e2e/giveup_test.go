//go:build e2e

package e2e

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// staged is where kubelet-stop prepares the new manifest.
const staged = "/etc/kubernetes/etcd.yaml.restored"

// doom makes a recovery that can't come to its end.
type doom struct {
	name string
	// after is the step after which it is done, and ruin what is typed on every control plane.
	after string
	ruin  func(dataDir string) [][]string
	// stuck is the step that can't be carried out; "" where etcd may be ready for a moment, so that either its wait or the API server's can be it. why is part of what the report says of it.
	stuck, why string
	// turn is as that of died.
	turn int
}

func dooms() []doom {
	return []doom{
		{
			name: "the restored data directory holds no data", after: "restore-snapshot", stuck: "wait-etcd", why: "member", turn: 6,
			ruin: func(dir string) [][]string {
				return [][]string{{"mv", dir + "/member", dir + "-gone"}, {"touch", dir + "/member"}}
			},
		},
		{
			name: "the manifest has a flag that etcd doesn't know", after: "prepare-manifest", stuck: "wait-etcd", why: "no-such-flag",
			ruin: func(string) [][]string {
				return [][]string{{"sed", "-i", "s#- --name=.*#&\\n    - --no-such-flag=1#", staged}}
			},
		},
		{
			name: "etcd doesn't trust the API server's certificate", after: "prepare-manifest", stuck: "wait-kube-apiserver", why: "unknown certificate authority",
			ruin: func(string) [][]string {
				return [][]string{{"sed", "-i", "s#--trusted-ca-file=.*#--trusted-ca-file=/etc/kubernetes/pki/etcd/server.crt#", staged}}
			},
		},
		{
			name: "the disk of the restored data directory is full", after: "restore-snapshot", why: "no space left on device",
			ruin: func(dir string) [][]string {
				return [][]string{
					{"mv", dir, dir + "-whole"}, {"mkdir", "-m", "0700", dir}, {"mount", "-t", "tmpfs", "-o", "size=80m,mode=0700", "tmpfs", dir},
					{"cp", "-a", "--sparse=always", dir + "-whole/.", dir}, // so that its log has no room of its own
					{"dd", "if=/dev/zero", "of=" + dir + "/filler", "bs=1M", "count=200", "status=none"},
				}
			},
		},
		{
			// In the outage: nothing is begun before it that can't be written down.
			name: "the disk is full, but for the room that was kept for a third directory", after: "stop-control-plane", why: "no space left on device", turn: 7,
			ruin: func(dir string) [][]string {
				run := path.Dir(dir)
				return [][]string{
					{"cp", "-a", "--sparse=always", run, run + "-whole"}, {"mount", "-t", "tmpfs", "-o", "size=400m,mode=0700", "tmpfs", run},
					{"cp", "-a", "--sparse=always", run + "-whole/.", run},
					{"sh", "-c", `fallocate --length "$(stat --format=%s "$1")" "$1"`, "sh", path.Join(run, stage.ReservedFile)}, // the copy has holes
					{"dd", "if=/dev/zero", "of=" + run + "/filler", "bs=1M", "count=500", "status=none"},
				}
			},
		},
	}
}

// into inserts the ruin into a plan.
func (d doom) into(p plan.Plan, s *stage.Stage) plan.Plan {
	i := slices.IndexFunc(p.Steps, func(st plan.Step) bool { return st.Name == d.after })
	p.Steps = slices.Insert(slices.Clone(p.Steps), i+1, plan.Step{
		Name: "ruin", Phase: plan.Recover, Title: "Make sure that it fails", Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, s.Target.Members, func(ctx context.Context, m controlplane.Member) error {
				for _, argv := range d.ruin(s.Target.DataDir) {
					if _, err := cluster.Run(ctx, m.Node, argv...); err != nil && argv[0] != "dd" { // which is to fill the disk
						return err
					}
				}
				return nil
			})
		},
	})
	return p
}

var _ = Describe("a recovery that can't come to its end", Ordered, ContinueOnFailure, Label("crashes"), func() {
	var c cluster.Cluster
	BeforeAll(func(ctx SpecContext) { c = shared.oneNode(ctx) }, NodeTimeout(10*time.Minute))
	for _, d := range dooms() {
		It("is given up and undone, and the old state is proven to be back: "+d.name, crashing(d.turn), func(ctx SpecContext) {
			const limit = 25 * time.Second
			r := start(runner.Job{Scenario: scenarios.DeploymentLoss(), Procedure: procedure.KubeletStop(), Cluster: c, Alter: d.into, OutageLimit: limit}).run(ctx)
			Expect(r.Verdict).To(Equal(plan.VerdictFailed), "%s", r.Reason)
			stuck := HavePrefix("step " + d.stuck + ": ")
			if d.stuck == "" {
				stuck = Or(HavePrefix("step wait-etcd: "), HavePrefix("step wait-kube-apiserver: "))
			}
			Expect(r.Reason).To(stuck)
			Expect(r.Reason).To(ContainSubstring("limit of " + limit.String()))
			Expect(strings.Join(strings.Fields(r.Reason), " ")).To(ContainSubstring(d.why))
			Expect(r.Rollback).To(Equal(plan.StatusPassed), "%v", r.Warnings)
			Expect(r.RollbackChecks).NotTo(BeEmpty())
			for _, check := range r.RollbackChecks {
				Expect(check.Status).To(Equal(plan.StatusPassed), "%s: %s", check.Name, check.Detail)
			}
			Expect(r.Artifacts).NotTo(BeEmpty())
			keepsNoRoom(ctx, c, r.ID)
			unmount(ctx, c)
		}, SpecTimeout(15*time.Minute))
	}
})

// unmount takes away what a ruin has mounted, for the specs after it on the same cluster. As etcd may run on it, a drill that passes moves etcd to a directory of its own before.
func unmount(ctx SpecContext, c cluster.Cluster) {
	GinkgoHelper()
	mounted := func(n cluster.Node) []string {
		lines := strings.Split(on(ctx, n, "findmnt", "--list", "--noheadings", "--types", "tmpfs", "--output", "TARGET"), "\n")
		return slices.DeleteFunc(lines, func(dir string) bool { return !strings.HasPrefix(dir, stage.NodeDirs+"/") })
	}
	left := false
	for _, n := range cluster.ControlPlanes(c) {
		left = left || len(mounted(n)) > 0
	}
	if !left {
		return
	}
	proven(ctx, c)
	for _, n := range cluster.ControlPlanes(c) {
		for _, dir := range mounted(n) {
			on(ctx, n, "umount", dir)
			on(ctx, n, "rm", "-r", dir, dir+"-whole") // what the mount hid: the run's notes of before
		}
	}
}
