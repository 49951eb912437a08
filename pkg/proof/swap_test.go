package proof

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// exchanged are the paths of a run that has given the restored directory the path of the old one, and what etcd, which is the first process there, sees at it.
const (
	aside = "/var/lib/drill/x/etcd-before"
	seen  = "/proc/1000/root/var/lib/etcd"
)

// exchangedMachine is a control plane on which everything began a second after the directories were renamed: etcd runs on inode 7 of device 64.
func exchangedMachine() *machine {
	m := renewedMachine()
	m.moved = aside
	m.component("etcd").Mounts[1].HostPath = oldDir
	m.dirs = map[string]string{aside: "64 6"}
	return m
}

func exchangedSubject(m *machine) *Subject {
	return &Subject{
		DataDir: oldDir, Members: []controlplane.Member{{Name: "cp-a", Node: m, Etcd: controlplane.EtcdConfig{DataDir: oldDir, HostDataDir: oldDir}}},
		Swap: &Swap{Aside: aside, Inodes: map[string]uint64{"cp-a": 7}},
	}
}

// TestControlPlaneRenewedOnSamePath: where the restored directory has the path of the old one, neither a path nor the manifest says which of them etcd runs on. An etcd that was not restarted has
// the old one mounted still.
func TestControlPlaneRenewedOnSamePath(t *testing.T) {
	before := time.Unix(1795409198, 499000000)
	const other = "to run on the restored directory, inode 7 of device 64"
	for name, c := range map[string]struct {
		change                  func(m *machine)
		subject, expected, seen string // empty where it passes
	}{
		"all of it":                         {func(*machine) {}, "", "", ""},
		"etcd on the old directory":         {func(m *machine) { m.dirs[seen] = "64 6" }, "etcd on cp-a", other, "inode 6 of device 64"},
		"etcd on a directory that was made": {func(m *machine) { m.dirs[seen], m.dirs[oldDir] = "64 9", "64 9" }, "etcd on cp-a", other, "inode 9 of device 64"},
		"the same number on another device": {func(m *machine) { m.dirs[seen] = "65 7" }, "etcd on cp-a", other, "inode 7 of device 65"},
		"etcd on another path": {
			func(m *machine) { m.component("etcd").Mounts[1].HostPath = newDir }, "etcd on cp-a", "to run on " + oldDir, newDir,
		},
		"a kubelet from before": {func(m *machine) { m.kubelet = before }, "kubelet on cp-a", "a start after 2026-11-23 04:46:38.500", "2026-11-23 04:46:38.499"},
		"the device has another number since the node was restarted": {
			func(m *machine) { m.dirs[seen], m.dirs[oldDir] = "70 7", "70 7" }, "", "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := exchangedMachine()
			c.change(m)
			f, err := controlPlaneRenewed(t.Context(), exchangedSubject(m))
			if c.subject == "" {
				if err != nil || f.Status != plan.StatusPassed || !holds(f.Evidence, "etcd on cp-a runs on /var/lib/etcd, inode 7, which was restored") {
					t.Errorf("%+v, %v", f, err)
				}
				return
			}
			if differs(t, f, err, c.subject, c.expected, c.seen); len(f.Differences) != 1 {
				t.Errorf("%v", f.Differences)
			}
		})
	}
	for want, change := range map[string]func(*machine, *Subject){
		"it is not known which directory was restored": func(_ *machine, s *Subject) { s.Swap.Inodes = nil },
		"cannot statx":                        func(m *machine, _ *Subject) { m.moved = "/elsewhere" },
		`stat says "64 7\n64" for the`:        func(m *machine, _ *Subject) { m.dirs[oldDir] = "64" },
		"which directory etcd runs on: ":      func(m *machine, _ *Subject) { m.dirs[seen] = "a b" },
		"for the device and inode of " + seen: func(m *machine, _ *Subject) { m.dirs[seen] = "64 7\n64 7" },
	} {
		m := exchangedMachine()
		s := exchangedSubject(m)
		change(m, s)
		if f, err := controlPlaneRenewed(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v; want %s", f, err, want)
		}
	}
}

// TestRolledBackOnSamePath: a rollback has set another directory aside, and brings etcd to run on a third.
func TestRolledBackOnSamePath(t *testing.T) {
	m := exchangedMachine()
	m.moved = "/var/lib/drill/x/etcd-given-up"
	s := exchangedSubject(m)
	s.Old = &Old{DataDir: oldDir, Swap: &Swap{Aside: m.moved, Inodes: map[string]uint64{"cp-a": 8}}}
	look := rolledBack(t, s, "control-plane-renewed")
	f, err := look(t.Context())
	differs(t, f, err, "etcd on cp-a", "inode 8 of device 64", "inode 7 of device 64")
	m.dirs[seen] = "64 8"
	if f, err := look(t.Context()); err != nil || f.Status != plan.StatusPassed {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestNoDriftOnSamePath: nothing has changed of what kubeadm knows, and that is looked at: the manifest to the byte, and the directory that etcd has mounted by what it is.
func TestNoDriftOnSamePath(t *testing.T) {
	const manifestFile, kept = "/etc/kubernetes/manifests/etcd.yaml", "/var/lib/drill/r/etcd.yaml.before"
	for name, c := range map[string]struct {
		alter                   func(*host)
		subject, expected, seen string // empty where it passes
	}{
		"nothing has changed": {alter: func(*host) {}},
		"the manifest has": {
			func(h *host) { h.files[manifestFile] += "# edited\n" }, manifestFile + " on cp-a", "as it was, like " + kept, "another content",
		},
		"etcd still has the old directory": {
			func(h *host) { h.dirs = map[string]string{seen: "64 6"} }, "etcd on cp-a", "to run on the directory that is at /var/lib/etcd, inode 7", "inode 6, which was there before",
		},
		"the same number on another device": {
			func(h *host) { h.dirs = map[string]string{seen: "65 7"} }, "etcd on cp-a", "to run on the directory that is at /var/lib/etcd, inode 7", "inode 7, which was there before",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := restoredHost()
			h.files[manifestFile] = manifest("etcd", oldDir)
			h.files = maps.Clone(h.files)
			h.files[kept] = h.files[manifestFile]
			h.mounts[0].HostPath, h.holds = oldDir, []string{oldDir}
			c.alter(h)
			s := &Subject{
				Members: []controlplane.Member{{Name: "cp-a", Node: h}},
				Servers: []Server{serve(t, "cp-a", &apiServer{objects: map[string][]object{"configmaps": {kubeadmConfig("etcd: {local: {dataDir: " + oldDir + "}}")}}})},
				Swap:    &Swap{Manifest: kept},
			}
			f, err := noDrift(t.Context(), s)
			if c.subject != "" {
				differs(t, f, err, c.subject, c.expected, c.seen)
				return
			}
			if err != nil || f.Status != plan.StatusPassed || !strings.Contains(f.Detail, "data directories and kubeadm-config agree on "+oldDir) {
				t.Errorf("%+v, %v", f, err)
			}
			delete(h.files, kept)
			if f, err := noDrift(t.Context(), s); err == nil || !strings.Contains(err.Error(), "etcd's manifest as it was") {
				t.Errorf("there is nothing to hold it against: %+v, %v", f, err)
			}
		})
	}
}
