package etcd

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// ServeOptions say which etcd to start.
type ServeOptions struct {
	// DataDir is a data directory that Restore made, of a member with this Name and PeerURL. Beside it, in its parent, the server's certificates are written.
	DataDir string `json:"dataDir"`
	Name    string `json:"name"`
	// PeerURL is what the member advertises. Nobody connects to it: it is the only one of its cluster.
	PeerURL string `json:"peerURL"`
	// Quota is how large the database may become, in bytes.
	Quota int64 `json:"quota"`
	// CA, Cert and Key are files in PEM.
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
	// Prints, if set, are how the server reads all of its own keys once it serves; see Server's Contents.
	Prints *Fingerprints `json:"prints,omitempty"`
	// Split, if set, is a key that about as many keys come before as after. Both parts are read at the same time.
	Split string `json:"split,omitempty"`
}

// Server is an etcd server in a child process, on a free port of the loopback address. Other users of a machine can connect to that, so it lets in only who has the certificate that Serve made, which is in the memory of this
// process alone.
type Server struct {
	// Endpoint is how to reach it.
	Endpoint Endpoint
	// Revision is the one that it started with, before it could change anything itself: where leases end, etcd deletes their keys.
	Revision int64
	// PEM of the authority that the server's certificate is of, and of the client's certificate and key.
	CA, ClientCert, ClientKey []byte

	end   context.CancelFunc
	ended chan struct{}
	err   error

	contents Contents
	told     chan struct{} // closed when contents are known
}

// Contents are what a server says that it holds.
type Contents struct {
	// Revision is etcd's, at which it was read: the one that it started with.
	Revision int64
	// Prints are the fingerprints of all that is held about each key, by those of their names.
	Prints map[Fingerprint]Fingerprint
	// Err says why it couldn't be read.
	Err error
}

// The records of a child begin with a letter: serves says that it does, prints are fingerprints, and read says that there are no more.
const (
	recordServes = 's'
	recordPrints = 'p'
	recordRead   = 'r'
)

// serves is a record by which the child says that it serves.
type serves struct {
	Address  string `json:"address"`
	Revision int64  `json:"revision"`
}

// hasRead is a record by which the child says that it has read all keys.
type hasRead struct {
	Revision int64  `json:"revision"`
	Error    string `json:"error,omitempty"`
}

const (
	// serveLimit is how long a server may take until it serves, and readLimit until it has read all of its keys: some hundred times as long as one of 1 GB takes on a slow machine.
	serveLimit = 10 * time.Minute
	readLimit  = time.Hour
)

// Serve starts a real etcd server, the one that is built into this program, on a data directory, and returns when it serves, or with what it said when it ended; after ten minutes, the error wraps context.DeadlineExceeded. It has no gateway, and what it writes isn't synced to disk: it is for a
// data directory that is thrown away.
func Serve(ctx context.Context, w Worker, o ServeOptions) (*Server, error) {
	s, err := newServer(&o)
	if err != nil {
		return nil, fmt.Errorf("start etcd on %s: %w", o.DataDir, err)
	}
	child, end := context.WithCancel(context.WithoutCancel(ctx))
	s.end, s.ended, s.told = end, make(chan struct{}), make(chan struct{})
	s.contents.Prints = map[Fingerprint]Fingerprint{}
	ready := make(chan serves, 1)
	go func() {
		defer close(s.ended)
		_, s.err = w.stream(child, request{Op: opServe, Serve: &o}, func(record []byte) error {
			switch record[0] {
			case recordServes:
				var r serves
				if err := json.Unmarshal(record[1:], &r); err != nil {
					return fmt.Errorf("%w: %w", ErrWorker, err)
				}
				ready <- r
			case recordPrints:
				ReadFingerprints(record[1:], func(key, content Fingerprint) { s.contents.Prints[key] = content })
			case recordRead:
				var r hasRead
				if err := json.Unmarshal(record[1:], &r); err != nil {
					return fmt.Errorf("%w: %w", ErrWorker, err)
				}
				if s.contents.Revision = r.Revision; r.Error != "" {
					s.contents.Err = errors.New(r.Error)
				}
				close(s.told)
			}
			return nil
		})
	}()
	limited, stop := context.WithTimeout(ctx, serveLimit)
	defer stop()
	select {
	case r := <-ready:
		s.Endpoint.URL, s.Revision = "https://"+r.Address, r.Revision
		return s, nil
	case <-s.ended:
		return nil, fmt.Errorf("etcd on %s ended before it served: %w", o.DataDir, s.err)
	case <-limited.Done():
		s.Stop()
		if ctx.Err() == nil {
			return nil, fmt.Errorf("etcd on %s doesn't serve after %s: %w", o.DataDir, serveLimit, limited.Err())
		}
		return nil, fmt.Errorf("start etcd on %s: %w", o.DataDir, ctx.Err())
	}
}

