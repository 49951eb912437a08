// Command podroutes lets pods of different nodes reach each other: on each node it keeps one route to every other
// node's pod network, by way of that node's address, and masquerades what pods send out of the pod network. All nodes
// of a kind cluster share one network, so plain routes are enough.
//
// It asks for the list of nodes again and again and never watches. After etcd has been restored from a snapshot, a watch
// may wait for ever for a revision that is in the past; a list can't. While the API server is away, routes stay.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	node := flag.String("node", os.Getenv("NODE_NAME"), "name of the node this runs on")
	subnets := flag.String("pod-subnet", os.Getenv("POD_SUBNET"), "the cluster's pod networks, separated by commas")
	every := flag.Duration("every", 5*time.Second, "time between two looks")
	flag.Parse()
	if err := follow(ctx, *node, *subnets, *every); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

// follow brings the node in line, over and over, until ctx ends. It says something only when something changes.
func follow(ctx context.Context, node, subnets string, every time.Duration) error {
	api, err := newAPI()
	if err != nil {
		return err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		said := "routes and masquerading are in place"
		if err := reconcile(ctx, api, node, subnets); err != nil {
			said = err.Error()
		}
		if said != last {
			log.Print(said)
			last = said
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func reconcile(ctx context.Context, api *api, node, subnets string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	nodes, err := api.nodes(ctx)
	if err != nil {
		return err
	}
	if err := syncRoutes(ctx, wantedRoutes(nodes, node)); err != nil {
		return err
	}
	if err := confine(ctx, subnets); err != nil {
		return err
	}
	return masquerade(ctx, subnets)
}
