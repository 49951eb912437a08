package stage

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/probe"
	"github.com/etcd-drill/drill/pkg/proof"
)

// answering starts a server that gives one answer to everything, and an asker of it.
func answering(t *testing.T, status int, body string) asker {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return newAsker(s.URL, nil)
}

// TestProbeIsNotFooled: an answer is not enough, it must say the right thing.
func TestProbeIsNotFooled(t *testing.T) {
	ctx, look := t.Context(), soughtDeployment(withDeployment().Subject.Workload, "u1")
	get := func(status int, body string) error { return answering(t, status, body).gets(ctx, look) }
	list := func(status int, body string) error { return answering(t, status, body).lists(ctx, look) }
	write := func(status int, body string) error {
		revision, err := answering(t, status, body).writes(ctx)
		if err == nil && revision != 77 {
			return fmt.Errorf("the write became revision %d", revision)
		}
		return err
	}
	etcd := func(status int, body string) error {
		revision, err := answering(t, status, body).healthy(ctx, &proof.Revisions{})
		if err == nil && revision != 77 {
			return fmt.Errorf("revision %d", revision)
		}
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want string // "" means that the service counts as there
	}{
		"etcd healthy":             {etcd(200, `{"health":"true","header":{"revision":"77"}}`), ""},
		"etcd says no":             {etcd(200, `{"health":"false","reason":"no leader","header":{"revision":"77"}}`), "no leader"},
		"etcd unavailable":         {etcd(503, `{"health":"false"}`), "503"},
		"etcd tells no revision":   {etcd(200, `{"health":"true"}`), "no revision"},
		"etcd says nothing of use": {etcd(200, `<html>`), "no such JSON"},
		"API server ready":         {answering(t, 200, "ok").ready(ctx), ""},
		"API server not ready":     {answering(t, 500, "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n[-]rbac failed\n").ready(ctx), "500 Internal Server Error: etcd failed: reason withheld; rbac failed"},
		"GET has it":               {get(200, `{"metadata":{"uid":"u1"}}`), ""},
		"GET has a namesake":       {get(200, `{"metadata":{"uid":"u2"}}`), "not the one with UID u1"},
		"GET finds nothing":        {get(404, `{"reason":"NotFound","message":"no such thing"}`), "404 Not Found: no such thing"},
		"LIST has it":              {list(200, `{"items":[{"metadata":{"uid":"u1"}}]}`), ""},
		"LIST is empty":            {list(200, `{"items":[]}`), "not the one with UID u1"},
		"LIST has a namesake":      {list(200, `{"items":[{"metadata":{"uid":"u2"}}]}`), "not the one with UID u1"},
		"LIST is no JSON":          {list(200, `<html>`), "no such JSON"},
		"write acknowledged":       {write(201, `{"metadata":{"resourceVersion":"77"}}`), ""},
		"write without a revision": {write(200, `{}`), "no revision"},
		"write refused":            {write(409, "conflict"), "409"},
		"write merely accepted":    {write(202, `{"metadata":{"resourceVersion":"77"}}`), "202"},
		"Service answers":          {serviceAt(t, answering(t, 200, "hello").base).ask(ctx), ""},
		"Service without endpoint": {serviceAt(t, answering(t, 503, "").base).ask(ctx), "503"},
	} {
		switch {
		case c.want == "" && c.err != nil:
			t.Errorf("%s: %v", name, c.err)
		case c.want != "" && (c.err == nil || !strings.Contains(c.err.Error(), c.want)):
			t.Errorf("%s: got %v, want an error with %q", name, c.err, c.want)
		}
	}
}

