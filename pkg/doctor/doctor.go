// Package doctor finds out what a host lacks for a drill on a cluster of kind, and names the command that mends it. It
// changes nothing.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
)

// Status is the answer of one examination.
type Status string

// The statuses.
const (
	// OK: as it should be, or of no concern here.
	OK Status = "ok"
	// Warn: a drill runs, but something is to be known or will get in the way of some drills.
	Warn Status = "warn"
	// Missing: no drill runs until it is mended.
	Missing Status = "missing"
)

// Finding is what one examination found.
type Finding struct {
	// Name says what was looked at: lower case words joined by "-".
	Name string `json:"name"`
	// Status is the answer.
	Status Status `json:"status"`
	// Detail is one line for a person.
	Detail string `json:"detail"`
	// Mend is what mends it, in one line: a command, or failing that a deed. Where drill's source tree has a command for it,
	// that comes first, and then what to do without that tree. Empty where there is nothing to mend.
	Mend string `json:"mend,omitempty"`
}

// Ready says whether a drill can run: nothing is missing.
func Ready(findings []Finding) bool {
	for _, f := range findings {
		if f.Status == Missing {
			return false
		}
	}
	return true
}

// Options say what to examine.
type Options struct {
	// StateDir is where drill keeps what it must remember.
	StateDir string
}

// What a host needs. A node of kind takes about 1 GB of memory with a small workload, and as much on disk next to its image.
const (
	gib           = 1 << 30
	memoryMinimum = 2 * gib // kubeadm's own minimum for a control plane is 1700 MB
	memoryWanted  = 4 * gib // three control planes
	diskMinimum   = 3 * gib
	diskWanted    = 4 * gib  // three control planes
	diskToBuild   = 12 * gib // building the node image, with all that comes in between

	// With less, the pods of several nodes run out of them and fail with "too many open files"
	// (https://kind.sigs.k8s.io/docs/user/known-issues/#pod-errors-due-to-too-many-open-files).
	inotifyWatchesWanted   = 524288
	inotifyInstancesWanted = 512

	// privilegedCopes is the first Docker Engine seen to leave out of --privileged those capabilities that the host itself
	// doesn't have. 20.10 asks for all, and the container doesn't start ("unable to apply caps").
	privilegedCopes = 26
)

const (
	mendEngine     = "hack/engine/up (in drill's source tree), or install and start Docker Engine, nerdctl or Podman"
	mendPermission = "sudo usermod -aG docker $USER, and log in anew; or run drill with sudo"
	mendPrivileged = "stop that daemon and hack/engine/up (in drill's source tree, on Debian 12), or install Docker Engine 26 or later"
	mendImage      = "make node-image (in drill's source tree), or set " + kind.ImageVariable + " to a node image of kind's that can be had"
	mendBalancer   = "make node-image (in drill's source tree), or have the engine pull " + kind.LoadBalancerImage
)

// Examine looks at everything and returns one finding each, in a fixed order. What can't be examined, since something else is
// missing, is left out.
func Examine(ctx context.Context, o Options) []Finding {
	findings := []Finding{stateDir(o.StateDir)}
	provider, err := kind.New(ctx, kind.Options{StateDir: o.StateDir})
	if err != nil {
		return append(findings, noEngine(err))
	}
	e := provider.Engine()
	host := hostOf(e)
	image := nodeImage(ctx, provider)
	findings = append(findings,
		Finding{Name: "engine", Status: OK, Detail: e.Name + " " + e.Version},
		privileged(e, host),
		cgroup(e),
		image,
		loadBalancerImage(ctx, provider),
		memory(e),
		disk(e, host, image.Status == Missing),
		inotify(host),
		leftovers(ctx, provider),
	)
	return findings
}

func noEngine(err error) Finding {
	f := Finding{Name: "engine", Status: Missing, Detail: withoutHint(err)}
	switch {
	case !errors.Is(err, cluster.ErrNoEngine):
	case strings.Contains(strings.ToLower(f.Detail), "permission denied"):
		f.Mend = mendPermission // an engine is there, and its socket is closed to this user
	default:
		f.Mend = mendEngine
	}
	return f
}

// withoutHint is what an error says but for its advice, which Mend gives here.
func withoutHint(err error) string {
	detail, _, _ := strings.Cut(err.Error(), "; hint: ")
	return detail
}

