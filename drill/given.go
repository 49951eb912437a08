package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/cluster/kind"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/pkg/term"
	"github.com/etcd-drill/drill/scenarios"
)

// givenFlags are about a snapshot that is restored in place of one that a run takes.
type givenFlags struct {
	path                        string
	skipHashCheck, otherCluster bool
}

const givenHelp = `With --snapshot a backup that is there already is restored, whoever made it, in place of a snapshot that the run takes. The file is
only read. It must be whole, of the cluster that --cluster names, and of no newer etcd than the one that runs there; otherwise nothing
is touched. EVERYTHING WRITTEN SINCE IT WAS TAKEN IS LOST. What the run deploys is not in it, so that objects-restored and
service-answers are skipped; all else is proven as ever, against what the file holds. How old it is, is taken from SNAPSHOT.json
beside it, as "drill snapshot save" writes it, or else from the file's time.`

// add defines the flags of a command.
func (g *givenFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&g.path, "snapshot", "", "restore this snapshot of etcd, instead of one that the run takes")
	f.BoolVar(&g.skipHashCheck, "skip-hash-check", false, "accept a --snapshot that has no checksum at its end, such as a copy of member/snap/db; a wrong one is never accepted, and all pages are checked")
	f.BoolVar(&g.otherCluster, "other-cluster", false, "accept a --snapshot of another cluster")
	_ = cmd.MarkFlagFilename("snapshot")
}

// parse returns the snapshot that was given, nil if none was. What can be known to be wrong without looking into the file is a usage error.
func (g *givenFlags) parse(cmd *cobra.Command) (*stage.Snapshot, error) {
	if !cmd.Flags().Changed("snapshot") {
		for name, set := range map[string]bool{"skip-hash-check": g.skipHashCheck, "other-cluster": g.otherCluster} {
			if set {
				return nil, usagef("--%s says what a --snapshot may be, and none is given", name)
			}
		}
		return nil, nil
	}
	if g.path == "" { // a variable that isn't set, most likely
		return nil, usagef("--snapshot is given and empty")
	}
	if err := checkFile(g.path); err != nil {
		return nil, usagef("--snapshot: %w", err)
	}
	path, err := filepath.Abs(g.path) // resumed runs are in other folders
	if err != nil {
		return nil, err
	}
	return &stage.Snapshot{Path: path, SkipHashCheck: g.skipHashCheck, OtherCluster: g.otherCluster}, nil
}

// ownFiles are the folders in which each process finds files of its own.
var ownFiles = regexp.MustCompile(`^(/dev/fd/|/dev/std|/proc/(self|thread-self|\d+)/(task/\d+/)?fd/)`)

// checkFile says what can be known to be wrong with a file without looking into it, of a snapshot for example. A link is followed.
func checkFile(path string) error {
	st, err := os.Stat(path)
	switch {
	case path == "":
		return errors.New("the name of the file is empty; is a variable not set?")
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no file %s", path)
	case err != nil:
		return err
	case st.IsDir():
		return fmt.Errorf("%s is a directory; name a file in it", path)
	case !st.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file, and is read more than once; write it to one first", path)
	}
	for at, links := path, 0; links < 40; links++ { // as many as Linux follows
		if abs, err := filepath.Abs(at); err == nil && ownFiles.MatchString(abs) {
			return fmt.Errorf("%s is another file for each process, and more than one reads it; name the file itself", path)
		}
		to, err := os.Readlink(at)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(at), to)
		}
		at = to
	}
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; call drill as somebody who may read it", err)
		}
		return fmt.Errorf("it can't be read: %w", err)
	}
	return f.Close()
}

// refuseSnapshot looks at a snapshot that was given before a cluster is made for it. Where it is no good, every scenario has a broken run to show for it, and nothing else must be done.
func (o runOptions) refuseSnapshot(ctx context.Context, view *term.View, scs ...scenarios.Scenario) ([]report.Run, error) {
	if o.snapshot == nil || o.cluster != "" { // with a cluster that is there, the run itself looks first of all
		return nil, nil
	}
	if !o.snapshot.OtherCluster {
		return nil, usagef("--snapshot needs --cluster, and the name of the cluster that it was taken from: one that is made for the run is always another one; --other-cluster tries it all the same")
	}
	began := time.Now()
	_, err := o.snapshot.Check(ctx, o.app.Worker)
	if err == nil {
		return nil, nil
	}
	var runs []report.Run
	for _, sc := range scs {
		job := lease{options: o, scenario: sc}.job()
		job.Observers = []plan.Observer{view}
		runs = append(runs, job.CouldNotBegin(ctx, began, plan.ClusterInfo{Provider: kind.Name}, err))
	}
	return runs, nil
}
