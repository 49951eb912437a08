package stage

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/proof"
)

const (
	password = "S3cr3t-and-long"
	token    = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlc2lnbmF0dXJl"
)

// talkative is a control plane on which whatever is asked is answered with secrets, and one thing can't be had.
type talkative struct{}

func (talkative) Name() string       { return "cp-a" }
func (talkative) Role() cluster.Role { return cluster.ControlPlane }
func (talkative) Address() string    { return "172.18.0.2" }

func (talkative) Exec(_ context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	line := strings.Join(cmd.Argv, " ")
	if strings.HasSuffix(line, "--name ^etcd$") {
		return cluster.Result{}, &cluster.ExitError{Node: "cp-a", Cmd: cmd, Code: 1, Output: "the runtime is gone, " + token}
	}
	return cluster.Result{Stdout: []byte("the password is " + password + ", the token " + token + "\n")}, nil
}

func (talkative) ReadFile(_ context.Context, path string) ([]byte, error) {
	return []byte("# " + path + "\n- " + base64.StdEncoding.EncodeToString([]byte(password)) + "\n"), nil
}

func (talkative) WriteFile(context.Context, string, fs.FileMode, io.Reader) error {
	panic("evidence is only read")
}

// one is a cluster of one node.
type one struct{ cluster.Node }

func (one) Name() string                               { return "fake" }
func (one) Provider() string                           { return "none" }
func (one) Kubeconfig(context.Context) ([]byte, error) { return nil, fs.ErrNotExist }
func (o one) Nodes() []cluster.Node                    { return []cluster.Node{o.Node} }

func apiServer(t *testing.T, handler http.HandlerFunc) proof.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	cfg := &rest.Config{Host: s.URL, QPS: -1}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return proof.Server{Node: "cp-a", Config: cfg, Client: client}
}

func TestEvidence(t *testing.T) {
	down := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) }
	up := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"kind":"SecretList","apiVersion":"v1","metadata":{},"items":[{"kind":"Secret","apiVersion":"v1","metadata":{"namespace":"default","name":"db"},"data":{"password":%q}}]}`,
			base64.StdEncoding.EncodeToString([]byte(password)))
	}
	none := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind":"SecretList","apiVersion":"v1","metadata":{},"items":[]}`)
	}
	for name, c := range map[string]struct {
		servers []http.HandlerFunc
		before  []http.HandlerFunc // those that were asked before the break
		masked  []string
		problem string
	}{
		"the Secrets are known":            {[]http.HandlerFunc{up}, nil, []string{"[masked: Secret default/db, key password]", `[masked: a bearer token of "system"]`}, ""},
		"the second API server knows them": {[]http.HandlerFunc{down, up}, nil, []string{"[masked: Secret default/db, key password]", `[masked: a bearer token of "system"]`}, ""},
		"no API server answers":            {[]http.HandlerFunc{down}, nil, []string{`[masked: a bearer token of "system"]`}, "only keys and tokens are masked"},
		"they were known before the break": {
			[]http.HandlerFunc{down}, []http.HandlerFunc{down, up}, []string{"[masked: Secret default/db, key password]"}, "only keys, tokens and what the Secrets held before",
		},
		"one was added since": {
			[]http.HandlerFunc{up}, []http.HandlerFunc{none}, []string{"[masked: Secret default/db, key password]"}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Stage{Subject: proof.Subject{Cluster: one{talkative{}}}}
			for _, h := range c.before {
				s.Subject.Servers = append(s.Subject.Servers, apiServer(t, h))
			}
			if len(c.before) > 0 {
				if err := s.knowSecrets(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			s.Subject.Servers = nil
			for _, h := range c.servers {
				s.Subject.Servers = append(s.Subject.Servers, apiServer(t, h))
			}
			dir := filepath.Join(t.TempDir(), "evidence")
			paths, err := s.Evidence(t.Context(), dir)
			// That one thing can't be had keeps nothing else from being kept.
			if err == nil || !strings.Contains(err.Error(), "the runtime is gone") || !strings.Contains(err.Error(), c.problem) || strings.Contains(err.Error(), "only keys") != (c.problem != "") || strings.Contains(err.Error(), token) || len(paths) != 10 {
				t.Errorf("%d files, %v", len(paths), err)
			}
			for _, path := range append(paths, dir, filepath.Join(dir, "cp-a")) {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s has mode %04o", path, info.Mode().Perm())
				}
			}
			log, err := os.ReadFile(filepath.Join(dir, "cp-a", "kubelet.log"))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.masked {
				if !strings.Contains(string(log), want) {
					t.Errorf("%s; want %s", log, want)
				}
			}
			manifest, err := os.ReadFile(filepath.Join(dir, "cp-a", "kube-apiserver.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			text := string(log) + string(manifest)
			if strings.Contains(text, token) || (c.problem == "" || c.before != nil) && (strings.Contains(text, password) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(password)))) {
				t.Errorf("not masked: %s", text)
			}
		})
	}
}
