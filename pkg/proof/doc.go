// Package proof holds the checks that decide whether a recovery is proven, one file each. None of them believes a single
// view: what the API says is held against the container runtime of the node, against etcd, and against the data path.
package proof
