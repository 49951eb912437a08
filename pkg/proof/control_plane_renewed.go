package proof

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// ControlPlaneRenewed makes sure that nothing on a control plane carries a memory from before the swap: its four static pods and
// kubelet must have started after the etcd manifest was put in place, or the one of before taken away, or, where the directory was renamed and not the manifest, after that. Both moments are read on the node, so clocks need
// not agree. A directory that has the path of another is known by its inode, as the etcd that runs sees it: an etcd that was not restarted goes on with the one that it was started on.
func ControlPlaneRenewed(s *Subject) plan.Check {
	return plan.Check{
		Name:    "control-plane-renewed",
		Summary: "etcd, API server, controller manager, scheduler and kubelet all started after the swap, and etcd runs on the new data directory",
		Phase:   plan.Prove,
		Look:    func(ctx context.Context) (plan.Finding, error) { return controlPlaneRenewed(ctx, s) },
	}
}

func controlPlaneRenewed(ctx context.Context, s *Subject) (plan.Finding, error) {
	wrongs, rights := make([][]plan.Difference, len(s.Members)), make([][]string, len(s.Members))
	asking, ctxAsking := errgroup.WithContext(ctx)
	for i, m := range s.Members {
		asking.Go(func() (err error) {
			wrongs[i], rights[i], err = renewed(ctxAsking, s, m)
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		return plan.Finding{}, err
	}
	wrong, right := slices.Concat(wrongs...), slices.Concat(rights...)
	if len(wrong) > 0 {
		return plan.Differs(fmt.Sprintf("%d parts of the control plane are from before the swap or on other data", len(wrong)),
			"what was not renewed holds caches or watches of an etcd that no longer exists: stop its container, and kubelet starts another, or restart kubelet; an etcd on other data "+
				"has another volume etcd-data in its manifest, or was not restarted since the directory was exchanged", wrong, right...), nil
	}
	if len(right) == 0 {
		return plan.Failed("no control plane is known", "this is a defect of drill").ForGood(), nil
	}
	return plan.Passed("everything on the control plane began anew, and etcd runs on "+s.DataDir, right...), nil
}

func renewed(ctx context.Context, s *Subject, m controlplane.Member) (wrong []plan.Difference, right []string, err error) {
	var swapped, kubelet time.Time
	var running []controlplane.Container
	asking, ctxAsking := errgroup.WithContext(ctx)
	asking.Go(func() (err error) { swapped, err = swapTime(ctxAsking, m.Node, s.swapped(m)); return err })
	asking.Go(func() (err error) { kubelet, err = controlplane.KubeletStartedAt(ctxAsking, m.Node); return err })
	asking.Go(func() (err error) { running, err = runningOn(ctxAsking, m.Node); return err })
	if err := asking.Wait(); err != nil {
		return nil, nil, err
	}
	hold := func(what string, started time.Time) {
		if !started.After(swapped) {
			wrong = append(wrong, plan.Difference{Subject: what + " on " + m.Name, Expected: "a start after " + moment(swapped), Seen: moment(started)})
		} else {
			right = append(right, fmt.Sprintf("%s on %s started at %s, after %s", what, m.Name, clock(started), clock(swapped)))
		}
	}
	hold("kubelet", kubelet)
	for _, name := range controlplane.Components() {
		found := named(running, name)
		if len(found) != 1 {
			wrong = append(wrong, plan.Difference{Subject: name + " on " + m.Name, Expected: "1 running container", Seen: fmt.Sprint(len(found))})
			continue
		}
		hold(name, found[0].StartedAt)
		if name != controlplane.Etcd {
			continue
		}
		if got := mountedAt(found[0], m.Etcd.DataDir); got != s.DataDir {
			wrong = append(wrong, plan.Difference{Subject: "etcd on " + m.Name, Expected: "to run on " + s.DataDir, Seen: fmt.Sprintf("%q", got)})
			continue
		}
		which := s.DataDir
		if s.Swap != nil {
			d, err := s.Swap.sees(ctx, m, found[0], s.DataDir)
			if err != nil {
				return nil, nil, err
			}
			if len(d) > 0 {
				wrong = append(wrong, d...)
				continue
			}
			which += fmt.Sprintf(", inode %d, which was restored", s.Swap.Inodes[m.Name])
		}
		right = append(right, fmt.Sprintf("etcd on %s runs on %s", m.Name, which))
	}
	return wrong, right, nil
}

// sees holds the directory that an etcd has mounted against the one that it must run on. Its inode is that of the one that was noted, and its device the one on which its path leads now: a
// restart of the node leaves the former as it was.
func (w *Swap) sees(ctx context.Context, m controlplane.Member, etcd controlplane.Container, dataDir string) ([]plan.Difference, error) {
	want := w.Inodes[m.Name]
	if want == 0 {
		return nil, fmt.Errorf("node %s: it is not known which directory was restored: the step that notes it was not carried out", m.Name)
	}
	has, there, err := controlplane.Mounted(ctx, m.Node, etcd.ID, m.Etcd.DataDir, dataDir)
	if err != nil {
		return nil, fmt.Errorf("which directory etcd runs on: %w", err)
	}
	if has.Inode != want || has.Device != there.Device {
		return []plan.Difference{{
			Subject: "etcd on " + m.Name, Expected: fmt.Sprintf("to run on the restored directory, inode %d of device %d", want, there.Device),
			Seen: fmt.Sprintf("inode %d of device %d", has.Inode, has.Device),
		}}, nil
	}
	return nil, nil
}

// swapped is the path on a member's node whose status change time is when the directory of before was out of reach for whatever starts from then on: a rename sets it. It is that of etcd's manifest, of
// the manifest of before where that was taken away first, or of the directory that gave way: the one that took its place has been written to since.
func (s *Subject) swapped(m controlplane.Member) string {
	if s.Swap != nil {
		return s.Swap.Aside
	}
	return cmp.Or(s.TakenAway[m.Name], etcdManifest)
}

const etcdManifest = controlplane.ManifestDir + "/etcd.yaml"

// swapTime is when what is at the path got its name.
func swapTime(ctx context.Context, n cluster.Node, path string) (time.Time, error) {
	out, err := cluster.Run(ctx, n, "stat", "--format=%.9Z", path)
	if err != nil {
		return time.Time{}, err
	}
	sec, nsec, _ := strings.Cut(out, ".")
	s, errS := strconv.ParseInt(sec, 10, 64)
	ns, errN := strconv.ParseUint(nsec, 10, 63)
	if errS != nil || errN != nil || len(nsec) != len("000000000") {
		return time.Time{}, fmt.Errorf("node %s: stat says %q for the time of %s", n.Name(), out, path)
	}
	return time.Unix(s, int64(ns)), nil
}

// named returns the containers of kube-system's static pod of that name.
func named(all []controlplane.Container, name string) []controlplane.Container {
	var out []controlplane.Container
	for _, c := range all {
		if c.Name == name && c.PodNamespace == "kube-system" {
			out = append(out, c)
		}
	}
	return out
}

// mountedAt returns the host path that the container has mounted at the path given; "" when it has none there.
func mountedAt(c controlplane.Container, path string) string {
	for _, m := range c.Mounts {
		if m.ContainerPath == path {
			return m.HostPath
		}
	}
	return ""
}

// clock is a time of this run.
func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// moment is a time of which it isn't known that it is of today.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }
