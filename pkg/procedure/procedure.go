package procedure

import (
	"context"
	"strings"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Procedure is one way to restore.
type Procedure struct {
	plan.Entry
	// Bump says whether it restores with a raised revision unless told otherwise.
	Bump bool
	// Renews are the components that it begins anew besides etcd, unless told otherwise: some of Components. Each of them can be kept, and
	// each of the others can be renewed; see Procedure.Check.
	Renews []string
	// build makes the steps for a target; see Build.
	build func(Target) Recovery
	// mode is set by In; editsManifest says that the procedure is the change of a manifest.
	mode          DataDirMode
	editsManifest bool
}

// Build makes the procedure's steps for a target, in the procedure's mode.
func (p Procedure) Build(t Target) Recovery {
	t.Mode = p.DataDirMode()
	return p.build(t)
}

// Recovery is a procedure for one target.
type Recovery struct {
	// Steps restore; they are of phase Recover.
	Steps []plan.Step
	// Rollback puts the old state back; its steps are of phase Rollback.
	Rollback []plan.Step
	// TakenAway is, by the name of a member, where its etcd manifest of before is from the moment on at which nothing runs any more. A member that isn't named has it replaced in one rename.
	TakenAway map[string]string
	// Variant says in which way the procedure is carried out.
	Variant plan.Variant
}

// Target is what is to be restored, and where.
type Target struct {
	// Members are the control planes, each with what its etcd manifest says. The data directory of each is a volume of its own, without DataSubPath.
	Members []controlplane.Member
	// Mode is how etcd gets to run on the restored data directory: that of the procedure.
	Mode DataDirMode
	// DataDir is where the new data directory is made on each node: the host path that volume etcd-data is to have or, with DataDirSwap, on the file system of the directory that it is
	// going to replace. It must not exist.
	DataDir string
	// AsideDir, with DataDirSwap, is where the directory goes that etcd ran on, and stays whatever comes. GivenUpDir is where a rollback moves the restored one; whatever else it finds in
	// the way goes there, too, and what has that name already gets a number behind it. Both are on the file system of DataDir.
	AsideDir, GivenUpDir string
	// StateDir is the run's folder on each node. A copy of the manifest as it was is kept there.
	StateDir string
	// NodeSnapshot is where the snapshot lies on the node when the commands are typed by hand.
	NodeSnapshot string
	// SkipHashCheck says that the snapshot has no checksum of etcd's at its end, which etcdutl has to be told.
	SkipHashCheck bool
	// Token makes the restored cluster's ID new, so that a member that was not restored can't join it by mistake. Empty
	// means etcd's own default, as in the commands that tutorials show.
	Token string
	// BumpRevision is by how much the revision is raised; 0 means that it goes back to the snapshot's.
	BumpRevision uint64
	// KeepRunning are components that the procedure renews by itself and that are to live on across the restore, keeping their memory; Renew
	// are components that it leaves alone by itself and that are to begin anew. See Procedure.Check.
	KeepRunning, Renew []string
	// Release removes the leader election Leases of the components named that nobody has renewed since they were restored.
	Release func(ctx context.Context, components ...string) error
	// NoteKept receives, before the control plane is taken down and only where something is to live on, a look at which of that ended by itself since then and
	// was started anew: some of Components, each named that did so on one control plane at least. The look is for after the checks.
	NoteKept func(ended func(ctx context.Context) ([]string, error))
	// NoteLast notes what there is just before the control plane is taken down.
	NoteLast func(ctx context.Context) error
	// RollbackDir is the data directory on each node that a rollback puts in place; see rollback.
	RollbackDir string
	// BackInPlace says, with DataDirSwap, whether a rollback has given RollbackDir of the member the path that its manifest names, so that etcd may have run on it; nil means never.
	BackInPlace func(ctx context.Context, m controlplane.Member) (bool, error)
	// RollbackBump is by how much a rollback raises the revision.
	RollbackBump uint64
	// NoteRestored notes, with DataDirSwap, what tells DataDir on every member's node from any other directory once it has another's path.
	NoteRestored func(ctx context.Context) error
	// RestoreOld makes RollbackDir on every member's node hold what the old data directory holds. etcd must have been stopped.
	RestoreOld func(ctx context.Context) error
	// Restore makes DataDir on the member's node hold the restored snapshot.
	Restore func(ctx context.Context, m controlplane.Member) error
}

// All returns every procedure, the default one first.
func All() []Procedure { return []Procedure{KubeletStop(), ManifestMove(), ManifestEdit()} }

// systemNamespace is where kubeadm's static pods are.
const systemNamespace = "kube-system"

// etcdManifest is the file in the manifests folder that kubeadm writes for etcd.
const etcdManifest = "etcd.yaml"

// InitialCluster lists every member as NAME=PEERURL: the value that the restore of each member needs for --initial-cluster.
func (t Target) InitialCluster() string {
	var out []string
	for _, m := range t.Members {
		for _, u := range m.Etcd.PeerURLs {
			out = append(out, m.Etcd.Name+"="+u)
		}
	}
	return strings.Join(out, ",")
}

// on makes the same command for every member's node, in order.
func (t Target) on(command func(m controlplane.Member) plan.Command) []plan.Command {
	var out []plan.Command
	for _, m := range t.Members {
		c := command(m)
		c.On = m.Name
		out = append(out, c)
	}
	return out
}
