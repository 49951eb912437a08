package procedure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// staged is where the new manifest is prepared: on the same file system as the manifests folder, so that moving it
// there is one rename, and outside of that folder, because kubelet runs whatever file it finds in it.
const staged = "/etc/kubernetes/etcd.yaml.restored"

const manifestPath = controlplane.ManifestDir + "/" + etcdManifest

func restoreStep(t Target) plan.Step {
	why := "The snapshot is turned into a data directory of its own; the old one stays as it is, so there is always a way back. " +
		"The member must keep the name and the peer URL that the manifest gives it, or it won't recognise itself in the restored membership."
	if t.BumpRevision > 0 {
		why += " Kubernetes clients remember the revision up to which they have seen the world. A plain restore sets etcd's revision back, and " +
			"they would wait for changes that, as they see it, have happened already. Raising the revision beyond anything that was ever handed out, and marking the past " +
			"as compacted, makes every one of them list anew."
	}
	var learn func(context.Context) error
	if t.swaps() {
		learn = t.NoteRestored
	}
	return plan.Step{
		Name:     "restore-snapshot",
		Phase:    plan.Recover,
		Title:    "Restore the snapshot into a new data directory",
		Why:      why,
		Commands: t.on(func(m controlplane.Member) plan.Command { return plan.Command{Argv: t.restoreArgv(m)} }),
		Expect: "etcdutl logs `restored snapshot`, and the new directory holds a folder `member`. " +
			"The cluster still runs on the old directory: nothing has been interrupted yet.",
		Timeout: 10 * time.Minute,
		Do:      func(ctx context.Context) error { return controlplane.Each(ctx, t.Members, t.Restore) },
		Learn:   learn,
	}
}

func (t Target) restoreArgv(m controlplane.Member) []string {
	argv := []string{"etcdutl", "snapshot", "restore", t.NodeSnapshot}
	if t.SkipHashCheck {
		argv = append(argv, "--skip-hash-check")
	}
	return append(argv, t.membershipFlags(m, t.DataDir, t.Token, t.BumpRevision)...)
}

// membershipFlags are those of `etcdutl snapshot restore` that say where to, as whom and at which revision.
func (t Target) membershipFlags(m controlplane.Member, dataDir, token string, bump uint64) []string {
	flags := []string{
		"--data-dir=" + dataDir,
		"--name=" + m.Etcd.Name,
		"--initial-cluster=" + t.InitialCluster(),
		"--initial-advertise-peer-urls=" + strings.Join(m.Etcd.PeerURLs, ","),
	}
	if token != "" {
		flags = append(flags, "--initial-cluster-token="+token)
	}
	if bump > 0 {
		flags = append(flags, "--bump-revision="+strconv.FormatUint(bump, 10), "--mark-compacted")
	}
	return flags
}

// RollbackToken is the value that a rollback needs for --initial-cluster-token. It differs from the recovery's: they are two clusters.
func (t Target) RollbackToken() string {
	if t.Token == "" {
		return ""
	}
	return t.Token + "-back"
}

// patchStep prepares the new manifests while the cluster still runs.
func patchStep(t Target) plan.Step {
	var commands []plan.Command
	for _, m := range t.Members {
		commands = append(commands, stagingCommands(t, m)...)
	}
	return plan.Step{
		Name:  "prepare-manifest",
		Phase: plan.Recover,
		Title: "Prepare an etcd manifest that uses the new data directory",
		Why: "Only the host path of volume `" + t.Members[0].Etcd.DataVolume + "` changes. The path inside the container, and with it the flag `--data-dir`, stays, " +
			"which makes this the smallest edit that works. The file is prepared outside of the manifests folder: kubelet reads " +
			"every file there, backups and half written ones too.",
		Commands: commands,
		Expect:   "`diff` shows one changed line, and exits with status 1 because there is a difference.",
		Do:       t.patch,
	}
}

// pathEdit is the sed script that changes the host path in a manifest as kubeadm writes it.
func pathEdit(from, to string) string { return fmt.Sprintf(`s#path: %s$#path: %s#`, from, to) }

