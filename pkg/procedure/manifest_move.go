package procedure

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// ManifestMove is the way of the documentation: stop all API servers, exchange etcd's data, restart them, and restart what held a memory of them too
// (https://kubernetes.io/docs/tasks/administer-cluster/configure-upgrade-etcd/#restoring-an-etcd-cluster). With kubeadm a static pod is stopped by moving its
// manifest out of the manifests folder, and started by moving it back. kubelet runs all the while and does the work, in its own time; it is restarted at the end.
//
// A static pod that is to live on keeps its manifest in place; a kubelet that is to live on is not restarted.
func ManifestMove() Procedure {
	const bumps = true
	byItself := Components()
	return Procedure{
		Entry: plan.Entry{
			Name:    "manifest-move",
			Summary: "the documented way: move the manifests out, wait until kubelet has ended the pods, move them back with etcd on the restored directory, restart kubelet",
		},
		Bump:   bumps,
		Renews: byItself,
		build: func(t Target) Recovery {
			sc := t.scope(byItself)
			waits := waitSteps(t, sc) // etcd, API server, controller manager, scheduler
			back, backAll := returnEtcdSteps(t), returnSteps(t, sc.pods())
			var awayAll []plan.Step
			if len(backAll) > 0 {
				awayAll = until(backAll[0].Name, moveSteps(t, sc.pods()))
			}
			steps := slices.Concat(
				[]plan.Step{restoreStep(t), prepareMoveStep(t), noteLastStep(t, sc)},
				awayAll, // first who talks to etcd, so that it can end in peace
				until(back[len(back)-1].Name, moveSteps(t, []string{controlplane.Etcd})),
				back,
				waits[:1],
				backAll,
				waits[1:],
				restartKubeletSteps(t, sc),
			)
			beginOutage(steps, "move-")
			return Recovery{Steps: steps, Rollback: rollback(t, returnAllStep(t)), Variant: t.variant(sc, bumps)}
		},
	}
}

// beginOutage marks the first step whose name has the prefix as the one that takes the control plane away.
func beginOutage(steps []plan.Step, prefix string) {
	i := slices.IndexFunc(steps, func(s plan.Step) bool { return strings.HasPrefix(s.Name, prefix) })
	steps[i].Outage = true
}

// MovedDir is the folder on a node into which a run moves manifests: on the same file system as the manifests folder, so that each moves by one rename, outside of it,
// because kubelet runs whatever it finds there, and the run's own, so that nobody else's files are in it.
func MovedDir(run string) string { return "/etc/kubernetes/manifests-moved-by-" + run }

func (t Target) moved() string { return MovedDir(path.Base(t.StateDir)) }

func (t Target) makeMovedArgv() []string { return []string{"mkdir", "-p", "-m", "0700", t.moved()} }

// prepareMoveStep is prepareExchangeStep, and makes the folder.
func prepareMoveStep(t Target) plan.Step {
	s := prepareExchangeStep(t)
	s.Title += ", and make a folder to move manifests to"
	s.Why += " So are the manifests that will be moved away: in a folder beside the manifests folder, on the same file system, where a move is one rename."
	prepare := s.Do
	s.Commands = append(s.Commands, t.on(func(controlplane.Member) plan.Command { return plan.Command{Argv: t.makeMovedArgv()} })...)
	s.Do = func(ctx context.Context) error {
		if err := prepare(ctx); err != nil {
			return err
		}
		return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
			_, err := cluster.Run(ctx, m.Node, t.makeMovedArgv()...)
			return err
		})
	}
	return s
}

// moveArgv moves the components' manifests away. What an earlier attempt left in the folder is renamed and not overwritten.
func (t Target) moveArgv(components []string) []string {
	return append([]string{"mv", "--backup=numbered", "-t", t.moved()}, files(controlplane.ManifestDir, components)...)
}

// away says whether every manifest of the components is where moveArgv moves it, and none is where it was. mv goes on with the others when one isn't there.
func (t Target) away(ctx context.Context, m controlplane.Member, components []string) bool {
	for i, moved := range files(t.moved(), components) {
		if _, err := cluster.Run(ctx, m.Node, "test", "-f", moved); err != nil {
			return false
		}
		if cluster.Absent(ctx, m.Node, files(controlplane.ManifestDir, components)[i]) != nil {
			return false
		}
	}
	return true
}

func files(dir string, components []string) []string {
	var out []string
	for _, c := range components {
		out = append(out, dir+"/"+c+".yaml")
	}
	return out
}

