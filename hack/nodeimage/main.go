// Command nodeimage provides the container image that the nodes of a drill's kind clusters run on: the published one
// where it can be had, and otherwise one that it builds from source, for hosts that reach no container registry.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := newRootCmd().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case interrupted:
		fmt.Fprintln(os.Stderr, "nodeimage: stopped; run it again to go on from here")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "nodeimage:", err)
		os.Exit(1)
	}
}