func stagingCommands(t Target, m controlplane.Member) []plan.Command {
	var out []plan.Command
	for _, argv := range t.keepArgvs() {
		out = append(out, plan.Command{On: m.Name, Argv: argv})
	}
	return append(out,
		plan.Command{On: m.Name, Argv: []string{"cp", "--preserve", manifestPath, staged}},
		plan.Command{On: m.Name, Argv: []string{"sed", "-i", pathEdit(m.Etcd.HostDataDir, t.DataDir), staged}},
		plan.Command{On: m.Name, Argv: []string{"diff", manifestPath, staged}, Fails: true})
}

// kept is where the manifest as it was is kept on each node.
func (t Target) kept() string { return KeptManifest(t.StateDir) }

// KeptManifest is where, in the run's folder on a node, etcd's manifest as it was is kept.
func KeptManifest(stateDir string) string { return stateDir + "/etcd.yaml.before" }

// keepArgvs copy the manifest to where it is kept. A copy that is there already is renamed and not overwritten.
func (t Target) keepArgvs() [][]string {
	return [][]string{{"mkdir", "-p", "-m", "0700", t.StateDir}, {"cp", "--preserve", "--backup=numbered", manifestPath, t.kept()}}
}

// keepManifest keeps a copy of the node's manifest, and returns when that is on the disk: it soon is the only one.
func (t Target) keepManifest(ctx context.Context, m controlplane.Member) error {
	if err := runAll(ctx, m, append(t.keepArgvs(), []string{"sync", t.kept(), t.StateDir})); err != nil {
		return fmt.Errorf("keeping a copy of the manifest: %w", err)
	}
	return nil
}

// patch keeps a copy of each node's manifest, and stages one with the new data directory.
func (t Target) patch(ctx context.Context) error {
	return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
		if err := t.keepManifest(ctx, m); err != nil {
			return err
		}
		return stageManifest(ctx, m, manifestPath, t.DataDir)
	})
}

// stageManifest writes the manifest that is at the path given, with dataDir in place of the member's data directory, to where the next
// swap takes it from.
func stageManifest(ctx context.Context, m controlplane.Member, from, dataDir string) error {
	before, err := m.Node.ReadFile(ctx, from)
	if err != nil {
		return err
	}
	after := before
	if dataDir != m.Etcd.HostDataDir {
		if after, err = controlplane.PatchHostPath(before, m.Etcd.DataVolume, dataDir); err != nil {
			return err
		}
	}
	return m.Node.WriteFile(ctx, staged, 0o600, bytes.NewReader(after))
}

// swap moves what is staged on each node into the manifests folder, by one rename.
func (t Target) swap(ctx context.Context) error {
	return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
		_, err := cluster.Run(ctx, m.Node, swapArgv()...)
		var exit *cluster.ExitError
		if errors.As(err, &exit) && t.swapped(ctx, m) {
			return nil // by a process that was killed before it could note it
		}
		return err
	})
}

// swapped says whether nothing is staged on the node any more, and the manifest in place names the new directory.
func (t Target) swapped(ctx context.Context, m controlplane.Member) bool {
	if cluster.Absent(ctx, m.Node, staged) != nil {
		return false
	}
	now, err := controlplane.ReadEtcdConfig(ctx, m.Node)
	return err == nil && now.HostDataDir == t.DataDir
}

func swapArgv() []string { return []string{"mv", "-T", staged, manifestPath} }

func (t Target) swapCommands() []plan.Command {
	return t.on(func(controlplane.Member) plan.Command {
		return plan.Command{Argv: swapArgv()}
	})
}

func noteLastStep(t Target, sc scope) plan.Step {
	return plan.Step{
		Name:  "note-last",
		Phase: plan.Recover,
		Title: "Note once more what there is, just before the control plane is taken down",
		Why:   "Until this moment others could go on writing. All that was written since the snapshot is about to be lost, and nobody can ask for it afterwards.",
		Do: func(ctx context.Context) error {
			if err := t.watchKept(ctx, sc); err != nil {
				return err
			}
			return t.NoteLast(ctx)
		},
	}
}

