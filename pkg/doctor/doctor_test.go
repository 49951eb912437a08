package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
)

func TestReady(t *testing.T) {
	if !Ready([]Finding{{Status: OK}, {Status: Warn}}) {
		t.Error("a warning keeps a drill from running")
	}
	if Ready([]Finding{{Status: OK}, {Status: Missing}}) {
		t.Error("something is missing")
	}
}

func TestStateDir(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Status{
		dir:                              OK,
		filepath.Join(dir, "not", "yet"): OK,
		filepath.Join(file, "below"):     Missing,
		file:                             Missing,
	} {
		if got := stateDir(path); got.Status != want || (want == OK) != (got.Mend == "") {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("something was made: %v", entries)
	}
}

func TestPrivileged(t *testing.T) {
	for _, test := range []struct {
		engine kind.Engine
		host   host
		want   Status
	}{
		{kind.Engine{Name: "docker", Version: "20.10.24+dfsg1"}, host{local: true, capabilitiesLimited: true}, Missing},
		{kind.Engine{Name: "docker", Version: "26.1.5+dfsg1"}, host{local: true, capabilitiesLimited: true}, OK},
		{kind.Engine{Name: "docker", Version: "20.10.24"}, host{local: true}, OK},
		{kind.Engine{Name: "docker", Version: "20.10.24"}, host{capabilitiesLimited: true}, OK},
		{kind.Engine{Name: "podman", Version: "5.4.0"}, host{local: true, capabilitiesLimited: true}, OK},
	} {
		if got := privileged(test.engine, test.host); got.Status != test.want {
			t.Errorf("%+v on %+v: %+v", test.engine, test.host, got)
		}
	}
}

func TestCapabilitiesLimited(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tx\nCapBnd:\t000001ffffffffff\n": false,
		"Name:\tx\nCapBnd:\t000001fffeffffff\n": true,
		"Name:\tx\n":                            false,
		"CapBnd:\twhat\n":                       false,
	} {
		if got := capabilitiesLimited(status, "40\n"); got != want {
			t.Errorf("%q: %v", status, got)
		}
	}
	if capabilitiesLimited("CapBnd:\t0\n", "") {
		t.Error("a host that tells nothing of its kernel's capabilities counts as limited")
	}
}

func TestAmounts(t *testing.T) {
	for bytes, want := range map[int64]Status{0: OK, 1 * gib: Missing, 3 * gib: Warn, 16 * gib: OK} {
		got := memory(kind.Engine{MemoryBytes: bytes})
		if got.Status != want || (want == OK) != (got.Mend == "") {
			t.Errorf("%d bytes: %+v", bytes, got)
		}
	}
	e := kind.Engine{Name: "docker", RootDir: "/var/lib/docker"}
	for _, test := range []struct {
		free    int64
		toBuild bool
		want    Status
		says    string
	}{
		{1 * gib, false, Missing, "at least 3 GiB"},
		{3 * gib, false, Warn, "4 GiB"},
		{5 * gib, false, OK, e.RootDir},
		{11 * gib, true, Missing, "11.0 GiB free for /var/lib/docker, and at least 12 GiB are needed to build a node image"},
		{13 * gib, true, OK, e.RootDir},
	} {
		got := disk(e, host{local: true, diskFree: test.free}, test.toBuild)
		if got.Status != test.want || !strings.Contains(got.Detail, test.says) || (test.want == OK) != (got.Mend == "") {
			t.Errorf("%+v: %+v", test, got)
		}
	}
	if got := disk(e, host{}, true); got.Status != OK {
		t.Errorf("on another machine: %+v", got)
	}
}

func TestInotify(t *testing.T) {
	for _, test := range []struct {
		host host
		want Status
	}{
		{host{}, OK},
		{host{local: true, inotifyWatches: 8192, inotifyInstances: 512}, Warn},
		{host{local: true, inotifyWatches: 524288, inotifyInstances: 128}, Warn},
		{host{local: true, inotifyWatches: 524288, inotifyInstances: 512}, OK},
	} {
		if got := inotify(test.host); got.Status != test.want {
			t.Errorf("%+v: %+v", test.host, got)
		}
	}
}

func TestCgroup(t *testing.T) {
	if got := cgroup(kind.Engine{CgroupVersion: 2}); got.Status != OK {
		t.Errorf("%+v", got)
	}
	if got := cgroup(kind.Engine{CgroupVersion: 1}); got.Status != Warn || got.Mend == "" {
		t.Errorf("%+v", got)
	}
}

func TestClusters(t *testing.T) {
	wanted, half, theirs := kind.Info{Name: "lab", Ours: true}, kind.Info{Name: "drill-abcd", Ours: true, Unfinished: true}, kind.Info{Name: "prod"}
	for _, test := range []struct {
		infos []kind.Info
		mend  string
	}{
		{nil, ""},
		{[]kind.Info{theirs}, ""},
		{[]kind.Info{theirs, half}, "drill cluster delete drill-abcd"},
		{[]kind.Info{wanted}, "when no longer wanted: drill cluster delete lab"},
		{[]kind.Info{half, wanted}, "drill cluster delete drill-abcd; when no longer wanted: drill cluster delete lab"},
	} {
		if got := clusters(test.infos); got.Mend != test.mend || (got.Status == OK) != (test.mend == "") {
			t.Errorf("%v: %+v", test.infos, got)
		}
	}
}

func TestNoEngine(t *testing.T) {
	const refused = "docker info: exit status 1: permission denied while trying to connect to the Docker daemon socket; hint: x"
	for err, want := range map[error]string{
		fmt.Errorf("%w (docker is not installed); hint: x", cluster.ErrNoEngine): mendEngine,
		fmt.Errorf("%w (%s)", cluster.ErrNoEngine, refused):                      mendPermission,
		errors.New("interrupted"):                                                "",
	} {
		if got := noEngine(err); got.Status != Missing || got.Mend != want || strings.Contains(got.Detail, "hint") {
			t.Errorf("%v: %+v", err, got)
		}
	}
}

// TestMends holds each to one line that also helps those who have no source tree.
func TestMends(t *testing.T) {
	for _, mend := range []string{mendEngine, mendPrivileged, mendImage, mendBalancer} {
		if !strings.Contains(mend, "(in drill's source tree") || !strings.Contains(mend, ", or ") || strings.Contains(mend, "\n") {
			t.Error(mend)
		}
	}
}

// TestExamineWithoutEngine has no engine on the PATH.
func TestExamineWithoutEngine(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv(kind.ProviderVariable, "")
	findings := Examine(t.Context(), Options{StateDir: t.TempDir()})
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.Name == "engine" })
	if i < 0 || findings[i].Status != Missing || findings[i].Mend != mendEngine || strings.Contains(findings[i].Detail, "hint") {
		t.Errorf("%+v", findings)
	}
	if Ready(findings) {
		t.Error("ready without an engine")
	}
}
