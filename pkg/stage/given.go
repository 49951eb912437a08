package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
)

// Snapshot is a snapshot that somebody else has made, to be restored in place of one that the run takes.
type Snapshot struct {
	// Path is the file, absolute. It is only ever read.
	Path string `json:"path"`
	// SkipHashCheck accepts one that has no checksum of etcd's at its end, such as a copy of member/snap/db. One that has a checksum must have the right one all the same, and every page and
	// every record is looked at in any case.
	SkipHashCheck bool `json:"skipHashCheck,omitempty"`
	// OtherCluster accepts one of another cluster.
	OtherCluster bool `json:"otherCluster,omitempty"`
}

// Check looks at the file, with everything that can be said of it without a cluster. An error says what is wrong with it and what to do; nothing was touched then.
func (g Snapshot) Check(ctx context.Context, w etcd.Worker) (plan.SnapshotInfo, error) {
	info, err := etcd.Verify(ctx, w, g.Path)
	if errors.Is(err, etcd.ErrNoTrailer) && g.SkipHashCheck {
		info, err = etcd.VerifyDatabase(ctx, w, g.Path)
	}
	if err == nil {
		if err = etcd.CanRead(etcd.OwnVersion(), info); err != nil {
			err = &Refusal{
				What: "the snapshot that was given can't be restored by drill", Err: err,
				Want: "one of etcd " + minor(etcd.OwnVersion()) + " or before, the version of the etcdutl that is a part of drill",
				Hint: "use a drill that was built with the version of etcd that the snapshot is of",
			}
		}
	}
	if err == nil {
		// When it was taken is said by what `drill snapshot save` wrote beside it, if it did: copying a file may change the file's own time.
		if _, err = etcd.SidecarOf(&info); err == nil {
			info.Source = g.Path
			return info, nil
		}
		err = &Refusal{
			What: "the snapshot that was given is not what stands beside it", Err: err, Want: "the file that " + etcd.SidecarPath(g.Path) + " is about",
			Hint: "one of the two was exchanged: bring them together again, or move the JSON away, and the snapshot is used without it",
		}
	}
	if errors.Is(err, etcd.ErrWorker) || ctx.Err() != nil { // that says nothing about the file
		return plan.SnapshotInfo{}, fmt.Errorf("looking at the snapshot that was given, before anything was touched: %w", err)
	}
	var known *Refusal
	if !errors.As(err, &known) {
		err = &Refusal{What: "the snapshot that was given can't be restored", Err: err, Want: "a whole snapshot of etcd, as `etcdctl snapshot save` writes it", Hint: hintFor(err)}
	}
	return plan.SnapshotInfo{}, fmt.Errorf("the drill was not begun, and nothing was touched: %w", err)
}

// hintFor is what to do about a file that is no sound snapshot.
func hintFor(err error) string {
	for _, h := range []struct {
		kind error
		hint string
	}{
		{etcd.ErrNoTrailer, "take it by `etcdctl snapshot save`, which adds a checksum; or accept it with --skip-hash-check, if etcd was stopped when it was copied"},
		{etcd.ErrCompressed, "give the unpacked file, and delete it afterwards: it holds every Secret of the cluster"},
		{etcd.ErrEmpty, "see whether what takes the backups reports its errors, and whether its disk was full"},
		{etcd.ErrTruncated, "compare its length with that of the original: a copy may have been cut short"},
		{etcd.ErrTrailerMismatch, "fetch it again, and look at what stores it; restore an older one if the original is no better"},
		{etcd.ErrDamaged, "its content makes no sense although it is what was stored: restore an older one, and see whether etcd itself reports corruption"},
		{etcd.ErrNotSnapshot, "give the file that `etcdctl snapshot save` wrote: no manifest, no export of objects and no data directory"},
		{fs.ErrNotExist, "see whether it was moved or deleted meanwhile"},
		{fs.ErrPermission, "let whoever runs drill read it, and nobody else"},
	} {
		if errors.Is(err, h.kind) {
			return h.hint
		}
	}
	return "see the error"
}

