package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	checkEvery   = time.Second
	checkTimeout = 3 * time.Second
	dialTimeout  = time.Second
	// failuresToDrop keeps one slow answer from taking a server out.
	failuresToDrop = 2
)

// server is one API server and what is known of it.
type server struct {
	addr    string
	healthy atomic.Bool
	stop    context.CancelFunc
}

// balancer passes connections on to the servers in turn, the healthy ones first.
type balancer struct {
	mu       sync.Mutex
	servers  []*server
	next     int
	listener net.Listener
	checker  *http.Client
}

func newBalancer() *balancer {
	return &balancer{checker: &http.Client{
		Timeout: checkTimeout,
		Transport: &http.Transport{
			// The check asks whether a server is alive, not who it is; the connections passed on are not touched.
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
			DisableKeepAlives: true,                                  // a kept connection would hide that new ones are refused
		},
	}}
}

// setServers replaces the list of servers; one that stays keeps what is known of it.
func (b *balancer) setServers(ctx context.Context, addrs []string, check string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var kept []*server
	for _, s := range b.servers {
		if slices.Contains(addrs, s.addr) {
			kept = append(kept, s)
			continue
		}
		s.stop()
	}
	for _, addr := range addrs {
		if slices.ContainsFunc(kept, func(s *server) bool { return s.addr == addr }) {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		s := &server{addr: addr, stop: stop}
		kept = append(kept, s)
		go b.watch(ctx, s, "https://"+addr+check)
	}
	b.servers = kept
	log.Printf("servers: %v", addrs)
}

// watch checks one server until ctx ends.
func (b *balancer) watch(ctx context.Context, s *server, url string) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	failures := 0
	for {
		err := b.check(ctx, url)
		switch {
		case err == nil:
			failures = 0
			if !s.healthy.Swap(true) {
				log.Printf("%s is healthy", s.addr)
			}
		case ctx.Err() != nil:
			return
		default:
			failures++
			if failures >= failuresToDrop && s.healthy.Swap(false) {
				log.Printf("%s is not healthy: %v", s.addr, err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (b *balancer) check(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := b.checker.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

// listen starts to take connections on addr. A second call replaces the first listener.
func (b *balancer) listen(addr string) error {
	b.close()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	b.mu.Lock()
	b.listener = l
	b.mu.Unlock()
	log.Printf("listening on %s", addr)
	go b.accept(l)
	return nil
}

func (b *balancer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listener != nil {
		_ = b.listener.Close() // it is given up; nothing is lost with it
		b.listener = nil
	}
}

func (b *balancer) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Printf("taking a connection: %v", err)
			continue
		}
		go b.pass(conn)
	}
}

// pass connects client with a server and copies both ways until both are done.
func (b *balancer) pass(client net.Conn) {
	defer shut(client)
	upstream := b.dial()
	if upstream == nil {
		return
	}
	defer shut(upstream)
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyHalf(upstream, client)
	}()
	copyHalf(client, upstream)
	<-done
}

// copyHalf copies one direction and tells the receiver that no more will come.
func copyHalf(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		shut(to)
		shut(from)
		return
	}
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
}

// shut closes a connection that is given up; what the other side makes of it is for the other side to say.
func shut(c net.Conn) { _ = c.Close() }

// dial connects to the first server in order that takes the connection.
func (b *balancer) dial() net.Conn {
	for _, s := range b.order() {
		conn, err := net.DialTimeout("tcp", s.addr, dialTimeout)
		if err == nil {
			return conn
		}
	}
	return nil
}

// order is the servers in the order to try: healthy ones in turn, then the others. When none is known to be healthy,
// all of them are worth a try: an API server that is just starting is reached this way.
func (b *balancer) order() []*server {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.servers)
	if n == 0 {
		return nil
	}
	b.next = (b.next + 1) % n
	turned := append(slices.Clone(b.servers[b.next:]), b.servers[:b.next]...)
	slices.SortStableFunc(turned, func(x, y *server) int {
		return rank(x) - rank(y)
	})
	return turned
}

func rank(s *server) int {
	if s.healthy.Load() {
		return 0
	}
	return 1
}
