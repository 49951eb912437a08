package procedure

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Kubelet is the name of the component that is no pod.
const Kubelet = "kubelet"

// Components are what a procedure renews or keeps running besides etcd, which it always renews: what holds a memory of what etcd said, in the
// order in which they depend on each other. etcd's own documentation advises to restart the last three after a restore, and the API servers are to be
// stopped for it (https://kubernetes.io/docs/tasks/administer-cluster/configure-upgrade-etcd/#restoring-an-etcd-cluster).
func Components() []string {
	return []string{controlplane.APIServer, controlplane.ControllerManager, controlplane.Scheduler, Kubelet}
}

// Check says whether the procedure can be varied so: keep are components that are to live on although it renews them by itself, renew are
// components that are to begin anew although it leaves them alone by itself. A name that isn't one of Components is an error, and so is a wish that is
// fulfilled anyway: whoever has it takes the procedure for another one.
func (p Procedure) Check(keep, renew []string) error {
	if err := checkNames(keep); err != nil {
		return err
	}
	if err := checkNames(renew); err != nil {
		return err
	}
	for _, c := range keep {
		if !slices.Contains(p.Renews, c) {
			return fmt.Errorf("%s lives on anyway: procedure %s does not renew it", c, p.Name)
		}
	}
	for _, c := range renew {
		if slices.Contains(p.Renews, c) {
			return fmt.Errorf("%s begins anew anyway: procedure %s renews it", c, p.Name)
		}
	}
	return nil
}

// checkNames says whether each name is that of a component, and none is there twice.
func checkNames(names []string) error {
	for i, name := range names {
		switch {
		case name == controlplane.Etcd:
			return fmt.Errorf("etcd always begins anew, on the restored data; components to choose from: %s", strings.Join(Components(), ", "))
		case !slices.Contains(Components(), name):
			return fmt.Errorf("there is no component %q; there are: %s", name, strings.Join(Components(), ", "))
		case slices.Contains(names[:i], name):
			return fmt.Errorf("%s is named twice", name)
		}
	}
	return nil
}

// Variant says which components live on and which begin anew when the procedure is varied so; see Procedure.Check. Of the revision a
// procedure says only whether it is raised: who knows the usual amount must say of another one that it isn't the procedure's own way.
func (p Procedure) Variant(bump uint64, keep, renew []string) plan.Variant {
	t := Target{BumpRevision: bump, KeepRunning: keep, Renew: renew, Mode: p.DataDirMode()}
	return t.variant(t.scope(p.Renews), p.Bump)
}

// variant of a target for a procedure that by itself raises the revision, or doesn't.
func (t Target) variant(sc scope, bumps bool) plan.Variant {
	return plan.Variant{
		Own:          len(t.KeepRunning)+len(t.Renew) == 0 && t.BumpRevision > 0 == bumps,
		BumpRevision: t.BumpRevision, KeptRunning: sc.kept(), Renewed: sc.renewed, DataDirMode: string(t.Mode),
	}
}

// scope says which components begin anew, in the order of Components.
type scope struct{ renewed []string }

// scope of a target for a procedure that renews these components by itself.
func (t Target) scope(byItself []string) scope {
	return scope{slices.DeleteFunc(Components(), func(c string) bool {
		return slices.Contains(t.KeepRunning, c) || !slices.Contains(byItself, c) && !slices.Contains(t.Renew, c)
	})}
}

// everything is the scope in which nothing lives on.
func everything() scope { return scope{Components()} }

func (s scope) renews(component string) bool { return slices.Contains(s.renewed, component) }

// kept are the components that live on.
func (s scope) kept() []string {
	return slices.DeleteFunc(Components(), s.renews)
}

// pods are the renewed ones that are static pods, as kubelet is not.
func (s scope) pods() []string {
	return slices.DeleteFunc(slices.Clone(s.renewed), func(c string) bool { return c == Kubelet })
}

// keptPods are the ones that live on and are static pods.
func (s scope) keptPods() []string {
	return slices.DeleteFunc(s.kept(), func(c string) bool { return c == Kubelet })
}

// elected are the renewed ones of which one at a time acts: the one that holds a Lease of that name.
func (s scope) elected() []string {
	return slices.DeleteFunc(s.pods(), func(c string) bool { return c == controlplane.APIServer })
}

// anyOf is the regular expression that matches these container names and no others.
func anyOf(names []string) string { return "^" + either(names) + "$" }

// either is the part of a regular expression that matches one of the names.
func either(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return "(" + strings.Join(names, "|") + ")"
}

// enumerate joins names as a sentence does: a, b and c.
func enumerate(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// alternatives joins names as a sentence does after "no": a, b or c.
func alternatives(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// verb picks the form of a word that goes with so many names.
func verb(names []string, one, several string) string {
	if len(names) == 1 {
		return one
	}
	return several
}