// minor is a version without its patch.
func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// given is what is known of a snapshot that was given, from before anything was touched.
type given struct {
	// Info describes the file; Path is that of the run's copy, and Source the file's.
	Info     plan.SnapshotInfo `json:"info"`
	Contents contents          `json:"contents"`
	// Live is the UID of the cluster's own namespace kube-system.
	Live types.UID `json:"live"`
	// Bump and RollbackBump are by how much the restore and a rollback raise the revision.
	Bump         uint64 `json:"bump"`
	RollbackBump uint64 `json:"rollbackBump"`
	// OtherCluster says that the snapshot is of another cluster, and that this was allowed.
	OtherCluster bool     `json:"otherCluster"`
	Warnings     []string `json:"warnings"`
}

// contents is what of a snapshot has to be known to ask the right questions after its restore. Nothing in it is secret.
type contents struct {
	// System are the namespaces that every cluster has, by name and UID.
	System []proof.Object `json:"system"`
	// Labelled are objects of the workload's kinds, in its namespace, with its label. Their specs are left out.
	Labelled []proof.Object `json:"labelled"`
	// Holders says who held each Lease of kube-system.
	Holders map[string]string `json:"holders"`
	// Clashes are objects that have the names which the run uses after the recovery.
	Clashes []string `json:"clashes"`
	// Encrypted says that namespaces are, so that nobody can tell whose they are.
	Encrypted bool `json:"encrypted"`
}

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// systemNamespaces are those that the API server itself makes (https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/#initial-namespaces).
func systemNamespaces() []string {
	return []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, "kube-node-lease"}
}

// workloadKinds are the resources of the workload by the kind of their objects.
func workloadKinds() map[schema.GroupVersionKind]schema.GroupVersionResource {
	out := map[schema.GroupVersionKind]schema.GroupVersionResource{}
	for kind, r := range map[string]schema.GroupVersionResource{
		"Deployment": {Group: "apps", Version: "v1", Resource: "deployments"},
		"ReplicaSet": {Group: "apps", Version: "v1", Resource: "replicasets"},
		"Pod":        {Version: "v1", Resource: "pods"},
		"Service":    {Version: "v1", Resource: "services"},
	} {
		out[r.GroupVersion().WithKind(kind)] = r
	}
	return out
}

// contentsOf reads the snapshot once.
func contentsOf(ctx context.Context, from inventory.Source, w proof.Workload) (contents, error) {
	c := contents{Holders: map[string]string{}}
	kinds, names := workloadKinds(), systemNamespaces()
	err := inventory.Objects(ctx, from, func(o plan.Object, content *unstructured.Unstructured) error {
		gvk := schema.FromAPIVersionAndKind(o.APIVersion, o.Kind)
		r, ofWorkload := kinds[gvk]
		switch {
		case o.APIVersion == "v1" && o.Kind == "Namespace":
			c.Encrypted = c.Encrypted || content == nil
			if content != nil && slices.Contains(names, o.Name) {
				c.System = append(c.System, proof.Object{Resource: namespaces, Name: o.Name, UID: content.GetUID()})
			}
		case gvk.Group == "coordination.k8s.io" && o.Kind == "Lease" && o.Namespace == metav1.NamespaceSystem && content != nil:
			if holder, _, _ := unstructured.NestedString(content.Object, "spec", "holderIdentity"); holder != "" {
				c.Holders[o.Name] = holder
			}
		case ofWorkload && o.Namespace == w.Namespace:
			if o.Name == proof.NewWork(w) {
				c.Clashes = append(c.Clashes, o.String())
			}
			if content != nil && content.GetLabels()["app"] == w.Name {
				c.Labelled = append(c.Labelled, proof.Object{Resource: r, Namespace: o.Namespace, Name: o.Name, UID: content.GetUID()})
			}
		}
		return nil
	})
	return c, err
}

