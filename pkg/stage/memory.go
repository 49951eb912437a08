package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
)

// MemoryFile is what Remember writes to the run's folder, beside the inventories.
const MemoryFile = "memory.json"

// Files of inventories in the run's folder.
const (
	atBreakFile  = "at-break.json"
	atOutageFile = "at-outage.json"
)

// ErrForgotten says that the run's folder doesn't hold what is needed to carry the run on.
var ErrForgotten = errors.New("what the run had found out about the cluster is not known")

// memory is what another process needs to know of a run. Nothing in it is secret: no key, no token, no object but the workload's own.
type memory struct {
	Members []rememberedMember `json:"members"`
	Cluster plan.ClusterInfo   `json:"cluster"`
	Image   string             `json:"image"`
	// Vacated says that nothing had the names that the run uses when it began.
	Vacated  bool               `json:"vacated"`
	Workload []proof.Object     `json:"workload"`
	Service  serviceAddress     `json:"service"`
	Snapshot *plan.SnapshotInfo `json:"snapshot"`
	// Highest is the highest revision that etcd was seen to have before the outage.
	Highest        int64                `json:"highest"`
	Holders        map[string]string    `json:"holders"`
	RevisionBefore int64                `json:"revisionBefore"`
	Clocks         map[string]time.Time `json:"clocks"`
	// Beyond and Namesakes are of the workload, and Given is what is known of a snapshot that was given; null where the run takes its own.
	Beyond    []proof.Object `json:"beyond"`
	Namesakes []proof.Object `json:"namesakes"`
	Given     *given         `json:"given"`
	// Restored and Third are the inodes of the data directories that were restored, by the recovery and by a rollback, by node, where that is what they are known by.
	Restored map[string]uint64 `json:"restored,omitempty"`
	Third    map[string]uint64 `json:"third,omitempty"`
}

// rememberedMember is a control plane as its manifest described it before anything was touched.
type rememberedMember struct {
	Node    string                  `json:"node"`
	Address string                  `json:"address"`
	Etcd    controlplane.EtcdConfig `json:"etcd"`
}

// written is what was written last: the revisions of the inventories, and the rest. What is on the disk already isn't written again: within the outage every write is waited for.
type written struct {
	atBreak, atOutage int64
	memory            []byte
}

// Remember writes to the run's folder what another process needs to know to carry the run on, and returns when that is on the disk.
func (s *Stage) Remember() error {
	before := s.Subject.Before
	for _, f := range []struct {
		name string
		inv  inventory.Inventory
		last *int64
	}{{atBreakFile, before.AtBreak, &s.written.atBreak}, {atOutageFile, before.AtOutage, &s.written.atOutage}} {
		if f.inv.Objects == nil || f.inv.Revision == *f.last {
			continue
		}
		if err := s.writeDown(f.name, f.inv); err != nil {
			return err
		}
		*f.last = f.inv.Revision
	}
	m := memory{
		Cluster: s.Info, Image: s.Subject.Workload.Image, Vacated: s.vacated, Workload: s.Subject.Workload.Objects, Service: s.service, Snapshot: s.Subject.Snapshot,
		Holders: s.before.holders, RevisionBefore: before.Revision, Clocks: before.Clocks, Third: s.third,
		Beyond: s.Subject.Workload.Beyond, Namesakes: s.Subject.Workload.Namesakes, Given: s.given,
	}
	if s.Subject.Swap != nil {
		m.Restored = s.Subject.Swap.Inodes
	}
	for _, member := range s.Target.Members {
		m.Members = append(m.Members, rememberedMember{Node: member.Name, Address: member.Node.Address(), Etcd: member.Etcd})
	}
	if s.Subject.Revisions != nil {
		m.Highest = s.Subject.Revisions.Highest()
	}
	return s.writeDown(MemoryFile, m)
}

func (s *Stage) writeDown(name string, v any) error {
	b, err := json.Marshal(v)
	if err == nil && name == MemoryFile && bytes.Equal(b, s.written.memory) {
		return nil
	}
	if err == nil {
		err = renameio.WriteFile(filepath.Join(s.opt.Dir, name), b, 0o600, renameio.WithTempDir(s.opt.Dir), renameio.WithStaticPermissions(0o600))
	}
	if err != nil {
		return fmt.Errorf("writing down what is known of the run: %w", err)
	}
	if name == MemoryFile {
		s.written.memory = b
	}
	return nil
}