// Stop ends the server at once, and returns when it is gone. Nothing that it wrote need last. It may be called more than once.
func (s *Server) Stop() {
	s.end()
	<-s.ended
}

// Ended is closed when the server has ended, for whatever reason.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Err says why the server ended; to be called after Ended.
func (s *Server) Err() error { return s.err }

// Contents returns what the server holds, once it has read all of it, which may take an hour, by linearizable reads as its clients make them, though not over the network; ServeOptions.Prints must have been set.
func (s *Server) Contents(ctx context.Context) (Contents, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	select {
	case <-s.told:
		return s.contents, s.contents.Err
	case <-s.ended:
		return Contents{}, fmt.Errorf("etcd ended while it was read: %w", s.err)
	case <-ctx.Done():
		return Contents{}, fmt.Errorf("etcd reads its own keys: %w", ctx.Err())
	}
}

// newServer makes the certificates: an authority, which nobody keeps the key of, one certificate for the server and one for the client.
func newServer(o *ServeOptions) (*Server, error) {
	const day = 24 * time.Hour
	now := time.Now()
	issue := func(serial int64, name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, []byte, []byte, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, nil, nil, err
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-day), NotAfter: now.Add(7 * day),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		if parent == nil {
			parent, signer = c, key
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
		if err != nil {
			return nil, nil, nil, nil, err
		}
		keyDER, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return nil, nil, nil, nil, err
		}
		return c, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), nil
	}
	ca, caKey, caPEM, _, err := issue(1, "rehearsal", nil, nil)
	if err != nil {
		return nil, err
	}
	_, _, serverPEM, serverKeyPEM, err := issue(2, "etcd", ca, caKey)
	if err != nil {
		return nil, err
	}
	// Where etcd's own access control is on in the backup, the name of a certificate is that of a user, and root may do everything (https://etcd.io/docs/v3.6/op-guide/authentication/rbac/#using-tls-common-name).
	_, _, clientPEM, clientKeyPEM, err := issue(3, "root", ca, caKey)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(o.DataDir)
	o.CA, o.Cert, o.Key = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	for path, content := range map[string][]byte{o.CA: caPEM, o.Cert: serverPEM, o.Key: serverKeyPEM} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
	}
	s := &Server{CA: caPEM, ClientCert: clientPEM, ClientKey: clientKeyPEM}
	s.Endpoint.TLS, err = TLSFromPEM(caPEM, clientPEM, clientKeyPEM)
	return s, err
}

// compactionPause is how long a short-lived server waits between the pieces in which it takes what is compacted out of its database.
const compactionPause = time.Hour