func stopKubeletStep(t Target) plan.Step {
	return plan.Step{
		Name:  "stop-kubelet",
		Phase: plan.Recover,
		Title: "Stop kubelet",
		Why: "While kubelet runs it restarts whatever is stopped, and it would act on half a change. It also keeps watches and a memory of pods from " +
			"before the restore; a kubelet that is started afterwards begins with a fresh view. Containers go on running without it.",
		Commands: t.on(func(controlplane.Member) plan.Command {
			return plan.Command{Argv: []string{"systemctl", "stop", "kubelet"}}
		}),
		Expect: "`systemctl is-active kubelet` says `inactive`; `crictl ps` still lists the containers.",
		Outage: true,
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				return controlplane.StopKubelet(ctx, m.Node)
			})
		},
	}
}

// How long etcd may take to end by itself. It closes its files well within grace once no API server keeps it busy. With one that lives on it waits
// for that one's watches first, up to its request timeout of 7 s for each address that it serves clients on (etcd's server/embed).
const (
	grace     = 5 * time.Second
	graceBusy = 20 * time.Second
)

func stopControlPlaneStep(t Target, sc scope) plan.Step {
	patience := grace
	if !sc.renews(controlplane.APIServer) {
		patience = graceBusy
	}
	clients := sc.pods()
	stopped := append(slices.Clone(clients), controlplane.Etcd)
	var commands []plan.Command
	for _, m := range t.Members {
		if len(clients) > 0 {
			commands = append(commands, plan.Command{On: m.Name, Argv: listArgv(clients), PipeTo: stopArgv(0)})
		}
		commands = append(commands, plan.Command{On: m.Name, Argv: listArgv([]string{controlplane.Etcd}), PipeTo: stopArgv(patience)})
		pods := []string{"crictl", "pods", "-q", "--namespace", anyOf([]string{systemNamespace}), "--label", "tier=control-plane"}
		if len(sc.keptPods()) > 0 {
			pods = append(pods, "--name", "^"+either(stopped)+"-") // a static pod's name is followed by its node's
		}
		commands = append(commands, plan.Command{On: m.Name, Argv: pods, PipeTo: []string{"xargs", "-r", "-n1", "-P4", "crictl", controlplane.CrictlTimeout, "stopp"}})
	}
	title, expect := "Stop etcd and everything that remembers what it said", "`crictl ps` lists no "+alternatives(stopped)+". The workload's containers still run."
	why := "The API server holds a cache of etcd and serves lists from it; controller manager and scheduler hold caches of the API server. If any of " +
		"them lives on across the restore, it goes on believing what etcd no longer says. "
	if kept := sc.keptPods(); len(kept) > 0 {
		title = "Stop " + enumerate(stopped) + ", and let " + enumerate(kept) + " live on"
		expect = "`crictl ps` lists no " + alternatives(stopped) + "; " + enumerate(kept) + verb(kept, " still runs.", " still run.")
		why += enumerate(kept) + verb(kept, " is", " are") + " left running here all the same, and it is to be seen what comes of it. "
	}
	switch {
	case len(clients) == 0:
	case sc.renews(controlplane.APIServer):
		why += enumerate(clients) + verb(clients, " keeps nothing on disk and is", " keep nothing on disk and are") +
			" ended at once; an API server that is asked nicely waits for its watchers. "
	default:
		why += enumerate(clients) + verb(clients, " keeps nothing on disk and is", " keep nothing on disk and are") + " ended at once. "
	}
	why += "etcd is then stopped with a signal that it can act on, so that the old data directory is closed cleanly: `crictl stopp` alone would kill it."
	return plan.Step{
		Name:     "stop-control-plane",
		Phase:    plan.Recover,
		Title:    title,
		Why:      why,
		Commands: commands,
		Expect:   expect,
		Do: func(ctx context.Context) error {
			stop := func(ctx context.Context, m controlplane.Member, components []string) error {
				return insist(ctx, func(ctx context.Context) error { return controlplane.StopPods(ctx, m.Node, components, patience) })
			}
			leader := t.leader(ctx)
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				if m.Name == leader {
					if err := stop(ctx, m, clients); err != nil {
						return err
					}
					awaitAlone(ctx, m)
				}
				return stop(ctx, m, stopped)
			})
		},
	}
}

