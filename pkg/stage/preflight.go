package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/proof"
)

// Refusal is a reason not to begin a run. It was found before anything was touched.
type Refusal struct {
	// Node is the control plane that it is about; empty where it is about the machine that drill runs on.
	Node string
	// What is wrong in few words, Seen what was found, Want what a run needs and why, and Hint what a person can do about it.
	What, Seen, Want, Hint string
	// Err is what looking ended in, where it did not succeed; then Seen need not be given.
	Err error
}

// Error is one line, unless what a command printed has several.
func (r *Refusal) Error() string {
	where, seen := "this machine", r.Seen
	if r.Node != "" {
		where = "node " + r.Node
	}
	if seen == "" {
		seen = fmt.Sprint(r.Err)
	}
	return fmt.Sprintf("%s: %s: seen: %s; wanted: %s; hint: %s", where, r.What, seen, r.Want, r.Hint)
}

// Unwrap is part of errors.Is and errors.As.
func (r *Refusal) Unwrap() error { return r.Err }

// premises are what a run is going to need besides a sound cluster.
type premises struct {
	// dir is the run's folder on this machine. It exists.
	dir string
	// nodeDir is the run's folder on each node.
	nodeDir string
	// swaps says that data directories are going to be renamed; see procedure.DataDirSwap.
	swaps bool
	// snapshot is the size in bytes of one that was given; 0 where the run takes one, which is as large as the database. typed says that it is needed on the node, too.
	snapshot int64
	typed    bool
}

// home is the folder in which the run makes data directories on a node whose etcd is as given.
func (p premises) home(c controlplane.EtcdConfig) string {
	if p.swaps {
		return swapDir(c.HostDataDir, p.nodeDir)
	}
	return p.nodeDir
}

// vacant are the directories that the run makes in such a folder.
func (p premises) vacant(home string) []string {
	made := []string{dataDir(home), rollbackDir(home)}
	if p.swaps {
		made = append(made, asideDir(home), givenUpDir(home))
	}
	return made
}

const (
	// preflightLimit bounds what one control plane may take to answer all that is asked of it. A node that takes longer could not be
	// told from one that is gone in an outage either.
	preflightLimit = 30 * time.Second
	// walBytes is what a data directory takes on disk besides its database: the restore writes a write-ahead log, whose file is made as long
	// as it may ever become, 64 MB (SegmentSizeBytes in server/storage/wal/wal.go of etcd), and whoever has the log open, the restore and then the
	// etcd that is started on it, keeps a second such file ready for when the first is full (newFilePipeline in file_pipeline.go there).
	walBytes = 2 * 64 * 1000 * 1000
	// inodesWanted is more than the files and folders of two data directories, each with a database, two logs and some snapshots of Raft.
	inodesWanted = 100
)

// What people can do, and where it is written.
const (
	certsPage      = "https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/"
	authorityPage  = "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/"
	kubeletPage    = "https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/troubleshooting-kubeadm/#kubelet-client-cert"
	makeRoom       = "make room there, or mount something larger; `drill runs` lists earlier runs, and `drill clean RUN` removes what one has left under /var/lib/drill and refuses what is in use"
	makeRoomHere   = "make room there, or set XDG_STATE_HOME to a folder on a larger file system, for this and all later calls: earlier runs and clusters are known only in the folder they were begun with"
	stackedOnly    = "drill is for control planes made by kubeadm with their own etcd (https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/ha-topology/)"
	reachNode      = "see that the machine is up and answers; a node of kind is a container, and `docker ps --all` says in which state"
	manageByUnit   = "on the node, `systemctl status kubelet` and `journalctl -u kubelet` say what became of it, and `systemctl enable --now kubelet` starts it"
	enoughForTwo   = "room for the data directory that is restored and for that of a rollback"
	procpsProvides = "see that `ps` is on the node, the one of procps"
)

