package controlplane_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/etcd-drill/drill/pkg/controlplane"
)

// golden reads a file of testdata: manifests as kubeadm wrote them and what crictl printed, recorded on a kind node.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseEtcdManifest(t *testing.T) {
	for version, image := range map[string]string{"v1.36": "registry.k8s.io/etcd:3.6.8-0", "v1.37": "registry.k8s.io/etcd:3.7.0-0"} {
		cfg, err := controlplane.ParseEtcdManifest(golden(t, "etcd-"+version+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Flags = nil
		want := controlplane.EtcdConfig{
			Name: "cp-a", DataDir: "/var/lib/etcd", HostDataDir: "/var/lib/etcd", DataVolume: "etcd-data",
			ListenClientURLs:    []string{"https://127.0.0.1:2379", "https://172.18.0.3:2379"},
			AdvertiseClientURLs: []string{"https://172.18.0.3:2379"},
			PeerURLs:            []string{"https://172.18.0.3:2380"},
			ListenPeerURLs:      []string{"https://172.18.0.3:2380"},
			InitialCluster:      "cp-a=https://172.18.0.3:2380",
			CACert:              "/etc/kubernetes/pki/etcd/ca.crt",
			Cert:                "/etc/kubernetes/pki/etcd/server.crt",
			Key:                 "/etc/kubernetes/pki/etcd/server.key",
			PeerCert:            "/etc/kubernetes/pki/etcd/peer.crt",
			PeerCA:              "/etc/kubernetes/pki/etcd/ca.crt",
			MetricsURL:          "http://127.0.0.1:2381",
			Image:               image,
		}
		if !reflect.DeepEqual(cfg, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", version, cfg, want)
		}
	}
}

const small = `apiVersion: v1
kind: Pod
metadata: {name: etcd, namespace: kube-system}
spec:
  containers:
  - name: etcd
    image: etcd:3
    command: [etcd, --name, member, -data-dir=/data/sub, --client-cert-auth]
    args: ["--advertise-client-urls", "https://h:2379", "--initial-advertise-peer-urls=https://h:2380,https://g:2380", --name=last]
    env: [{name: ETCD_CERT_FILE, value: /pki/s.crt}, {name: ETCD_NAME, value: overruled}]
    volumeMounts: [{name: data, mountPath: /data/}, {name: pki, mountPath: /pki}, {name: root, mountPath: /}]
  volumes:
  - {name: root, hostPath: {path: /mnt}}
  - {name: data, hostPath: {path: /mnt/disk1}}
  - {name: pki, hostPath: {path: /etc/pki}}
`

func TestParseEtcdManifestForms(t *testing.T) {
	cfg, err := controlplane.ParseEtcdManifest([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Name != "last" || cfg.DataDir != "/data/sub" || cfg.HostDataDir != "/mnt/disk1/sub" || cfg.DataVolume != "data" ||
		cfg.DataSubPath != "sub" || cfg.Cert != "/etc/pki/s.crt" || len(cfg.PeerURLs) != 2 ||
		cfg.AdvertiseClientURLs[0] != "https://h:2379" || cfg.Flags["client-cert-auth"] != "true" {
		t.Errorf("%+v", cfg)
	}
}

func TestParseEtcdManifestRefuses(t *testing.T) {
	good := string(golden(t, "etcd-v1.37.yaml"))
	change := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the manifest has no %q", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	for name, c := range map[string]struct {
		manifest string
		want     error
		says     string
	}{
		"empty":                 {"", controlplane.ErrNotManifest, "empty"},
		"not YAML":              {"a: [", controlplane.ErrNotManifest, "not YAML"},
		"a list":                {"- a\n", controlplane.ErrNotManifest, ""},
		"not a Pod":             {change("kind: Pod", "kind: Node"), controlplane.ErrNotManifest, ""},
		"another kind, no spec": {"apiVersion: v1\nkind: ConfigMap\n", controlplane.ErrNotManifest, "ConfigMap"},
		"unknown field":         {change("hostNetwork: true", "hostNetwok: true"), controlplane.ErrNotManifest, "hostNetwok"},
		"field twice":           {change("hostNetwork: true", "hostNetwork: true\n  hostNetwork: false"), controlplane.ErrNotManifest, "hostNetwork"},
		"two documents":         {good + "---\n" + good, controlplane.ErrNotManifest, "more than one"},
		"no container etcd":     {change("    name: etcd\n    ports", "    name: db\n    ports"), controlplane.ErrNotEtcd, "db"},
		"no data dir":           {change("    - --data-dir=/var/lib/etcd\n", ""), controlplane.ErrNotEtcd, "--data-dir"},
		"no name":               {change("    - --name=cp-a\n", ""), controlplane.ErrNotEtcd, "--name"},
		"a config file":         {change("--snapshot-count=10000", "--config-file=/etc/etcd.yaml"), controlplane.ErrNotEtcd, "/etc/etcd.yaml"},
		"no volume":             {change("--data-dir=/var/lib/etcd", "--data-dir=/var/lib/etcd-old"), controlplane.ErrNotEtcd, "/var/lib/etcd-old"},
		"volume of other kind":  {change("  - hostPath:\n      path: /var/lib/etcd\n      type: DirectoryOrCreate\n", "  - emptyDir: {}\n"), controlplane.ErrNotEtcd, "not a hostPath"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := controlplane.ParseEtcdManifest([]byte(c.manifest))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v that says %q", err, c.want, c.says)
			}
		})
	}
}

