package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// NoDrift holds what says where etcd's data is against each other: the manifests folder, the etcd that runs, the directory itself, and
// kubeadm's own record. A restore into a new directory changes the first three; kubeadm keeps writing the manifest from its record. One that gives the new directory the path of the old changes
// none of them, and then the manifest must be what it was, to the byte.
func NoDrift(s *Subject) plan.Check {
	return plan.Check{
		Name:    "no-drift",
		Summary: "one manifest a component, etcd runs on the directory that its manifest names, which holds its data; and kubeadm-config agrees, or the detail says what kubeadm upgrade would do",
		Phase:   plan.Prove,
		Look:    func(ctx context.Context) (plan.Finding, error) { return noDrift(ctx, s) },
	}
}

func noDrift(ctx context.Context, s *Subject) (plan.Finding, error) {
	var d []plan.Difference
	var right []string
	dirs := map[string]string{} // by node
	for _, m := range s.Members {
		files, err := controlplane.ManifestFiles(ctx, m.Node)
		if err != nil {
			return plan.Finding{}, err
		}
		wrong := ManifestConflicts(m.Name, files)
		d = append(d, wrong...)
		if len(wrong) == 0 {
			right = append(right, fmt.Sprintf("%s on %s: %d files, %d pods", controlplane.ManifestDir, m.Name, len(files), len(files)))
		}
		now, err := controlplane.ReadEtcdConfig(ctx, m.Node)
		if err != nil {
			return plan.Finding{}, err
		}
		dirs[m.Name] = now.HostDataDir
		wrong, err = runsWhereItSays(ctx, m.Node, now)
		if err != nil {
			return plan.Finding{}, err
		}
		unlike, err := manifestAsKept(ctx, s.Swap, m.Node)
		if err != nil {
			return plan.Finding{}, err
		}
		wrong = append(wrong, unlike...)
		d = append(d, wrong...)
		if len(wrong) == 0 {
			right = append(right, fmt.Sprintf("etcd on %s: manifest and mount say %s, which holds its data", m.Name, now.HostDataDir))
		}
	}
	if len(d) > 0 {
		return plan.Differs(fmt.Sprintf("%d statements about etcd's manifest and data differ", len(d)),
			"kubelet runs every file in the manifests folder whose name doesn't begin with a dot, backups too: move what doesn't belong there to another folder; let the hostPath of etcd's manifest name the restored directory; "+
				"and stop an etcd whose directory was renamed since it was started, so that kubelet starts it on the one that is there now",
			d, right...), nil
	}
	configured, err := kubeadmDataDir(ctx, s.Servers[0])
	if err != nil {
		return plan.Finding{}, err
	}
	detail, evidence := consequence(configured, dirs)
	return plan.Passed(detail, append(right, evidence...)...), nil
}

// ManifestConflicts says what in the manifests folder of a node is no pod, or a pod that another file makes too, or a second etcd. Of two static pods
// with one name kubelet lets neither be: it ends the one that runs, and the other may not start for minutes.
func ManifestConflicts(node string, files []controlplane.ManifestFile) []plan.Difference {
	var d []plan.Difference
	by := map[string]string{}
	etcds := 0
	for _, f := range files {
		switch {
		case f.Err != nil:
			d = append(d, plan.Difference{Subject: f.Path + " on " + node, Expected: "a pod's manifest", Seen: f.Err.Error()})
			continue
		case by[f.Pod] != "":
			d = append(d, plan.Difference{Subject: f.Path + " on " + node, Expected: "one manifest of pod " + f.Pod + ", " + by[f.Pod], Seen: "a second one"})
		}
		by[f.Pod] = f.Path
		if slices.Contains(f.Containers, controlplane.Etcd) {
			etcds++
		}
	}
	if etcds == 0 || etcds > 1 && len(d) == 0 {
		d = append(d, plan.Difference{Subject: controlplane.ManifestDir + " on " + node, Expected: "one manifest with a container named etcd", Seen: fmt.Sprint(etcds)})
	}
	return d
}