func serviceAt(t *testing.T, base string) serviceAddress {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseInt(u.Port(), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return serviceAddress{Host: u.Hostname(), Port: int32(port)}
}

// TestEtcdsRevisionIsNoted, of a real etcd, as it grows.
func TestEtcdsRevisionIsNoted(t *testing.T) {
	server := etcdtest.Serve(t, t.TempDir(), func(cfg *embed.Config) {
		cfg.ListenClientUrls = etcdtest.Free(t) // the JSON gateway calls etcd at the address that it was told to listen on, so the port must be known
	})
	base, cli := server.Endpoint.URL, server.Client
	a, seen := keepAsking(base, nil), &proof.Revisions{}
	for range 3 {
		put, err := cli.Put(t.Context(), "/registry/x", "y")
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.healthy(t.Context(), seen)
		if want := put.Header.GetRevision(); err != nil || got != want || seen.Highest() != want {
			t.Errorf("revision %d, noted %d, %v; etcd says %d", got, seen.Highest(), err, want)
		}
	}
}

// certificates are those of a server on the loopback address and of its clients, PEM.
type certificates struct {
	CA, ServerCert, ServerKey, ClientCert, ClientKey []byte
}

// newCertificates makes them with keys of this kind.
func newCertificates(t testing.TB, newKey func() (crypto.Signer, error)) certificates {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := newKey()
	must(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(err)
	issue := func(serial int64, usage x509.ExtKeyUsage) (certPEM, keyPEM []byte) {
		k, err := newKey()
		must(err)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "someone"}, NotAfter: ca.NotAfter,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}, ca, k.Public(), caKey)
		must(err)
		private, err := x509.MarshalPKCS8PrivateKey(k)
		must(err)
		return encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", private)
	}
	c := certificates{CA: encodePEM("CERTIFICATE", caDER)}
	c.ServerCert, c.ServerKey = issue(2, x509.ExtKeyUsageServerAuth)
	c.ClientCert, c.ClientKey = issue(3, x509.ExtKeyUsageClientAuth)
	return c
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// config is for a client of the server at that address.
func (c certificates) config(addr string) *rest.Config {
	return &rest.Config{Host: "https://" + addr, TLSClientConfig: rest.TLSClientConfig{CAData: c.CA, CertData: c.ClientCert, KeyData: c.ClientKey}}
}

// place is an address at which a server comes and goes. It serves with TLS and wants its clients' certificates.
type place struct {
	t     testing.TB
	certs certificates
	addr  string
	// handler answers; nil answers everything with "{}".
	handler http.HandlerFunc
	// opened counts connections.
	opened atomic.Int64
	// era is the number of times that the server came back after it had vanished. Connections of an era before answered get none.
	era, answered atomic.Int64
	server        *http.Server
}

// newPlace starts a server at an address of its own.
func newPlace(t *testing.T, h http.HandlerFunc) *place {
	t.Helper()
	p := &place{t: t, addr: "127.0.0.1:0", handler: h, certs: newCertificates(t, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })}
	p.rise()
	t.Cleanup(p.die)
	return p
}

type eraKey struct{}

// rise starts the server at the place.
func (p *place) rise() {
	p.t.Helper()
	pair, err := tls.X509KeyPair(p.certs.ServerCert, p.certs.ServerKey)
	if err != nil {
		p.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.certs.CA)
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = l.Addr().String()
	p.server = &http.Server{
		Handler:   http.HandlerFunc(p.serve),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert},
		ErrorLog:  log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			p.opened.Add(1)
			return context.WithValue(ctx, eraKey{}, p.era.Load())
		},
	}
	s := p.server
	go func() { _ = s.ServeTLS(l, "", "") }()
}

func (p *place) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Context().Value(eraKey{}).(int64) < p.answered.Load():
		<-r.Context().Done()
	case p.handler != nil:
		p.handler(w, r)
	default:
		_, _ = w.Write([]byte("{}"))
	}
}

// die ends the server and every connection.
func (p *place) die() { _ = p.server.Close() }

// vanish leaves connections open that are never answered again, as a machine does that loses its power.
func (p *place) vanish() { p.answered.Store(math.MaxInt64) }

// reappear answers new connections.
func (p *place) reappear() { p.answered.Store(p.era.Add(1)) }