func TestParseAPIServerManifest(t *testing.T) {
	good := string(golden(t, "kube-apiserver-v1.37.yaml"))
	cfg, err := controlplane.ParseAPIServerManifest([]byte(good))
	want := controlplane.APIServerConfig{
		EtcdServers: []string{"https://127.0.0.1:2379"},
		EtcdCert:    "/etc/kubernetes/pki/apiserver-etcd-client.crt",
		EtcdCA:      "/etc/kubernetes/pki/etcd/ca.crt",
		ClientCA:    "/etc/kubernetes/pki/ca.crt",
		Cert:        "/etc/kubernetes/pki/apiserver.crt",
	}
	if err != nil || !reflect.DeepEqual(cfg, want) {
		t.Errorf("%+v, %v", cfg, err)
	}
	for name, c := range map[string]struct {
		old, with string
		want      error
		says      string
	}{
		"not a Pod":      {"kind: Pod", "kind: Node", controlplane.ErrNotManifest, ""},
		"no API server":  {"    name: kube-apiserver\n    ports", "    name: server\n    ports", controlplane.ErrNotAPIServer, "server"},
		"no etcd":        {"    - --etcd-servers=https://127.0.0.1:2379\n", "", controlplane.ErrNotAPIServer, "--etcd-servers"},
		"in no volume":   {"--tls-cert-file=/etc/kubernetes/pki", "--tls-cert-file=/pki", controlplane.ErrNotAPIServer, "--tls-cert-file=/pki/apiserver.crt"},
		"nor the other":  {"--etcd-certfile=/etc/kubernetes/pki", "--etcd-certfile=/pki", controlplane.ErrNotAPIServer, "--etcd-certfile=/pki/apiserver-etcd-client.crt"},
		"without a cert": {"    - --etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt\n", "", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, c.old) {
				t.Fatalf("the manifest has no %q", c.old)
			}
			_, err := controlplane.ParseAPIServerManifest([]byte(strings.Replace(good, c.old, c.with, 1)))
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v that says %q", err, c.want, c.says)
			}
		})
	}
}