// runsWhereItSays holds what the manifest says against the running etcd and the directory.
func runsWhereItSays(ctx context.Context, n cluster.Node, now controlplane.EtcdConfig) ([]plan.Difference, error) {
	running, err := runningOn(ctx, n)
	if err != nil {
		return nil, err
	}
	subject := "etcd on " + n.Name()
	found := named(running, controlplane.Etcd)
	if len(found) != 1 {
		return []plan.Difference{{Subject: subject, Expected: "1 running container", Seen: fmt.Sprint(len(found))}}, nil
	}
	var d []plan.Difference
	if got := mountedAt(found[0], now.DataDir); got != now.HostDataDir {
		d = append(d, plan.Difference{Subject: subject, Expected: "to run on " + now.HostDataDir + ", as its manifest says", Seen: fmt.Sprintf("%q", got)})
	}
	_, err = cluster.Run(ctx, n, "test", "-f", now.HostDataDir+"/member/snap/db")
	var exit *cluster.ExitError
	switch {
	case errors.As(err, &exit) && exit.Code == 1:
		d = append(d, plan.Difference{Subject: now.HostDataDir + " on " + n.Name(), Expected: "etcd's database, member/snap/db", Seen: "nothing there"})
	case err != nil:
		return nil, err
	case len(d) == 0: // the same path, which may have been another directory's when etcd was started
		has, there, err := controlplane.Mounted(ctx, n, found[0].ID, now.DataDir, now.HostDataDir)
		if err != nil {
			return nil, fmt.Errorf("which directory etcd runs on: %w", err)
		}
		if has != there {
			d = append(d, plan.Difference{
				Subject: subject, Expected: fmt.Sprintf("to run on the directory that is at %s, inode %d", now.HostDataDir, there.Inode),
				Seen: fmt.Sprintf("inode %d, which was there before", has.Inode),
			})
		}
	}
	return d, nil
}

// manifestAsKept holds etcd's manifest, where it was not to change, against the copy that was kept of it.
func manifestAsKept(ctx context.Context, w *Swap, n cluster.Node) ([]plan.Difference, error) {
	if w == nil {
		return nil, nil
	}
	kept, err := n.ReadFile(ctx, w.Manifest)
	if err != nil {
		return nil, fmt.Errorf("etcd's manifest as it was: %w", err)
	}
	now, err := n.ReadFile(ctx, etcdManifest)
	if err != nil || bytes.Equal(kept, now) {
		return nil, err
	}
	return []plan.Difference{{Subject: etcdManifest + " on " + n.Name(), Expected: "as it was, like " + w.Manifest, Seen: "another content"}}, nil
}

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// kubeadmDataDir is the data directory in kubeadm's record of the cluster; "" where there is no record, or none of a local etcd
// (https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/#kubeadm-k8s-io-v1beta4-LocalEtcd).
func kubeadmDataDir(ctx context.Context, s Server) (string, error) {
	u, err := get(ctx, s, Object{Resource: configMaps, Namespace: metav1.NamespaceSystem, Name: "kubeadm-config"})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var cm corev1.ConfigMap
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &cm); err != nil {
		return "", err
	}
	var record struct {
		Etcd struct {
			Local struct {
				DataDir string `json:"dataDir"`
			} `json:"local"`
		} `json:"etcd"`
	}
	if err := yaml.Unmarshal([]byte(cm.Data["ClusterConfiguration"]), &record); err != nil {
		return "", fmt.Errorf("ConfigMap kube-system/kubeadm-config, ClusterConfiguration: %w", err)
	}
	if record.Etcd.Local.DataDir == "" {
		return "", nil
	}
	return path.Clean(record.Etcd.Local.DataDir), nil
}

// consequence says whether kubeadm's record agrees with the directories that etcd runs on, and else what follows from it: `kubeadm upgrade`
// copies the recorded directory as its backup, writes etcd's manifest from the record, and exchanges the manifest wherever the two differ, even
// for the same version of etcd (performEtcdStaticPodUpgrade and upgradeComponent in cmd/kubeadm/app/phases/upgrade/staticpods.go of Kubernetes).
func consequence(configured string, dirs map[string]string) (detail string, evidence []string) {
	if configured == "" {
		return "manifests, running etcd and data directories agree; the cluster keeps no kubeadm-config with a local etcd", nil
	}
	var other []string
	for node, dir := range dirs {
		if dir != configured {
			other = append(other, node)
		}
	}
	if len(other) == 0 {
		return "manifests, running etcd, data directories and kubeadm-config agree on " + configured, nil
	}
	slices.Sort(other)
	return fmt.Sprintf("manifests, running etcd and data directories agree; kubeadm-config still says %s: a later `kubeadm upgrade` would start etcd on that directory again, "+
			"with the data from before the restore", configured),
		[]string{
			"expected by kubeadm on " + strings.Join(other, ", ") + ": " + configured + ", seen: " + dirs[other[0]],
			"before an upgrade: `kubectl -n kube-system edit configmap kubeadm-config`, and set etcd.local.dataDir to the directory in use",
		}
}