// divide sorts the workload's objects by whether the snapshot holds them: the same objects, and not others of their names.
func (c contents) divide(w proof.Workload) proof.Workload {
	same := func(o proof.Object) func(proof.Object) bool {
		return func(p proof.Object) bool {
			return p.Resource == o.Resource && p.Namespace == o.Namespace && p.Name == o.Name && p.UID == o.UID
		}
	}
	all := slices.Concat(w.Objects, w.Beyond)
	w.Objects, w.Beyond, w.Namesakes = nil, nil, nil
	for _, o := range all {
		if slices.ContainsFunc(c.Labelled, same(o)) {
			w.Objects = append(w.Objects, o)
		} else {
			w.Beyond = append(w.Beyond, o)
		}
	}
	for _, o := range c.Labelled {
		if !slices.ContainsFunc(w.Objects, same(o)) {
			w.Namesakes = append(w.Namesakes, o)
		}
	}
	return w
}

// checkGiven looks at the file that was given; it returns nil where none was.
func (o Options) checkGiven(ctx context.Context) (*given, error) {
	if o.Snapshot == nil {
		return nil, nil
	}
	info, err := o.Snapshot.Check(ctx, o.Worker)
	if err != nil {
		return nil, err
	}
	g := &given{Info: info}
	if info.NoChecksum {
		g.warn("%s has no checksum of etcd's: its pages and records are sound, but that nothing is missing since etcd last wrote can't be told", info.Source)
	}
	if st, err := os.Stat(info.Source); err == nil && st.Mode().Perm()&0o077 != 0 {
		g.warn("%s can be read or written by others (mode %04o), and a snapshot holds every Secret of the cluster: `chmod go= %s`", info.Source, st.Mode().Perm(), info.Source)
	}
	return g, nil
}

func (g *given) warn(format string, args ...any) {
	g.Warnings = append(g.Warnings, fmt.Sprintf(format, args...))
}

// suitsCluster holds the snapshot that was given against the cluster, and decides by how much the revision has to be raised. Nothing is touched. The error tells all that speaks against it.
func (s *Stage) suitsCluster(ctx context.Context, p procedure.Procedure) error {
	g := s.given
	source := proof.SnapshotSource(s.opt.Worker, g.Info)
	var reasons []error
	for _, find := range []func(context.Context) (*Refusal, error){
		func(ctx context.Context) (r *Refusal, err error) {
			g.Contents, err = contentsOf(ctx, source, s.Subject.Workload)
			if err == nil && len(g.Contents.Clashes) > 0 {
				r = &Refusal{
					What: "the snapshot holds what the run is going to make after the recovery", Seen: strings.Join(g.Contents.Clashes, ", ") + " in " + g.Info.Source,
					Want: "none of these names in it: what came back with it would be taken for new",
					Hint: "it was taken while another drill was proving; use one from before or after that",
				}
			}
			return r, err
		},
		s.versionsSuit,
		s.sameCluster,
	} {
		r, err := find(ctx)
		if err != nil {
			return fmt.Errorf("holding snapshot %s against cluster %s, before anything was touched: %w", g.Info.Source, s.Subject.Cluster.Name(), err)
		}
		if r != nil {
			reasons = append(reasons, r)
		}
	}
	if len(reasons) > 0 {
		return fmt.Errorf("snapshot %s can't be restored on cluster %s, and nothing was touched: %w", g.Info.Source, s.Subject.Cluster.Name(), errors.Join(reasons...))
	}
	if kept := s.Subject.Workload; len(g.Contents.Labelled) > 0 {
		g.warn("the snapshot holds %d objects with the label %s in namespace %s: the restore brings them back, and they are left there", len(g.Contents.Labelled), kept.Selector(), kept.Namespace)
	}
	return s.decideBump(ctx, p)
}

