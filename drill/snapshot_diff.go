package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

type snapshotDiffOptions struct {
	app        *App
	paths      []string
	raw        bool
	live       func(context.Context, *App) (etcd.Endpoint, error) // nil for two files
	namespaces []string
	kinds      []inventory.Query
	all        bool
	summary    bool
	exitCode   bool
	output     outputFlag
}

func newSnapshotDiffCmd(a *App) *cobra.Command {
	o := snapshotDiffOptions{app: a}
	var reach reachFlags
	var live bool
	var kinds []string
	cmd := &cobra.Command{
		Use:   "diff FILE (FILE | --live)",
		Short: "Say which objects were added, removed and changed between two snapshots, or since one",
		Long: `Say which objects differ between two snapshots, or between a snapshot and an etcd that runs, and in which fields. The second is told as the newer one:
what it alone has was added. Files are verified first. An etcd is only read; what was written to it before the command began is seen.

Kubernetes goes on writing while nobody asks for anything: status, heartbeats, events. That is left out and counted, as it is by "drill run" when it
proves a recovery; --all leaves out nothing. Elements of a list that have a name are told by it, wherever they are. The data and annotations of a Secret
are hidden. What is encrypted can only be seen to be stored otherwise, which an API server does at each write; of kinds that Kubernetes itself
rewrites, therefore, it is only counted.

With --live: ` + reachHelp + `

Exit status: 0 it was compared, whatever the outcome, 1 it couldn't be, 2 usage, 3 a snapshot isn't sound or, with --exit-code, something differs,
130 interrupted. Where nothing is on either side of a kind or in the namespaces that were asked for, that is an error.`,
		Example: `  drill snapshot diff /backup/etcd-monday.db /backup/etcd-tuesday.db
  drill snapshot diff /backup/etcd-last-night.db --live --cluster staging --kind deployment --kind configmap --namespace shop
  drill snapshot diff before.db after.db --exit-code -o json | jq -r '.changed[] | .object.name + ": " + .fields[]?.path'`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.paths = args
			switch {
			case live && len(args) > 1:
				return usagef("--live is in the place of the second file, and %s is named; leave one of them out", args[1])
			case !live && len(args) == 1:
				return usagef("what is %s compared with? name a second file, or an etcd with --live", args[0])
			case !live && reach.given(cmd):
				return usagef("two files are compared, and an etcd is named; write --live in place of the second file")
			}
			for _, name := range []string{"kind", "namespace"} {
				if f := cmd.Flags().Lookup(name); f.Changed && strings.Trim(f.Value.String(), "[]") == "" {
					return usagef("--%s is given and empty", name)
				}
			}
			for _, kind := range kinds {
				if strings.ContainsAny(kind, "/ ") || kind == "" {
					return usagef("--kind %q: it is a kind or a resource, as in deployment or certificates.cert-manager.io", kind)
				}
				o.kinds = append(o.kinds, inventory.Query{Kind: kind})
			}
			for _, path := range o.paths {
				if err := checkFile(path); err != nil {
					return usageError{err}
				}
			}
			if live {
				if o.live, err = reach.parse(cmd, a.Getenv); err != nil {
					return err
				}
			}
			return snapshotDiff(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&live, "live", false, "compare with an etcd that runs")
	reach.add(cmd)
	f.BoolVar(&o.raw, "raw", false, rawHelp)
	f.StringSliceVarP(&o.namespaces, "namespace", "n", nil, "only objects in these namespaces")
	f.StringSliceVar(&kinds, "kind", nil, "only objects of these kinds; a resource may be written as well, and .GROUP behind either")
	f.BoolVar(&o.all, "all", false, "leave out nothing, also not what Kubernetes writes by itself")
	f.BoolVar(&o.summary, "summary", false, "name the objects, and not the fields")
	f.BoolVar(&o.exitCode, "exit-code", false, "exit with 3 if something differs")
	addOutputFlag(cmd, &o.output)
	return cmd
}

// only returns what says whether an object was asked for, and notes in there that one was, and which of the namespaces that were named have objects.
func (o snapshotDiffOptions) only(ctx context.Context, sides [2]side, there *bool, inhabited map[string]bool) (func(plan.Object) bool, error) {
	ofKind := func(plan.Object) bool { return true }
	if len(o.kinds) > 0 {
		var err error
		if ofKind, err = inventory.Kinds(ctx, o.kinds, sides[0].source, sides[1].source); err != nil {
			return nil, err
		}
	}
	return func(object plan.Object) bool {
		if slices.Contains(o.namespaces, object.Namespace) {
			inhabited[object.Namespace] = true
		}
		asked := (len(o.namespaces) == 0 || slices.Contains(o.namespaces, object.Namespace)) && ofKind(object)
		*there = *there || asked
		return asked
	}, nil
}

func ofKinds(kinds []inventory.Query) string {
	var names []string
	for _, q := range kinds {
		names = append(names, q.Kind)
	}
	if len(names) == 0 {
		return ""
	}
	return " of kind " + strings.Join(names, ", ")
}

// side is one of the two that are compared.
type side struct {
	// name is the path of a file, or the address of an etcd.
	name   string
	source inventory.Source
	// snapshot is nil for an etcd.
	snapshot *plan.SnapshotInfo
	// noted says that when it was taken is known otherwise than by the file's time.
	noted bool
}

// file verifies a snapshot.
func (o snapshotDiffOptions) file(ctx context.Context, path string) (side, error) {
	v, err := inventory.Verify(ctx, o.app.Worker, path, o.raw)
	if err != nil {
		return side{}, err
	}
	if err := etcd.CanReadHere(v.Snapshot); err != nil {
		return side{}, fmt.Errorf("%s: %w", path, err)
	}
	noted, err := etcd.SidecarOf(&v.Snapshot)
	if err != nil {
		return side{}, err
	}
	source := inventory.FromSnapshot(o.app.Worker, path)
	if v.Snapshot.NoChecksum {
		source = inventory.FromDatabase(o.app.Worker, path)
	}
	return side{name: path, source: source, snapshot: &v.Snapshot, noted: noted != nil}, nil
}

func snapshotDiff(ctx context.Context, o snapshotDiffOptions) error {
	var sides [2]side
	group, reading := errgroup.WithContext(ctx)
	for i, path := range o.paths {
		group.Go(func() (err error) {
			sides[i], err = o.file(reading, path)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return o.app.unsound(err)
	}
	if o.live != nil {
		ep, err := o.live(ctx, o.app)
		if err != nil {
			return err
		}
		sides[1] = side{name: ep.URL, source: inventory.FromEtcd(ep)}
	}
	there, inhabited := false, map[string]bool{}
	only, err := o.only(ctx, sides, &there, inhabited)
	if err != nil {
		return o.app.unsound(err)
	}
	d, err := inventory.TakeDiff(ctx, sides[0].source, sides[1].source, inventory.Options{All: o.all, Only: only})
	if err != nil {
		return o.app.unsound(err)
	}
	// With a mistake in a name, nothing would ever differ.
	if empty := slices.DeleteFunc(slices.Clone(o.namespaces), func(name string) bool { return inhabited[name] }); len(empty) > 0 {
		return fmt.Errorf("on neither side is there anything in namespace %s", strings.Join(empty, ", "))
	}
	if !there && len(o.namespaces) > 0 {
		return fmt.Errorf("on neither side is there anything in namespace %s%s", strings.Join(o.namespaces, ", "), ofKinds(o.kinds))
	}
	if len(o.kinds) > 0 && d.LeftOut > 0 && d.Same == 0 && d.None() {
		return fmt.Errorf("nothing%s was compared: all of it, %s, is left out as what Kubernetes writes by itself; --all compares that, too", ofKinds(o.kinds), keys(int64(d.LeftOut)))
	}
	out := newDifference(sides, d)
	if !out.SameCluster {
		fmt.Fprintf(o.app.Stderr, "drill: these are of two clusters: Namespace kube-system has UID %s in %s, and %s in %s\n", d.A.KubeSystemUID, sides[0].name, d.B.KubeSystemUID, sides[1].name)
	}
	if o.output == asTable {
		err = out.print(o.app.Stdout, !o.summary)
	} else {
		if o.summary {
			for i := range out.Changed {
				out.Changed[i].Fields = nil
			}
		}
		err = o.output.document(o.app.Stdout, out)
	}
	if err == nil && o.exitCode && !d.None() {
		return exitError{exitFailed}
	}
	return err
}

// difference is what `drill snapshot diff -o json` prints.
type difference struct {
	SchemaVersion int      `json:"schemaVersion"`
	A             diffSide `json:"a"`
	B             diffSide `json:"b"`
	// SameCluster says whether both are of one cluster, or that isn't known.
	SameCluster bool            `json:"sameCluster"`
	Added       []diffObject    `json:"added"`
	Removed     []diffObject    `json:"removed"`
	Changed     []changedObject `json:"changed"`
	// Same is how many keys are the same, Partly how many of these but for what was left out, and Unread how many of these are encrypted and stored otherwise.
	Same   int `json:"same"`
	Partly int `json:"partly"`
	Unread int `json:"unread"`
	// LeftOut is how many keys were left out as a whole, and Rewrites by what.
	LeftOut  int           `json:"leftOut"`
	Rewrites []diffRewrite `json:"rewrites"`
}

type diffSide struct {
	// Path is that of a file, and Endpoint the address of an etcd; the other is empty.
	Path     string `json:"path"`
	Endpoint string `json:"endpoint"`
	// TakenAt is when a snapshot was; null for an etcd.
	TakenAt       *time.Time `json:"takenAt"`
	Revision      int64      `json:"revision"`
	Keys          int        `json:"keys"`
	KubeSystemUID string     `json:"kubeSystemUID"`
	noted         bool
}

type diffObject struct {
	Key    string      `json:"key"`
	Object plan.Object `json:"object"`
	// Writer is who wrote it last, by its own account; empty where it doesn't say.
	Writer string `json:"writer"`
}

type changedObject struct {
	diffObject
	// Remade says that it was deleted, and made anew under the same name.
	Remade bool `json:"remade"`
	// Fields are null with --summary, and where they aren't known: an etcd goes on while it is read.
	Fields []diffField `json:"fields"`
}

type diffField struct {
	Path string `json:"path"`
	// A and B are JSON, shortened where they are long, "nothing", or "(hidden)".
	A string `json:"a"`
	B string `json:"b"`
}

type diffRewrite struct {
	Name    string `json:"name"`
	Objects string `json:"objects"`
	Keys    int    `json:"keys"`
	Reason  string `json:"reason"`
}

func newDifference(sides [2]side, d inventory.Diff) difference {
	out := difference{
		SchemaVersion: 1, A: sides[0].describe(d.A), B: sides[1].describe(d.B), SameCluster: d.A.KubeSystemUID == "" || d.B.KubeSystemUID == "" || d.A.KubeSystemUID == d.B.KubeSystemUID,
		Added: []diffObject{}, Removed: []diffObject{}, Changed: []changedObject{}, Same: d.Same, Partly: d.Partly, Unread: d.Unread, LeftOut: d.LeftOut, Rewrites: []diffRewrite{},
	}
	for _, o := range d.Added {
		out.Added = append(out.Added, diffObject{o.Key, o.Object, o.B.Writer})
	}
	for _, o := range d.Removed {
		out.Removed = append(out.Removed, diffObject{o.Key, o.Object, o.A.Writer})
	}
	for _, o := range d.Changed {
		c := changedObject{diffObject: diffObject{o.Key, o.Object, o.B.Writer}, Remade: o.Remade()}
		for _, f := range o.Fields {
			c.Fields = append(c.Fields, diffField(f))
		}
		out.Changed = append(out.Changed, c)
	}
	for _, r := range d.Applied {
		out.Rewrites = append(out.Rewrites, diffRewrite{r.Name, r.Rewrite.Objects, r.Objects, r.Reason})
	}
	return out
}

func (s side) describe(d inventory.Side) diffSide {
	out := diffSide{Revision: d.Revision, Keys: d.Keys, KubeSystemUID: d.KubeSystemUID}
	if s.snapshot == nil {
		out.Endpoint = s.name
		return out
	}
	out.Path, out.TakenAt, out.noted = s.name, &s.snapshot.TakenAt, s.noted
	return out
}

func (s diffSide) String() string {
	if s.Path == "" {
		return fmt.Sprintf("%s: %s at revision %d, now", s.Endpoint, keys(int64(s.Keys)), s.Revision)
	}
	return fmt.Sprintf("%s: %s at revision %d, %s", s.Path, keys(int64(s.Keys)), s.Revision, takenAt(*s.TakenAt, s.noted))
}

func (d difference) print(to io.Writer, fields bool) error {
	w := &strings.Builder{}
	fmt.Fprintf(w, "A  %s\nB  %s\n\n", d.A, d.B)
	for _, o := range d.Removed {
		fmt.Fprintf(w, "- %s\n", o.Object)
	}
	for _, o := range d.Added {
		fmt.Fprintf(w, "+ %s%s\n", o.Object, by(o.Writer))
	}
	for _, o := range d.Changed {
		how := ""
		if o.Remade {
			how = ", deleted and made anew"
		}
		fmt.Fprintf(w, "~ %s%s%s\n", o.Object, how, by(o.Writer))
		for _, f := range o.Fields {
			if fields {
				fmt.Fprintf(w, "    %s: %s -> %s\n", f.Path, f.A, f.B)
			}
		}
		if fields && len(o.Fields) == 0 {
			fmt.Fprintln(w, "    "+unexplained(d.B))
		}
	}
	if len(d.Added)+len(d.Removed)+len(d.Changed) > 0 {
		fmt.Fprintln(w)
	}
	same := ""
	if d.Partly > 0 {
		same = fmt.Sprintf(" (%d of them but for fields that Kubernetes rewrites)", d.Partly)
	}
	fmt.Fprintf(w, "%d removed, %d added, %d changed; %d are the same%s\n", len(d.Removed), len(d.Added), len(d.Changed), d.Same, same)
	if d.Unread > 0 {
		fmt.Fprintf(w, "%d of these are encrypted and stored otherwise: what differs can't be seen\n", d.Unread)
	}
	if len(d.Rewrites) > 0 {
		var names []string
		for _, r := range d.Rewrites {
			names = append(names, fmt.Sprintf("%s (%d)", r.Name, r.Keys))
		}
		fields := ""
		if d.Partly > 0 {
			fields = fmt.Sprintf(", and fields of %d others", d.Partly)
		}
		fmt.Fprintf(w, "%d keys are left out%s, which Kubernetes writes by itself: %s; --all tells of them\n", d.LeftOut, fields, strings.Join(names, ", "))
	}
	_, err := io.WriteString(to, w.String())
	return err
}

// unexplained says why the fields of an object aren't known that differs.
func unexplained(b diffSide) string {
	if b.Path == "" {
		return "it was written again while it was compared"
	}
	return "it is stored in another form, and says the same"
}

// by says who wrote an object last.
func by(writer string) string {
	if writer == "" {
		return ""
	}
	return ", by " + writer
}