// moveSteps move the components' manifests away and wait until the pods have ended; nothing where there are no components.
func moveSteps(t Target, components []string) []plan.Step {
	if len(components) == 0 {
		return nil
	}
	what, which := "control-plane", enumerate(components)
	why := "kubelet ends a static pod whose manifest is gone. The API server is stopped before etcd, as the documentation has it: it holds a cache of etcd, and it would go on writing. " +
		"Controller manager and scheduler hold caches of the API server. A manifest is moved and not deleted: it is needed again."
	if slices.Contains(components, controlplane.Etcd) {
		what = controlplane.Etcd
		why = "On every control plane etcd must have ended before any of them starts on restored data: old and new members would not agree on what happened."
	} else if !slices.Contains(components, controlplane.APIServer) {
		why = "kubelet ends a static pod whose manifest is gone. What holds a cache of the API server is to begin anew. A manifest is moved and not deleted: it is needed again."
	}
	gone := "A moved file stops nothing by itself: kubelet notices it, and then gives each container time to end. The API can't be asked, so the container runtime is."
	if what == controlplane.Etcd {
		gone = "etcd closes its data directory before it ends. Nothing may start on another one until then."
	}
	each := func(do func(context.Context, controlplane.Member) error) func(context.Context) error {
		return func(ctx context.Context) error { return controlplane.Each(ctx, t.Members, do) }
	}
	return []plan.Step{
		{
			Name:     "move-" + what + "-away",
			Phase:    plan.Recover,
			Title:    "Move the " + verb(components, "manifest", "manifests") + " of " + which + " away",
			Why:      why,
			Commands: t.on(func(controlplane.Member) plan.Command { return plan.Command{Argv: t.moveArgv(components)} }),
			Expect:   "`ls " + controlplane.ManifestDir + "` no longer lists " + verb(components, "it.", "them."),
			Do: each(func(ctx context.Context, m controlplane.Member) error {
				_, err := cluster.Run(ctx, m.Node, t.moveArgv(components)...)
				var exit *cluster.ExitError
				if errors.As(err, &exit) && t.away(ctx, m, components) {
					return nil // by a process that was killed before it could note it
				}
				return err
			}),
		},
		{
			Name:  "wait-" + what + "-gone",
			Phase: plan.Recover,
			Title: "Wait until kubelet has ended " + which,
			Why:   gone + " awk is content when nothing but the heading of the list is left.",
			Commands: t.on(func(controlplane.Member) plan.Command {
				return plan.Command{Argv: append([]string{"crictl", "ps", "--name", anyOf(components)}, systemOnly()...), PipeTo: []string{"awk", "END { exit NR != 1 }"}, Until: true}
			}),
			Expect:  "After a while, at times more than half a minute, the command succeeds.",
			Timeout: 5 * time.Minute,
			Do:      each(func(ctx context.Context, m controlplane.Member) error { return waitGone(ctx, m, components) }),
		},
	}
}

// waitGone polls the node's container runtime until it runs no container of the components.
func waitGone(ctx context.Context, m controlplane.Member, components []string) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	last := "nothing"
	for {
		found, err := controlplane.Containers(ctx, m.Node, false)
		found = slices.DeleteFunc(found, func(c controlplane.Container) bool {
			return c.PodNamespace != systemNamespace || !slices.Contains(components, c.Name)
		})
		switch {
		case err == nil && len(found) == 0:
			return nil
		case ctx.Err() != nil: // a look that was cut short tells less than the one before
		case err != nil:
			last = err.Error()
		default:
			var names []string
			for _, c := range found {
				names = append(names, fmt.Sprintf("%s (container %.13s)", c.Name, c.ID))
			}
			last = "still running: " + strings.Join(names, ", ")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until kubelet has ended %s: %w; last seen: %s; is kubelet running? see `journalctl -u kubelet` there",
				enumerate(components), context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// returnEtcdSteps let kubelet start etcd on the restored directory: by a new manifest, or by the one that was moved away, once the directory has the path that it names.
func returnEtcdSteps(t Target) []plan.Step {
	s := exchangeStep(t)
	if !t.swaps() {
		s.Why = "kubelet starts etcd on the restored directory. " + s.Why
		return []plan.Step{s}
	}
	back := returnSteps(t, []string{controlplane.Etcd})
	back[0].Name = "move-etcd-back"
	back[0].Why = "It is as it was, and kubelet starts etcd: on the restored directory, which has the path now that the manifest names. mv overwrites nothing, and doesn't say so, so it is looked whether it is back."
	back[0].Expect = "`ls " + controlplane.ManifestDir + "` lists it again."
	return append([]plan.Step{s}, back...)
}

// returnSteps move the components' manifests back; nothing where there are no components.
func returnSteps(t Target, components []string) []plan.Step {
	if len(components) == 0 {
		return nil
	}
	name := clientManifests
	if slices.Contains(components, controlplane.Etcd) {
		name = etcdManifest
	}
	argv := append([]string{"mv", "--no-clobber", "-t", controlplane.ManifestDir}, files(t.moved(), components)...)
	var commands []plan.Command
	for _, m := range t.Members {
		commands = append(commands, plan.Command{On: m.Name, Argv: argv})
		for _, file := range files(t.moved(), components) {
			commands = append(commands, plan.Command{On: m.Name, Argv: []string{"test", "!", "-e", file}})
		}
	}
	return []plan.Step{{
		Name:  "move-back",
		Phase: plan.Recover,
		Title: "Move the " + verb(components, "manifest", "manifests") + " of " + enumerate(components) + " back",
		Why: "They are as they were, and kubelet starts their pods again. Only now, when etcd is ready: an API server that finds no etcd ends, and kubelet waits longer each time before it starts it again. " +
			"mv overwrites nothing, and doesn't say so: each that is no longer where it was moved to is back.",
		Commands: commands,
		Expect:   "`ls " + controlplane.ManifestDir + "` lists all four manifests again.",
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				_, err := cluster.Run(ctx, m.Node, argv...)
				var exit *cluster.ExitError
				if err != nil && (!errors.As(err, &exit) || !back(ctx, m, components)) {
					return err // else a process that was killed has moved some, which mv misses
				}
				return t.nothingLeft(ctx, m, name)
			})
		},
	}}
}