func (p *place) asker() asker {
	p.t.Helper()
	a, err := askServer(p.certs.config(p.addr))
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// probed returns the target of an asker that asks whether the server is ready.
func probed(a asker) probe.Target {
	return a.target("server", func(ctx context.Context) (int64, error) { return 0, a.ready(ctx) })
}

// TestConnectionsAreKept while all is well, and opened anew after a question that was not answered; those to a Service are opened each time.
func TestConnectionsAreKept(t *testing.T) {
	p := newPlace(t, nil)
	target := probed(p.asker())
	ask := func() error { _, err := target.Try(t.Context()); return err }
	for range 50 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.opened.Load(); n != 1 {
		t.Errorf("50 questions took %d connections, want 1", n)
	}
	p.die()
	if ask() == nil {
		t.Error("a server that is dead has answered")
	}
	p.rise()
	for range 50 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.opened.Load(); n != 2 {
		t.Errorf("50 questions to the next server took %d connections, want 1", n-1)
	}

	var opened atomic.Int64
	service := httptest.NewUnstartedServer(http.NotFoundHandler())
	service.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	service.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	service.Start()
	t.Cleanup(service.Close)
	for range 5 {
		if err := serviceAt(t, service.URL).ask(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n != 5 {
		t.Errorf("the Service was asked over %d connections, want one for each of 5 questions", n)
	}
}

// TestOutageIsSeenAsItWas, whatever way the server goes away: no answer is made up while it is away, and no question that is asked after it came back
// suffers from what it was before.
func TestOutageIsSeenAsItWas(t *testing.T) {
	var refusing atomic.Bool
	for name, c := range map[string]struct{ goAway, comeBack func(*place) }{
		"it dies":     {(*place).die, (*place).rise},
		"it vanishes": {(*place).vanish, (*place).reappear},
		"it refuses":  {func(*place) { refusing.Store(true) }, func(*place) { refusing.Store(false) }},
		"it dies, and what takes its place vanishes": {
			func(p *place) { p.die(); p.vanish(); p.rise() },
			(*place).reappear,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, func(w http.ResponseWriter, _ *http.Request) {
				if refusing.Load() {
					w.WriteHeader(http.StatusInternalServerError)
				}
			})
			asked := probe.Start(t.Context(), 5*time.Millisecond, time.Second, probed(p.asker()))
			defer asked.Stop()
			if err := asked.Wait(t.Context(), "server", time.Now()); err != nil {
				t.Fatal(err)
			}
			c.goAway(p)
			gone := time.Now()
			for failedSince(asked.Series("server"), gone) < 2 && t.Context().Err() == nil {
				runtime.Gosched()
			}
			rising := time.Now()
			c.comeBack(p)
			back := time.Now()
			if err := asked.Wait(t.Context(), "server", back); err != nil {
				t.Fatal(err)
			}
			asked.Stop()
			s := asked.Series("server")
			if got, _ := s.Back(gone); got == nil || *got < rising.Sub(gone) {
				t.Errorf("it was seen to be back after %v, before it was, after %v", got, rising.Sub(gone))
			}
			for _, x := range s {
				switch {
				case x.Err == nil && x.Began.After(gone) && x.Ended().Before(rising):
					t.Errorf("a question was answered while nobody was there: %+v", x)
				case x.Err != nil && x.Began.After(back):
					t.Errorf("a question that was asked after the server was back was not answered: %+v", x)
				}
			}
		})
	}
}

func failedSince(s probe.Series, since time.Time) (n int) {
	for _, x := range s {
		if x.Err != nil && x.Began.After(since) {
			n++
		}
	}
	return n
}

// TestSameTroubleSameText: an outage makes thousands of errors, of which few differ; and no error tells who asked.
func TestSameTroubleSameText(t *testing.T) {
	trouble := map[string]http.HandlerFunc{
		"reset": func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
			_ = c.(*tls.Conn).NetConn().Close()
		},
		"cut":     func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"refused": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", http.StatusServiceUnavailable) },
	}
	for name, h := range trouble {
		p := newPlace(t, h)
		cfg := p.certs.config(p.addr)
		cfg.BearerToken = "do-not-tell"
		a, err := askServer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		target := probed(a)
		_, first := target.Try(t.Context())
		_, second := target.Try(t.Context())
		if first == nil || second == nil || first.Error() != second.Error() || strings.Contains(first.Error(), "do-not-tell") {
			t.Errorf("%s: got %v, then %v", name, first, second)
		}
	}
}

