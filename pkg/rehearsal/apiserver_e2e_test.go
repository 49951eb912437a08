//go:build e2e

package rehearsal_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/etcd-drill/drill/pkg/apiserver"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/rehearsal"
)

// binary is a real kube-apiserver.
func binary(t testing.TB) string {
	t.Helper()
	path := os.Getenv(binaryEnv)
	if path == "" {
		t.Fatalf("$%s is not set: `go -C hack/nodeimage run . program kube-apiserver` builds one and says where it is", binaryEnv)
	}
	return path
}

// encryption writes an EncryptionConfiguration for Secrets and orders, with a new key, and returns its path.
func encryption(t testing.TB, key string) string {
	t.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	path := filepath.Join(t.TempDir(), "encryption.yaml")
	config := fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, orders.shop.example.com]
  providers:
  - aescbc: {keys: [{name: %s, secret: %s}]}
  - identity: {}
`, key, base64.StdEncoding.EncodeToString(secret))
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// listener is where a webhook could be reached, and says how often it was.
func listener(t testing.TB) (address string, reached func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	count := make(chan int, 1)
	count <- 0
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			count <- <-count + 1
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String(), func() int { n := <-count; count <- n; return n }
}

// grown is a snapshot of what a real API server has made of another one: with encrypted objects, with an API that is served from inside the cluster, with a webhook that is asked about everything, and with custom resources
// that another one converts. Both are at an address.
func grown(t testing.TB, encryptionConfig, address string) string {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	restored := etcd.RestoreOptions{Snapshot: realSnapshot("3.7"), DataDir: filepath.Join(dir, "etcd"), Name: "rehearsal", PeerURLs: []string{"https://127.0.0.1:2380"}}
	if err := etcd.Restore(ctx, self(), restored); err != nil {
		t.Fatal(err)
	}
	server, err := etcd.Serve(ctx, self(), etcd.ServeOptions{DataDir: restored.DataDir, Name: "rehearsal", PeerURL: "https://127.0.0.1:2380", Quota: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	api, err := apiserver.Start(ctx, self(), apiserver.Options{
		Binary: binary(t), Dir: dir, Etcd: server.Endpoint.URL, CA: server.CA, Cert: server.ClientCert, Key: server.ClientKey, EncryptionConfig: encryptionConfig,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Stop()
	if _, err := api.Discover(ctx); err != nil {
		t.Fatal(err)
	}
	client, objects := kubernetes.NewForConfigOrDie(api.Config), dynamic.NewForConfigOrDie(api.Config)
	for i := range 3 {
		if _, err := client.CoreV1().Secrets("shop").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("locked-%d", i)}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create := func(group, version, resource, namespace string, content map[string]any) {
		t.Helper()
		r := objects.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: resource})
		if _, err := r.Namespace(namespace).Create(ctx, &unstructured.Unstructured{Object: content}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	named := func(name string) map[string]any { return map[string]any{"name": name} }
	url := map[string]any{"url": "https://" + address, "caBundle": base64.StdEncoding.EncodeToString(server.CA)}
	create("shop.example.com", "v1", "orders", "shop", map[string]any{
		"apiVersion": "shop.example.com/v1", "kind": "Order", "metadata": named("locked"), "spec": map[string]any{"item": "tea", "count": int64(1)},
	})
	create("apiregistration.k8s.io", "v1", "apiservices", "", map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": named("v1beta1.metrics.k8s.io"),
		"spec": map[string]any{
			"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": int64(100), "versionPriority": int64(100), "insecureSkipTLSVerify": true,
			"service": map[string]any{"namespace": "kube-system", "name": "metrics-server"},
		},
	})
	create("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "", map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": named("asks-about-all"),
		"webhooks": []any{map[string]any{
			"name": "all.example.com", "clientConfig": url, "sideEffects": "None", "admissionReviewVersions": []any{"v1"}, "failurePolicy": "Fail",
			"rules": []any{map[string]any{"apiGroups": []any{"*"}, "apiVersions": []any{"*"}, "resources": []any{"*"}, "operations": []any{"*"}}},
		}},
	})
	version := func(name string, storage bool) map[string]any {
		return map[string]any{
			"name": name, "served": true, "storage": storage, "schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
		}
	}
	create("apiextensions.k8s.io", "v1", "customresourcedefinitions", "", map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": named("coats.shop.example.com"),
		"spec": map[string]any{
			"group": "shop.example.com", "scope": "Namespaced", "names": map[string]any{"plural": "coats", "singular": "coat", "kind": "Coat"},
			"versions":   []any{version("v1beta1", true), version("v1", false)},
			"conversion": map[string]any{"strategy": "Webhook", "webhook": map[string]any{"conversionReviewVersions": []any{"v1"}, "clientConfig": url}},
		},
	})
	if _, err := api.Discover(ctx); err != nil {
		t.Fatal(err)
	}
	create("shop.example.com", "v1beta1", "coats", "shop", map[string]any{"apiVersion": "shop.example.com/v1beta1", "kind": "Coat", "metadata": named("red")})
	path := filepath.Join(dir, "grown.db")
	if _, err := etcd.Save(ctx, server.Endpoint, path, etcd.InAnyFolder(), etcd.VerifyBy(func(ctx context.Context, path string) (plan.SnapshotInfo, error) {
		return etcd.Verify(ctx, self(), path)
	})); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAPIServer lists everything, with the key of what is encrypted, without it, and with another one; and reaches nobody while it does.
func TestAPIServer(t *testing.T) {
	right := encryption(t, "right")
	address, reached := listener(t)
	path := grown(t, right, address)
	before := reached()
	const serves, listed, decrypted = rehearsal.CheckAPIServer, rehearsal.CheckListed, rehearsal.CheckDecrypted
	for name, tt := range map[string]struct {
		config  string
		verdict plan.Verdict
		want    map[string]plan.Status
		skipped []string
	}{
		"with the right key": {right, plan.VerdictPassed, map[string]plan.Status{serves: plan.StatusPassed, listed: plan.StatusPassed, decrypted: plan.StatusPassed}, []string{"coats"}},
		"without a key":      {"", plan.VerdictPassed, map[string]plan.Status{serves: plan.StatusPassed, listed: plan.StatusPassed, decrypted: plan.StatusSkipped}, []string{"coats", "orders", "secrets"}},
		"with another key":   {encryption(t, "right"), plan.VerdictFailed, map[string]plan.Status{serves: plan.StatusPassed, listed: plan.StatusPassed, decrypted: plan.StatusFailed}, []string{"coats"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := rehearse(t, t.Context(), rehearsal.Options{Path: path, APIServer: &rehearsal.APIServerOptions{Binary: binary(t), EncryptionConfig: tt.config}})
			if r.Verdict != tt.verdict || r.APIServer == nil || !strings.HasPrefix(r.APIServer.Version, "v1.") {
				t.Fatalf("%s: %s", r.Verdict, r.Reason)
			}
			for name, want := range tt.want {
				if got := statuses(r)[name]; got != want {
					t.Errorf("%s is %s, want %s: %+v", name, got, want, r.Checks)
				}
			}
			var skipped []string
			for _, l := range r.APIServer.Resources {
				if l.Status == plan.StatusSkipped {
					skipped = append(skipped, l.Resource)
				}
				if l.Status == plan.StatusPassed && l.Listed < l.Objects-5 { // API servers replace some of their own
					t.Errorf("%+v", l)
				}
			}
			if slices.Sort(skipped); !slices.Equal(skipped, tt.skipped) {
				t.Errorf("%q can't be listed, want %q", skipped, tt.skipped)
			}
			if !slices.Equal(r.APIServer.Elsewhere, []string{"metrics.k8s.io/v1beta1"}) || len(r.APIServer.Unserved) > 0 {
				t.Errorf("elsewhere %q, unserved %+v", r.APIServer.Elsewhere, r.APIServer.Unserved)
			}
		})
	}
	if n := reached() - before; n > 0 {
		t.Errorf("a webhook was reached %d times", n)
	}
}

// TestAPIServerOfEachVersion: whichever etcd wrote the file.
func TestAPIServerOfEachVersion(t *testing.T) {
	for _, version := range []string{"3.4", "3.7"} {
		r := rehearse(t, t.Context(), rehearsal.Options{Path: realSnapshot(version), APIServer: &rehearsal.APIServerOptions{Binary: binary(t)}})
		if s := statuses(r); r.Verdict != plan.VerdictPassed || s[rehearsal.CheckListed] != plan.StatusPassed || s[rehearsal.CheckDecrypted] != plan.StatusSkipped {
			t.Errorf("%s: %s: %s", version, r.Verdict, r.Reason)
		}
	}
}

// TestAPIServerSabotage: what the API server doesn't show, or can't read, is noticed by the check that is for it and by no other.
func TestAPIServerSabotage(t *testing.T) {
	onEtcd := func(do func(context.Context, *clientv3.Client) error) func(context.Context, *etcd.Server) error {
		return func(ctx context.Context, server *etcd.Server) error {
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint.URL}, TLS: server.Endpoint.TLS, DialTimeout: 10 * time.Second})
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			return do(ctx, c)
		}
	}
	put := func(key, value string) func(context.Context, *etcd.Server) error {
		return onEtcd(func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Put(ctx, key, value)
			return err
		})
	}
	script := filepath.Join(t.TempDir(), "kube-apiserver")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho 'E0101 00:00:00.000000 1 run.go:1] \"command failed\" err=\"the data are too old\"' >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		binary string
		asked  func(context.Context, *etcd.Server) error
		fails  string
		says   string
	}{
		"an object is gone": {binary(t), onEtcd(func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Delete(ctx, "/registry/deployments/shop/nginx")
			return err
		}), rehearsal.CheckListed, "deployments.apps: 1 of 3 objects of the file are not listed, among them shop/nginx"},
		"an object is unreadable":        {binary(t), put("/registry/deployments/shop/nginx", "k8s\x00damaged"), rehearsal.CheckListed, "deployments.apps: "},
		"a custom resource is no object": {binary(t), put("/registry/shop.example.com/orders/shop/first", "{"), rehearsal.CheckListed, "orders.shop.example.com: "},
		"an object that nobody can open": {binary(t), put("/registry/configmaps/shop/settings", "k8s:enc:aescbc:v1:gone:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"), rehearsal.CheckListed, "configmaps: "},
		"it doesn't start":               {script, nil, rehearsal.CheckAPIServer, "the data are too old"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rehearse(t, t.Context(), rehearsal.Options{Path: realSnapshot("3.7"), APIServer: &rehearsal.APIServerOptions{Binary: tt.binary}, Asked: tt.asked})
			if r.Verdict != plan.VerdictFailed || !strings.Contains(r.Reason, tt.says) {
				t.Errorf("%s: %s", r.Verdict, r.Reason)
			}
			for name, status := range statuses(r) {
				if (status == plan.StatusFailed) != (name == tt.fails) {
					t.Errorf("%s is %s", name, status)
				}
			}
		})
	}
}

// TestAPIServerGoesOn with the deletion of a definition, and with what it defines: that is no fault of the backup's.
func TestAPIServerGoesOn(t *testing.T) {
	path := snapshotOf(t, map[string]string{
		"/registry/apiextensions.k8s.io/customresourcedefinitions/oxen.farm.io": definitionOfOxen(`,"deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":0,"finalizers":["customresourcecleanup.apiextensions.k8s.io"]`),
		"/registry/farm.io/oxen/a/1": `{"apiVersion":"farm.io/v1","kind":"Ox","metadata":{"namespace":"a","name":"1","uid":"6e1a9e5b-7a3c-4c55-9d0a-3c2f6b6f0a02"}}`,
	})
	for range 2 { // it may be faster, or slower, than the lists
		r := rehearse(t, t.Context(), rehearsal.Options{Path: path, APIServer: &rehearsal.APIServerOptions{Binary: binary(t), Version: "v1.37.2"}})
		if r.Verdict != plan.VerdictPassed {
			t.Errorf("%s: %s", r.Verdict, r.Reason)
		}
	}
}

// TestAPIServerCantDoWithout the key of what it needs itself: that is told as what is missing, and not as a fault of the backup's.
func TestAPIServerCantDoWithout(t *testing.T) {
	path := snapshotOf(t, map[string]string{"/registry/namespaces/kube-system": "k8s:enc:aescbc:v1:k:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"})
	r := rehearse(t, t.Context(), rehearsal.Options{Path: path, APIServer: &rehearsal.APIServerOptions{Binary: binary(t)}})
	if r.Verdict != plan.VerdictBroken || !strings.Contains(r.Reason, "give --encryption-config") {
		t.Errorf("%s: %s", r.Verdict, r.Reason)
	}
}

// TestAPIServerCantBeUsed with what it was given, or at all: the backup isn't to blame.
func TestAPIServerCantBeUsed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kms := func(version, rest string) string {
		return write("kms-"+version+".yaml", `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - kms: {apiVersion: `+version+", name: nobody, endpoint: 'unix://"+filepath.Join(dir, "nobody.sock")+"', timeout: 1s"+rest+`}
  - identity: {}
