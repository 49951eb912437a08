package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/term"
)

type snapshotSaveOptions struct {
	app    *App
	path   string
	name   string // of what it is, for a file that wasn't named
	reach  func(context.Context, *App) (etcd.Endpoint, error)
	output outputFlag
}

func newSnapshotSaveCmd(a *App) *cobra.Command {
	o := snapshotSaveOptions{app: a}
	var reach reachFlags
	cmd := &cobra.Command{
		Use:   "save [FILE]",
		Short: "Take a snapshot of an etcd, and verify it",
		Long: `Take a snapshot of an etcd from one of its members, as "etcdctl snapshot save" does, and verify it as "drill snapshot verify" does, before it gets
its name. FILE is made for its owner alone (mode 0600), is synced to disk, and appears whole or not at all; one that exists is never overwritten. Beside
it FILE.json says what isn't in a snapshot: when it was taken, by whom, of which etcd and cluster, and the SHA-256 of the file.

Without FILE it is etcd-NAME-DATE-TIME.db in this folder. The folder must exist, and others must not be able to exchange files in it.

` + reachHelp + `

Exit status: 0 it is there and sound, 1 it couldn't be taken, 2 usage, 3 what etcd sent isn't sound (nothing is there then) or holds a value that Kubernetes
can't read (it is there then, as what etcd holds), 130 interrupted.`,
		Example: `  drill snapshot save --cluster staging
  sudo drill snapshot save /backup/etcd.db --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \
    --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt --key /etc/kubernetes/pki/etcd/healthcheck-client.key`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.reach, err = reach.parse(cmd, a.Getenv); err != nil {
				return err
			}
			o.name = reach.cluster
			if o.name == "" {
				u, err := url.Parse(reach.endpoints[0])
				if err != nil || u.Hostname() == "" {
					u = &url.URL{Host: reach.endpoints[0]}
				}
				o.name = u.Hostname()
			}
			if len(args) > 0 {
				o.path = args[0]
			}
			if err := o.check(len(args) > 0); err != nil {
				return err
			}
			return snapshotSave(cmd.Context(), o)
		},
	}
	reach.add(cmd)
	addOutputFlag(cmd, &o.output)
	return cmd
}

// check finds what is wrong with the name of the file before etcd is asked.
func (o *snapshotSaveOptions) check(named bool) error {
	switch {
	case named && o.path == "":
		return usagef("the name of the file is given and empty")
	case o.path == "-":
		return usagef("a snapshot is written to a file, since it is verified before it gets its name; name one")
	case !named:
		o.path = "etcd-" + strings.NewReplacer(":", "-", "/", "-").Replace(o.name) + "-" + time.Now().Format("20060102-150405") + ".db"
	}
	if st, err := os.Stat(o.path); err == nil && st.IsDir() || strings.HasSuffix(o.path, string(filepath.Separator)) {
		return usagef("%s is a folder; name a file in it", o.path)
	}
	for _, path := range []string{o.path, etcd.SidecarPath(o.path)} {
		if _, err := os.Lstat(path); err == nil {
			return usagef("%s exists already, and is never overwritten; choose another name", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return usageError{err}
		}
	}
	if err := etcd.CheckFolder(filepath.Dir(o.path)); err != nil {
		return usageError{err}
	}
	return nil
}

// savedSnapshot is what `drill snapshot save -o json` prints.
type savedSnapshot struct {
	Path string `json:"path"`
	etcd.Sidecar
}

// unfinishedFor is for how long nobody must have written to an unfinished snapshot, until it is told of.
const unfinishedFor = time.Minute

func snapshotSave(ctx context.Context, o snapshotSaveOptions) error {
	ep, err := o.reach(ctx, o.app)
	if err != nil {
		return err
	}
	st, err := etcd.StatusOf(ctx, ep)
	if err != nil {
		return err
	}
	for _, left := range etcd.Unfinished(filepath.Dir(o.path), time.Now().Add(-unfinishedFor)) {
		fmt.Fprintf(o.app.Stderr, "drill: %s is what an earlier snapshot save had begun with, and was killed most likely; it may hold every Secret of a cluster: delete it\n", left)
	}
	bar := term.NewTransfer(o.app.Stderr, o.app.ErrTerminal, "snapshot of "+ep.URL)
	uid := ""
	var unreadable error
	info, err := etcd.Save(ctx, ep, o.path, etcd.InAnyFolder(), etcd.WithProgress(bar.Tell), etcd.VerifyBy(func(ctx context.Context, path string) (plan.SnapshotInfo, error) {
		v, err := inventory.Verify(ctx, o.app.Worker, path, false)
		uid = v.KubeSystemUID
		if errors.Is(err, etcd.ErrDamaged) {
			// Is it the file, or a value that etcd itself holds like that? Such an etcd is to have backups as well.
			if info, err2 := etcd.Verify(ctx, o.app.Worker, path); err2 == nil {
				unreadable = err
				return info, nil
			}
		}
		return v.Snapshot, err
	}))
	unseen := bar.Close() // who saves without seeing how far it is gets all of it
	if err != nil {
		return o.app.unsound(err)
	}
	s := etcd.Sidecar{
		SchemaVersion: 1, File: filepath.Base(o.path), SHA256: info.SHA256, Bytes: info.Bytes, Revision: info.Revision, Keys: info.Keys, EtcdVersion: st.Version,
		ClusterVersion: info.ClusterVersion, ClusterID: strconv.FormatUint(st.ClusterID, 16), MemberID: strconv.FormatUint(st.MemberID, 16), KubeSystemUID: uid, Endpoint: ep.URL,
		TakenAt: info.TakenAt, TakenBy: readVersion().String(),
	}
	if err := etcd.WriteSidecar(o.path, s); err != nil {
		return fmt.Errorf("the snapshot is there and sound: %s; but what there is to know of it could not be written beside it: %w", o.path, err)
	}
	if unreadable != nil {
		fmt.Fprintf(o.app.Stderr, "drill: %s is what etcd holds, and saved; but etcd holds something that Kubernetes can't read, in the backup as in the cluster: %v\n", o.path, unreadable)
		unseen = errors.Join(unseen, exitError{exitFailed})
	}
	if o.output != asTable {
		return errors.Join(o.output.document(o.app.Stdout, savedSnapshot{Path: o.path, Sidecar: s}), unseen)
	}
	verified := "verified; "
	if unreadable != nil {
		verified = ""
	}
	_, err = fmt.Fprintf(o.app.Stdout, "%s: %s at revision %d, %s, of etcd %s\n  sha256 %s\n  %s%s says what isn't in it\n",
		o.path, keys(s.Keys), s.Revision, megabytes(s.Bytes), s.EtcdVersion, s.SHA256, verified, etcd.SidecarPath(o.path))
	return errors.Join(err, unseen)
}