// versionsSuit makes sure that every member's etcd can read the snapshot.
func (s *Stage) versionsSuit(ctx context.Context) (*Refusal, error) {
	for i, m := range s.Subject.Members {
		status, err := etcd.StatusOf(ctx, s.Subject.Endpoints[i])
		if err != nil {
			return nil, fmt.Errorf("the version of etcd on node %s: %w", m.Name, err)
		}
		if err := etcd.CanRead(status.Version, s.given.Info); err != nil {
			return &Refusal{
				Node: m.Name, What: "its etcd can't read the snapshot that was given", Seen: fmt.Sprintf("etcd %s, and of %s: %v", status.Version, s.given.Info.Source, err),
				Want: "a snapshot of etcd " + minor(status.Version) + " or before: an etcd that finds data of a newer one ends at once",
				Hint: "upgrade the cluster to what the snapshot was taken from, or use an older snapshot", Err: err,
			}, nil
		}
	}
	return nil, nil
}

// sameCluster makes sure that the snapshot is of this cluster, unless another one is allowed.
func (s *Stage) sameCluster(ctx context.Context) (*Refusal, error) {
	g := s.given
	live, err := proof.LiveUID(ctx, s.Subject.Servers[0])
	if err != nil {
		return nil, err
	}
	g.Live = types.UID(live)
	if len(g.Contents.System) == 0 && !g.Contents.Encrypted {
		return &Refusal{
			What: "the snapshot that was given is of no Kubernetes cluster", Seen: "no Namespace kube-system in it", Want: "what an API server stores: without it, no control plane comes up on it",
			Hint: "an etcd can be another program's; find the snapshots of this cluster's etcd",
		}, nil
	}
	if len(g.Contents.System) == 0 { // encrypted: what they are can't be read, that they are is sure
		g.Contents.System = []proof.Object{{Resource: namespaces, Name: metav1.NamespaceSystem, UID: g.Live}}
	}
	other, whose, err := proof.Foreign(ctx, s.opt.Worker, g.Info, live)
	switch {
	case err != nil:
		return nil, err
	case other == nil:
		if g.Contents.Encrypted { // whose it is can't be read
			g.OtherCluster = s.opt.Snapshot.OtherCluster
			g.warn("%s", whose)
		}
		return nil, nil
	case s.opt.Snapshot.OtherCluster:
		g.OtherCluster = true
		g.warn("the snapshot is of another cluster, as was allowed: %s. What it holds of nodes, certificates and addresses is that one's", other)
		return nil, nil
	}
	return &Refusal{
		What: "the snapshot that was given is of another cluster", Seen: other.Subject + ": " + other.Seen, Want: other.Expected + ": everything here would be replaced by what another cluster was",
		Hint: "find the snapshots of this cluster, and find out how they were mixed up; --other-cluster tries it all the same",
	}, nil
}

// headroom is how far above the cluster's revision the restored one has to begin: more than a cluster writes from when that was looked at to the outage, and in one that lasts.
const headroom = etcd.DefaultBump / 10

// decideBump makes the raise of the revision large enough: the snapshot may be further behind the cluster than the usual raise.
func (s *Stage) decideBump(ctx context.Context, p procedure.Procedure) error {
	var live int64
	for i, m := range s.Subject.Members {
		status, err := etcd.StatusOf(ctx, s.Subject.Endpoints[i])
		if err != nil {
			return fmt.Errorf("the revision of etcd on node %s: %w", m.Name, err)
		}
		live = max(live, status.Revision)
	}
	wanted, chosen := s.opt.bump(p), s.opt.BumpRevision != nil
	g := s.given
	g.Bump = raised(wanted, g.Info.Revision, live)
	behind := live - g.Info.Revision
	switch {
	case g.Bump == wanted:
	case chosen: // it is to be seen what comes of it
		g.Bump = wanted
		g.warn("the cluster's revision is %d ahead of the snapshot's, and a raise by %d, as was asked for, may not get beyond it", behind, wanted)
	default:
		g.warn("etcd's revision will be raised by %d instead of %d, since the cluster's is %d ahead of the snapshot's", g.Bump, wanted, behind)
	}
	// A rollback must get beyond what a failed recovery has handed out.
	g.RollbackBump = etcd.DefaultBump + uint64(max(0, int64(g.Bump)-behind))
	return nil
}

// raised is the raise that was wanted or, if that isn't enough for a snapshot of one revision on a cluster of another, the least that leaves as much above it. One of nothing stays so.
func raised(wanted uint64, snapshot, live int64) uint64 {
	if wanted == 0 || snapshot+int64(wanted) >= live+int64(headroom) {
		return wanted
	}
	return uint64(live-snapshot) + max(wanted, headroom)
}