`)
	}
	for name, tt := range map[string]struct{ binary, config, says string }{
		"a flag that it doesn't know": {write("old", "#!/bin/sh\necho 'Error: unknown flag: --egress-selector-config-file' >&2\nexit 1\n"), "", "name one of the version of the cluster"},
		"a library that isn't there":  {write("bare", "#!/bin/sh\necho 'error while loading shared libraries: libc.so.6' >&2\nexit 127\n"), "", "libc.so.6"},
		"a KMS of the first version":  {binary(t), kms("v1", ", cachesize: 10"), "kms-v1.yaml can't be used"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rehearse(t, t.Context(), rehearsal.Options{Path: realSnapshot("3.7"), APIServer: &rehearsal.APIServerOptions{Binary: tt.binary, EncryptionConfig: tt.config}})
			if r.Verdict != plan.VerdictBroken || !strings.Contains(r.Reason, tt.says) {
				t.Errorf("%s: %s", r.Verdict, r.Reason)
			}
		})
	}
}

// TestAPIServerIsKilled by somebody else, as the kernel does when memory runs out: the backup isn't to blame.
func TestAPIServerIsKilled(t *testing.T) {
	script := filepath.Join(t.TempDir(), "kube-apiserver")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nkill -KILL $$\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := rehearse(t, t.Context(), rehearsal.Options{Path: realSnapshot("3.7"), APIServer: &rehearsal.APIServerOptions{Binary: script}})
	if r.Verdict != plan.VerdictBroken || !strings.Contains(r.Reason, "signal: killed") {
		t.Errorf("%s: %s", r.Verdict, r.Reason)
	}
}

// TestAPIServerInterrupted: whenever it is interrupted or killed, neither a process nor a file is left.
func TestAPIServerInterrupted(t *testing.T) {
	for _, at := range []string{rehearsal.PartAPIServer, rehearsal.PartList} {
		t.Run("interrupted/"+at, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := rehearse(t, ctx, rehearsal.Options{Path: realSnapshot("3.7"), APIServer: &rehearsal.APIServerOptions{Binary: binary(t)}, Observe: func(part string) func(error) {
				if part == at {
					cancel()
				}
				return func(error) {}
			}})
			if r.Verdict != plan.VerdictInterrupted {
				t.Errorf("%s: %s", r.Verdict, r.Reason)
			}
		})
		t.Run("killed/"+at, func(t *testing.T) {
			dir, mark := t.TempDir(), fmt.Sprintf("%d-%s", os.Getpid(), at)
			// It is started by a script, as some packages do it.
			script := filepath.Join(t.TempDir(), "kube-apiserver")
			if err := os.WriteFile(script, []byte("#!/bin/sh\n'"+binary(t)+"' \"$@\"\nexit $?\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self().Command[2], dir)
			cmd.Env = append(os.Environ(), rehearseEnv+"="+realSnapshot("3.7"), markEnv+"="+mark, binaryEnv+"="+script)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for lines.Scan() && lines.Text() != at {
			}
			deadline := time.Now().Add(30 * time.Second)
			for !runs(t, mark, "kube-apiserver") {
				if time.Now().After(deadline) {
					t.Fatal("kube-apiserver doesn't run")
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			nothingLeft(t, dir, mark)
		})
	}
}

// runs says whether a program runs that inherited a mark.
func runs(t *testing.T, mark, program string) bool {
	t.Helper()
	return slices.ContainsFunc(marked(t, mark), func(pid string) bool {
		path, err := os.Readlink("/proc/" + pid + "/exe")
		return err == nil && filepath.Base(path) == program
	})
}