// stateDir finds out whether the state directory, or the first parent of it that exists, can be written to.
func stateDir(dir string) Finding {
	f := Finding{Name: "state-dir", Status: OK, Detail: dir}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			continue
		case err == nil && !info.IsDir():
			err = errors.New("it is not a folder")
		case err == nil:
			err = writable(at)
		}
		if err != nil {
			f.Status = Missing
			f.Detail = fmt.Sprintf("%s can't be written to: %s: %v", dir, at, err)
			f.Mend = "set XDG_STATE_HOME to a folder of your own"
		} else if at != dir {
			f.Detail += " (will be created)"
		}
		return f
	}
}

// privileged recognises an engine that can't start privileged containers, as nodes are, without starting one.
func privileged(e kind.Engine, h host) Finding {
	f := Finding{Name: "privileged", Status: OK, Detail: "nothing known to keep nodes from starting"}
	switch {
	case !h.local:
		f.Detail = "not looked at: the engine runs on another machine"
	case !h.capabilitiesLimited:
	case e.Name == "docker" && major(e.Version) < privilegedCopes:
		f.Status, f.Mend = Missing, mendPrivileged
		f.Detail = fmt.Sprintf("this host's capabilities are limited, and docker %s asks for all of them: privileged containers won't start; "+
			"Docker Engine %d copes", e.Version, privilegedCopes)
	default:
		f.Detail = "this host's capabilities are limited, which " + e.Name + " " + e.Version + " copes with"
	}
	return f
}

// major is the first number of a version, or 0.
func major(s string) uint {
	v, err := version.ParseGeneric(s)
	if err != nil {
		return 0
	}
	return v.Major()
}

func cgroup(e kind.Engine) Finding {
	if e.CgroupVersion == 2 {
		return Finding{Name: "cgroup", Status: OK, Detail: "version 2"}
	}
	return Finding{
		Name: "cgroup", Status: Warn,
		Detail: "version 1, which Kubernetes is giving up: drill has kubelet start all the same; creating a cluster may fail now and " +
			"then with kind's own node image, and does not with one built here",
		Mend: "boot the engine's machine with systemd.unified_cgroup_hierarchy=1",
	}
}

func nodeImage(ctx context.Context, p *kind.Provider) Finding {
	image, err := p.ResolveImage(ctx, "")
	if err != nil {
		return Finding{Name: "node-image", Status: Missing, Detail: withoutHint(err), Mend: mendImage}
	}
	f := Finding{Name: "node-image", Status: OK, Detail: image}
	if !p.HasImage(ctx, image) {
		f.Detail += " (will be pulled)"
	}
	return f
}

func loadBalancerImage(ctx context.Context, p *kind.Provider) Finding {
	f := Finding{Name: "load-balancer-image", Status: OK, Detail: kind.LoadBalancerImage}
	if !p.HasImage(ctx, kind.LoadBalancerImage) {
		f.Status, f.Mend = Warn, mendBalancer
		f.Detail += " is not here: three control planes need it, and it will have to be pulled"
	}
	return f
}

func memory(e kind.Engine) Finding {
	f := amount("memory", "", e.MemoryBytes, memoryMinimum, memoryWanted)
	if f.Status != OK {
		f.Mend = "give the engine's machine more memory"
	}
	return f
}

// disk looks at the room that the engine has left; toBuild says that a node image will have to be built in it.
func disk(e kind.Engine, h host, toBuild bool) Finding {
	if !h.local {
		return Finding{Name: "disk", Status: OK, Detail: "not looked at: the engine runs on another machine"}
	}
	minimum, wanted := int64(diskMinimum), int64(diskWanted)
	if toBuild {
		minimum, wanted = diskToBuild, diskToBuild
	}
	f := amount("disk", " free for "+e.RootDir, h.diskFree, minimum, wanted)
	if f.Status == Missing && toBuild {
		f.Detail += " to build a node image"
	}
	if f.Status != OK {
		f.Mend = e.Name + " system prune"
	}
	return f
}

