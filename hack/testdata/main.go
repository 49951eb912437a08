// Command testdata has another etcd server write what a snapshot holds, and takes a snapshot of that.
//
//	go run ./hack/testdata SNAPSHOT ETCD NEW
//
// SNAPSHOT is what is read, ETCD the program of an etcd server of any version, which is started on loopback ports with an empty data directory, and NEW the file that is written. Keys are written in the order in which they were
// written last, with leases where they had some, so that the new history is another one with the same objects. See hack/testdata/make.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcd-drill/drill/pkg/etcd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testdata:", err)
		os.Exit(1)
	}
}

const limit = 5 * time.Minute

func run(ctx context.Context, args []string) (err error) {
	if len(args) != 3 {
		return errors.New("usage: testdata SNAPSHOT ETCD NEW")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	keys, err := live(ctx, args[0])
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "testdata-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	const client, peer = "http://127.0.0.1:23791", "http://127.0.0.1:23801"
	server := exec.CommandContext(ctx, args[1], "--name", "kubeadm-control-plane", "--data-dir", filepath.Join(dir, "data"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "kubeadm-control-plane="+peer)
	server.Cancel = func() error { return server.Process.Signal(syscall.SIGTERM) }
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait() // it says that it was told to end
	}()
	cli, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: []string{client}})
	if err != nil {
		return err
	}
	defer func() { _ = cli.Close() }()
	if err := write(ctx, cli, keys); err != nil {
		return err
	}
	out := filepath.Join(dir, "snapshot.db")
	info, err := etcd.Save(ctx, etcd.Endpoint{URL: client}, out, etcd.InAnyFolder())
	if err != nil {
		return err
	}
	content, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "testdata: %s of etcd %s, %d keys\n", args[2], info.EtcdVersion, len(keys))
	return os.WriteFile(args[2], content, 0o644)
}

// live returns the live keys in the order in which they were written.
func live(ctx context.Context, path string) (keys []etcd.KeyValue, err error) {
	f, err := etcd.OpenFile(ctx, path, false)
	if err != nil {
		return nil, err
	}
	_, err = f.Live(ctx, func(kv etcd.KeyValue) error { keys = append(keys, kv); return nil })
	slices.Reverse(keys)
	return keys, errors.Join(err, f.Close())
}

// write writes them, and compacts the history up to the middle of what was written.
func write(ctx context.Context, cli *clientv3.Client, keys []etcd.KeyValue) error {
	const ttl = 3600
	leases := map[int64]clientv3.LeaseID{}
	var half int64
	for i, kv := range keys {
		var opts []clientv3.OpOption
		if kv.Lease != 0 {
			if _, granted := leases[kv.Lease]; !granted {
				l, err := cli.Grant(ctx, ttl)
				if err != nil {
					return err
				}
				leases[kv.Lease] = l.ID
			}
			opts = append(opts, clientv3.WithLease(leases[kv.Lease]))
		}
		r, err := cli.Put(ctx, string(kv.Key), string(kv.Value), opts...)
		if err != nil {
			return err
		}
		if i == len(keys)/2 {
			half = r.Header.GetRevision()
		}
	}
	_, err := cli.Compact(ctx, half, clientv3.WithCompactPhysical())
	return err
}
