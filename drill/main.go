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
	// The first of these asks for an orderly end; from then on another one ends drill at once. A hangup before it, which comes of a terminal and not of somebody who is impatient, doesn't count.
	context.AfterFunc(ctx, stop)
	ctx, end := context.WithCancel(ctx)
	endOnHangup(end)
	// What drill tells may go to a reader that has ended with the terminal, or before it. That is an error of a write, and not the end of drill: a control plane that was taken down is to come
	// back. Ignored, the signal would be for what drill starts, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(Main(ctx, os.Args[1:], System()))
}

// endOnHangup asks for an orderly end when the terminal is closed. It may be told of that twice, by the kernel and by the shell, so another hangup doesn't end drill at once: a control plane
// that was taken down is to come back. Who has drill ignore hangups, as nohup does, wants it to go on.
func endOnHangup(end func()) {
	if signal.Ignored(syscall.SIGHUP) {
		return
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // never stopped: the default would be to end
	go func() {
		<-hangups
		end()
	}()
}