// leader is the name of the member whose etcd says that it leads; "" where none does, or there is but one.
func (t Target) leader(ctx context.Context) string {
	if len(t.Members) == 1 {
		return ""
	}
	leads := make([]bool, len(t.Members))
	var asking sync.WaitGroup
	for i, m := range t.Members {
		asking.Go(func() {
			role, err := controlplane.EtcdRoleOf(ctx, m.Node, m.Etcd.MetricsURL)
			leads[i] = err == nil && role.Leads // one that doesn't answer doesn't lead
		})
	}
	asking.Wait()
	if i := slices.Index(leads, true); i >= 0 {
		return t.Members[i].Name
	}
	return ""
}

// aloneLimit bounds awaitAlone: a member that doesn't see the others go is stopped all the same.
const aloneLimit = 3 * time.Second

// awaitAlone returns when the leader has nobody left whom it could hand over to, or the time is over.
//
// An etcd that leads and is asked to end hands over to another member first. One that is just ending too doesn't take over, and the leader waits for its request timeout: 7 s with kubeadm's settings,
// longer than it is given, so that it would be killed with its database as it is (TryTransferLeadershipOnShutdown in etcd's server/etcdserver/server.go). One that is alone just ends.
func awaitAlone(ctx context.Context, m controlplane.Member) {
	ctx, cancel := context.WithTimeout(ctx, aloneLimit)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		role, err := controlplane.EtcdRoleOf(ctx, m.Node, m.Etcd.MetricsURL)
		if err != nil || role.Peers == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// systemOnly leaves out of a list of containers what merely has the name of a component: kubelet labels each with its pod's namespace.
func systemOnly() []string {
	return []string{"--label", "io.kubernetes.pod.namespace=" + systemNamespace}
}

// listArgv lists the running containers of these names.
func listArgv(names []string) []string {
	return append([]string{"crictl", "ps", "-q", "--name", anyOf(names)}, systemOnly()...)
}

// stopArgv stops the containers whose IDs it reads, if any, with the grace given in whole seconds; 0 ends them at once.
func stopArgv(grace time.Duration) []string {
	return []string{"xargs", "-r", "crictl", controlplane.CrictlTimeout, "stop", "--timeout", strconv.Itoa(int(grace.Seconds()))}
}

// stopContainers does what listArgv piped to stopArgv does. That there are none is no error: not every cluster has each of them.
func stopContainers(ctx context.Context, n cluster.Node, names []string, grace time.Duration) error {
	return insist(ctx, func(ctx context.Context) error {
		ids, err := cluster.Run(ctx, n, listArgv(names)...)
		if err != nil || ids == "" {
			return err
		}
		_, err = cluster.Run(ctx, n, append(stopArgv(grace)[2:], strings.Fields(ids)...)...)
		return err
	})
}

// insist calls f, which stops something, again when it fails, up to three times in all: where crictl lists what there is, it gives up after 2 s (its --timeout), which is not
// always enough on a node that is busy.
func insist(ctx context.Context, f func(context.Context) error) error {
	const tries, pause = 3, time.Second
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := 1; ; i++ {
		err := f(ctx)
		if err == nil || i == tries || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func swapStep(t Target) plan.Step {
	return plan.Step{
		Name:     "swap-manifest",
		Phase:    plan.Recover,
		Title:    "Put the new etcd manifest in place",
		Why:      "A rename is all or nothing: kubelet will read the old file or the new one, never a part of one.",
		Commands: t.swapCommands(),
		Expect:   "`grep path: " + manifestPath + "` shows the new directory.",
		Do:       t.swap,
	}
}

func startKubeletStep(t Target, sc scope) plan.Step {
	started := append([]string{controlplane.Etcd}, sc.pods()...)
	return plan.Step{
		Name:  "start-kubelet",
		Phase: plan.Recover,
		Title: "Start kubelet",
		Why:   "It reads the manifests folder and starts the static pods that don't run: " + enumerate(started) + ", etcd with the new directory." + whyInTurn(t.Members),
		Commands: inTurnCommands(t.Members, func(m controlplane.Member) []plan.Command {
			return []plan.Command{{On: m.Name, Argv: startKubeletArgv()}}
		}),
		Expect: "Within a few seconds `crictl ps` lists " + enumerate(started) + " again, a few seconds old.",
		Do: func(ctx context.Context) error {
			return inTurn(ctx, t.Members, startKubelet)
		},
	}
}

func startKubeletArgv() []string { return []string{"systemctl", "start", "kubelet"} }

func startKubelet(ctx context.Context, m controlplane.Member) error {
	return controlplane.StartKubelet(ctx, m.Node)
}

// readyWait bounds the wait for one component. kubelet takes its time where it was not ended, and where an API server lives on that can't answer without etcd.
const readyWait = 5 * time.Minute

// readyPoll is how often a component is asked whether it is ready.
const readyPoll = 50 * time.Millisecond

// waitSteps wait for the four components, in the order in which they depend on each other: whether they begin anew or have to get on with an etcd that did.
func waitSteps(t Target, sc scope) []plan.Step {
	wait := func(component, why, expect string, command func(m controlplane.Member) []string) plan.Step {
		if component != controlplane.Etcd && !sc.renews(component) {
			why = "Nobody restarts it here: it has to get on with the restored etcd as it is. " + why
			expect = "`ok`; before it maybe some lines that say that it isn't ready."
		}
		return plan.Step{
			Name:     "wait-" + component,
			Phase:    plan.Recover,
			Title:    "Wait until " + component + " is ready",
			Why:      why,
			Expect:   expect,
			Timeout:  readyWait,
			Commands: t.on(func(m controlplane.Member) plan.Command { return plan.Command{Argv: command(m), Until: true} }),
			Do: func(ctx context.Context) error {
				return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
					if err := controlplane.WaitReady(ctx, m.Node, component, readyPoll); err != nil || component != controlplane.Scheduler {
						return err
					}
					return keepManifests(ctx, m)
				})
			},
		}
	}
	return []plan.Step{
		wait(controlplane.Etcd, "etcd says on its own metrics port whether it has a leader and serves reads. Nothing else can work before it does.",
			"A few lines of `connection refused` at first, then `ok`.",
			func(m controlplane.Member) []string {
				return []string{"curl", "-fsS", m.Etcd.MetricsURL + "/readyz"}
			}),
		wait(controlplane.APIServer, "The API server is ready when it has reached etcd and filled its caches.",
			"`ok`, after some lines that say that the connection was refused.",
			func(controlplane.Member) []string { return []string{"kubectl", "get", "--raw", "/readyz"} }),
		wait(controlplane.ControllerManager, "Without it nothing is reconciled: no ReplicaSet makes pods, no node is found missing.",
			"`ok`.",
			func(controlplane.Member) []string {
				return []string{"curl", "-fsSk", "https://127.0.0.1:10257/healthz"}
			}),
		wait(controlplane.Scheduler, "Without it no new pod gets a node.",
			"`ok`.",
			func(controlplane.Member) []string {
				return []string{"curl", "-fsSk", "https://127.0.0.1:10259/healthz"}
			}),
	}
}

// keepManifests returns when the renames in the manifests folder are on the node's disk. Until then a machine that loses its power may come back with the manifest of before, and so with etcd on the
// directory of before, although the recovery was proven (a rename lasts only when its folder was synced, see fsync(2)). It is done when all components are ready: in the outage nobody waits for it, and
// a disk that is busy with it doesn't delay their start.
func keepManifests(ctx context.Context, m controlplane.Member) error {
	_, err := cluster.Run(ctx, m.Node, "sync", "--", controlplane.ManifestDir)
	return err
}

// releaseStep removes the leader election Leases that came back with the snapshot, of those components that begin anew: one that lives on still is its
// Lease's holder. There is nothing to do, and no step, when both live on.
func releaseStep(t Target, sc scope) []plan.Step {
	elected := sc.elected()
	if len(elected) == 0 {
		return nil
	}
	return []plan.Step{{
		Name:  "release-leases",
		Phase: plan.Recover,
		Title: "Remove the leader election Leases that were restored",
		Why: "Only one controller manager and one scheduler act at a time: the one that holds a Lease. The snapshot brought back Leases of holders that are gone. The new " +
			"ones would wait until those run out, 15 seconds by default, and meanwhile no pod would get a node and no Service would learn where its pods are now.",
		Commands: []plan.Command{{On: t.Members[0].Name, Argv: append([]string{"kubectl", "-n", "kube-system", "delete", "lease", "--ignore-not-found"}, elected...)}},
		Expect: "`deleted`" + verb(elected, "; a moment later it is there again, with a new holder.",
			", twice; a moment later both are there again, with new holders."),
		Do: func(ctx context.Context) error { return t.Release(ctx, elected...) },
	}}
}

// renewNetworkStep ends kube-proxy and the DNS servers on the control planes, where kubelet starts them anew at once. On other nodes they come back by
// themselves: kubelet was not restarted there, and would let a container that ends again and again wait longer each time. Both keep nothing on disk and
// are ended at once.
func renewNetworkStep(t Target) plan.Step {
	names := []string{"kube-proxy", "coredns"}
	return plan.Step{
		Name:  "renew-network",
		Phase: plan.Recover,
		Title: "Start kube-proxy and the DNS servers anew",
		Why: "kube-proxy makes the rules by which a Service reaches its pods, and CoreDNS answers for the names of Services, both from what they hear of the API server. While that was " +
			"away they asked again in growing intervals, up to half a minute and more, and until they ask next, rules and names lead to addresses of before. Started anew they ask at " +
			"once; the rules stay in force meanwhile.",
		Commands: t.on(func(controlplane.Member) plan.Command {
			return plan.Command{Argv: listArgv(names), PipeTo: stopArgv(0)}
		}),
		Expect: "A moment later `crictl ps` shows containers of both that are a few seconds old.",
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				return stopContainers(ctx, m.Node, names, 0)
			})
		},
	}
}

