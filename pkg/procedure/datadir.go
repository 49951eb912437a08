package procedure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// DataDirMode is how etcd gets to run on the restored data directory. Its text is what people choose by, and what reports and journals say.
type DataDirMode string

// The modes.
const (
	// DataDirManifest changes the path in etcd's manifest to that of the restored directory. It is what the documentation shows, and works wherever there is room.
	DataDirManifest DataDirMode = "manifest"
	// DataDirSwap changes no manifest: the directory that etcd ran on is renamed, and the restored one gets its path. Both must be on one file system, and the directory must not be
	// a mount point.
	DataDirSwap DataDirMode = "swap"
)

// DataDirModes lists every mode, the default one first.
func DataDirModes() []DataDirMode { return []DataDirMode{DataDirManifest, DataDirSwap} }

// In returns the procedure carried out in that mode; an empty one is the default. The error says why a procedure can't be.
func (p Procedure) In(mode DataDirMode) (Procedure, error) {
	mode = cmp.Or(mode, DataDirManifest)
	if !slices.Contains(DataDirModes(), mode) {
		var names []string
		for _, m := range DataDirModes() {
			names = append(names, string(m))
		}
		return Procedure{}, fmt.Errorf("there is no mode %q; there are: %s", mode, strings.Join(names, ", "))
	}
	if mode == DataDirSwap && p.editsManifest {
		return Procedure{}, fmt.Errorf("procedure %s is the edit of etcd's manifest, by which kubelet notices that there is something to do, and mode %s changes no manifest: choose another procedure", p.Name, mode)
	}
	p.mode = mode
	return p, nil
}

// DataDirMode is the mode in which the procedure is carried out.
func (p Procedure) DataDirMode() DataDirMode {
	return cmp.Or(p.mode, DataDirManifest)
}

// swaps says whether the target's directories are renamed and its manifests stay as they are.
func (t Target) swaps() bool { return t.Mode == DataDirSwap }

// keepManifestStep is what is left of patchStep where no manifest changes.
func keepManifestStep(t Target) plan.Step {
	return plan.Step{
		Name:  "keep-manifest",
		Phase: plan.Recover,
		Title: "Keep a copy of etcd's manifest",
		Why: "The restored directory will get the path of the old one, so the manifest stays as it is, and agrees with what kubeadm knows of etcd. The copy is there to show afterwards that not " +
			"a byte of it has changed. It is kept outside of the manifests folder: kubelet reads every file there, copies too.",
		Commands: t.eachOf(func(controlplane.Member) [][]string { return t.keepArgvs() }),
		Expect:   "`cmp " + manifestPath + " " + t.kept() + "` says nothing: the two are the same.",
		Do:       func(ctx context.Context) error { return controlplane.Each(ctx, t.Members, t.keepManifest) },
	}
}

// swapDataDirStep makes the restored directory the one that the manifest names, by two renames.
func swapDataDirStep(t Target) plan.Step {
	return plan.Step{
		Name:  "swap-data-dir",
		Phase: plan.Recover,
		Title: "Move the old data directory aside, and the restored one to its place",
		Why: "The manifest goes on naming the same path, and another directory is there. Each move is one rename within a file system: it takes no time, whatever the size, and nothing is copied or " +
			"overwritten. etcd must have ended, since it would go on with the directory that it has open, whatever that is called. The last command makes the renames outlive a power cut.",
		Commands: t.eachOf(func(m controlplane.Member) [][]string {
			return [][]string{moveArgv(m.Etcd.HostDataDir, t.AsideDir), moveArgv(t.DataDir, m.Etcd.HostDataDir), t.syncArgv(m)}
		}),
		Expect: "`ls -d " + t.AsideDir + " " + t.Members[0].Etcd.HostDataDir + "` lists both, and `" + t.DataDir + "` is no more.",
		Do:     func(ctx context.Context) error { return controlplane.Each(ctx, t.Members, t.swapDataDir) },
	}
}

// moveArgv renames a directory; mv overwrites none that holds anything.
func moveArgv(from, to string) []string { return []string{"mv", "-T", from, to} }

// syncArgv writes the folders in which names have changed to the disk.
func (t Target) syncArgv(m controlplane.Member) []string {
	folders := []string{path.Dir(m.Etcd.HostDataDir), path.Dir(t.DataDir)}
	return append([]string{"sync"}, slices.Compact(folders)...)
}

// swapDataDir does both renames, or what is left of them: a process that was killed may have done one, and by what is where it shows how far it came.
func (t Target) swapDataDir(ctx context.Context, m controlplane.Member) error {
	var exit *cluster.ExitError
	_, err := cluster.Run(ctx, m.Node, moveArgv(m.Etcd.HostDataDir, t.AsideDir)...)
	if err != nil && (!errors.As(err, &exit) || !isThere(ctx, m, t.AsideDir)) {
		return fmt.Errorf("moving the old data directory aside: %w", err)
	}
	_, err = cluster.Run(ctx, m.Node, moveArgv(t.DataDir, m.Etcd.HostDataDir)...)
	switch {
	case err == nil:
	case !errors.As(err, &exit):
		return err
	case isThere(ctx, m, t.DataDir):
		return fmt.Errorf("moving the restored data directory to %s: %w; hint: where there is such a directory, somebody has made it since the old one was moved to %s: kubelet does, "+
			"when it starts etcd after the node was restarted; put the old state back", m.Etcd.HostDataDir, err, t.AsideDir)
	case !isThere(ctx, m, m.Etcd.HostDataDir):
		return fmt.Errorf("moving the restored data directory to %s: %w", m.Etcd.HostDataDir, err)
	}
	_, err = cluster.Run(ctx, m.Node, t.syncArgv(m)...)
	return err
}