func TestPatchHostPath(t *testing.T) {
	good := string(golden(t, "etcd-v1.37.yaml"))
	const line = "      path: /var/lib/etcd\n"
	as := func(l string) string { return strings.Replace(good, line, l, 1) }
	for name, c := range map[string]struct {
		manifest, from, to string
		path               string
	}{
		"v1.37":             {good, line, "      path: /var/lib/etcd-new\n", ""},
		"v1.36":             {string(golden(t, "etcd-v1.36.yaml")), line, "      path: /var/lib/etcd-new\n", ""},
		"trailing comment":  {as("      path: /var/lib/etcd   # the only copy: /var/lib/etcd\n"), "path: /var/lib/etcd   #", "path: /var/lib/etcd-new   #", ""},
		"double quotes":     {as("      path: \"/var/lib/etcd\"\n"), `"/var/lib/etcd"`, `"/var/lib/etcd-new"`, ""},
		"escapes in quotes": {as("      path: \"/var/lib\\x2fetcd\" # x\n"), `"/var/lib\x2fetcd"`, `"/var/lib/etcd-new"`, ""},
		"single quotes":     {as("      path: '/var/lib/etcd'\n"), `'/var/lib/etcd'`, `'/var/lib/etcd-new'`, ""},
		"quotes needed":     {good, line, "      path: '/mnt/it''s here: #1'\n", "/mnt/it's here: #1"},
		"quotes needed in double quotes": {as("      path: \"/var/lib/etcd\"\n"), `"/var/lib/etcd"`, `'/mnt/a "b" \c'`,
			`/mnt/a "b" \c`},
		"windows line ends": {strings.ReplaceAll(good, "\n", "\r\n"), "      path: /var/lib/etcd\r\n", "      path: /var/lib/etcd-new\r\n", ""},
		"comments and characters of several bytes": {"# etcd 데이터 \u00e9\u2028# more\n" + as("      path:   /var/lib/etcd # 백업\n"),
			"path:   /var/lib/etcd #", "path:   /var/lib/etcd-new #", ""},
		"byte order mark":   {"\ufeff" + good, line, "      path: /var/lib/etcd-new\n", ""},
		"document marker":   {"%YAML 1.1\n---\n" + good + "...\n", line, "      path: /var/lib/etcd-new\n", ""},
		"no newline at end": {strings.TrimSuffix(good, "\n"), line, "      path: /var/lib/etcd-new\n", ""},
		"other volume's path begins alike": {strings.Replace(good, "      path: /etc/kubernetes/pki/etcd\n", "      path: /var/lib/etcd-old\n", 1),
			line, "      path: /var/lib/etcd-new\n", ""},
		"own path is longer": {as("      path: /var/lib/etcd-old\n"), "path: /var/lib/etcd-old\n", "path: /var/lib/etcd-new\n", ""},
		"other order": {strings.Replace(good, "  - hostPath:\n      path: /var/lib/etcd\n      type: DirectoryOrCreate\n    name: etcd-data\n",
			"  -   name:   \"etcd-data\"\n      hostPath:\n             type: DirectoryOrCreate\n             # here\n             path:\n                /var/lib/etcd\n", 1),
			"                /var/lib/etcd\n", "                /var/lib/etcd-new\n", ""},
		"flow style": {strings.Replace(good, "  - hostPath:\n      path: /var/lib/etcd\n      type: DirectoryOrCreate\n    name: etcd-data\n",
			"  - {hostPath: {path: /var/lib/etcd, type: DirectoryOrCreate}, name: etcd-data}\n", 1),
			"path: /var/lib/etcd, ", "path: /var/lib/etcd-new, ", ""},
		"same path": {good, line, line, "/var/lib/etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Count(c.manifest, c.from) != 1 {
				t.Fatalf("the manifest has %q %d times", c.from, strings.Count(c.manifest, c.from))
			}
			to := c.path
			if to == "" {
				to = "/var/lib/etcd-new"
			}
			got, err := controlplane.PatchHostPath([]byte(c.manifest), "etcd-data", to)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Replace(c.manifest, c.from, c.to, 1); string(got) != want {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("JSON", func(t *testing.T) {
		asJSON, err := sigsyaml.YAMLToJSON([]byte(good))
		if err != nil {
			t.Fatal(err)
		}
		got, err := controlplane.PatchHostPath(asJSON, "etcd-data", "/var/lib/etcd-new")
		if err != nil {
			t.Fatal(err)
		}
		if want := bytes.Replace(asJSON, []byte(`"path":"/var/lib/etcd"`), []byte(`"path":"/var/lib/etcd-new"`), 1); !bytes.Equal(got, want) {
			t.Errorf("got %s", got)
		}
	})
}

func TestPatchHostPathRefuses(t *testing.T) {
	good := string(golden(t, "etcd-v1.37.yaml"))
	as := func(l string) string { return strings.Replace(good, "      path: /var/lib/etcd\n", l, 1) }
	data := "  - hostPath:\n      path: /var/lib/etcd\n      type: DirectoryOrCreate\n    name: etcd-data\n"
	certs := "  - hostPath:\n      path: /etc/kubernetes/pki/etcd\n      type: DirectoryOrCreate\n    name: etcd-certs\n"
	for name, c := range map[string]struct {
		manifest, volume, path string
		want                   error
	}{
		"no such volume":         {good, "etcd", "/new", controlplane.ErrVolume},
		"not a hostPath":         {strings.Replace(good, data, "  - name: etcd-data\n    emptyDir: {}\n", 1), "etcd-data", "/new", controlplane.ErrVolume},
		"volume twice":           {good + "", "etcd-data", "/new", nil},
		"two documents":          {good + "---\nkind: Pod\n", "etcd-data", "/new", controlplane.ErrNotManifest},
		"anchored path":          {as("      path: &p /var/lib/etcd\n"), "etcd-data", "/new", controlplane.ErrVolume},
		"path is an alias":       {strings.Replace(as("      path: *p\n"), "path: /etc/kubernetes/pki/etcd\n", "path: &p /etc/kubernetes/pki/etcd\n", 1), "etcd-data", "/new", controlplane.ErrVolume},
		"hostPath is an alias":   {strings.Replace(strings.Replace(good, data, "  - hostPath: *h\n    name: etcd-data\n", 1), certs, strings.Replace(certs, "hostPath:", "hostPath: &h", 1), 1), "etcd-data", "/new", controlplane.ErrVolume},
		"hostPath is shared":     {strings.Replace(strings.Replace(good, data, "  - hostPath: *h\n    name: etcd-data\n", 1), certs, strings.Replace(certs, "hostPath:", "hostPath: &h", 1), 1), "etcd-certs", "/new", controlplane.ErrVolume},
		"merge key":              {strings.Replace(strings.Replace(good, data, "  - hostPath:\n      <<: *h\n    name: etcd-data\n", 1), certs, strings.Replace(certs, "hostPath:", "hostPath: &h", 1), 1), "etcd-data", "/new", controlplane.ErrVolume},
		"tag":                    {as("      path: !!str /var/lib/etcd\n"), "etcd-data", "/new", controlplane.ErrVolume},
		"folded":                 {as("      path: >-\n        /var/lib/etcd\n"), "etcd-data", "/new", controlplane.ErrVolume},
		"quoted over two lines":  {as("      path: \"/var/lib/\\\n        etcd\"\n"), "etcd-data", "/new", controlplane.ErrVolume},
		"plain over two lines":   {as("      path: /var/lib/etcd\n        and more\n"), "etcd-data", "/new", controlplane.ErrVolume},
		"not UTF-8":              {"# \xff\n" + good, "etcd-data", "/new", controlplane.ErrNotManifest},
		"relative path":          {good, "etcd-data", "new", errAny},
		"root":                   {good, "etcd-data", "/", errAny},
		"path that goes up":      {good, "etcd-data", "/var/../new", errAny},
		"path with a line break": {good, "etcd-data", "/new\nx", errAny},
		"no path":                {good, "etcd-data", "", errAny},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "volume twice" {
				c.manifest, c.want = strings.Replace(good, data, data+data, 1), controlplane.ErrVolume
			}
			got, err := controlplane.PatchHostPath([]byte(c.manifest), c.volume, c.path)
			if err == nil || (c.want != errAny && !errors.Is(err, c.want)) {
				t.Errorf("%v, want %v; got %q", err, c.want, got)
			}
		})
	}
}

