package sabotage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/stage"
)

// ObjectChanged changes the Service of the workload after the restore.
func ObjectChanged() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "object-changed", Summary: "the workload's Service is changed after the restore"},
		Breaks: []string{"objects-restored"},
		Also:   []string{"reads-agree", "ledger-exact"}, // they compare with the snapshot as well
		Insert: last("change-service", "Change the Service", func(ctx context.Context, s *stage.Stage) error {
			c, err := client(s)
			if err != nil {
				return err
			}
			w := s.Subject.Workload
			_, err = c.CoreV1().Services(w.Namespace).Patch(ctx, w.Name, types.MergePatchType, []byte(`{"spec":{"sessionAffinity":"ClientIP"}}`), metav1.PatchOptions{})
			return err
		}),
		Harmless: true,
	}
}

// ObjectRemoved deletes, after the restore, an object that has nothing to do with the workload.
func ObjectRemoved() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "object-removed", Summary: "a ConfigMap that the snapshot holds is removed after the restore"},
		Breaks: []string{"ledger-exact"},
		Insert: func(s *stage.Stage) []Insertion {
			return []Insertion{
				one(s, "deploy-workload", "make-configmap", "Make a ConfigMap", func(ctx context.Context, s *stage.Stage) error {
					c, err := client(s)
					if err != nil {
						return err
					}
					_, err = c.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
					return err
				}),
				one(s, "", "remove-configmap", "Remove that ConfigMap", removeConfigMap),
			}
		},
		Undo:     removeConfigMap,
		Harmless: true,
	}
}

func removeConfigMap(ctx context.Context, s *stage.Stage) error {
	c, err := client(s)
	if err != nil {
		return err
	}
	return gone(c.CoreV1().ConfigMaps(metav1.NamespaceDefault).Delete(ctx, name, metav1.DeleteOptions{}))
}

// gone takes a missing object for a deleted one.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// StrangerMember adds a member to etcd that never starts. It has no vote, so that everything goes on.
func StrangerMember() Fault {
	var id uint64
	return Fault{
		Entry:  plan.Entry{Name: "stranger-member", Summary: "etcd has a member that never started"},
		Breaks: []string{"members-agree"},
		Insert: last("add-member", "Add a member that never starts", func(ctx context.Context, s *stage.Stage) (err error) {
			id, err = etcd.AddLearner(ctx, s.Subject.Endpoints[0], "https://192.0.2.1:2380")
			return err
		}),
		Undo: func(ctx context.Context, s *stage.Stage) error {
			if id == 0 {
				return nil
			}
			return etcd.RemoveMember(ctx, s.Subject.Endpoints[0], id)
		},
		Harmless: true,
	}
}

const secondManifest = controlplane.ManifestDir + "/etcd-before.yaml"

// SecondManifest leaves a backup of etcd's manifest where kubelet takes it for a pod. The pod has a name of its own, so that etcd itself goes on: two
// static pods of one name are more than kubelet can sort out, and it runs neither.
func SecondManifest() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "second-manifest", Summary: "a second etcd manifest is left in the manifests folder"},
		Breaks: []string{"no-drift"},
		Insert: last("copy-manifest", "Leave a copy of etcd's manifest in the manifests folder", func(ctx context.Context, s *stage.Stage) error {
			n := s.Target.Members[0].Node
			manifest, err := n.ReadFile(ctx, controlplane.ManifestDir+"/etcd.yaml")
			if err != nil {
				return err
			}
			second := bytes.Replace(manifest, []byte("\n  name: etcd\n"), []byte("\n  name: etcd-before\n"), 1)
			return n.WriteFile(ctx, secondManifest, 0o600, bytes.NewReader(second))
		}),
		Undo: func(ctx context.Context, s *stage.Stage) error {
			n := s.Target.Members[0].Node
			if _, err := cluster.Run(ctx, n, "rm", "-f", "--", secondManifest); err != nil {
				return err
			}
			return wait(ctx, "nothing is left of the second etcd", func(ctx context.Context) (bool, string) {
				pods, err := controlplane.Sandboxes(ctx, n)
				if err != nil {
					return false, err.Error()
				}
				for _, p := range pods {
					if strings.HasPrefix(p.PodName, "etcd-before-") && p.State == controlplane.SandboxReady {
						return false, "sandbox " + p.ID
					}
				}
				return true, ""
			})
		},
		Harmless: true,
	}
}

