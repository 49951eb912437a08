// Package procedure holds the ways to restore etcd on a kubeadm control plane, one file each. A procedure is a list of
// steps, each with two faces: what drill does, and what a person would type to the same effect.
package procedure
