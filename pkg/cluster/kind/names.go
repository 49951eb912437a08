package kind

import (
	"fmt"
	"sort"
	"strings"

	"github.com/agext/levenshtein"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/kind/pkg/cluster/constants"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// nameMax leaves room in a host name (64 bytes, sethostname(2)) for what kind appends to a cluster's name.
const nameMax = 40

// ValidateName says whether a new cluster may be called so: a DNS-1123 label of at most 40 characters, since it becomes a
// part of host names. The error wraps cluster.ErrBadName.
func ValidateName(name string) error {
	if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 || len(name) > nameMax {
		return badName(name)
	}
	return nil
}

// validateExisting accepts every name that kind gives out, dots included.
func validateExisting(name string) error {
	if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
		return badName(name)
	}
	return nil
}

func badName(name string) error {
	return fmt.Errorf("%w %q: it must consist of lower-case letters, digits and \"-\", begin and end with a letter or a digit, "+
		"and be no longer than %d characters (DNS-1123)", cluster.ErrBadName, name, nameMax)
}

// nodeNames are the names that kind gives to the containers of a cluster: control planes, workers, and the load
// balancer that it adds when there is more than one control plane.
func nodeNames(name string, controlPlanes, workers int) []string {
	var names []string
	add := func(role string, count int) {
		for i := 1; i <= count; i++ {
			suffix := ""
			if i > 1 {
				suffix = fmt.Sprint(i)
			}
			names = append(names, name+"-"+role+suffix)
		}
	}
	add(constants.ControlPlaneNodeRoleValue, controlPlanes)
	add(constants.WorkerNodeRoleValue, workers)
	if controlPlanes > 1 {
		add(constants.ExternalLoadBalancerNodeRoleValue, 1)
	}
	return names
}

// notFound is the error for a cluster that doesn't exist, with the names that do, nearest first.
func notFound(name string, existing []string) error {
	if len(existing) == 0 {
		return fmt.Errorf("%w: %q (there is none; `drill cluster create` makes one)", cluster.ErrNotFound, name)
	}
	near := append([]string(nil), existing...)
	sort.SliceStable(near, func(i, j int) bool {
		return levenshtein.Distance(name, near[i], nil) < levenshtein.Distance(name, near[j], nil)
	})
	const shown = 5
	more := ""
	if len(near) > shown {
		more = fmt.Sprintf(" and %d more", len(near)-shown)
		near = near[:shown]
	}
	return fmt.Errorf("%w: %q; there is %s%s", cluster.ErrNotFound, name, strings.Join(near, ", "), more)
}
