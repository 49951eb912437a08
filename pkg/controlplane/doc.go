// Package controlplane looks at a kubeadm node's control plane and moves it: it reads and patches static-pod manifests,
// reads what the container runtime really runs, stops the components and waits for them.
//
// It works on one cluster.Node by running commands there, and asks neither the API server nor the kubelet: both
// report a restored cluster as healthy while none of its workload runs. It needs crictl, curl and systemd on the node.
package controlplane
