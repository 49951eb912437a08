package stage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/client-go/discovery"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/probe"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
)

// Options are what a caller decides.
type Options struct {
	// RunID is the run's name; it becomes part of paths on the nodes.
	RunID string
	// Dir is the run's own folder on this machine, mode 0700. The snapshot is kept there.
	Dir string
	// Worker is how etcd's own code is run in a child process.
	Worker etcd.Worker
	// BumpRevision overrides the procedure's choice: nil leaves it, 0 restores without raising the revision.
	BumpRevision *uint64
	// KeepRunning and Renew vary what the procedure begins anew; see procedure.Procedure.Check.
	KeepRunning, Renew []string
	// Image overrides the workload's image.
	Image string
	// LateWrites is how many objects are made between the snapshot and the break; see Stage.LateWrites.
	LateWrites int
	// Snapshot is one that is restored in place of one that the run takes; nil where it takes one.
	Snapshot *Snapshot
	// Literal says that commands are typed, so that a snapshot which was given is needed on the node, too.
	Literal bool
	// Transcript returns what the run has reported so far, as it will be written.
	Transcript func() ([]byte, error)
}

// Stage is a cluster on which a scenario can be played.
type Stage struct {
	// Subject is what the checks look at; the steps fill it in.
	Subject proof.Subject
	// Target is what the procedure restores.
	Target procedure.Target
	// Info describes the cluster in reports.
	Info plan.ClusterInfo

	opt      Options
	endpoint etcd.Endpoint
	service  serviceAddress
	probe    *probe.Probe
	before   before
	// ended says, once the outage is about to begin, what of that which was to live on did not; nil where nothing was to. See procedure.Target.NoteKept.
	ended func(ctx context.Context) ([]string, error)
	// vacated says that nothing had the names that the run uses when it began: what has them now is the run's.
	vacated bool
	// recalled says that another process began the run: what a step is to make may be there already, or a part of it.
	recalled bool
	written  written
	// given is what is known of a snapshot that was given; nil where the run takes one.
	given *given
	// third are the inodes of the directories that a rollback has made, by node, where it is not by their path that they are known: see backInPlace.
	third map[string]uint64
}

// before is what was there before the outage.
type before struct {
	// holders says who held each Lease of kube-system before the break.
	holders map[string]string
}

// Workload of every scenario: the tutorials' nginx.
const (
	workloadName      = "nginx"
	workloadNamespace = "default"
	workloadPort      = 80
	workloadReplicas  = 2
	// fallbackImage is used where the nodes hold no nginx image. It is not ":latest", because the image of such a tag is asked of the
	// registry at every start of a container: then a recovery depends on the registry too.
	fallbackImage = "nginx:stable"
)