// preflight reads the manifests of every control plane and finds out whether anything there, or on this machine, speaks against a run. It touches
// nothing: it only reads, with few commands, and asks all control planes at once.
//
// The error joins everything that was found, each a line that names its node; reasons that are of this package are of type *Refusal. A control plane that
// can't be reached, or has no etcd of kubeadm's, is asked nothing else.
func preflight(ctx context.Context, c cluster.Cluster, p premises) ([]controlplane.Member, error) {
	var surveys []*survey
	var wg sync.WaitGroup
	for _, n := range cluster.ControlPlanes(c) {
		s := &survey{node: n, premises: p}
		surveys = append(surveys, s)
		// Not by controlplane.Each, which names a node once for all that is wrong there.
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, preflightLimit)
			defer cancel()
			s.ask(ctx)
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil { // then what nodes did not answer says nothing about them
		return nil, fmt.Errorf("looking at the control planes of cluster %s: %w", c.Name(), err)
	}
	judge(surveys)
	var members []controlplane.Member
	var reasons []error
	for _, s := range surveys {
		reasons = append(reasons, s.reasons...)
		members = append(members, controlplane.Member{Name: s.node.Name(), Node: s.node, Etcd: s.etcd})
	}
	if err := roomHere(p, surveys); err != nil {
		reasons = append(reasons, err)
	}
	switch len(reasons) {
	case 0:
		return members, nil
	case 1:
		return nil, fmt.Errorf("cluster %s can't be drilled as it is, and nothing was touched: %w", c.Name(), reasons[0])
	default:
		return nil, fmt.Errorf("cluster %s can't be drilled as it is, for %d reasons, and nothing was touched:\n%w", c.Name(), len(reasons), errors.Join(reasons...))
	}
}

// survey is what is found out about one control plane.
type survey struct {
	node     cluster.Node
	premises premises

	// etcd and server are what the manifests say; known is false, and hasServer, where they could not be read.
	etcd             controlplane.EtcdConfig
	server           controlplane.APIServerConfig
	known, hasServer bool
	// database is the size of etcd's database file in bytes, and room what is free for the run's folder; 0 and nil where they are not known.
	database int64
	room     *room
	// skew is by how much the node's clock is ahead of this machine's.
	skew time.Duration

	mu      sync.Mutex // for the questions that are asked at the same time
	lost    bool       // that it can't be reached is among the reasons already
	reasons []error
}

func (s *survey) refuse(r Refusal) {
	r.Node = s.node.Name()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reasons = append(s.reasons, &r)
}

// failed notes that a question ended in an error, with what is to be said when the command did run.
func (s *survey) failed(err error, r Refusal) {
	if ran(err) {
		r.Err = err
		s.refuse(r)
		return
	}
	s.unreachable(err)
}

// unreachable notes, once, that commands don't run on the node.
func (s *survey) unreachable(err error) {
	s.mu.Lock()
	again := s.lost
	s.lost = true
	s.mu.Unlock()
	if again {
		return
	}
	s.refuse(Refusal{What: "it can't be reached", Err: err, Want: "a node on which commands run, as they must on every control plane", Hint: reachNode})
}

