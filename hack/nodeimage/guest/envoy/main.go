// Command envoy stands in for the load balancer in front of a kind cluster's API servers, on hosts that can't pull the
// real one. kind starts it as `envoy -c FILE` and later writes the listener and the API servers into files that FILE
// names; this program follows these files. It understands just the fields that kind writes.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	config := flag.String("c", "/home/envoy/envoy.yaml", "bootstrap file")
	flag.Parse()
	if err := serve(ctx, *config); err != nil {
		log.Fatal(err)
	}
}

// serve follows the files named by the bootstrap file until ctx ends.
func serve(ctx context.Context, config string) error {
	data, err := os.ReadFile(config)
	if err != nil {
		return fmt.Errorf("reading the bootstrap file: %w", err)
	}
	clusters, listeners, err := parseBootstrap(data)
	if err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	balancer := newBalancer()
	defer balancer.close()
	var seenClusters, seenListeners []byte
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		seenClusters = onChange(clusters, seenClusters, func(data []byte) error {
			servers, check, err := parseClusters(data)
			if err == nil {
				balancer.setServers(ctx, servers, check)
			}
			return err
		})
		seenListeners = onChange(listeners, seenListeners, func(data []byte) error {
			addr, err := parseListener(data)
			if err == nil && addr != "" {
				err = balancer.listen(addr)
			}
			return err
		})
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// onChange calls f with the content of path when it differs from seen, and returns what has been seen now. A file that
// can't be used is reported once and tried again only when it changes.
func onChange(path string, seen []byte, f func([]byte) error) []byte {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return seen // kind replaces the file by renaming another over it
	}
	if err != nil {
		log.Printf("reading %s: %v", path, err)
		return seen
	}
	if bytes.Equal(data, seen) {
		return seen
	}
	if err := f(data); err != nil {
		log.Printf("using %s: %v", path, err)
	}
	return data
}