// back says whether the manifests of the components are all in their folder.
func back(ctx context.Context, m controlplane.Member, components []string) bool {
	for _, file := range files(controlplane.ManifestDir, components) {
		if _, err := cluster.Run(ctx, m.Node, "test", "-f", file); err != nil {
			return false
		}
	}
	return true
}

// findMovedArgv lists the manifests of that name that were moved away and are not back; none where there is no folder of such.
func (t Target) findMovedArgv(name string) []string {
	return []string{"find", "-H", path.Dir(t.moved()), "-maxdepth", "2", "-path", t.moved() + "/" + name}
}

// Names of manifests, as find takes them: all but etcd's, etcd's, and all.
const (
	clientManifests = "kube-*.yaml"
	allManifests    = "*.yaml"
)

// nothingLeft makes sure that all of them are back: mv ends well where it leaves a file behind because it would have overwritten another.
func (t Target) nothingLeft(ctx context.Context, m controlplane.Member, name string) error {
	left, err := cluster.Run(ctx, m.Node, t.findMovedArgv(name)...)
	if err == nil && left != "" {
		err = fmt.Errorf("%s: not moved back to %s, because there are files of these names; see which are the right ones",
			strings.Join(strings.Fields(left), ", "), controlplane.ManifestDir)
	}
	return err
}

// returnAllStep moves back, in a rollback, whatever manifests were moved away and are not back: all, some or none. etcd's is left there where the rollback
// makes its own of the copy that was kept.
func returnAllStep(t Target) plan.Step {
	name, why := clientManifests, "Some may be back already. The old manifest of etcd stays where it is: a new one has just been put in its place."
	if t.swaps() {
		name, why = allManifests, "Some may be back already. They are as they were, etcd's too: the third directory has just got the path that it names."
	}
	find := t.findMovedArgv(name)
	return plan.Step{
		Name:  "move-back",
		Title: "Move those manifests back that were moved away",
		Why:   why,
		Commands: t.on(func(controlplane.Member) plan.Command {
			return plan.Command{Argv: append(slices.Clone(find), "-exec", "mv", "--no-clobber", "-t", controlplane.ManifestDir, "{}", "+")}
		}),
		Expect: "`ls " + controlplane.ManifestDir + "` lists all four manifests again.",
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				found, err := cluster.Run(ctx, m.Node, find...)
				if err != nil || found == "" {
					return err
				}
				moving := append([]string{"mv", "--no-clobber", "-t", controlplane.ManifestDir}, strings.Fields(found)...)
				_, err = cluster.Run(ctx, m.Node, moving...)
				return errors.Join(err, t.nothingLeft(ctx, m, name))
			})
		},
	}
}

// restartKubeletSteps begin kubelet anew where it has been running all the while; nothing where it is to live on.
func restartKubeletSteps(t Target, sc scope) []plan.Step {
	if !sc.renews(Kubelet) {
		return nil
	}
	return []plan.Step{{
		Name:  "restart-kubelet",
		Phase: plan.Recover,
		Title: "Restart kubelet",
		Why: "kubelet remembers what it has seen and reported of each pod, from before the restore: without a restart it may believe that the API server knows what the restore made it forget. " +
			"The documentation recommends it for that reason. Containers go on running meanwhile.",
		Commands: t.on(func(controlplane.Member) plan.Command {
			return plan.Command{Argv: []string{"systemctl", "restart", "kubelet"}}
		}),
		Expect: "`systemctl status kubelet` says `active (running)` since a moment ago.",
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				return errors.Join(controlplane.StopKubelet(ctx, m.Node), controlplane.StartKubelet(ctx, m.Node))
			})
		},
	}}
}