// ask asks everything there is to ask.
func (s *survey) ask(ctx context.Context) {
	var err error
	if s.etcd, err = controlplane.ReadEtcdConfig(ctx, s.node); err != nil {
		s.noEtcd(ctx, err)
		return
	}
	s.known = true
	s.volume(ctx)
	var kubeconfigs []certificate
	together(
		func() { s.manifests(ctx) },
		func() { s.kubelet(ctx) },
		func() { s.processes(ctx) },
		func() { s.apiServer(ctx) },
		func() { s.probes(ctx) },
		func() { s.targets(ctx) },
		func() { s.size(ctx) },
		func() { s.free(ctx) },
		func() {
			if s.premises.swaps {
				s.swappable(ctx)
			}
		},
		func() { s.clock(ctx) },
		func() { kubeconfigs = s.kubeconfigs(ctx) },
	)
	s.certificates(ctx, kubeconfigs)
	// In the order of their text, since the order in which they were found is by chance.
	slices.SortFunc(s.reasons, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
}

// together calls all of them at once, and returns when all have returned.
func together(questions ...func()) {
	var wg sync.WaitGroup
	for _, q := range questions {
		wg.Go(q)
	}
	wg.Wait()
}

// noEtcd tells a control plane whose etcd isn't as drill needs it, of which the error says enough, from one that can't be reached.
func (s *survey) noEtcd(ctx context.Context, err error) {
	answered := ran(err)
	for _, known := range []error{fs.ErrNotExist, controlplane.ErrNotManifest, controlplane.ErrNotEtcd} {
		answered = answered || errors.Is(err, known)
	}
	if !answered {
		if ctx.Err() != nil {
			s.unreachable(err)
			return
		}
		if _, lost := cluster.Run(ctx, s.node, "true"); lost != nil {
			s.unreachable(lost)
			return
		}
	}
	s.reasons = append(s.reasons, fmt.Errorf("node %s: %w", s.node.Name(), err))
}

// volume makes sure that etcd's data directory can be exchanged without anything else.
func (s *survey) volume(ctx context.Context) {
	manifest := controlplane.ManifestDir + "/etcd.yaml"
	if s.etcd.WALDir != "" {
		s.refuse(Refusal{
			What: "etcd keeps its write-ahead log outside of its data directory",
			Seen: "--wal-dir=" + s.etcd.WALDir,
			Want: "a data directory that holds all that etcd keeps, as kubeadm makes it, since an etcd that is started on restored data must not find the old log",
			Hint: "stop etcd, move the log to " + s.etcd.DataDir + "/member/wal, and remove --wal-dir from " + manifest,
		})
	}
	if s.etcd.User != 0 {
		s.refuse(Refusal{
			What: "etcd does not run as root",
			Seen: fmt.Sprintf("runAsUser: %d", s.etcd.User),
			Want: "root, as with kubeadm, since the directories that drill restores belong to root and are open to nobody else",
			Hint: "remove runAsUser from " + manifest + " for the drill, or rehearse on a cluster without it",
		})
	}
	if s.etcd.DataSubPath == "" {
		s.patchable(ctx, manifest)
		return
	}
	s.refuse(Refusal{
		What: "etcd's data directory is no volume of its own",
		Seen: fmt.Sprintf("it is %s below its volume %s", s.etcd.DataSubPath, s.etcd.DataVolume),
		Want: "a volume that is the data directory, as kubeadm makes it, since what is exchanged is the volume",
		Hint: "let hostPath and mountPath of volume " + s.etcd.DataVolume + " in " + manifest + " be the data directory itself",
	})
}

// patchable makes sure that the path of etcd's data directory can be changed in its manifest, and nothing with it, before anything is destroyed. Where the manifest stays as it is, it needn't be.
func (s *survey) patchable(ctx context.Context, file string) {
	if s.premises.swaps {
		return
	}
	manifest, err := s.node.ReadFile(ctx, file)
	switch {
	case err == nil:
		_, err = controlplane.PatchHostPath(manifest, s.etcd.DataVolume, dataDir(s.premises.nodeDir))
	case !ran(err) && !errors.Is(err, fs.ErrNotExist):
		s.unreachable(err)
		return
	}
	if err != nil {
		s.refuse(Refusal{
			What: "the path of etcd's data directory can't be changed in its manifest", Err: err, Want: "a path that stands in the manifest on a line of its own, as kubeadm writes it",
			Hint: "write hostPath of volume " + s.etcd.DataVolume + " in " + file + " without an anchor, alias or tag, or let the manifest be with --data-dir-mode swap",
		})
	}
}

// manifests makes sure that kubelet can start what it is to start: with two files that make one pod it may start neither.
func (s *survey) manifests(ctx context.Context) {
	r := Refusal{
		What: "files in the folder of the manifests are in each other's way",
		Want: "one file for each static pod, since kubelet runs every file there whose name doesn't begin with a dot, backups too",
		Hint: "move what doesn't belong there out of " + controlplane.ManifestDir,
	}
	files, err := controlplane.ManifestFiles(ctx, s.node)
	if err != nil {
		r.What = "which manifests kubelet runs can't be told"
		s.failed(err, r)
		return
	}
	if conflicts := proof.ManifestConflicts(s.node.Name(), files); len(conflicts) > 0 {
		var seen []string
		for _, c := range conflicts {
			seen = append(seen, c.String())
		}
		r.Seen = strings.Join(seen, ", ")
		s.refuse(r)
	}
}

// kubelet makes sure that the procedures can stop kubelet and start it again.
func (s *survey) kubelet(ctx context.Context) {
	r := Refusal{
		What: "kubelet does not run as a unit of systemd",
		Want: "a unit kubelet that is loaded and active, since it is stopped and started by systemctl",
		Hint: manageByUnit,
	}
	unit, err := controlplane.KubeletUnitOf(ctx, s.node)
	if err != nil {
		r.Hint = "drill needs nodes that are run by systemd, as kubeadm's packages expect"
		s.failed(err, r)
		return
	}
	if unit.Load != "loaded" || unit.Active != "active" {
		r.Seen = fmt.Sprintf("LoadState=%s, ActiveState=%s (%s)", unit.Load, unit.Active, unit.Sub)
		s.refuse(r)
	}
}

// podCgroup is part of the name of every pod's control group: kubelet puts all pods below a group of this name (defaultNodeAllocatableCgroupName in
// pkg/kubelet/cm of Kubernetes), whatever is above it.
const podCgroup = "kubepods"

// processes makes sure that no etcd runs besides those in pods: one that something else runs would go on when the static pod is stopped, or come back.
func (s *survey) processes(ctx context.Context) {
	out, err := cluster.Run(ctx, s.node, "ps", "-ww", "-C", controlplane.Etcd, "-o", "pid=", "-o", "stat=", "-o", "cgroup=")
	var exit *cluster.ExitError
	if errors.As(err, &exit) && exit.Code == 1 && strings.TrimSpace(exit.Output) == "" {
		return // none at all: whether etcd answers is asked elsewhere
	}
	if err != nil {
		s.failed(err, Refusal{What: "its processes can't be listed", Want: "a list of the processes named etcd", Hint: procpsProvides})
		return
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		// A process that has ended and was not yet waited for has no group any more.
		if len(f) < 3 || strings.HasPrefix(f[1], "Z") || strings.Contains(f[2], podCgroup) {
			continue
		}
		s.refuse(Refusal{
			What: "an etcd runs there that is no static pod's",
			Seen: fmt.Sprintf("process %s in control group %s", f[0], group(f[2])),
			Want: "no etcd but the one that kubelet runs, since that one is stopped, and started on other data",
			Hint: fmt.Sprintf("`systemctl status %s` on the node says what runs it; if it is the cluster's etcd, %s; if it is not, stop it for the drill", f[0], stackedOnly),
		})
	}
}

// group is the control group of a process by which systemd manages it, out of its groups as ps prints them: HIERARCHY:CONTROLLERS:PATH joined by commas, a single
// one with version 2, and else one for each controller (cgroups(7)).
func group(groups string) string {
	for g := range strings.SplitSeq(groups, ",") {
		if f := strings.SplitN(g, ":", 3); len(f) == 3 && f[1] == "name=systemd" {
			return f[2]
		}
	}
	return strings.TrimPrefix(groups, "0::")
}

// apiServer reads what the API server's manifest says.
func (s *survey) apiServer(ctx context.Context) {
	var err error
	if s.server, err = controlplane.ReadAPIServerConfig(ctx, s.node); err == nil {
		s.hasServer = true
		return
	}
	r := Refusal{
		What: "what its API server needs is not known", Err: err, Want: "an API server that is a static pod, as kubeadm makes it",
		Hint: "put its manifest back if it was moved away, or write it anew with `kubeadm init phase control-plane apiserver`",
	}
	if ran(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, controlplane.ErrNotManifest) || errors.Is(err, controlplane.ErrNotAPIServer) {
		s.refuse(r)
		return
	}
	s.unreachable(err)
}

// probes makes sure that of each component it can be told whether it is ready: what was taken down is waited for. What else is wrong with the API server's manifest is told already.
func (s *survey) probes(ctx context.Context) {
	for _, component := range controlplane.Components() {
		file := controlplane.ManifestDir + "/" + component + ".yaml"
		phase := "control-plane " + strings.TrimPrefix(component, "kube-")
		if component == controlplane.Etcd {
			phase = "etcd local"
		}
		manifest, err := s.node.ReadFile(ctx, file)
		if component == controlplane.APIServer {
			if err != nil {
				continue
			}
			if _, err := controlplane.ParseAPIServerManifest(manifest); err != nil {
				continue
			}
		}
		switch {
		case err == nil:
			_, err = controlplane.ReadyURL(manifest, component)
		case !ran(err) && !errors.Is(err, fs.ErrNotExist):
			s.unreachable(err)
			return
		}
		if err != nil {
			s.refuse(Refusal{
				What: "whether its " + component + " is ready can't be told", Err: err, Want: "a manifest with a probe over HTTP, as kubeadm writes it: what was taken down is waited for",
				Hint: "compare " + file + " with what `kubeadm init phase " + phase + " --dry-run` writes",
			})
		}
	}
}

// targets makes sure that what the run makes doesn't exist.
func (s *survey) targets(ctx context.Context) {
	for _, dir := range s.premises.vacant(s.premises.home(s.etcd)) {
		err := cluster.Absent(ctx, s.node, dir)
		r := Refusal{
			What: "a directory is there already that the run makes", Seen: dir, Want: "no such file or folder: nothing is ever overwritten",
			Hint: "a run's directories carry its name; begin a new run, which gets a name of its own, or move " + dir + " away if no etcd runs on it",
		}
		switch {
		case errors.Is(err, cluster.ErrOccupied):
			r.Err = err
			s.refuse(r)
		case err != nil:
			r.What, r.Seen = "whether a directory is there that the run makes can't be told", ""
			s.failed(err, r)
		}
	}
}

// size finds out how large the database is. It asks the file and not etcd, which may not answer when something else is wrong; the file is by at most 16 MiB
// larger than what etcd says, since bbolt makes it longer in steps of that size (DefaultAllocSize in go.etcd.io/bbolt).
func (s *survey) size(ctx context.Context) {
	r := Refusal{
		What: "the size of etcd's database can't be told", Want: "etcd's database where its manifest says that the data is",
		Hint: "compare --data-dir and the volumes of " + controlplane.ManifestDir + "/etcd.yaml with what the running etcd uses (`crictl inspect`)",
	}
	var err error
	switch s.database, err = databaseSize(ctx, s.node, s.etcd.HostDataDir); {
	case errors.Is(err, errNoSize):
		r.Err = err
		s.refuse(r)
	case err != nil:
		s.failed(err, r)
	}
}

var errNoSize = errors.New("no number of bytes above 0")

// databaseSize is that of the database in an etcd's data directory, in bytes. An answer that can't be used wraps errNoSize.
func databaseSize(ctx context.Context, n cluster.Node, dataDir string) (int64, error) {
	file := dataDir + "/member/snap/db"
	out, err := cluster.Run(ctx, n, "stat", "--format=%s", "--", file)
	if err != nil {
		return 0, err
	}
	size, err := strconv.ParseInt(out, 10, 64)
	if err != nil || size <= 0 {
		return 0, fmt.Errorf("stat says %q for the size of %s: %w", out, file, errNoSize)
	}
	return size, nil
}

// room is what is free on a file system.
type room struct {
	// on is where it is mounted, or a folder on it.
	on string
	// bytes and inodes are how many are free; inodes is -1 where the file system has no fixed number of them, or doesn't say.
	bytes, inodes int64
}

// short says what is wrong with it for somebody who needs so many bytes; "" when nothing is.
func (r room) short(bytes int64) string {
	switch {
	case r.bytes < bytes:
		return fmt.Sprintf("%s free on %s", mebibytes(r.bytes), r.on)
	case r.inodes >= 0 && r.inodes < inodesWanted:
		return fmt.Sprintf("%d inodes free on %s", r.inodes, r.on)
	default:
		return ""
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

// free finds out what is free where the run's folder will be.
func (s *survey) free(ctx context.Context) {
	// Those of the folders that exist get a line, and the deepest of them is on the file system that counts.
	argv := []string{"df", "--block-size=1", "--output=file,avail,iavail,itotal,target", "--"}
	for dir := s.premises.home(s.etcd); ; dir = path.Dir(dir) {
		argv = append(argv, dir)
		if dir == "/" {
			break
		}
	}
	var out bytes.Buffer
	_, err := s.node.Exec(ctx, cluster.Cmd{Argv: argv, Stdout: &out}) // streamed: it ends with status 1 where a folder doesn't exist
	s.room = deepest(out.String())
	if s.room != nil && (err == nil || ran(err)) {
		return
	}
	r := Refusal{What: "what is free on its disk can't be told", Want: enoughForTwo, Hint: "see what `df /var/lib` says on the node"}
	if err == nil {
		r.Seen = fmt.Sprintf("df says %q", out.String())
		s.refuse(r)
		return
	}
	s.room = nil
	s.failed(err, r)
}

// deepest reads what df printed and returns the room of the folder with the longest name; nil when there is none.
func deepest(out string) *room {
	var best *room
	longest := 0
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 5 || !path.IsAbs(f[0]) || len(f[0]) <= longest { // the title, or a parent
			continue
		}
		free, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			continue
		}
		longest, best = len(f[0]), &room{on: strings.Join(f[4:], " "), bytes: free, inodes: inodesOf(f[2], f[3])}
	}
	return best
}

// inodesOf is how many inodes are free; -1 where the file system makes them as they are needed, and so has a total of 0, or doesn't say.
func inodesOf(free, total string) int64 {
	n, err := strconv.ParseInt(free, 10, 64)
	if err != nil || total == "0" || total == "-" {
		return -1
	}
	return n
}

// clock finds out how far the node's clock is from this machine's.
func (s *survey) clock(ctx context.Context) {
	r := Refusal{What: "its clock can't be read", Want: "the time, to tell whether certificates are valid", Hint: "see what `date` says on the node"}
	out, err := cluster.Run(ctx, s.node, "date", "--utc", "+%Y-%m-%dT%H:%M:%SZ")
	if err != nil {
		s.failed(err, r)
		return
	}
	at, err := time.Parse(time.RFC3339, out)
	if err != nil {
		r.Err = err
		s.refuse(r)
		return
	}
	s.skew = time.Until(at)
}

// judge adds what can only be said when all control planes have answered.
func judge(surveys []*survey) {
	var members []controlplane.Member
	var largest int64
	for _, s := range surveys {
		if s.known {
			members = append(members, controlplane.Member{Name: s.node.Name(), Node: s.node, Etcd: s.etcd})
		}
		largest = max(largest, s.database)
	}
	if surveys[0].premises.swaps {
		sameDataDir(surveys)
	}
	for _, s := range surveys {
		// Where one manifest is missing, an API server may be served by that one's etcd.
		if s.hasServer && len(members) == len(surveys) {
			s.storesHere(members)
		}
		if largest > 0 && s.room != nil {
			s.hasRoom(largest)
		}
	}
}

// storesHere makes sure that the API server stores in an etcd which a run restores.
func (s *survey) storesHere(members []controlplane.Member) {
	var served []string
	for _, m := range members {
		for _, server := range s.server.EtcdServers {
			if serves(m, server, m.Name == s.node.Name()) {
				return
			}
		}
		served = append(served, m.Etcd.AdvertiseClientURLs...)
	}
	s.refuse(Refusal{
		What: "its API server stores in another etcd",
		Seen: fmt.Sprintf("--etcd-servers=%s in %s/%s.yaml, and the static pods of etcd serve %s",
			strings.Join(s.server.EtcdServers, ","), controlplane.ManifestDir, controlplane.APIServer, strings.Join(served, ",")),
		Want: "an API server that stores in the etcd of a control plane, since no other is restored",
		Hint: stackedOnly,
	})
}

// serves says whether the member answers at the URL, as seen from a control plane, which may be its own: only from there its loopback addresses lead to it.
func serves(m controlplane.Member, server string, own bool) bool {
	want, err := url.Parse(server)
	if err != nil {
		return false
	}
	for _, listed := range slices.Concat(m.Etcd.ListenClientURLs, m.Etcd.AdvertiseClientURLs) {
		u, err := url.Parse(listed)
		if err != nil || u.Port() != want.Port() {
			continue
		}
		host, at := want.Hostname(), net.ParseIP(u.Hostname())
		switch {
		case loopback(host):
			if own && (loopback(u.Hostname()) || at.IsUnspecified()) {
				return true
			}
		case host == u.Hostname(), host == m.Name, at.IsUnspecified() && host == m.Node.Address():
			return true
		}
	}
	return false
}

func loopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// hasRoom makes sure that two data directories find room on the node: what is restored, and that of a rollback, with a database of so many bytes. A snapshot that was given decides how
// large the first is.
func (s *survey) hasRoom(database int64) {
	restored, of := database, "a database of "+mebibytes(database)
	if given := s.premises.snapshot; given > 0 {
		restored, of = given, of+", a snapshot of "+mebibytes(given)
	}
	need := restored + database + 2*walBytes
	if s.premises.typed { // what is typed restores from a snapshot on the node
		need += restored
	}
	if short := s.room.short(need); short != "" {
		s.refuse(Refusal{
			What: "its disk is too full", Seen: short, Hint: makeRoom,
			Want: fmt.Sprintf("%s and %d inodes, %s (%s)", mebibytes(need), inodesWanted, enoughForTwo, of),
		})
	}
}

// roomHere makes sure that what a run keeps on this machine finds room: the snapshot and, in a rollback, the database of every control plane and the
// directory that is restored for each.
func roomHere(p premises, surveys []*survey) error {
	var largest int64
	for _, s := range surveys {
		largest = max(largest, s.database)
	}
	n, snapshot := int64(len(surveys)), largest
	if p.snapshot > 0 {
		snapshot = p.snapshot
	}
	need := snapshot + n*(largest+max(largest, snapshot)+walBytes)
	r := &Refusal{
		What: "its disk is too full",
		Want: fmt.Sprintf("%s and %d inodes, room for the snapshot and for what is restored for %d control planes (a database of %s)",
			mebibytes(need), inodesWanted, n, mebibytes(largest)),
		Hint: makeRoomHere,
	}
	here, err := roomOf(p.dir)
	switch {
	case errors.Is(err, errors.ErrUnsupported) || largest == 0:
		return nil
	case err != nil:
		r.What, r.Err = "what is free on its disk can't be told", err
		return r
	}
	if r.Seen = here.short(need); r.Seen == "" {
		return nil
	}
	return r
}