// rollback puts the state back that etcd had when it was stopped, in the way that kubelet-stop restores: nothing of what ran in
// between is left running.
//
// The old data directory itself is put back only when nothing better can be had. Clients may have seen revisions of the recovery that
// failed, which the old etcd has yet to reach, and would wait for them: kube-proxy, for one, would not learn of new Services. So the old
// directory is restored like a snapshot, with the revision raised above all that was ever handed out, and stays as it is.
//
// With DataDirSwap the old directory is set aside first, wherever the recovery has ended, and the third one gets the path that the manifest names.
//
// back are further steps that a procedure needs to have undone before kubelet starts again. It may have been interrupted at any moment, so they must do whatever is
// left to do; they are tried even though others failed.
func rollback(t Target, back ...plan.Step) []plan.Step {
	restored := false
	swap, start := swapBackStep(t, &restored), startKubeletStep(t, everything())
	steps := []plan.Step{stopKubeletStep(t), stopControlPlaneStep(t, everything())}
	if t.swaps() {
		swap = swapDataDirBackStep(t, &restored)
		steps = append(steps, setAsideStep(t))
	}
	swap.Always, start.Always = true, true
	// Typed, it waits for nobody: a control plane whose etcd doesn't start must not keep the others from starting.
	start.Commands = t.on(func(controlplane.Member) plan.Command { return plan.Command{Argv: startKubeletArgv()} })
	steps = append(steps, restoreOldStep(t, &restored), swap)
	for _, s := range back {
		s.Always = true
		steps = append(steps, s)
	}
	stop := steps[0].Do
	steps[0].Do = func(ctx context.Context) error {
		// That nodes could not be reached for a while may be why the recovery has failed.
		return errors.Join(t.Reach(ctx), stop(ctx))
	}
	waits := waitSteps(t, everything())
	steps = append(steps, start, waits[0], waits[1])
	steps = append(steps, releaseStep(t, everything())...)
	steps = append(steps, renewNetworkStep(t), waits[2], waits[3])
	for i := range steps {
		steps[i].Name = "rollback-" + steps[i].Name
		steps[i].Phase = plan.Rollback
		steps[i].Outage, steps[i].Until = false, ""
	}
	return steps
}

