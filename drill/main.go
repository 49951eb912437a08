// Command drill proves that a Kubernetes cluster can be recovered from a backup of its etcd, by doing it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end; from then on another one ends drill at once.
	context.AfterFunc(ctx, stop)
	os.Exit(Main(ctx, os.Args[1:], System()))
}
