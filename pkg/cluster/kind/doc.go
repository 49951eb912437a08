// Package kind makes clusters with kind (https://kind.sigs.k8s.io) and reaches those that exist, as a provider behind
// the contracts of package cluster.
//
// Making, listing kubeconfigs and everything Kubernetes is kind's own work, through sigs.k8s.io/kind/pkg/cluster. What is
// added here is what a drill needs on top: contexts and deadlines (kind's functions take none), a record of which
// clusters drill made (so that it never deletes anyone else's), a wait that fails instead of warning, and the settings
// that a host with cgroup v1 wants.
//
// Files, all below Options.StateDir, all readable by their owner only:
//
//	clusters/NAME.json        which containers make up a cluster that drill created (see record)
//	clusters/NAME.kubeconfig  its administrator's kubeconfig
//	locks/NAME.lock           held while a cluster of that name is created or deleted; empty, and never removed
//
// The person's own kubeconfig is never read or written.
package kind