// renamed is where DirectoryRenamed moves the directory that etcd runs on.
func renamed(s *stage.Stage) string { return s.Target.DataDir + "-renamed" }

// DirectoryRenamed renames the data directory of the running etcd and puts a copy in its place. All paths say what they are to say, and etcd goes on with the one that it has open: what is
// written from now on is gone when it is started next.
func DirectoryRenamed() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "directory-renamed", Summary: "etcd's data directory is renamed under it, and a copy has its path"},
		Breaks: []string{"no-drift"},
		Insert: last("rename-directory", "Rename etcd's data directory, and put a copy in its place", func(ctx context.Context, s *stage.Stage) error {
			n, dir := s.Target.Members[0].Node, s.Target.DataDir
			_, err := cluster.Run(ctx, n, "mv", "-T", "--", dir, renamed(s))
			if err == nil {
				_, err = cluster.Run(ctx, n, "cp", "-a", "-T", "--", renamed(s), dir)
			}
			return err
		}),
		Undo: func(ctx context.Context, s *stage.Stage) error {
			n, dir := s.Target.Members[0].Node, s.Target.DataDir
			if err := cluster.Absent(ctx, n, renamed(s)); !errors.Is(err, cluster.ErrOccupied) {
				return err
			}
			_, err := cluster.Run(ctx, n, "rm", "-rf", "--", dir)
			if err == nil {
				_, err = cluster.Run(ctx, n, "mv", "-T", "--", renamed(s), dir)
			}
			return err
		},
		Harmless: true,
	}
}

const phantomManifest = controlplane.ManifestDir + "/" + name + ".yaml"

// Phantom lets kubelet run a pod of which the API never hears: a static pod by hand, in a namespace that doesn't exist.
func Phantom() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "phantom", Summary: "a pod is started by hand on a node, of which the API doesn't know"},
		Breaks: []string{"no-phantoms"},
		Insert: last("start-phantom", "Start a container that the API doesn't know", func(ctx context.Context, s *stage.Stage) error {
			n := s.Target.Members[0].Node
			manifest := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: phantom, namespace: %s}\nspec:\n  containers:\n  - {name: phantom, image: %q, imagePullPolicy: IfNotPresent}\n",
				name, s.Subject.Workload.Image)
			if err := n.WriteFile(ctx, phantomManifest, 0o600, strings.NewReader(manifest)); err != nil {
				return err
			}
			return phantomRuns(ctx, n, true)
		}),
		Undo: func(ctx context.Context, s *stage.Stage) error {
			n := s.Target.Members[0].Node
			if _, err := cluster.Run(ctx, n, "rm", "-f", "--", phantomManifest); err != nil {
				return err
			}
			return phantomRuns(ctx, n, false)
		},
		Harmless: true,
	}
}

// phantomRuns waits until the phantom's container runs, or doesn't.
func phantomRuns(ctx context.Context, n cluster.Node, want bool) error {
	return wait(ctx, fmt.Sprintf("the phantom runs: %t", want), func(ctx context.Context) (bool, string) {
		running, err := controlplane.Containers(ctx, n, false)
		if err != nil {
			return false, err.Error()
		}
		found := false
		for _, c := range running {
			found = found || c.PodNamespace == name && c.State == controlplane.ContainerRunning
		}
		return found == want, fmt.Sprintf("%d containers", len(running))
	})
}

// wait polls look until it says true, and ends in an error that says what was last seen.
func wait(ctx context.Context, what string, look func(context.Context) (done bool, seen string)) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		done, seen := look(ctx)
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w; last seen: %s", what, context.Cause(ctx), seen)
		case <-tick.C:
		}
	}
}