func isThere(ctx context.Context, m controlplane.Member, dir string) bool {
	_, err := cluster.Run(ctx, m.Node, "test", "-d", dir)
	return err == nil
}

// exchangeStep puts the restored directories in place while nothing runs on the old ones: by a manifest that names them, or by their getting the path that the manifest names.
func exchangeStep(t Target) plan.Step {
	if t.swaps() {
		return swapDataDirStep(t)
	}
	return swapStep(t)
}

// prepareExchangeStep prepares that while the cluster still runs.
func prepareExchangeStep(t Target) plan.Step {
	if t.swaps() {
		return keepManifestStep(t)
	}
	return patchStep(t)
}

// setAsideStep makes sure, in a rollback, that the old directories are where the recovery moves them: it may not have come so far. From there they are restored from, and there they stay.
func setAsideStep(t Target) plan.Step {
	return plan.Step{
		Name:  "set-aside",
		Title: "Move the old data directory aside, unless that was done",
		Why: "The recovery may have ended before it moved the directory, or after that. `find` moves it where nothing has been moved yet, and leaves alone what has the path of the old directory " +
			"otherwise: that is the restored one, or one that kubelet has made.",
		Commands: t.eachOf(t.setAsideArgvs),
		Expect:   "Nothing: the old database is in `" + t.AsideDir + "/member/snap`.",
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				if back, err := t.backInPlace(ctx, m); err != nil || back {
					return err
				}
				return runAll(ctx, m, t.setAsideArgvs(m))
			})
		},
	}
}

func (t Target) setAsideArgvs(m controlplane.Member) [][]string {
	return [][]string{
		whereThere(m.Etcd.HostDataDir, []string{"test", "!", "-e", t.AsideDir}, []string{"mv", "-T", "{}", t.AsideDir}),
		t.syncArgv(m),
		{"test", "-d", t.AsideDir + "/member"},
	}
}

// whereThere carries commands out where dir is there, each as long as those before it succeed; "{}" in them is dir. It succeeds in any case, so what must be true in the end has
// to be asked for. -H follows a link in the place of the folder that dir is in.
func whereThere(dir string, commands ...[]string) []string {
	argv := []string{"find", "-H", path.Dir(dir), "-maxdepth", "1", "-path", dir}
	for _, c := range commands {
		argv = append(append(append(argv, "-exec"), c...), ";")
	}
	return argv
}

// swapDataDirBackStep gives the third directory the path that the manifest names; the old directory itself where there is no third one.
func swapDataDirBackStep(t Target, restored *bool) plan.Step {
	return plan.Step{
		Name:  "swap-data-dir",
		Title: "Move the restored data directory away, and the third one to the path that the manifest names",
		Why: "The manifest was never changed, so it is the directory that has to be exchanged once more. Each command does something only where there is something to do, since the recovery may have " +
			"ended before, between or after its renames. What was restored is kept, and so is whatever else may have got that path; if there is no third directory, the old one itself gets it back.",
		Commands: t.eachOf(t.swapBackArgvs),
		Expect:   "Nothing: `ls -d " + t.Members[0].Etcd.HostDataDir + "/member` finds the third directory there.",
		Do: func(ctx context.Context) error {
			return controlplane.Each(ctx, t.Members, func(ctx context.Context, m controlplane.Member) error {
				if back, err := t.backInPlace(ctx, m); err != nil || back {
					return err
				}
				if !*restored { // what there is of third directories may be of one member alone
					if err := runAll(ctx, m, [][]string{whereThere(t.RollbackDir, []string{"mv", "-T", "--backup=numbered", "{}", t.RollbackDir + "-given-up"})}); err != nil {
						return err
					}
				}
				return runAll(ctx, m, t.swapBackArgvs(m))
			})
		},
	}
}

func (t Target) swapBackArgvs(m controlplane.Member) [][]string {
	inPlace := m.Etcd.HostDataDir
	giveUp := []string{"mv", "-T", "--backup=numbered", "{}", t.GivenUpDir}
	return [][]string{
		whereThere(t.DataDir, giveUp),
		whereThere(inPlace, []string{"test", "-e", t.AsideDir}, giveUp), // else it is the old one itself
		whereThere(t.RollbackDir, []string{"mv", "-T", "{}", inPlace}),
		whereThere(t.AsideDir, []string{"test", "!", "-e", inPlace}, []string{"mv", "-T", "{}", inPlace}),
		t.syncArgv(m),
		{"test", "-d", inPlace + "/member"},
	}
}

// backInPlace says whether an earlier rollback has put the third directory of a member in place, so that etcd may have run on it.
func (t Target) backInPlace(ctx context.Context, m controlplane.Member) (bool, error) {
	if t.BackInPlace == nil {
		return false, nil
	}
	return t.BackInPlace(ctx, m)
}

// eachOf makes several commands for every member's node, in order.
func (t Target) eachOf(argvs func(m controlplane.Member) [][]string) []plan.Command {
	var out []plan.Command
	for _, m := range t.Members {
		for _, argv := range argvs(m) {
			out = append(out, plan.Command{On: m.Name, Argv: argv})
		}
	}
	return out
}

func runAll(ctx context.Context, m controlplane.Member, argvs [][]string) error {
	for _, argv := range argvs {
		if _, err := cluster.Run(ctx, m.Node, argv...); err != nil {
			return err
		}
	}
	return nil
}
