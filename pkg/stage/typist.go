package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Typist types commands on the nodes of a cluster, as a person would who has a root shell there. It is the engine's Typist.
type Typist struct{ Cluster cluster.Cluster }

// adminConfig is what the person has exported: kubeadm's own kubeconfig on a control plane.
const adminConfig = "KUBECONFIG=/etc/kubernetes/admin.conf"

// again is how long a person waits before trying a command again; see plan.Command.Until.
const again = time.Second

// Type carries out one command.
func (t Typist) Type(ctx context.Context, c plan.Command) error {
	n, err := t.node(c.On)
	if err != nil {
		return err
	}
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		err := typeOnce(ctx, n, c)
		switch {
		case c.Fails && err == nil:
			return fmt.Errorf("on node %s: %s was to fail and did not", c.On, c)
		case err == nil, c.Fails && ran(err):
			return nil
		case !c.Until:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("repeating until it succeeds: %w; last: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func (t Typist) node(name string) (cluster.Node, error) {
	for _, n := range t.Cluster.Nodes() {
		if n.Name() == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("cluster %s has no node %q to type on", t.Cluster.Name(), name)
}

// ran says whether an error is that of a command which ran and did not succeed.
func ran(err error) bool {
	var exit *cluster.ExitError
	return errors.As(err, &exit)
}

// typeOnce runs the command once, and what it is piped to. As in a shell, the last one's status counts.
func typeOnce(ctx context.Context, n cluster.Node, c plan.Command) error {
	res, err := n.Exec(ctx, cluster.Cmd{Argv: c.Argv, Env: []string{adminConfig}})
	if len(c.PipeTo) == 0 || err != nil && !ran(err) { // what is not known to have run has said nothing that could be read on
		return err
	}
	_, err = n.Exec(ctx, cluster.Cmd{Argv: c.PipeTo, Env: []string{adminConfig}, Stdin: bytes.NewReader(res.Stdout)})
	return err
}
