package stage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
)

// Where the directories of a run lie whose procedure renames them (procedure.DataDirSwap): not necessarily in the run's folder, but on the file system of the directory that etcd runs on, since
// a rename goes no further.

// swapDir is the folder on a node in which such a run has its data directories. It is the run's folder where etcd's data is in /var/lib, as with kubeadm, or where an earlier drill has
// put it; else one of that name beside etcd's data.
func swapDir(hostDataDir, nodeDir string) string {
	if strings.HasPrefix(hostDataDir, NodeDirs+"/") {
		return nodeDir
	}
	return path.Join(path.Dir(hostDataDir), path.Base(NodeDirs), path.Base(nodeDir))
}

// asideDir and givenUpDir are what such a run and its rollback make there besides dataDir and rollbackDir.
func asideDir(dir string) string   { return dir + "/etcd-before" }
func givenUpDir(dir string) string { return dir + "/etcd-given-up" }

// made are the data directories that a run and its rollback may make.
func (s *Stage) made() []string {
	dirs := []string{s.Target.DataDir, s.Target.RollbackDir}
	if s.Target.Mode == procedure.DataDirSwap {
		dirs = append(dirs, s.Target.AsideDir, s.Target.GivenUpDir)
	}
	return dirs
}

// castSwap puts the directories where they can be renamed, in place of those that cast has chosen.
func (s *Stage) castSwap(members []controlplane.Member, nodeDir string) {
	hostDataDir := members[0].Etcd.HostDataDir // preflight makes sure that it is the same on all
	dir := swapDir(hostDataDir, nodeDir)
	t := &s.Target
	t.DataDir, t.RollbackDir, t.AsideDir, t.GivenUpDir = dataDir(dir), rollbackDir(dir), asideDir(dir), givenUpDir(dir)
	t.NoteRestored, t.BackInPlace = s.noteRestored, s.backInPlace
	s.Subject.DataDir = hostDataDir
	s.Subject.Swap = &proof.Swap{Aside: t.AsideDir, Manifest: procedure.KeptManifest(nodeDir)}
}

// inodes are those of directories that are what one path leads to on every member's node, by the names of the nodes.
func (s *Stage) inodes(ctx context.Context, dir func(context.Context, controlplane.Member) (string, error)) (map[string]uint64, error) {
	var mu sync.Mutex
	out := map[string]uint64{}
	err := controlplane.Each(ctx, s.Target.Members, func(ctx context.Context, m controlplane.Member) error {
		path, err := dir(ctx, m)
		if err != nil {
			return err
		}
		found, err := controlplane.Directories(ctx, m.Node, path)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		out[m.Name] = found[0].Inode
		return nil
	})
	return out, err
}

// at is a path that is the same on every node.
func at(dir string) func(context.Context, controlplane.Member) (string, error) {
	return func(context.Context, controlplane.Member) (string, error) { return dir, nil }
}

// noteRestored notes which directories were restored: they are going to have a path that others had before.
func (s *Stage) noteRestored(ctx context.Context) (err error) {
	s.Subject.Swap.Inodes, err = s.inodes(ctx, at(s.Target.DataDir))
	if err != nil {
		return fmt.Errorf("noting which directories were restored: %w", err)
	}
	return nil
}

// oldDir is where a member's old data directory is: where its manifest says or, once it was moved, aside. Nothing else ever gets that name.
func (s *Stage) oldDir(ctx context.Context, m controlplane.Member) (string, error) {
	if s.Target.Mode != procedure.DataDirSwap {
		return m.Etcd.HostDataDir, nil
	}
	err := cluster.Absent(ctx, m.Node, s.Target.AsideDir)
	switch {
	case err == nil:
		return m.Etcd.HostDataDir, nil
	case errors.Is(err, cluster.ErrOccupied):
		return s.Target.AsideDir, nil
	default:
		return "", fmt.Errorf("finding out where the old data directory is: %w", err)
	}
}

// oldMounted says whether the container has a member's old data directory mounted, whatever the path of that is by now.
func (s *Stage) oldMounted(ctx context.Context, m controlplane.Member, c controlplane.Container) (bool, error) {
	dir, err := s.oldDir(ctx, m)
	if err != nil {
		return false, err
	}
	has, old, err := controlplane.Mounted(ctx, m.Node, c.ID, m.Etcd.DataDir, dir)
	return err == nil && has == old, err
}

// expectOld says what a rollback must bring etcd to run on as long as there is nothing better: the old directories themselves.
func (s *Stage) expectOld(ctx context.Context) (*proof.Old, error) {
	old := &proof.Old{DataDir: s.Target.Members[0].Etcd.HostDataDir, Itself: true}
	if s.Target.Mode != procedure.DataDirSwap {
		return old, nil
	}
	inodes, err := s.inodes(ctx, s.oldDir)
	old.Swap = &proof.Swap{Aside: s.Target.GivenUpDir, Inodes: inodes, Manifest: s.Subject.Swap.Manifest}
	return old, err
}