// takeOver makes known to the checks and the procedure what snapshot will be restored, and that the run doesn't take it.
func (s *Stage) takeOver() {
	g := s.given
	g.Info.Path = s.snapshotPath()
	s.Subject.Given, s.Subject.OtherCluster = &g.Info, g.OtherCluster
	s.Subject.Anchors = g.Contents.System
	s.Target.BumpRevision, s.Target.RollbackBump = g.Bump, g.RollbackBump
	s.Target.SkipHashCheck = g.Info.NoChecksum
}

// Warnings are what a person should know before the run begins.
func (s *Stage) Warnings() []string {
	if s.given == nil {
		return nil
	}
	return s.given.Warnings
}

// BringSnapshot brings the snapshot that was given to where it is used; no step where none was.
func (s *Stage) BringSnapshot() []plan.Step {
	if s.given == nil {
		return nil
	}
	return []plan.Step{{
		Name:  "bring-snapshot",
		Phase: plan.Arrange,
		Title: "Copy the snapshot that was given",
		Why: "It is kept with the run and, where commands are typed, on the node as " + s.Target.NodeSnapshot + ". The backup itself is only read, and stays where it is: whatever comes of the recovery, there is still the file that it was made of. The copy can be read by its owner alone, " +
			"since it holds every Secret of the cluster.",
		Timeout: 10 * time.Minute,
		Do:      s.bringSnapshot,
	}}
}

func (s *Stage) bringSnapshot(ctx context.Context) error {
	if err := s.copyGiven(ctx); err != nil {
		return err
	}
	if !s.opt.Literal {
		return nil
	}
	n := s.Target.Members[0].Node
	if _, err := cluster.Run(ctx, n, "mkdir", "-p", "-m", "0700", "--", s.Target.StateDir); err != nil {
		return err
	}
	if err := cluster.Absent(ctx, n, s.Target.NodeSnapshot); err != nil {
		return err
	}
	f, err := os.Open(s.snapshotPath())
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := n.WriteFile(ctx, s.Target.NodeSnapshot, 0o600, f); err != nil {
		return fmt.Errorf("bringing the snapshot to node %s: %w", n.Name(), err)
	}
	return nil
}

