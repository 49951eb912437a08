package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/stage"
)

// ownerFile is by which a run has a cluster to itself, in its folder on the first control plane. The lock is a second name of it: of two that give it that name at the same
// moment link(2) lets one.
const ownerFile = "owner.json"

// Claim says who has a cluster.
type Claim struct {
	Run string `json:"run"`
	journal.Owner
	Since time.Time `json:"since"`
}

// ErrClaimed says that another run has the cluster. It is a *ClaimedError.
var ErrClaimed = errors.New("another run has the cluster")

// ClaimedError says which run has the cluster.
type ClaimedError struct {
	Cluster string
	Claim   Claim
}

// Error names the run and its process.
func (e *ClaimedError) Error() string {
	return fmt.Sprintf("cluster %s is being drilled by run %s: %s, since %s", e.Cluster, e.Claim.Run, e.Claim.Owner, e.Claim.Since.UTC().Format(time.RFC3339))
}

// Is makes errors.Is(err, ErrClaimed) true.
func (e *ClaimedError) Is(target error) bool { return target == ErrClaimed }

// holder returns who has the cluster; nil if nobody does.
func holder(ctx context.Context, n cluster.Node) (*Claim, error) {
	c, _, err := readLock(ctx, n)
	return c, err
}

// readLock returns who has the cluster and what the lock says to the letter; nil and nothing if nobody does.
func readLock(ctx context.Context, n cluster.Node) (*Claim, string, error) {
	b, err := n.ReadFile(ctx, cluster.LockFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", nil
	case err != nil:
		return nil, "", fmt.Errorf("node %s: looking whether another run has the cluster: %w", n.Name(), err)
	}
	var c Claim
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, "", fmt.Errorf("node %s: %s is damaged: %w; hint: `ls %s` on that node names the runs that have left something there; if RUN is the one that had the cluster, "+
			`this gives it back to the run, which can then be resumed or rolled back: echo '{"run":"RUN"}' >%s`, n.Name(), cluster.LockFile, err, stage.NodeDirs, cluster.LockFile)
	}
	return &c, strings.TrimSpace(string(b)), nil
}

// vacant returns an error, a *ClaimedError, if another run has the cluster. If it is held by this one, or by one of this machine that has come to its end and could not say so
// any more, it returns what the lock says, to be taken over. Nothing is touched.
func (j Job) vacant(ctx context.Context) (over string, err error) {
	held, lock, err := readLock(ctx, cluster.ControlPlanes(j.Cluster)[0])
	if err != nil || held == nil {
		return "", err
	}
	if held.Run != j.ID {
		l, err := Find(j.StateDir, held.Run)
		if err != nil || l.AtWork || !l.Settled() {
			return "", j.explained(&ClaimedError{Cluster: j.Cluster.Name(), Claim: *held})
		}
	}
	return lock, nil
}

// claim takes the cluster for the run, or takes it over from an earlier process of the same run. What is in the way of it is a *ClaimedError, and then nothing was touched.
func (j Job) claim(ctx context.Context) error {
	n := cluster.ControlPlanes(j.Cluster)[0]
	const tries = 3
	for i := 1; ; i++ {
		over, err := j.vacant(ctx)
		if err != nil {
			return err
		}
		err = claimOnce(ctx, n, Claim{Run: j.ID, Owner: journal.Self(), Since: time.Now().UTC()}, over)
		var exit *cluster.ExitError
		if err == nil || i == tries || !errors.As(err, &exit) {
			return err
		}
		// Somebody was quicker, and is seen at the next look.
	}
}

// takeOver links $3 as the lock $1 if that still says $2.
const takeOver = `test "$(cat -- "$1")" = "$2" && ln -f -T -- "$3" "$1"`

// takeOverPatience is for how many seconds another one may be taking the lock over.
const takeOverPatience = "10"

// claimOnce takes the cluster if nobody has it or, where over isn't empty, if the lock still says that. Of two that take it over at the same moment one gets it: flock(1) lets one look
// at a time.
func claimOnce(ctx context.Context, n cluster.Node, c Claim, over string) error {
	own := path.Join(stage.NodeDirs, c.Run, ownerFile)
	if _, err := cluster.Run(ctx, n, "mkdir", "-p", "-m", "0700", "--", path.Dir(own)); err != nil {
		return err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := n.WriteFile(ctx, own, 0o600, bytes.NewReader(append(b, '\n'))); err != nil {
		return fmt.Errorf("node %s: claiming the cluster: %w", n.Name(), err)
	}
	link := []string{"ln", "-T", "--", own, cluster.LockFile}
	if over != "" {
		link = []string{"flock", "-w", takeOverPatience, stage.NodeDirs, "sh", "-c", takeOver, "sh", cluster.LockFile, over, own}
	}
	if _, err := cluster.Run(ctx, n, link...); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_, undone := cluster.Run(ctx, n, "rm", "-f", "--", own)
		_, removed := cluster.Run(ctx, n, "rmdir", "--ignore-fail-on-non-empty", "--", path.Dir(own))
		return errors.Join(fmt.Errorf("node %s: claiming the cluster: %w", n.Name(), err), undone, removed)
	}
	return nil
}

// stillOwns returns an error if the cluster is not this process's any more: one elsewhere, where it can't be seen that this one lives, has taken the run over.
func (j Job) stillOwns(ctx context.Context) error {
	held, err := holder(ctx, cluster.ControlPlanes(j.Cluster)[0])
	switch {
	case err != nil:
		return err
	case held == nil:
		return fmt.Errorf("cluster %s was taken from run %s while that was at work: nobody has it now", j.Cluster.Name(), j.ID)
	case held.Run != j.ID:
		return fmt.Errorf("cluster %s was taken from run %s while that was at work: %w", j.Cluster.Name(), j.ID, &ClaimedError{Cluster: j.Cluster.Name(), Claim: *held})
	case held.Owner != journal.Self():
		return fmt.Errorf("run %s was taken over while this process was at work on it: by %s, at %s", j.ID, held.Owner, held.Since.UTC().Format(time.RFC3339))
	}
	return nil
}

// giveBack ends this process's hold on the cluster, and has what was kept there for the run put away before. It does so after the end of ctx, too. What another process has by now is left to that.
func (j Job) giveBack(ctx context.Context, putAway func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := j.stillOwns(ctx); err != nil {
		return err
	}
	return errors.Join(putAway(ctx), j.release(ctx))
}

// releaseTimeout bounds giving the cluster back.
const releaseTimeout = 15 * time.Second

// release gives the cluster back, if the run has it, whichever process took it for that. It does so after the end of ctx, too.
func (j Job) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	n := cluster.ControlPlanes(j.Cluster)[0]
	held, err := holder(ctx, n)
	if err != nil || held == nil || held.Run != j.ID {
		return err
	}
	if _, err := cluster.Run(ctx, n, "rm", "-f", "--", cluster.LockFile); err != nil {
		return fmt.Errorf("node %s: giving the cluster back: %w; this does it: rm %s", n.Name(), err, cluster.LockFile)
	}
	return nil
}
