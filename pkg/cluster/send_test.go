package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// cutOff is a node on which a folder's transfer fails, since the context of it ends.
type cutOff struct {
	Node
	cancel    context.CancelFunc
	discarded []string
	t         *testing.T
}

func (n *cutOff) Name() string { return "n" }

func (n *cutOff) Exec(ctx context.Context, cmd Cmd) (Result, error) {
	switch {
	case cmd.Argv[0] == "tar":
		n.cancel()
		return Result{}, ctx.Err()
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	case cmd.Argv[0] == "rm":
		n.discarded = append(n.discarded, cmd.Argv[len(cmd.Argv)-1])
		if _, bounded := ctx.Deadline(); len(n.discarded) > 1 && !bounded {
			n.t.Error("the clean-up may take for ever")
		}
	}
	return Result{}, nil
}

func TestSendDirCutOff(t *testing.T) {
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := &cutOff{cancel: cancel, t: t}
	if err := SendDir(ctx, n, from, "/var/lib/etcd-new"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	const part = "/var/lib/.etcd-new.part"
	if !slices.Equal(n.discarded, []string{part, part}) { // before, and after
		t.Errorf("removed: %q", n.discarded)
	}
}
