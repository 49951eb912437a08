// Package apiserver starts a real kube-apiserver on an etcd and reads every object through it, with nobody and nothing else around: no controller manager, no kubelet, and no way to
// reach anything but that etcd and, for what is encrypted so, the plugin of a KMS.
//
// It is for a copy of a cluster's data that is thrown away. The API server writes to it, as each does when it starts: it
// makes what every cluster has, keeps its own books, and carries on with the deletion of CustomResourceDefinitions and all that they define.
package apiserver
