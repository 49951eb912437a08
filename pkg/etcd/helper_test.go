package etcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
)

// workerEnv makes the test binary act as the worker; witnessEnv names a FIFO that some kinds of worker hold open.
const (
	workerEnv  = "DRILL_TEST_ETCD_WORKER"
	witnessEnv = "DRILL_TEST_ETCD_WITNESS"
)

func TestMain(m *testing.M) {
	switch os.Getenv(workerEnv) {
	case "":
		os.Exit(m.Run())
	case "silent":
		os.Exit(0)
	case "panic":
		panic("assertion failed: page 7 is not a leaf")
	case "killed":
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			os.Exit(1)
		}
		select {}
	case "usage":
		fmt.Fprintln(os.Stderr, "unknown command")
		os.Exit(2)
	case "family", "watched", "asker":
		if err := actAs(os.Getenv(workerEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "hang":
		// Holds on until it is killed.
		select {}
	default:
		if err := etcd.WorkerMain(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// worker starts this test binary again, as the given kind of worker.
func worker(t testing.TB, kind string) etcd.Worker {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return etcd.Worker{Command: []string{"env", workerEnv + "=" + kind, self}}
}

// server is a real etcd server in this process.
type server struct{ *member }

type member = etcdtest.Server

// serve starts a member on free loopback ports; tune may change its configuration.
func serve(t testing.TB, dir string, tune func(*embed.Config)) *server {
	t.Helper()
	return &server{etcdtest.Serve(t, dir, tune)}
}

// peerURL names a free port. Nobody connects to it: the members are alone in their clusters.
func peerURL(t testing.TB) *url.URL { return &etcdtest.Free(t)[0] }

// put writes keys /registry/things/000 and so on, each twice, and deletes every tenth; it returns how many live.
func (s *server) put(t testing.TB, n int) int64 {
	t.Helper()
	live := int64(n)
	for i := range n {
		key := fmt.Sprintf("/registry/things/%03d", i)
		for _, v := range []string{"first", fmt.Sprintf("value-%03d", i)} {
			if _, err := s.Client.Put(t.Context(), key, v); err != nil {
				t.Fatal(err)
			}
		}
		if i%10 == 9 {
			if _, err := s.Client.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			live--
		}
	}
	return live
}

// vault is a folder that Save accepts.
func vault(t testing.TB) string { return filepath.Join(t.TempDir(), "vault") }

// savedSnapshot serves, writes, and saves.
func savedSnapshot(t testing.TB, keys int) string {
	t.Helper()
	s := serve(t, t.TempDir(), nil)
	s.put(t, keys)
	path := filepath.Join(vault(t), "snap.db")
	if _, err := etcd.Save(t.Context(), s.Endpoint, path); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	return path
}

// pki holds PEM data made for one test.
type pki struct{ ca, cert, key []byte }

// newPKI makes a certificate authority, and a pair that serves 127.0.0.1 and is a client's too, as kubeadm's etcd pair is.
func newPKI(t testing.TB) pki {
	t.Helper()
	pemOf := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, key := newKey(), newKey()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd-ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "member-a"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pki{ca: pemOf("CERTIFICATE", caDER), cert: pemOf("CERTIFICATE", leafDER), key: pemOf("EC PRIVATE KEY", keyDER)}
}