// Recall sets the stage of a run that another process has left, from what that has remembered. The control plane may be down; nothing is asked of it, and nothing touched. The
// error wraps ErrForgotten where that process had not come so far.
func Recall(ctx context.Context, c cluster.Cluster, p procedure.Procedure, o Options) (*Stage, error) {
	var m memory
	if err := readBack(o.Dir, MemoryFile, &m); err != nil {
		return nil, err
	}
	servers, err := proof.Servers(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Stage{opt: o, given: m.Given, recalled: true, vacated: m.Vacated, service: m.Service, Info: m.Cluster}
	s.Info.Provider = c.Provider()
	s.before.holders = m.Holders
	s.Subject = proof.Subject{Cluster: c, Servers: servers, Worker: o.Worker, RunDir: o.Dir, Transcript: o.Transcript, Snapshot: m.Snapshot, Resumed: true}
	s.Subject.Before = proof.Before{Revision: m.RevisionBefore, Clocks: m.Clocks}
	for name, inv := range map[string]*inventory.Inventory{atBreakFile: &s.Subject.Before.AtBreak, atOutageFile: &s.Subject.Before.AtOutage} {
		if err := readBack(o.Dir, name, inv); err != nil && !errors.Is(err, ErrForgotten) {
			return nil, err
		}
	}
	s.written = written{atBreak: s.Subject.Before.AtBreak.Revision, atOutage: s.Subject.Before.AtOutage.Revision}
	if m.Highest > 0 {
		s.Subject.Revisions = &proof.Revisions{}
		s.Subject.Revisions.Note(time.Now(), m.Highest)
	}
	if err := s.discard(); err != nil {
		return nil, err
	}
	members, err := recallMembers(c, m.Members)
	if err != nil {
		return nil, err
	}
	for _, member := range members {
		e, err := endpointOf(ctx, member)
		if err != nil {
			return nil, err
		}
		s.Subject.Endpoints = append(s.Subject.Endpoints, e)
	}
	s.Subject.Members, s.endpoint = members, s.Subject.Endpoints[0]
	s.cast(members, p, m.Image, dirOnNodes(o.RunID))
	w := &s.Subject.Workload
	w.Objects, w.Beyond, w.Namesakes = m.Workload, m.Beyond, m.Namesakes
	if s.given != nil {
		s.takeOver()
	}
	if s.third = m.Third; s.Subject.Swap != nil {
		s.Subject.Swap.Inodes = m.Restored
	}
	return s, nil
}

// Missing returns why the run can't be carried on here though it is known how far it came: its snapshot is not on this machine.
func (s *Stage) Missing() error {
	if s.Subject.Snapshot == nil {
		return nil
	}
	if _, err := os.Stat(s.Subject.Snapshot.Path); err != nil {
		return fmt.Errorf("the run's snapshot is needed: %w", err)
	}
	return nil
}

// discard removes from the run's folder what was being made when the process was killed: parts of a snapshot and of data directories, which hold Secrets.
func (s *Stage) discard() error {
	found, err := matching(s.opt.Dir, unfinished())
	if err != nil {
		return err
	}
	for _, path := range found {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing what an earlier process has left: %w", err)
		}
	}
	return nil
}

// unfinished are the names of what is being made in a run's folder.
func unfinished() []string {
	return []string{".snapshot.db.*", ".etcd*", "etcd-*", "old-*", "." + MemoryFile + "*", "." + atBreakFile + "*", "." + atOutageFile + "*"}
}

// Exchanged is what a run that renames data directories has put on a control plane; the zero value where it doesn't, and where nothing is known any more.
type Exchanged struct {
	// Home is the folder on the node in which the run has its directories, the old one among them.
	Home string
	// Inodes are those of the directories that it has made to take the place of the old one, by which they are known at its path.
	Inodes []uint64
}

// ExchangedBy returns what the run whose folder on this machine and on nodes is given has exchanged, by control plane.
func ExchangedBy(dir, nodeDir string) (map[string]Exchanged, error) {
	var m memory
	if err := readBack(dir, MemoryFile, &m); errors.Is(err, ErrForgotten) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	out := map[string]Exchanged{}
	for _, member := range m.Members {
		e := Exchanged{Home: swapDir(member.Etcd.HostDataDir, nodeDir)}
		for _, inodes := range []map[string]uint64{m.Restored, m.Third} {
			if inode := inodes[member.Node]; inode > 0 {
				e.Inodes = append(e.Inodes, inode)
			}
		}
		if len(e.Inodes) > 0 {
			out[member.Node] = e
		}
	}
	return out, nil
}

// Data returns what stages have put into a run's folder on this machine that holds the cluster's data, or was found out about it: the snapshot, parts of it and of what was restored from it,
// the inventories with digests of Secrets, and what Remember has written. Without it a run can't be carried on.
func Data(dir string) ([]string, error) {
	return matching(dir, append(unfinished(), snapshotFile, atBreakFile, atOutageFile, MemoryFile))
}

// matching returns what there is in a folder by these names, which may be patterns.
func matching(dir string, patterns []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		for _, pattern := range patterns {
			ok, err := filepath.Match(pattern, e.Name())
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, filepath.Join(dir, e.Name()))
				break
			}
		}
	}
	return out, nil
}

// ControlPlanes returns the names of the control planes that the cluster had when the run with that folder began. The error wraps ErrForgotten where that isn't known.
func ControlPlanes(dir string) ([]string, error) {
	var m memory
	if err := readBack(dir, MemoryFile, &m); err != nil {
		return nil, err
	}
	var out []string
	for _, r := range m.Members {
		out = append(out, r.Node)
	}
	return out, nil
}

func recallMembers(c cluster.Cluster, remembered []rememberedMember) ([]controlplane.Member, error) {
	nodes := cluster.ControlPlanes(c)
	var out []controlplane.Member
	for _, r := range remembered {
		i := slices.IndexFunc(nodes, func(n cluster.Node) bool { return n.Name() == r.Node })
		if i < 0 {
			return nil, fmt.Errorf("cluster %s has no control plane %s any more, which it had when the run began; is it another cluster of that name?", c.Name(), r.Node)
		}
		// The manifests that were kept or staged name it, and so does the membership of the restored directory.
		if now := nodes[i].Address(); r.Address != "" && now != r.Address {
			return nil, fmt.Errorf("node %s had the address %s when the run began and has %s now, so what the run has prepared would not work; hint: an engine that was restarted may have given its address "+
				"to another container: stop that one, restart this node, and call this again", r.Node, r.Address, now)
		}
		out = append(out, controlplane.Member{Name: r.Node, Node: nodes[i], Etcd: r.Etcd})
	}
	if len(out) == 0 {
		return nil, ErrForgotten
	}
	return out, nil
}

func readBack(dir, name string, v any) error {
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: there is no %s", ErrForgotten, path)
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("reading what is known of the run: %s: %w", path, err)
	}
	return nil
}