// amount compares what there is, in bytes, to what there must and should be; 0 means that it isn't known.
func amount(name, of string, have, minimum, wanted int64) Finding {
	f := Finding{Name: name, Status: OK, Detail: fmt.Sprintf("%.1f GiB%s", float64(have)/gib, of)}
	switch {
	case have <= 0:
		f.Detail = "not known"
	case have < minimum:
		f.Status = Missing
		f.Detail += fmt.Sprintf(", and at least %d GiB are needed", minimum/gib)
	case have < wanted:
		f.Status = Warn
		f.Detail += fmt.Sprintf(", and %d GiB are wanted for three control planes", wanted/gib)
	}
	return f
}

func inotify(h host) Finding {
	f := Finding{Name: "inotify", Status: OK}
	switch {
	case !h.local || h.inotifyWatches == 0:
		f.Detail = "not looked at: the engine runs on another machine"
		return f
	case h.inotifyWatches < inotifyWatchesWanted || h.inotifyInstances < inotifyInstancesWanted:
		f.Status = Warn
		f.Mend = fmt.Sprintf("sysctl fs.inotify.max_user_watches=%d fs.inotify.max_user_instances=%d",
			inotifyWatchesWanted, inotifyInstancesWanted)
	}
	f.Detail = fmt.Sprintf("%d watches and %d instances a user", h.inotifyWatches, h.inotifyInstances)
	if f.Status == Warn {
		f.Detail += "; several nodes may run out of them (\"too many open files\")"
	}
	return f
}

func leftovers(ctx context.Context, p *kind.Provider) Finding {
	infos, err := p.List(ctx)
	if err != nil {
		return Finding{Name: "clusters", Status: Warn, Detail: err.Error()}
	}
	return clusters(infos)
}

// clusters names those that drill made. Only somebody who knows can say which of them are still wanted.
func clusters(infos []kind.Info) Finding {
	f := Finding{Name: "clusters", Status: OK, Detail: "none left over"}
	var ours, whole, unfinished []string
	for _, i := range infos {
		switch {
		case !i.Ours:
		case i.Unfinished:
			ours, unfinished = append(ours, i.Name+" (unfinished)"), append(unfinished, i.Name)
		default:
			ours, whole = append(ours, i.Name), append(whole, i.Name)
		}
	}
	if len(ours) == 0 {
		return f
	}
	f.Status, f.Detail = Warn, "made by drill and still there: "+strings.Join(ours, ", ")
	var mends []string
	if len(unfinished) > 0 {
		mends = append(mends, "drill cluster delete "+strings.Join(unfinished, " "))
	}
	if len(whole) > 0 {
		mends = append(mends, "when no longer wanted: drill cluster delete "+strings.Join(whole, " "))
	}
	f.Mend = strings.Join(mends, "; ")
	return f
}

// host is what is known about the machine on which the engine runs. Nothing is, unless it is this one.
type host struct {
	local               bool
	capabilitiesLimited bool
	diskFree            int64 // where the engine stores, in bytes
	inotifyWatches      int64
	inotifyInstances    int64
}

// hostOf looks at this machine if the engine runs on it.
func hostOf(e kind.Engine) host {
	name, err := os.Hostname()
	if err != nil || e.Hostname != name || e.RootDir == "" {
		return host{}
	}
	h := host{
		local:               true,
		capabilitiesLimited: capabilitiesLimited(readProc("self/status"), readProc("sys/kernel/cap_last_cap")),
		inotifyWatches:      number(readProc("sys/fs/inotify/max_user_watches")),
		inotifyInstances:    number(readProc("sys/fs/inotify/max_user_instances")),
	}
	// The folder itself may be closed to this user; its parents are on the same file system more often than not.
	for dir := e.RootDir; ; dir = filepath.Dir(dir) {
		if free, err := freeBytes(dir); err == nil {
			h.diskFree = free
			break
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return h
}

func readProc(name string) string {
	b, _ := os.ReadFile(filepath.Join("/proc", name)) // what isn't there isn't known
	return string(b)
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	return n
}

// capabilitiesLimited says whether the bounding set of a process, in the form of proc_pid_status(5), lacks a capability that
// the kernel knows.
func capabilitiesLimited(status, last string) bool {
	if strings.TrimSpace(last) == "" {
		return false
	}
	for line := range strings.Lines(status) {
		if hex, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err == nil && set != 1<<(number(last)+1)-1
		}
	}
	return false
}