// How often a node is asked whether it can be worked on, and how long it may take until an etcd is ready that kubelet starts on its old data.
const (
	nodePoll = time.Second
	oldWait  = 45 * time.Second
)

// Reach waits until every node can be worked on, which may have been started anew or out of reach. Where kubelet runs there and the manifest in place still names the old data directory, it gives that
// etcd time to start, too: the last writes of one that was cut off are in its write-ahead log alone, and get into the database, which is all that a rollback reads, only when it has read that.
func (t Target) Reach(ctx context.Context) error {
	return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
		if err := controlplane.WaitRuntime(ctx, m.Node, nodePoll); err != nil {
			return err
		}
		unit, err := controlplane.KubeletUnitOf(ctx, m.Node)
		if err != nil || unit.Active != "active" && unit.Active != "activating" {
			return nil
		}
		if now, err := controlplane.ReadEtcdConfig(ctx, m.Node); err != nil || now.HostDataDir != m.Etcd.HostDataDir {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, oldWait)
		defer cancel()
		_ = controlplane.WaitReady(ctx, m.Node, controlplane.Etcd, nodePoll) // one that doesn't start, for want of other members for example, must not keep anybody from what is to be done
		return nil
	})
}

// until says of steps that take something down that it must be down until the step of that name: what has started it again meanwhile, as a node does that was started anew, has it run in the
// midst of the change.
func until(name string, steps []plan.Step) []plan.Step {
	for i := range steps {
		steps[i].Until = name
	}
	return steps
}

