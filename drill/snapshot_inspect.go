package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

type snapshotInspectOptions struct {
	app          *App
	path         string
	raw          bool
	query        *inventory.Query
	showSecrets  bool
	top          int
	byNamespaces bool
	output       outputFlag
}

func newSnapshotInspectCmd(a *App) *cobra.Command {
	o := snapshotInspectOptions{app: a}
	var object string
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Say what is in a snapshot, and what of it would hurt after a restore",
		Long: `Say what is in a snapshot: what etcd says of itself, objects by kind with how many bytes they take, the largest ones, what is encrypted and with
which provider and key, and what would hurt after a restore: hazards, such as webhooks that refuse every request until their own pods run. The
file is only read; no cluster and no container engine are needed. Snapshots of etcd 3.4 and later can be read.

With --object one object is printed as YAML, in the version in which it is stored, without metadata.managedFields; -o json prints all of it. The
data and annotations of a Secret are hidden unless --show-secrets says otherwise. What begins with a slash is taken for a key of etcd.

Exit status: 0 it was inspected, 1 it couldn't be, or there is no such object, 2 usage, 3 the snapshot isn't sound ("drill snapshot verify" says more),
130 interrupted.`,
		Example: `  drill snapshot inspect /backup/etcd-last-night.db
  drill snapshot inspect /backup/etcd-last-night.db --object deployment/default/nginx
  drill snapshot inspect /backup/etcd-last-night.db -o json | jq '.hazards[] | {name, severity, count}'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.path = args[0]
			if cmd.Flags().Changed("object") {
				q, err := inventory.ParseQuery(object)
				if err != nil {
					return usagef("--object: %w", err)
				}
				o.query = &q
			}
			for _, name := range []string{"top", "by-namespace"} {
				if o.query != nil && cmd.Flags().Changed(name) {
					return usagef("--%s is about what is told of the whole snapshot, and one --object is named; leave one of them out", name)
				}
			}
			switch {
			case o.showSecrets && o.query == nil:
				return usagef("--show-secrets says how an --object is printed, and none is named")
			case o.top < 1:
				return usagef("--top is %d, and must be at least 1", o.top)
			}
			if err := checkFile(o.path); err != nil {
				return usageError{err}
			}
			if o.query != nil {
				return snapshotObject(cmd.Context(), o)
			}
			return snapshotInspect(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.raw, "raw", false, rawHelp)
	f.StringVar(&object, "object", "", "print this object: KIND/NAMESPACE/NAME, or KIND/NAME, or a key of etcd; KIND may be a resource, and have .GROUP behind it")
	f.BoolVar(&o.showSecrets, "show-secrets", false, "print the data of a Secret, too")
	f.IntVar(&o.top, "top", defaultTop, "how many of the largest keys are named, and how many objects for each hazard")
	f.BoolVar(&o.byNamespaces, "by-namespace", false, "count objects by namespace, too; -o json always does")
	addOutputFlag(cmd, &o.output)
	return cmd
}

const defaultTop = 10

// inspected is what `drill snapshot inspect -o json` prints.
type inspected struct {
	SchemaVersion int               `json:"schemaVersion"`
	Snapshot      plan.SnapshotInfo `json:"snapshot"`
	Etcd          etcdFacts         `json:"etcd"`
	inventory.Survey
}

// etcdFacts are etcd.Facts, with numbers of 64 bits as etcd prints them, in hexadecimal.
type etcdFacts struct {
	StorageVersion string `json:"storageVersion"`
	ClusterVersion string `json:"clusterVersion"`
	// Records, Tombstones and Keys are of the history, and CompactRevision is up to where it was compacted.
	Records         int64 `json:"records"`
	Tombstones      int64 `json:"tombstones"`
	Keys            int64 `json:"keys"`
	CompactRevision int64 `json:"compactRevision"`
	// Bytes is the size of the database, BytesInUse what of it is in use.
	Bytes      int64        `json:"bytes"`
	BytesInUse int64        `json:"bytesInUse"`
	PageSize   int64        `json:"pageSize"`
	RaftIndex  uint64       `json:"raftIndex"`
	RaftTerm   uint64       `json:"raftTerm"`
	Leases     []etcdLease  `json:"leases"`
	Members    []etcdMember `json:"members"`
	Alarms     []string     `json:"alarms"`
	Auth       bool         `json:"authEnabled"`
	Unknown    []string     `json:"unknownBuckets"`
}

type etcdLease struct {
	ID         string `json:"id"`
	TTLSeconds int64  `json:"ttlSeconds"`
}

type etcdMember struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
	Learner    bool     `json:"learner"`
}

func factsOf(f etcd.Facts) etcdFacts {
	out := etcdFacts{
		StorageVersion: f.StorageVersion, ClusterVersion: f.ClusterVersion, Records: f.Records, Tombstones: f.Tombstones, Keys: f.Keys, CompactRevision: f.CompactRevision,
		Bytes: int64(f.Pages) * f.PageSize, BytesInUse: int64(f.PagesUsed) * f.PageSize, PageSize: f.PageSize, RaftIndex: f.ConsistentIndex, RaftTerm: f.Term,
		Leases: []etcdLease{}, Members: []etcdMember{}, Alarms: append([]string{}, f.Alarms...), Auth: f.AuthEnabled, Unknown: append([]string{}, f.OtherBuckets...),
	}
	for _, l := range f.Leases {
		out.Leases = append(out.Leases, etcdLease{ID: strconv.FormatInt(l.ID, 16), TTLSeconds: l.TTL})
	}
	for _, m := range f.Members {
		out.Members = append(out.Members, etcdMember{
			ID: strconv.FormatUint(m.ID, 16), Name: m.Name, PeerURLs: append([]string{}, m.PeerURLs...), ClientURLs: append([]string{}, m.ClientURLs...), Learner: m.Learner,
		})
	}
	return out
}

// unsound turns an error about a file that isn't sound into the exit status for it, after it was told.
func (a *App) unsound(err error) error {
	if condition, known := etcd.ConditionOf(err); known && err != nil {
		fmt.Fprintf(a.Stderr, "drill: %s: %v%s\n", condition, err, rawHint(condition))
		return exitError{exitFailed}
	}
	return err
}

func snapshotInspect(ctx context.Context, o snapshotInspectOptions) error {
	found, err := inventory.Inspect(ctx, o.app.Worker, o.path, o.raw, inventory.SurveyOptions{Largest: o.top, PerHazard: o.top, At: time.Now()})
	if err != nil {
		return o.app.unsound(err)
	}
	noted, err := etcd.SidecarOf(&found.Snapshot)
	if err != nil {
		return o.app.unsound(err)
	}
	out := inspected{SchemaVersion: 1, Snapshot: found.Snapshot, Etcd: factsOf(found.Facts), Survey: found.Survey}
	if o.output != asTable {
		return o.output.document(o.app.Stdout, out)
	}
	return out.print(o.app.Stdout, takenAt(found.Snapshot.TakenAt, noted != nil), o.byNamespaces)
}

func (i inspected) print(w io.Writer, taken string, byNamespaces bool) error {
	e, s := i.Etcd, i.Snapshot
	fmt.Fprintf(w, "%s: %s, %s\n", s.Path, megabytes(s.Bytes), taken)
	fmt.Fprintf(w, "  etcd       %s\n", versions(e))
	compacted := "never compacted"
	if e.CompactRevision > 0 {
		compacted = fmt.Sprintf("compacted up to %d", e.CompactRevision)
	}
	fmt.Fprintf(w, "  revision   %d, %s\n", s.Revision, compacted)
	fmt.Fprintf(w, "  history    %d records, %d of them deletions; %d keys are live\n", e.Records, e.Tombstones, e.Keys)
	fmt.Fprintf(w, "  database   %s of %s in use\n", megabytes(e.BytesInUse), megabytes(e.Bytes))
	fmt.Fprintf(w, "  leases     %d\n", len(e.Leases))
	for _, m := range e.Members {
		fmt.Fprintf(w, "  member     %s %s at %s\n", m.ID, m.Name, strings.Join(m.PeerURLs, ", "))
	}
	for _, alarm := range e.Alarms {
		fmt.Fprintf(w, "  alarm      %s was raised\n", alarm)
	}
	if e.Auth {
		fmt.Fprintln(w, "  access     etcd's own users and roles are in force, also after a restore")
	}

	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nKIND\tOBJECTS\tBYTES")
	for _, k := range i.Kinds {
		fmt.Fprintf(t, "%s\t%d\t%d\n", dotted(k.Kind, k.Group), k.Keys, k.Bytes)
		for _, n := range k.Namespaces {
			if byNamespaces && n.Namespace != "" {
				fmt.Fprintf(t, "  %s\t%d\t%d\n", n.Namespace, n.Keys, n.Bytes)
			}
		}
	}
	fmt.Fprintf(t, "all\t%d\t%d\n", i.Total.Keys, i.Total.Bytes)
	fmt.Fprintln(t, "\nLARGEST\tBYTES")
	for _, l := range i.Largest {
		fmt.Fprintf(t, "%s\t%d\n", l.Object, l.Bytes)
	}
	if len(i.Encryption) > 0 {
		fmt.Fprintln(t, "\nENCRYPTED\tOBJECTS\tPROVIDER\tKEY")
		for _, c := range i.Encryption {
			provider := "not encrypted"
			if c.Provider != "" {
				provider = c.Provider + " " + c.Version
			}
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", dotted(c.Kind, c.Group), c.Objects, provider, c.Key)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(i.Hazards) == 0 {
		_, err := fmt.Fprintln(w, "\nNothing was found that would hurt after a restore.")
		return err
	}
	fmt.Fprintln(w, "\nWHAT WOULD HURT AFTER A RESTORE")
	for _, h := range i.Hazards {
		fmt.Fprintf(w, "%s (%s): %d, %s\n", h.Name, h.Severity, h.Count, h.What)
		for _, o := range h.Objects {
			fmt.Fprintf(w, "  - %s\n", withDetail(o))
		}
		if more := h.Count - int64(len(h.Objects)); more > 0 {
			fmt.Fprintf(w, "  - and %d more\n", more)
		}
		fmt.Fprintf(w, "  why: %s\n  do:  %s\n", h.Why, h.Remedy)
	}
	return nil
}

func withDetail(o inventory.HazardObject) string {
	if o.Detail == "" {
		return o.String()
	}
	return o.String() + ": " + o.Detail
}

// dotted is a kind with its group, if it has one.
func dotted(kind, group string) string {
	if group == "" {
		return kind
	}
	return kind + "." + group
}

func versions(e etcdFacts) string {
	storage := "before 3.6, which doesn't write its version into the file"
	if e.StorageVersion != "" {
		storage = e.StorageVersion
	}
	if e.ClusterVersion != "" {
		storage += ", in a cluster of version " + e.ClusterVersion
	}
	return storage
}

func snapshotObject(ctx context.Context, o snapshotInspectOptions) error {
	objects, err := inventory.FindIn(ctx, o.app.Worker, o.path, o.raw, *o.query, o.showSecrets)
	if errors.Is(err, inventory.ErrNoObject) {
		return err
	}
	if err != nil {
		return o.app.unsound(err)
	}
	if len(objects) > 1 {
		var names []string
		for _, f := range objects {
			names = append(names, f.Object.String())
		}
		return usagef("--object %s means several: %s; write .GROUP behind the kind", o.query, strings.Join(names, ", "))
	}
	f := objects[0]
	switch {
	case f.Encryption != "":
		return fmt.Errorf("%s is encrypted (%s), and drill has no keys: what is in it can't be shown", f.Object, strings.TrimSuffix(f.Encryption, ":"))
	case f.Content == nil:
		return fmt.Errorf("%s is no object of Kubernetes", f.Object)
	}
	format := o.output
	if format == asTable {
		format = asYAML
		unstructured.RemoveNestedField(f.Content, "metadata", "managedFields")
	}
	return format.document(o.app.Stdout, f.Content)
}
