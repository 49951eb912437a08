package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

type snapshotVerifyOptions struct {
	app    *App
	path   string
	raw    bool
	output outputFlag
}

// rawHint says of a file without a trailer how it is accepted all the same.
func rawHint(c etcd.Condition) string {
	if c != etcd.ConditionNoTrailer {
		return ""
	}
	return " (or `drill snapshot save`); if this copy is all there is, --raw accepts it, and can't know whether it is what etcd wrote, and all of it"
}

// rawHelp says what is missing in a file without a trailer.
const rawHelp = "accept a file without the checksum that etcd appends to a snapshot, such as a copy of DATADIR/member/snap/db: its pages and records are looked at all the same, but that they are what etcd wrote can't be known, and what " +
	"etcd had acknowledged last may be in its write-ahead log alone"

func newSnapshotVerifyCmd(a *App) *cobra.Command {
	o := snapshotVerifyOptions{app: a}
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Say whether a snapshot is sound, and if not, what is wrong with it and where",
		Long: `Say in which condition a snapshot is. The file is only read; no cluster and no container engine are needed.

  sound           everything below holds
  truncated       it ends before its own header says that it does
  damaged         it isn't what etcd sent, or a page, a record or a value of Kubernetes makes no sense; it is told where
  no-trailer      the checksum that etcd appends to a snapshot isn't there: a copy of member/snap/db, see --raw
  empty           it has no content
  compressed      it has to be unpacked first; it is told how
  not-a-snapshot  it is something else
  newer           it is of a newer etcd than this drill can read
  changed         somebody wrote to it while it was read
  sidecar-mismatch  it is sound, and FILE.json beside it is about another file, or was cut

Looked at are: its length; the SHA-256 at its end, over all that comes before ("etcdutl snapshot status" doesn't look at it); every page, and that each is in
use once; etcd's buckets; that the records of the history have rising revisions; and that each value in that history is one that Kubernetes can read, as far as it
isn't encrypted. A child process reads it, in pieces: a bad file can't do any harm, and 256 MiB are enough for one of any size.

FILE.json is what "drill snapshot save" writes beside a snapshot.

Exit status: 0 sound, 3 in any other condition, 1 reading it failed, 2 usage, or there is no such file, or it can't be opened, 130 interrupted.`,
		Example: `  drill snapshot verify /backup/etcd-last-night.db
  drill snapshot verify /backup/etcd-last-night.db -o json | jq -r .condition
  drill snapshot verify --raw /var/lib/etcd/member/snap/db`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.path = args[0]
			if err := checkFile(o.path); err != nil {
				return usageError{err}
			}
			return snapshotVerify(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.raw, "raw", false, rawHelp)
	addOutputFlag(cmd, &o.output)
	return cmd
}

// verification is what `drill snapshot verify -o json` prints.
type verification struct {
	SchemaVersion int            `json:"schemaVersion"`
	Path          string         `json:"path"`
	Condition     etcd.Condition `json:"condition"`
	// Reason says what is wrong, and where; empty for a sound file.
	Reason string `json:"reason"`
	// Sidecar is what the file beside the snapshot says of it; null where there is none.
	Sidecar *etcd.Sidecar `json:"sidecar"`
	// Snapshot and Looked are null unless the file is sound.
	Snapshot *plan.SnapshotInfo `json:"snapshot"`
	Looked   *looked            `json:"looked"`
}

// looked is how much was looked at.
type looked struct {
	Pages   uint64 `json:"pages"`
	Records int64  `json:"records"`
	Values  int64  `json:"values"`
}

func snapshotVerify(ctx context.Context, o snapshotVerifyOptions) error {
	v, err := verified(ctx, o.app.Worker, o.path, o.raw)
	if err != nil {
		return err
	}
	if o.output == asTable {
		if err := v.print(o.app.Stdout); err != nil {
			return err
		}
	} else if err := o.output.document(o.app.Stdout, v); err != nil {
		return err
	}
	if v.Condition != etcd.ConditionSound {
		return exitError{exitFailed}
	}
	return nil
}

// verified looks at a file. It is an error where nothing can be said about it.
func verified(ctx context.Context, w etcd.Worker, path string, raw bool) (verification, error) {
	v := verification{SchemaVersion: 1, Path: path}
	found, err := inventory.Verify(ctx, w, path, raw)
	if err == nil {
		err = etcd.CanReadHere(found.Snapshot)
	}
	if err == nil {
		v.Sidecar, err = etcd.SidecarOf(&found.Snapshot)
	}
	condition, known := etcd.ConditionOf(err)
	if !known {
		return v, err
	}
	v.Condition = condition
	if err != nil {
		v.Reason = err.Error() + rawHint(condition)
		return v, nil
	}
	v.Snapshot = &found.Snapshot
	v.Looked = &looked{Pages: found.Facts.Pages, Records: found.Facts.Records, Values: found.Values}
	return v, nil
}

func (v verification) print(to io.Writer) error {
	w := &strings.Builder{}
	fmt.Fprintf(w, "%s: %s\n", v.Path, v.Condition)
	if v.Snapshot == nil {
		fmt.Fprintf(w, "  %s\n", v.Reason)
		_, err := io.WriteString(to, w.String())
		return err
	}
	s := v.Snapshot
	version := "of an etcd that doesn't write its version into it (before 3.6)"
	if s.EtcdVersion != "" {
		version = "of etcd " + s.EtcdVersion
	}
	fmt.Fprintf(w, "  %s at revision %d, %s, %s, %s\n", keys(s.Keys), s.Revision, megabytes(s.Bytes), version, takenAt(s.TakenAt, v.Sidecar != nil))
	sum := "the SHA-256 at its end, "
	if s.NoChecksum {
		sum = ""
	}
	fmt.Fprintf(w, "  looked at: %s%d pages, %d records, %d values\n", sum, v.Looked.Pages, v.Looked.Records, v.Looked.Values)
	if v.Sidecar != nil {
		fmt.Fprintf(w, "  %s is about this file: taken from %s, cluster %s, by %s\n", etcd.SidecarPath(v.Path), v.Sidecar.Endpoint, v.Sidecar.ClusterID, v.Sidecar.TakenBy)
	}
	if s.NoChecksum {
		fmt.Fprintln(w, "  it has no checksum: that it is what etcd wrote, and all of it, can't be known")
	}
	_, err := io.WriteString(to, w.String())
	return err
}

// keys says how many there are.
func keys(n int64) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}

// takenAt says when a snapshot was taken, or by what else that is judged.
func takenAt(at time.Time, noted bool) string {
	if noted {
		return "taken " + at.Local().Format(time.DateTime)
	}
	return "of " + at.Local().Format(time.DateTime) + " by the file's time"
}