// expectThird says that a rollback must bring etcd to run on the directories that it has made.
func (s *Stage) expectThird(ctx context.Context) (*proof.Old, error) {
	if s.Target.Mode != procedure.DataDirSwap {
		return &proof.Old{DataDir: s.Target.RollbackDir}, nil
	}
	inodes, err := s.inodes(ctx, at(s.Target.RollbackDir))
	if err != nil {
		return nil, fmt.Errorf("noting which directories were restored: %w", err)
	}
	s.third = inodes
	return s.usedThird(), nil
}

// usedThird is what expectThird has said, in this process or an earlier one.
func (s *Stage) usedThird() *proof.Old {
	if s.Target.Mode != procedure.DataDirSwap {
		return &proof.Old{DataDir: s.Target.RollbackDir}
	}
	return &proof.Old{
		DataDir: s.Target.Members[0].Etcd.HostDataDir,
		Swap:    &proof.Swap{Aside: s.Target.GivenUpDir, Inodes: s.third, Manifest: s.Subject.Swap.Manifest},
	}
}

// backInPlace says whether the third directory of a member has the path that its manifest names.
func (s *Stage) backInPlace(ctx context.Context, m controlplane.Member) (bool, error) {
	third := s.third[m.Name]
	if third == 0 {
		return false, nil // none was made
	}
	dir := m.Etcd.HostDataDir
	if err := cluster.Absent(ctx, m.Node, dir); !errors.Is(err, cluster.ErrOccupied) {
		return false, err
	}
	found, err := controlplane.Directories(ctx, m.Node, dir)
	return err == nil && found[0].Inode == third, err
}

const (
	swapWanted = "a data directory that can be renamed, and the restored one beside it: mode swap of the data directory exchanges the two"
	swapHint   = "use --data-dir-mode manifest, which lets etcd's manifest name the restored directory"
)

// swappable makes sure that etcd's data directory can be moved aside, and another one to its place, each by one rename.
func (s *survey) swappable(ctx context.Context) {
	dir := s.etcd.HostDataDir
	r := Refusal{What: "etcd's data directory can't be renamed", Want: swapWanted, Hint: swapHint}
	if s.etcd.DataSubPath != "" {
		return // which is refused in any mode
	}
	unknown := Refusal{What: "whether etcd's data directory can be renamed can't be told", Want: swapWanted, Hint: swapHint}
	// What doesn't exist yet will be on the file system of what does above it.
	out, err := cluster.Run(ctx, s.node, "realpath", "--canonicalize-missing", "--", dir, path.Dir(dir), s.premises.home(s.etcd))
	if err != nil {
		s.failed(err, unknown)
		return
	}
	table, err := s.node.ReadFile(ctx, "/proc/self/mountinfo")
	if err != nil {
		s.failed(err, unknown)
		return
	}
	mounts := mountPoints(string(table))
	real := strings.Split(out, "\n")
	if len(real) != 3 || len(mounts) == 0 {
		unknown.Seen = fmt.Sprintf("realpath says %q, and there are %d mounts", out, len(mounts))
		s.refuse(unknown)
		return
	}
	data, home := real[0], real[2]
	switch {
	case data != path.Join(real[1], path.Base(dir)):
		r.Seen = dir + " is a link to " + data + ", so that another would be put in place of the link"
	case slices.ContainsFunc(mounts, func(m string) bool { return m == data || strings.HasPrefix(m, data+"/") }):
		r.Seen = "something is mounted at " + data + ", or below it"
	case mountOf(mounts, home) != mountOf(mounts, data):
		r.What = "the restored data directory can't be put beside etcd's"
		r.Seen = fmt.Sprintf("%s is on what is mounted at %s, and %s on what is mounted at %s", data, mountOf(mounts, data), home, mountOf(mounts, home))
	default:
		return
	}
	s.refuse(r)
}

// sameDataDir makes sure that etcd's data is at one path on all control planes, as kubeadm has it in one record for all (ClusterConfiguration, etcd.local.dataDir).
func sameDataDir(surveys []*survey) {
	var first *survey
	for _, s := range surveys {
		switch {
		case !s.known:
		case first == nil:
			first = s
		case s.etcd.HostDataDir != first.etcd.HostDataDir:
			s.refuse(Refusal{
				What: "etcd's data directory is not where it is on the other control planes", Seen: s.etcd.HostDataDir + ", and " + first.etcd.HostDataDir + " on node " + first.node.Name(),
				Want: "one path on all of them", Hint: swapHint,
			})
		}
	}
}

// mountPoints are the paths at which something is mounted: the fifth field of each line, in which some characters are written as \ and three octal digits (proc_pid_mountinfo(5)).
func mountPoints(table string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []string
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 4 {
			out = append(out, unescape.Replace(f[4]))
		}
	}
	return out
}

// mountOf is the mount that a path is on: the deepest at or above it.
func mountOf(mounts []string, p string) string {
	best := ""
	for _, m := range mounts {
		if (m == p || m == "/" || strings.HasPrefix(p, m+"/")) && len(m) > len(best) {
			best = m
		}
	}
	return best
}