// Set finds out everything about a cluster that a scenario needs, and touches nothing. Where something speaks against a run, the error tells all of it; see
// Refusal.
func Set(ctx context.Context, c cluster.Cluster, p procedure.Procedure, o Options) (*Stage, error) {
	if err := p.Check(o.KeepRunning, o.Renew); err != nil {
		return nil, err
	}
	on := dirOnNodes(o.RunID)
	snapshot, unsound := o.checkGiven(ctx)
	wants := premises{dir: o.Dir, nodeDir: on, swaps: p.DataDirMode() == procedure.DataDirSwap, typed: o.Literal}
	if snapshot != nil {
		wants.snapshot = snapshot.Info.Bytes
	}
	members, err := preflight(ctx, c, wants)
	if err := errors.Join(unsound, err); err != nil {
		return nil, err
	}
	servers, err := proof.Servers(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Stage{opt: o, given: snapshot}
	s.Subject = proof.Subject{Cluster: c, Members: members, Servers: servers, Worker: o.Worker, RunDir: o.Dir, Transcript: o.Transcript}
	for _, m := range members {
		e, err := endpointOf(ctx, m)
		if err != nil {
			return nil, err
		}
		s.Subject.Endpoints = append(s.Subject.Endpoints, e)
	}
	s.endpoint = s.Subject.Endpoints[0]
	if s.Info, err = s.describe(ctx); err != nil {
		return nil, err
	}
	image := o.Image
	if image == "" {
		image = localImage(ctx, members[0].Node)
	}
	s.cast(members, p, image, on)
	if s.given != nil {
		if err := s.suitsCluster(ctx, p); err != nil {
			return nil, err
		}
		s.takeOver()
	}
	return s, nil
}

// NodeDirs is the folder on each node in which runs have theirs.
const NodeDirs = "/var/lib/drill"

// dirOnNodes is the run's folder on each node.
func dirOnNodes(id string) string { return NodeDirs + "/" + id }

// Textbook is a stage for a lesson: it is never played, and has the file names that tutorials use. Its control plane is one as kubeadm sets
// it up on a node of that name. An empty image means one from the usual registry.
func Textbook(node string, p procedure.Procedure, image string) *Stage {
	return TextbookOf([]string{node}, p, image)
}

// TextbookOf is Textbook for as many control planes as there are names.
func TextbookOf(nodes []string, p procedure.Procedure, image string) *Stage {
	if image == "" {
		image = fallbackImage
	}
	var members []controlplane.Member
	for i, node := range nodes {
		members = append(members, controlplane.Member{Name: node, Etcd: textbookEtcd(node, i)})
	}
	return lesson(members, p, image, "")
}

// maxLessons is how often a lesson can be followed on one cluster, each time into directories of its own.
const maxLessons = 99

// Lesson is like Textbook, with what is true of a cluster that is there. It is only read.
func Lesson(ctx context.Context, c cluster.Cluster, p procedure.Procedure) (*Stage, error) {
	members, err := controlplane.Members(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: reading the etcd manifests: %w", c.Name(), err)
	}
	if len(members) != 1 {
		return nil, fmt.Errorf("cluster %s has %d control planes, and the lesson is for one", c.Name(), len(members))
	}
	node := members[0].Node
	for i := 1; i <= maxLessons; i++ {
		suffix := ""
		if i > 1 {
			suffix = "-" + strconv.Itoa(i)
		}
		s := lesson(members, p, localImage(ctx, node), suffix)
		err = nil
		for _, dir := range s.made() {
			err = errors.Join(err, cluster.Absent(ctx, node, dir))
		}
		if err == nil {
			return s, nil
		}
	}
	return nil, err
}

// lesson is a stage with the file names that tutorials use; the suffix keeps the directories of several lessons on one cluster apart.
func lesson(members []controlplane.Member, p procedure.Procedure, image, suffix string) *Stage {
	s := &Stage{}
	s.Subject = proof.Subject{Members: members}
	s.Info = plan.ClusterInfo{Name: strings.TrimSuffix(members[0].Name, "-control-plane"), Nodes: 1}
	s.cast(members, p, image, NodeDirs)
	s.Target.DataDir = "/var/lib/etcd-from-backup" + suffix
	s.Target.RollbackDir = "/var/lib/etcd-rolled-back" + suffix
	s.Target.NodeSnapshot = "/tmp/etcd-backup" + suffix + ".db"
	s.Target.Token = ""
	s.Subject.NodeSnapshot = s.Target.NodeSnapshot
	if s.Subject.Swap == nil {
		s.Subject.DataDir = s.Target.DataDir
		return s
	}
	s.Target.AsideDir = "/var/lib/etcd-before-restore" + suffix
	s.Target.GivenUpDir = "/var/lib/etcd-given-up" + suffix
	s.Subject.Swap.Aside = s.Target.AsideDir
	return s
}

// cast decides names and paths. nodeDir is the run's folder on each node.
func (s *Stage) cast(members []controlplane.Member, p procedure.Procedure, image, nodeDir string) {
	s.Subject.Workload = proof.Workload{Namespace: workloadNamespace, Name: workloadName, Image: image, Port: workloadPort}
	s.Subject.NodeDir, s.Subject.DataDir = nodeDir, dataDir(nodeDir)
	s.Subject.Own = []plan.Object{{APIVersion: "v1", Kind: "ConfigMap", Namespace: workloadNamespace, Name: probeConfigMapName}}
	s.Target = procedure.Target{
		Members:      members,
		DataDir:      s.Subject.DataDir,
		StateDir:     nodeDir,
		NodeSnapshot: nodeDir + "/snapshot.db",
		Mode:         p.DataDirMode(),
		Token:        "drill-" + s.opt.RunID,
		BumpRevision: s.opt.bump(p),
		KeepRunning:  s.opt.KeepRunning,
		Renew:        s.opt.Renew,
		RollbackDir:  rollbackDir(nodeDir),
		RollbackBump: s.opt.bump(p) + etcd.DefaultBump,
		RestoreOld:   s.restoreOld,
		Restore:      s.restore,
		Release:      s.release,
		NoteLast:     s.noteLast,
		NoteKept:     func(ended func(context.Context) ([]string, error)) { s.ended = ended },
	}
	s.Subject.NodeSnapshot = s.Target.NodeSnapshot
	if s.Target.Mode == procedure.DataDirSwap {
		s.castSwap(members, nodeDir)
	}
}

// dataDir and rollbackDir are what a run and its rollback make in the run's folder on a node.
func dataDir(nodeDir string) string     { return nodeDir + "/etcd" }
func rollbackDir(nodeDir string) string { return nodeDir + "/etcd-rolled-back" }

// Variant says in which way the procedure is carried out with these options.
func (o Options) Variant(p procedure.Procedure) plan.Variant {
	v := p.Variant(o.bump(p), o.KeepRunning, o.Renew)
	v.Own = v.Own && o.bump(p) == (Options{}).bump(p)
	return v
}

func (o Options) bump(p procedure.Procedure) uint64 {
	switch {
	case o.BumpRevision != nil:
		return *o.BumpRevision
	case p.Bump:
		return etcd.DefaultBump
	default:
		return 0
	}
}

// snapshotPath is where the snapshot is kept on this machine.
func (s *Stage) snapshotPath() string { return filepath.Join(s.opt.Dir, snapshotFile) }

const snapshotFile = "snapshot.db"

// describe asks the API server and etcd for their versions.
func (s *Stage) describe(ctx context.Context) (plan.ClusterInfo, error) {
	c := s.Subject.Cluster
	client, err := discovery.NewDiscoveryClientForConfig(s.Subject.Servers[0].Config)
	if err != nil {
		return plan.ClusterInfo{}, err
	}
	version, err := client.ServerVersion()
	if err != nil {
		return plan.ClusterInfo{}, fmt.Errorf("the API server of cluster %s on node %s does not say its version: %w", c.Name(), s.Subject.Servers[0].Node, err)
	}
	status, err := etcd.StatusOf(ctx, s.endpoint)
	if err != nil {
		return plan.ClusterInfo{}, fmt.Errorf("etcd of cluster %s: %w", c.Name(), err)
	}
	return plan.ClusterInfo{Provider: c.Provider(), Name: c.Name(), Nodes: len(c.Nodes()), Kubernetes: version.GitVersion, Etcd: status.Version}, nil
}

// Endpoints is how this machine reaches the etcd of each control plane, in the order of the cluster's nodes. Nothing is touched, and no key is written down.
func Endpoints(ctx context.Context, c cluster.Cluster) ([]etcd.Endpoint, error) {
	members, err := controlplane.Members(ctx, c)
	if err != nil {
		return nil, err
	}
	var out []etcd.Endpoint
	for _, m := range members {
		ep, err := endpointOf(ctx, m)
		if err != nil {
			return nil, err
		}
		out = append(out, ep)
	}
	return out, nil
}

// endpointOf is how this machine reaches the etcd of a member, with the certificate that etcd itself serves with: kubeadm makes it
// for clients too. The key is held in memory only.
func endpointOf(ctx context.Context, m controlplane.Member) (etcd.Endpoint, error) {
	var pem [3][]byte
	for i, path := range []string{m.Etcd.CACert, m.Etcd.Cert, m.Etcd.Key} {
		b, err := m.Node.ReadFile(ctx, path)
		if err != nil {
			return etcd.Endpoint{}, fmt.Errorf("node %s: reading what etcd's manifest names as its certificates: %w", m.Name, err)
		}
		pem[i] = b
	}
	var config *tls.Config
	config, err := etcd.TLSFromPEM(pem[0], pem[1], pem[2])
	if err != nil {
		return etcd.Endpoint{}, fmt.Errorf("node %s: %w", m.Name, err)
	}
	return etcd.Endpoint{URL: m.Etcd.AdvertiseClientURLs[0], TLS: config}, nil
}

// localImage returns an nginx image that the node holds already, so that no registry is needed; else one from the usual registry.
func localImage(ctx context.Context, n cluster.Node) string {
	images, err := controlplane.Images(ctx, n)
	if err != nil {
		return fallbackImage
	}
	if image := WorkloadImage(images); image != "" {
		return image
	}
	return fallbackImage
}

// WorkloadImage picks the image of the workload from images that are there, each with its registry in front; "" when none will do. An
// image with the tag latest won't: it is asked of the registry all the same.
func WorkloadImage(images []string) string {
	const library = "docker.io/library/"
	for _, tag := range images {
		if strings.HasPrefix(tag, library+workloadName+":") && !strings.HasSuffix(tag, ":latest") {
			return strings.TrimPrefix(tag, library)
		}
	}
	return ""
}