// HungKubelet freezes kubelet after the recovery, and ends a container of the workload: the API goes on saying that it runs, as it does after a restore
// that leaves kubelet with what it remembers.
func HungKubelet() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "hung-kubelet", Summary: "a container of the workload ends, and kubelet, which hangs, doesn't see it"},
		Breaks: []string{"status-backed"},
		// kubelet hasn't told of every container yet, and makes none; and it doesn't renew its Lease, which is missed after 40 s.
		Also: []string{"no-phantoms", "service-answers", "new-work-runs", "node-heartbeat"},
		Insert: last("hang-kubelet", "Freeze kubelet and end a container of the workload", func(ctx context.Context, s *stage.Stage) error {
			n := s.Target.Members[0].Node
			var victim string
			// What was restored runs a moment after the recovery.
			err := wait(ctx, "the workload's containers run", func(ctx context.Context) (bool, string) {
				running, err := controlplane.Containers(ctx, n, false)
				if err != nil {
					return false, err.Error()
				}
				found := 0
				for _, c := range running {
					if c.PodNamespace == s.Subject.Workload.Namespace && c.Name == s.Subject.Workload.Name && c.State == controlplane.ContainerRunning {
						victim, found = c.ID, found+1
					}
				}
				return found == 2, fmt.Sprintf("%d containers", found)
			})
			if err != nil {
				return err
			}
			if err := settled(ctx, s); err != nil {
				return err
			}
			if _, err := cluster.Run(ctx, n, "systemctl", "kill", "--signal=SIGSTOP", "kubelet"); err != nil {
				return err
			}
			_, err = cluster.Run(ctx, n, "crictl", controlplane.CrictlTimeout, "stop", "--timeout", "0", victim)
			return err
		}),
		Undo: func(ctx context.Context, s *stage.Stage) error {
			_, err := cluster.Run(ctx, s.Target.Members[0].Node, "systemctl", "kill", "--signal=SIGCONT", "kubelet")
			return err
		},
		Harmless: true,
	}
}

// settled waits until kubelet has said of every pod of the workload that it is ready, and has renewed the node's Lease: a kubelet that hangs before that is missed for
// other reasons.
func settled(ctx context.Context, s *stage.Stage) error {
	c, err := client(s)
	if err != nil {
		return err
	}
	w, node := s.Subject.Workload, s.Target.Members[0].Name
	return wait(ctx, "kubelet has reported the workload and the node", func(ctx context.Context) (bool, string) {
		d, err := c.AppsV1().Deployments(w.Namespace).Get(ctx, w.Name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		lease, err := c.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		pods, err := c.CoreV1().Pods(w.Namespace).List(ctx, metav1.ListOptions{LabelSelector: w.Selector()})
		if err != nil {
			return false, err.Error()
		}
		running, err := controlplane.Containers(ctx, s.Target.Members[0].Node, false)
		if err != nil {
			return false, err.Error()
		}
		ids := map[string]bool{}
		for _, r := range running {
			ids[r.ID] = true
		}
		told := 0
		for _, p := range pods.Items {
			for _, st := range p.Status.ContainerStatuses {
				if st.Ready && ids[st.ContainerID[strings.LastIndex(st.ContainerID, "/")+1:]] {
					told++
				}
			}
		}
		renewed := lease.Spec.RenewTime != nil && lease.Spec.RenewTime.After(s.Subject.Before.Clocks[node])
		return told == 2 && d.Status.AvailableReplicas == 2 && renewed, fmt.Sprintf("%d containers reported, %d replicas available, Lease renewed: %t", told, d.Status.AvailableReplicas, renewed)
	})
}

// FrozenProxy freezes kube-proxy before the outage, and leaves it so: the rules by which a Service reaches its pods stay those of before.
func FrozenProxy() Fault {
	signal := func(name string) func(context.Context, *stage.Stage) error {
		return func(ctx context.Context, s *stage.Stage) error {
			var problems []error
			for _, n := range s.Subject.Cluster.Nodes() {
				_, err := cluster.Run(ctx, n, "pkill", "--exact", "--signal", name, "kube-proxy")
				problems = append(problems, err)
			}
			return errors.Join(problems...)
		}
	}
	return Fault{
		Entry:    plan.Entry{Name: "frozen-proxy", Summary: "kube-proxy does not renew its rules"},
		Breaks:   []string{"service-answers"},
		Also:     []string{"new-work-runs"}, // a new Service needs rules, too
		Insert:   at("note-last", "freeze-proxy", "Freeze kube-proxy", signal("STOP")),
		Drop:     []string{"renew-network"},
		Undo:     signal("CONT"),
		Harmless: true,
	}
}