// serveHere is in the child what Serve asked for: it serves until its context ends or etcd does.
func serveHere(ctx context.Context, lg *zap.Logger, o ServeOptions, send func(record []byte) error) error {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = o.Name, o.DataDir
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lg)
	free := []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls, cfg.ListenPeerUrls = free, free, free
	peer, err := url.Parse(o.PeerURL)
	if err != nil {
		return err
	}
	cfg.AdvertisePeerUrls = []url.URL{*peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(o.Name)
	known := transport.TLSInfo{TrustedCAFile: o.CA, CertFile: o.Cert, KeyFile: o.Key, ClientCertAuth: true}
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = known, known
	cfg.EnableGRPCGateway = false
	cfg.UnsafeNoFsync = true
	cfg.QuotaBackendBytes = o.Quota
	// It is the only member, so nobody's heartbeat is awaited; with the usual times it would be the leader a second later.
	cfg.TickMs, cfg.ElectionMs = 20, 200
	// What is marked as compacted can't be read from the start on. To take it out of the database, etcd goes through all of it and commits every so many records: nobody waits for that here, and it would take a processor from what is read.
	cfg.CompactionSleepInterval = compactionPause
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	began := e.Server.KV().Rev() // there is no leader yet, without whom no lease ends
	select {
	case <-e.Server.ReadyNotify():
	case <-e.Server.StopNotify():
		return errors.New("etcd stopped by itself")
	case err := <-e.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := sendJSON(send, recordServes, serves{Address: e.Clients[0].Addr().String(), Revision: began}); err != nil {
		return err
	}
	if o.Prints != nil {
		if err := readOwn(ctx, e, o, began, send); err != nil {
			return err
		}
	}
	select {
	case err := <-e.Err():
		return err
	case <-e.Server.StopNotify():
		return errors.New("etcd stopped by itself")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ownGoal is about how large an answer of a server to itself is, in bytes. No network bounds it, and there is one turn through the names of all keys that are still to come for each of them (see LiveKeysAtOnce).
const ownGoal = 16 << 20

// sendJSON sends a record of a kind.
func sendJSON(send func(record []byte) error, kind byte, what any) error {
	content, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return send(append([]byte{kind}, content...))
}

// readOwn has the server answer questions for all of its keys, as of a revision, and sends the fingerprints of what it answers.
func readOwn(ctx context.Context, e *embed.Etcd, o ServeOptions, revision int64, send func(record []byte) error) error {
	last := hasRead{Revision: revision}
	if err := sendOwn(ctx, e.Server.Range, o, revision, send); err != nil {
		last.Error = err.Error()
	}
	return sendJSON(send, recordRead, last)
}

// sendOwn sends the fingerprints of all keys as of a revision. With ServeOptions.Split, both parts are read at the same time.
func sendOwn(ctx context.Context, ask ranger, o ServeOptions, revision int64, send func(record []byte) error) error {
	parts := []span{{from: all, to: all, revision: revision}}
	if o.Split != "" {
		parts = []span{{from: all, to: o.Split, revision: revision}, {from: o.Split, to: all, revision: revision}}
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range parts {
		group.Go(func() error {
			by := &Fingerprints{Seeds: o.Prints.Seeds}
			batch := []byte{recordPrints}
			flush := func() error {
				mu.Lock()
				defer mu.Unlock()
				err := send(batch)
				batch = batch[:1]
				return err
			}
			_, err := inPages(ctx, ask, "its own keys", part, pageSize{bytes: ownGoal}, func(kv KeyValue) error {
				if batch = by.Append(batch, kv); len(batch) < mostPrints {
					return nil
				}
				return flush()
			})
			if err != nil {
				return err
			}
			return flush()
		})
	}
	return group.Wait()
}

// mostPrints is about how many bytes of fingerprints are sent at once.
const mostPrints = 8 << 10

// TryOut sees whether an etcd does what it is for: a linearizable read, a write, a watch that is told of it, and a deletion. The key must be free, and is free again afterwards.
func TryOut(ctx context.Context, ep Endpoint, key string) error {
	_, err := ask(ctx, ep, askTimeout, "trying it out", func(ctx context.Context, cli *clientv3.Client) (struct{}, error) {
		var none struct{}
		r, err := cli.Get(ctx, key)
		switch {
		case err != nil:
			return none, fmt.Errorf("a read: %w", err)
		case r.Count > 0:
			return none, fmt.Errorf("key %s is there already", key)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		watch := cli.Watch(clientv3.WithRequireLeader(ctx), key, clientv3.WithRev(r.Header.GetRevision()+1))
		if _, err := cli.Put(ctx, key, "drill"); err != nil {
			return none, fmt.Errorf("a write: %w", err)
		}
		if err := toldOf(ctx, watch, mvccpb.Event_PUT); err != nil {
			return none, err
		}
		if _, err := cli.Delete(ctx, key); err != nil {
			return none, fmt.Errorf("a deletion: %w", err)
		}
		return none, toldOf(ctx, watch, mvccpb.Event_DELETE)
	})
	return err
}

// toldOf waits until a watch tells of an event of the kind.
func toldOf(ctx context.Context, watch clientv3.WatchChan, kind mvccpb.Event_EventType) error {
	select {
	case r, open := <-watch:
		switch {
		case !open:
			return errors.New("a watch ended by itself")
		case r.Err() != nil:
			return fmt.Errorf("a watch: %w", r.Err())
		case len(r.Events) != 1 || r.Events[0].Type != kind:
			return fmt.Errorf("a watch told of %d events, want one of kind %s", len(r.Events), kind)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a watch told nothing of an event of kind %s: %w", kind, ctx.Err())
	}
}

// CompactedAt sees whether an etcd says of a revision that it is compacted, to who reads and to who watches from there. Clients that hold a revision from before a restore then know that they have to list anew.
func CompactedAt(ctx context.Context, ep Endpoint, revision int64) error {
	_, err := ask(ctx, ep, askTimeout, "history", func(ctx context.Context, cli *clientv3.Client) (struct{}, error) {
		var none struct{}
		if _, err := cli.Get(ctx, "drill", clientv3.WithRev(revision)); !errors.Is(err, rpctypes.ErrCompacted) {
			return none, fmt.Errorf("a read at revision %d is answered with %w, and not with %w", revision, cmp.Or(err, errNone), rpctypes.ErrCompacted)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		select {
		case r := <-cli.Watch(ctx, "drill", clientv3.WithRev(revision)):
			if !errors.Is(r.Err(), rpctypes.ErrCompacted) {
				return none, fmt.Errorf("a watch from revision %d is answered with %w, and not with %w", revision, cmp.Or(r.Err(), errNone), rpctypes.ErrCompacted)
			}
			return none, nil
		case <-ctx.Done():
			return none, fmt.Errorf("a watch from revision %d isn't told that it is compacted: %w", revision, ctx.Err())
		}
	})
	return err
}

// errNone stands for the error that there should have been.
var errNone = errors.New("no error")
