package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// bootstrap is the file that kind writes before the container starts.
const bootstrap = `
node: {cluster: c, id: n}
dynamic_resources:
  cds_config:
    resource_api_version: V3
    path_config_source:
      path: %[1]s/cds.yaml
  lds_config:
    resource_api_version: V3
    path_config_source:
      path: %[1]s/lds.yaml
`

func clusters(servers ...*httptest.Server) string {
	var b strings.Builder
	b.WriteString("resources:\n- name: kube_apiservers\n  health_checks:\n  - http_health_check: {path: /healthz}\n" +
		"  load_assignment:\n    endpoints:\n    - lb_endpoints:\n")
	for _, s := range servers {
		host, port, _ := net.SplitHostPort(s.Listener.Addr().String())
		fmt.Fprintf(&b, "      - endpoint:\n          address:\n            socket_address:\n              address: %s\n              port_value: %s\n", host, port)
	}
	return b.String()
}

func TestParseClusters(t *testing.T) {
	servers, check, err := parseClusters([]byte("resources: []"))
	if err != nil || len(servers) != 0 || check == "" {
		t.Errorf("the empty start: %v %q %v", servers, check, err)
	}
	text := "resources:\n- health_checks:\n  - http_health_check:\n      path: /readyz\n  load_assignment:\n    endpoints:\n    - lb_endpoints:\n" +
		"      - endpoint: {address: {socket_address: {address: node-1, port_value: 6443}}}\n" +
		"      - endpoint: {address: {socket_address: {address: 'fc00::1', port_value: 6443}}}\n"
	servers, check, err = parseClusters([]byte(text))
	if err != nil || check != "/readyz" || !slices.Equal(servers, []string{"node-1:6443", "[fc00::1]:6443"}) {
		t.Errorf("got %v %q %v", servers, check, err)
	}
	if _, _, err := parseClusters([]byte("\t")); err == nil {
		t.Error("a broken file is no error")
	}
}

func TestParseBootstrapNeedsBothFiles(t *testing.T) {
	if _, _, err := parseBootstrap([]byte("node: {}")); err == nil {
		t.Error("no error")
	}
}

func apiServer(t *testing.T, name string) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }))
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// freeAddress is an address nobody listens on just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The life of a load balancer: it starts with nothing, is given servers, loses one, and is given another list.
func TestServeFollowsTheFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		tmp := filepath.Join(dir, name+".tmp")
		if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("envoy.yaml", fmt.Sprintf(bootstrap, dir))
	write("cds.yaml", "resources: []")
	write("lds.yaml", "resources: []")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, filepath.Join(dir, "envoy.yaml")) }()

	one, two := apiServer(t, "one"), apiServer(t, "two")
	addr := freeAddress(t)
	host, port, _ := net.SplitHostPort(addr)
	write("cds.yaml", clusters(one))
	write("lds.yaml", fmt.Sprintf("resources:\n- address: {socket_address: {address: %s, port_value: %s}}\n", host, port))
	eventually(t, addr, "one")

	write("cds.yaml", clusters(one, two))
	eventually(t, addr, "two")
	one.Close()
	for range 4 { // whichever is next in turn, a dead server must not show
		if got, err := ask(addr); err != nil || got != "two" {
			t.Errorf("with one server dead: %q, %v", got, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func ask(addr string) (string, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a test server
	}}
	resp, err := client.Get("https://" + addr + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func eventually(t *testing.T, addr, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := ask(addr)
		if err == nil && got == want {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %q: last seen %q, %v", want, got, err)
		case <-tick.C:
		}
	}
}
