package kind

import (
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
)

// Patches to the kubeadm configuration that kind generates; see KubeadmConfigPatches in kind's v1alpha4.Cluster.
const (
	// Kubelet refuses to start on cgroup v1 since Kubernetes 1.35 unless it is told otherwise
	// (KubeletConfiguration.failCgroupV1, KEP-5573).
	kubeletOnCgroupV1 = `kind: KubeletConfiguration
failCgroupV1: false
`
	// kind takes the taint off a control plane only when it is the cluster's sole node. Where there are several and no
	// worker, nothing but the control plane itself would ever be scheduled, and a drill needs a workload. An empty list
	// means no taint to kubeadm, a missing one means its default (NodeRegistrationOptions.Taints).
	initWithoutTaint = `kind: InitConfiguration
nodeRegistration:
  taints: []
`
	joinWithoutTaint = `kind: JoinConfiguration
nodeRegistration:
  taints: []
`
)

// shape is what decides kind's configuration of a cluster.
type shape struct {
	controlPlanes, workers int
	image                  string
	cgroupVersion          int
}

// config is kind's configuration of a cluster of that shape.
func (s shape) config(name string) *v1alpha4.Cluster {
	cfg := &v1alpha4.Cluster{
		TypeMeta: v1alpha4.TypeMeta{Kind: "Cluster", APIVersion: "kind.x-k8s.io/v1alpha4"},
		Name:     name,
	}
	for range s.controlPlanes {
		cfg.Nodes = append(cfg.Nodes, v1alpha4.Node{Role: v1alpha4.ControlPlaneRole, Image: s.image})
	}
	for range s.workers {
		cfg.Nodes = append(cfg.Nodes, v1alpha4.Node{Role: v1alpha4.WorkerRole, Image: s.image})
	}
	if s.cgroupVersion == 1 {
		cfg.KubeadmConfigPatches = append(cfg.KubeadmConfigPatches, kubeletOnCgroupV1)
	}
	// With one node alone kind removes the taint itself, and fails when there is none to remove.
	if s.controlPlanes > 1 && s.workers == 0 {
		cfg.KubeadmConfigPatches = append(cfg.KubeadmConfigPatches, initWithoutTaint, joinWithoutTaint)
	}
	return cfg
}