// TestCredentialsAreShown: what the kubeconfig holds is used, tokens as well as certificates.
func TestCredentialsAreShown(t *testing.T) {
	p := newPlace(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	cfg := p.certs.config(p.addr)
	cfg.BearerToken = "secret"
	a, err := askServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestStopLeavesNothing: no connection and no goroutine outlives the probe, be the server there, gone or silent.
func TestStopLeavesNothing(t *testing.T) {
	there, gone, silent := newPlace(t, nil), newPlace(t, nil), newPlace(t, nil)
	silent.vanish()
	before := runtime.NumGoroutine()
	var targets []probe.Target
	for i, p := range []*place{there, gone, silent} {
		target := probed(p.asker())
		target.Name = strconv.Itoa(i)
		targets = append(targets, target)
	}
	asked := probe.Start(t.Context(), time.Millisecond, time.Second, targets...)
	if err := asked.Wait(t.Context(), "1", time.Now()); err != nil {
		t.Fatal(err)
	}
	gone.die()
	for (len(asked.Series("0")) < 10 || failedSince(asked.Series("1"), time.Time{}) < 10 || len(asked.Series("2")) < 1) && t.Context().Err() == nil {
		runtime.Gosched()
	}
	asked.Stop()
	for runtime.NumGoroutine() > before && t.Context().Err() == nil { // both ends of a connection take a moment to notice
		runtime.Gosched()
	}
}

// probedStage is a stage whose every server is the one at the place.
func probedStage(t testing.TB, certs certificates, addr, service string) *Stage {
	t.Helper()
	s := withDeployment()
	cfg := certs.config(addr)
	s.Subject.Servers = []proof.Server{{Node: "n", Config: cfg}}
	s.Subject.Cluster = kubeconfigOf{cfg}
	s.Target.Members = []controlplane.Member{{Name: "n", Node: brokenNode{}}}
	c, err := etcd.TLSFromPEM(certs.CA, certs.ClientCert, certs.ClientKey)
	if err != nil {
		t.Fatal(err)
	}
	s.endpoint = etcd.Endpoint{URL: "https://" + addr, TLS: c}
	u, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseInt(u.Port(), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	s.service = serviceAddress{Host: u.Hostname(), Port: int32(port)}
	return s
}

// kubeconfigOf is a cluster without nodes that has a kubeconfig.
type kubeconfigOf struct{ cfg *rest.Config }

func (kubeconfigOf) Name() string          { return "probed" }
func (kubeconfigOf) Provider() string      { return "none" }
func (kubeconfigOf) Nodes() []cluster.Node { return nil }
func (k kubeconfigOf) Kubeconfig(context.Context) ([]byte, error) {
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: k.cfg.Host, CertificateAuthorityData: k.cfg.CAData}
	c.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: k.cfg.CertData, ClientKeyData: k.cfg.KeyData}
	c.Contexts["x"], c.CurrentContext = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}, "x"
	return clientcmd.Write(*c)
}

// brokenNode is a node that can't be asked.
type brokenNode struct{}

func (brokenNode) Name() string       { return "n" }
func (brokenNode) Role() cluster.Role { return cluster.ControlPlane }
func (brokenNode) Address() string    { return "127.0.0.1" }
func (brokenNode) Exec(context.Context, cluster.Cmd) (cluster.Result, error) {
	return cluster.Result{}, errors.New("the node does not answer")
}
func (brokenNode) ReadFile(context.Context, string) ([]byte, error) { return nil, fs.ErrNotExist }
func (brokenNode) WriteFile(context.Context, string, fs.FileMode, io.Reader) error {
	return errors.New("the node does not answer")
}

