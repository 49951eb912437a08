// Package etcdtest gives tests a real etcd in their own process, and makes their binary the worker that opens etcd's files.
package etcdtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// workerEnv makes the test's binary act as the worker.
const workerEnv = "DRILL_TEST_ETCD_WORKER"

// Main is for the TestMain of a package that uses Worker: it runs the tests, or is the worker, and returns the status to exit with.
func Main(ctx context.Context, m *testing.M) int {
	if os.Getenv(workerEnv) == "" {
		return m.Run()
	}
	if err := etcd.WorkerMain(ctx, os.Stdin, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Worker starts the test's binary again, as a worker.
func Worker(t testing.TB) etcd.Worker {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return etcd.Worker{Command: []string{"env", workerEnv + "=yes", self}}
}

// Server is an etcd of one member.
type Server struct {
	*embed.Etcd
	Endpoint etcd.Endpoint
	// Client is nil where etcd was tuned to speak TLS.
	Client *clientv3.Client
	// Stop ends it. It may be called more than once.
	Stop func()
}

// patience is how long an etcd may take to be ready.
const patience = time.Minute

// Serve starts an etcd on free loopback ports with its data in dir, until the test ends; tune may change its configuration. It does not sync what it writes.
func Serve(t testing.TB, dir string, tune func(*embed.Config)) *Server {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = "member-a", dir
	cfg.LogLevel, cfg.LogOutputs = "panic", []string{os.DevNull}
	cfg.UnsafeNoFsync = true
	any0 := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = any0, any0
	cfg.AdvertisePeerUrls = Free(t) // nobody connects to it
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	if tune != nil {
		tune(cfg)
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	s := &Server{Etcd: e, Stop: sync.OnceFunc(e.Close)}
	t.Cleanup(s.Stop)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatalf("etcd: %v", err)
	case <-time.After(patience):
		t.Fatalf("etcd is not ready after %s", patience)
	}
	scheme := cfg.ListenClientUrls[0].Scheme
	s.Endpoint = etcd.Endpoint{URL: scheme + "://" + e.Clients[0].Addr().String()}
	if scheme != "http" {
		return s
	}
	s.Client, err = clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint.URL}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Client.Close() })
	return s
}

// Free names a port on the loopback address that nobody listens on.
func Free(t testing.TB) []url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return []url.URL{{Scheme: "http", Host: l.Addr().String()}}
}

// Newer copies a snapshot into one that says it is of etcd 3.99, in its storage version, and is sound otherwise.
func Newer(t testing.TB, snapshot string) (path string) {
	t.Helper()
	content, err := os.ReadFile(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "newer.db")
	if err := os.WriteFile(path, content[:len(content)-sha256.Size], 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	var pages bytes.Buffer
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(schema.Meta.Name()).Put(schema.MetaStorageVersionName, []byte("3.99.0"))
	})
	if err == nil {
		err = db.View(func(tx *bolt.Tx) error { _, err := tx.WriteTo(&pages); return err })
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(pages.Bytes())
	if err := os.WriteFile(path, append(pages.Bytes(), sum[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
