//go:build unix

package stage

import (
	"bufio"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// serverVariable makes the test binary serve what BenchmarkProbe asks, in a process of its own.
const serverVariable = "DRILL_TEST_SERVE_PROBE"

// BenchmarkProbe says which share of one core the whole probe takes while all is well: every question, at its real rhythm, of servers in another
// process that want RSA certificates, as those of kubeadm do. The goal is less than 5 %core.
func BenchmarkProbe(b *testing.B) {
	certs := newCertificates(b, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	given, err := json.Marshal(certs)
	if err != nil {
		b.Fatal(err)
	}
	child := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestServeProbe$")
	child.Env = append(os.Environ(), serverVariable+"="+string(given))
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = stdin.Close(); _ = child.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	addr, service, _ := strings.Cut(strings.TrimSpace(line), " ")
	s := probedStage(b, certs, addr, "http://"+service)
	if err := s.startProbe(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer s.probe.Stop()

	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	began, used := time.Now(), cpuTime(b)
	for b.Loop() {
		<-tick.C
	}
	b.ReportMetric(100*float64(cpuTime(b)-used)/float64(time.Since(began)), "%core")
	b.ReportMetric(0, "ns/op") // an iteration is an interval of the probe
	for _, name := range []string{probeEtcd, probeServer, probeGet, probeList, probeWrite, probeService} {
		if n := failedSince(s.probe.Series(name), began); n > 0 {
			b.Errorf("%s: %d questions were not answered", name, n)
		}
	}
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestServeProbe is no test: it is the other process of BenchmarkProbe, and serves until its standard input ends.
func TestServeProbe(t *testing.T) {
	given, ok := os.LookupEnv(serverVariable)
	if !ok {
		t.Skip("it serves BenchmarkProbe")
	}
	var revision atomic.Int64
	revision.Store(1)
	p := &place{t: t, addr: "127.0.0.1:0", handler: wellBehaved(&revision)}
	if err := json.Unmarshal([]byte(given), &p.certs); err != nil {
		t.Fatal(err)
	}
	p.rise()
	defer p.die()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := &http.Server{Handler: p.handler}
	go func() { _ = service.Serve(l) }()
	defer service.Close()
	fmt.Println(p.addr, l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}