// errAny stands for an error that has no sentinel.
var errAny = errors.New("any")

// FuzzPatchHostPath: whatever is accepted differs in that field alone, and in bytes only where the field stands.
func FuzzPatchHostPath(f *testing.F) {
	for _, name := range []string{"etcd-v1.36.yaml", "etcd-v1.37.yaml", "kube-apiserver-v1.37.yaml"} {
		b := golden(f, name)
		f.Add(b, "etcd-data", "/var/lib/etcd-new")
		f.Add(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")), "etcd-certs", "/a b")
	}
	f.Add([]byte(small), "data", "/it's")
	f.Add([]byte(strings.ReplaceAll(small, "path: /mnt/disk1", "path: &a '/mnt/disk1'")), "data", "/x")
	f.Fuzz(func(t *testing.T, manifest []byte, volume, path string) {
		patched, err := controlplane.PatchHostPath(manifest, volume, path)
		if err != nil {
			return
		}
		var before, after corev1.Pod
		if err := sigsyaml.UnmarshalStrict(manifest, &before); err != nil {
			t.Fatalf("accepted, but not a pod: %v", err)
		}
		if err := sigsyaml.UnmarshalStrict(patched, &after); err != nil {
			t.Fatalf("no pod any more: %v", err)
		}
		changed := 0
		for i := range before.Spec.Volumes {
			if v := &before.Spec.Volumes[i]; v.Name == volume {
				v.HostPath.Path = path
				changed++
			}
		}
		if changed != 1 || !reflect.DeepEqual(before, after) {
			t.Errorf("more or less than the field has changed")
		}
		head := 0
		for head < min(len(manifest), len(patched)) && manifest[head] == patched[head] {
			head++
		}
		tail := 0
		for tail < min(len(manifest), len(patched))-head && manifest[len(manifest)-1-tail] == patched[len(patched)-1-tail] {
			tail++
		}
		if between := string(patched[head : len(patched)-tail]); strings.ContainsAny(between, "\r\n") {
			t.Errorf("the change spans lines: %q", between)
		}
	})
}

func TestReadyURL(t *testing.T) {
	for component, want := range map[string]string{
		controlplane.Etcd:              "http://127.0.0.1:2381/readyz",
		controlplane.APIServer:         "https://172.18.0.3:6443/readyz",
		controlplane.ControllerManager: "https://127.0.0.1:10257/healthz",
		controlplane.Scheduler:         "https://127.0.0.1:10259/readyz",
	} {
		got, err := controlplane.ReadyURL(golden(t, component+"-v1.37.yaml"), component)
		if err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", component, got, err, want)
		}
	}
	numbers := strings.ReplaceAll(string(golden(t, "etcd-v1.37.yaml")), "port: probe-port", "port: 2381")
	numbers = strings.ReplaceAll(strings.ReplaceAll(numbers, "        scheme: HTTP\n", ""), "host: 127.0.0.1", "host: ::1")
	if got, err := controlplane.ReadyURL([]byte(numbers), controlplane.Etcd); err != nil || got != "http://[::1]:2381/readyz" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := controlplane.ReadyURL([]byte(small), controlplane.Etcd); err == nil {
		t.Error("no probe: no error")
	}
	unnamed := strings.Replace(string(golden(t, "etcd-v1.37.yaml")), "name: probe-port", "name: other-port", 1)
	if _, err := controlplane.ReadyURL([]byte(unnamed), controlplane.Etcd); err == nil || !strings.Contains(err.Error(), "probe-port") {
		t.Errorf("a port without a name: %v", err)
	}
}