// restoreOldStep sets restored when it is done.
func restoreOldStep(t Target, restored *bool) plan.Step {
	return plan.Step{
		Name:  "restore-old",
		Title: "Restore the old data directory into a third one, with its revision raised",
		Why: "The old directory holds everything up to the moment when its etcd was stopped. Used as it is, it would send etcd's revision back, and clients that have seen " +
			"the failed recovery would wait for revisions that are yet to come.",
		Commands: t.on(func(m controlplane.Member) plan.Command {
			old := m.Etcd.HostDataDir
			if t.swaps() {
				old = t.AsideDir
			}
			argv := []string{"etcdutl", "snapshot", "restore", old + "/member/snap/db", "--skip-hash-check"}
			return plan.Command{Argv: append(argv, t.membershipFlags(m, t.RollbackDir, t.RollbackToken(), t.RollbackBump)...)}
		}),
		Expect:   "etcdutl logs `restored snapshot`.",
		Timeout:  10 * time.Minute,
		Fallback: true, // the old directory itself is put in place
		Do: func(ctx context.Context) error {
			err := t.RestoreOld(ctx)
			*restored = err == nil
			return err
		},
	}
}

// swapBackStep installs the old manifests with the data directory of the rollback or, if that could not be made, just as they were.
func swapBackStep(t Target, restored *bool) plan.Step {
	s := swapStep(t)
	s.Title = "Put the old etcd manifest back, with the third directory"
	s.Why = "Apart from the directory it is the manifest as it was."
	s.Expect = "`grep path: " + manifestPath + "` shows the third directory."
	s.Commands = nil
	for _, m := range t.Members {
		s.Commands = append(s.Commands,
			plan.Command{On: m.Name, Argv: []string{"cp", "--preserve", t.kept(), staged}},
			plan.Command{On: m.Name, Argv: whereThere(t.RollbackDir, []string{"test", "-d", "{}/member"}, []string{"sed", "-i", pathEdit(m.Etcd.HostDataDir, t.RollbackDir), staged})},
			plan.Command{On: m.Name, Argv: swapArgv()})
	}
	s.Do = func(ctx context.Context) error {
		return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
			dir := m.Etcd.HostDataDir
			// Where an earlier rollback has come so far, etcd may have been written to on that directory. Without anything in it, etcd would begin an empty cluster there.
			if now, err := controlplane.ReadEtcdConfig(ctx, m.Node); !*restored && err == nil && now.HostDataDir == t.RollbackDir {
				_, err := cluster.Run(ctx, m.Node, "test", "-d", t.RollbackDir+"/member")
				var exit *cluster.ExitError
				if err != nil && !errors.As(err, &exit) {
					return err
				}
				if err == nil {
					dir = t.RollbackDir
				}
			}
			if *restored {
				dir = t.RollbackDir
			}
			// What may be staged from the recovery must not get there instead.
			if err := stageManifest(ctx, m, t.kept(), dir); err != nil {
				return err
			}
			_, err := cluster.Run(ctx, m.Node, swapArgv()...)
			return err
		})
	}
	return s
}