// copyGiven copies the file to the run's folder, where it gets its name when it is whole and the one that was looked at. A copy that an earlier process has made will do, wherever the file is by now.
func (s *Stage) copyGiven(ctx context.Context) (err error) {
	info, to := s.given.Info, s.snapshotPath()
	switch _, err := os.Lstat(to); {
	case err == nil && s.recalled:
		return nil // the next look at it says whether it is the one
	case err == nil:
		return fmt.Errorf("%w: %s", etcd.ErrTargetExists, to)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	from, err := os.Open(info.Source)
	if err != nil {
		return fmt.Errorf("the snapshot that was given: %w", err)
	}
	defer func() { _ = from.Close() }()
	part, err := os.CreateTemp(s.opt.Dir, "."+filepath.Base(to)+".*.part") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		_ = part.Close()
		if rmErr := os.Remove(part.Name()); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("the unfinished copy could not be removed: %w", rmErr))
		}
	}()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(part, sum), &bounded{ctx, from}); err != nil {
		return fmt.Errorf("copying %s to %s: %w", info.Source, s.opt.Dir, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != info.SHA256 {
		return fmt.Errorf("%s has changed since it was looked at: its SHA-256 was %s and is %s; give a file that nobody writes to", info.Source, info.SHA256, got)
	}
	if err := errors.Join(part.Sync(), part.Close(), os.Chtimes(part.Name(), time.Time{}, info.TakenAt)); err != nil {
		return err
	}
	return os.Rename(part.Name(), to)
}

// bounded is a reader that ends with its context.
type bounded struct {
	ctx context.Context
	r   io.Reader
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := context.Cause(b.ctx); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

// useSnapshot takes the place of the step that takes a snapshot.
func (s *Stage) useSnapshot() plan.Step {
	sum, name := s.given.Info.SHA256, s.Target.NodeSnapshot
	return plan.Step{
		Name:  "use-snapshot",
		Phase: plan.Protect,
		Title: "Use the snapshot that was given, and take none",
		Why: "It is the backup at hand that has to bring the cluster back, and not one that was made for the purpose. What was written after it will be gone, the workload of this drill too. " +
			"Its SHA-256 says that it is the file that was looked at before anything was touched.",
		Commands: []plan.Command{
			s.typed("chmod", "0600", name),
			{On: s.node(), Argv: []string{"echo", sum + "  " + name}, PipeTo: []string{"sha256sum", "--check"}},
		},
		Expect: "`" + name + ": OK`.",
		Do:     s.sameAsGiven,
		Learn: func(ctx context.Context) error {
			if err := s.sameAsGiven(ctx); err != nil {
				return err
			}
			info := s.given.Info
			s.Subject.Snapshot = &info
			return nil
		},
	}
}

// sameAsGiven says whether the run's copy is the file that was given.
func (s *Stage) sameAsGiven(ctx context.Context) error {
	f, err := os.Open(s.snapshotPath())
	if err != nil {
		return fmt.Errorf("the copy of the snapshot that was given: %w", err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, &bounded{ctx, f}); err != nil {
		return err
	}
	if got, want := hex.EncodeToString(sum.Sum(nil)), s.given.Info.SHA256; got != want {
		return fmt.Errorf("%s is not the file that was given: SHA-256 %s then, %s now", s.snapshotPath(), want, got)
	}
	return nil
}

// divide sorts the workload by what of it the snapshot that was given holds; one that the run takes holds all of it.
func (s *Stage) divide() {
	if s.given != nil {
		s.Subject.Workload = s.given.Contents.divide(s.Subject.Workload)
	}
}

// gone says that the Lease's holder is one that ended with the outage: it held the Lease before, or when a snapshot was taken that was given.
func (s *Stage) gone(lease, holder string) bool {
	if holder == s.before.holders[lease] {
		return true
	}
	return s.given != nil && holder == s.given.Contents.Holders[lease]
}

// mine are the options by which an object of the workload is deleted. A restore of a snapshot that was given may have brought back another one of that name, which isn't the run's.
func (s *Stage) mine(resource string) metav1.DeleteOptions {
	if s.given == nil {
		return metav1.DeleteOptions{}
	}
	w := s.Subject.Workload
	for _, o := range slices.Concat(w.Objects, w.Beyond) {
		if o.Resource.Resource == resource && o.Name == w.Name {
			uid := o.UID
			return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
		}
	}
	return metav1.DeleteOptions{}
}

// sought is an object that the probe looks for, in two ways.
type sought struct {
	kind string
	// get and list are where the API server shows it.
	get, list string
	// uids are those of which it may have one: after the restore of another cluster's snapshot it is another one.
	uids []types.UID
}

// sought is the workload's Deployment or, where a snapshot that was given doesn't hold that, the namespace kube-system, which every cluster has. The error is for a workload that isn't known.
func (s *Stage) sought() (sought, error) {
	w := s.Subject.Workload
	if uid := deploymentUID(w); uid != "" {
		return soughtDeployment(w, uid), nil
	}
	if w.Absent() == "" {
		return sought{}, errors.New("the workload has no Deployment that the probe could look for: the step that records the workload was not carried out")
	}
	uids := []types.UID{s.given.Live}
	for _, o := range s.Subject.Anchors {
		if o.Name == metav1.NamespaceSystem {
			uids = append(uids, o.UID)
		}
	}
	return soughtNamespace(uids), nil
}

// workloadUIDs are those of all that the run deployed, whatever a restore makes of it.
func workloadUIDs(w proof.Workload) map[string]bool {
	uids := map[string]bool{}
	for _, o := range slices.Concat(w.Objects, w.Beyond) {
		uids[string(o.UID)] = true
	}
	return uids
}