// wellBehaved answers every question of the probe as an etcd, an API server or a Service that is well.
func wellBehaved(revision *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch path := r.URL.Path; {
		case path == "/health":
			fmt.Fprint(w, `{"health":"true"}`)
		case path == "/v3/kv/range":
			fmt.Fprintf(w, `{"header":{"revision":"%d"}}`, revision.Load())
		case r.Method == http.MethodPatch:
			fmt.Fprintf(w, `{"metadata":{"resourceVersion":"%d"}}`, revision.Add(1))
		case strings.HasSuffix(path, "/deployments"):
			fmt.Fprint(w, `{"items":[{"metadata":{"uid":"u1"}}]}`)
		default:
			fmt.Fprint(w, `{"metadata":{"uid":"u1"}}`)
		}
	}
}

// TestMeasureOfARunThatFailed: all that was asked is handed on even though nothing ever came back and the nodes can't be asked; what was written
// last and lost is known.
func TestMeasureOfARunThatFailed(t *testing.T) {
	var revision atomic.Int64
	revision.Store(812)
	p := newPlace(t, wellBehaved(&revision))
	service := httptest.NewServer(p.handler)
	t.Cleanup(service.Close)
	s := probedStage(t, p.certs, p.addr, service.URL)
	if err := s.startProbe(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.probe.Stop()
	marks := plan.Marks{BreakBegan: time.Now(), OutageBegan: time.Now()}
	p.die()
	for _, name := range []string{probeGet, probeList, probeWrite} {
		// One question that went unanswered is no outage.
		for failedSince(s.probe.Series(name), marks.OutageBegan) < 2 && t.Context().Err() == nil {
			runtime.Gosched()
		}
	}
	if err := s.probe.Wait(t.Context(), probeService, time.Now()); err != nil {
		t.Fatal(err)
	}
	m, err := s.Measure(t.Context(), marks)
	if err == nil || m.Probe == nil {
		t.Fatalf("got %+v, %v; want samples, and an error because the node does not answer", m, err)
	}
	var names []string
	for _, x := range m.Probe.Series {
		names = append(names, x.Name)
		if len(x.At) == 0 {
			t.Errorf("%s was never asked", x.Name)
		}
		if told := len(x.Revision) > 0; told != (x.Name == probeEtcd || x.Name == probeWrite) {
			t.Errorf("%s: revisions %v", x.Name, x.Revision)
		}
	}
	if got := strings.Join(names, " "); got != "etcd apiserver get list write service" {
		t.Errorf("asked were %s", got)
	}
	if m.Probe.BreakBegan == nil || m.Probe.OutageBegan == nil {
		t.Errorf("the moments of the run are missing: %+v", m.Probe)
	}
	if m.Outage.WriteSeconds != nil || m.Outage.ReadSeconds != nil || m.Outage.ServiceSeconds == nil {
		t.Errorf("outage %+v; want that neither reads nor writes came back, and that the Service did not suffer", m.Outage)
	}
	if s.Subject.Revisions.Highest() < 812 {
		t.Errorf("the highest revision noted is %d", s.Subject.Revisions.Highest())
	}
	if last := s.probe.Series(probeWrite).LastLost(812, marks.OutageBegan); last.IsZero() {
		t.Error("no write after the snapshot is known to be lost")
	}
}

// TestAnswersThatAreLateWhenARunEnds: a service that answers again soon is not told to have been away for good.
func TestAnswersThatAreLateWhenARunEnds(t *testing.T) {
	var refusals atomic.Int64 // still to come
	refusals.Store(math.MaxInt64)
	began := time.Now()
	s := &Stage{probe: probe.Start(t.Context(), time.Millisecond, time.Second, probe.Target{Name: probeEtcd, Try: func(context.Context) (int64, error) {
		if refusals.Add(-1) >= 0 {
			return 0, errors.New("not now")
		}
		return 1, nil
	}})}
	defer s.probe.Stop()
	for failedSince(s.probe.Series(probeEtcd), began) < 2 && t.Context().Err() == nil {
		runtime.Gosched()
	}
	if back, _ := s.probe.Series(probeEtcd).Back(began); back != nil {
		t.Fatalf("back after %s", back)
	}
	refusals.Store(5)
	s.hearOut(t.Context())
	if back, _ := s.probe.Series(probeEtcd).Back(began); back == nil {
		t.Error("it was not heard out")
	}
}
