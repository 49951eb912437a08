package controlplane

import (
	"context"
	"fmt"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// runtimeWait bounds WaitRuntime where its context has no nearer deadline: a node that starts brings its container runtime up within seconds, a busy one takes longer.
const runtimeWait = 2 * time.Minute

// WaitRuntime asks the node's container runtime every interval until it answers: a node that was just started, or that can't be reached for a moment, is given time. Nothing is touched.
//
// It ends with the context, or after 2 minutes where that has no nearer deadline. The error wraps the context's and says what was last seen.
func WaitRuntime(ctx context.Context, n cluster.Node, interval time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, runtimeWait)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := "nothing yet"
	for {
		_, err := cluster.Run(waiting, n, "crictl", "pods", "--quiet")
		if err == nil {
			return nil
		}
		if waiting.Err() == nil { // a look that was cut short tells less than the one before
			last = err.Error()
		}
		select {
		case <-waiting.Done():
			return fmt.Errorf("the container runtime of node %s does not answer: %w; last seen: %s; does the node run, and does the engine that it runs on?",
				n.Name(), waiting.Err(), last)
		case <-tick.C:
		}
	}
}
