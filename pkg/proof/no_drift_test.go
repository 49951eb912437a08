package proof

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// host is a control plane with files, an etcd that runs, and directories.
type host struct {
	machine
	files  map[string]string
	mounts []controlplane.Mount // of the running etcd; nil: none runs
	holds  []string             // data directories with a database
}

func (h *host) ReadFile(_ context.Context, path string) ([]byte, error) {
	text, ok := h.files[path]
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return []byte(text), nil
}

func (h *host) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	switch cmd.Argv[0] {
	case "find":
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(h.files)), func(f string) bool { return !strings.HasPrefix(f, controlplane.ManifestDir+"/") })
		return cluster.Result{Stdout: []byte(strings.Join(names, "\n"))}, nil
	case "test":
		dir := strings.TrimSuffix(cmd.Argv[2], "/member/snap/db")
		if slices.Contains(h.holds, dir) {
			return cluster.Result{}, nil
		}
		return cluster.Result{}, &cluster.ExitError{Node: h.name, Cmd: cmd, Code: 1}
	}
	h.containers = nil
	if h.mounts != nil {
		h.containers = []controlplane.Container{{ID: "c-etcd", Name: "etcd", PodNamespace: "kube-system", StartedAt: time.Unix(100, 0), Mounts: h.mounts}}
	}
	return h.machine.Exec(ctx, cmd)
}

func manifest(pod, dir string) string {
	return `apiVersion: v1
kind: Pod
metadata: {name: ` + pod + `, namespace: kube-system}
spec:
  containers:
  - name: etcd
    command: [etcd, --name=cp-a, --data-dir=/var/lib/etcd, "--advertise-client-urls=https://172.18.0.2:2379", "--initial-advertise-peer-urls=https://172.18.0.2:2380"]
    volumeMounts: [{name: etcd-data, mountPath: /var/lib/etcd}]
  volumes: [{name: etcd-data, hostPath: {path: ` + dir + `}}]
`
}

const restored = "/var/lib/drill/r/etcd"

func restoredHost() *host {
	return &host{
		machine: machine{name: "cp-a"},
		files: map[string]string{
			"/etc/kubernetes/manifests/etcd.yaml":           manifest("etcd", restored),
			"/etc/kubernetes/manifests/kube-apiserver.yaml": strings.ReplaceAll(manifest("kube-apiserver", "/x"), "- name: etcd", "- name: kube-apiserver"),
		},
		mounts: []controlplane.Mount{{HostPath: restored, ContainerPath: "/var/lib/etcd"}},
		holds:  []string{restored},
	}
}

func kubeadmConfig(clusterConfiguration string) object {
	return object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": "kubeadm-config", "namespace": "kube-system"},
		"data": object{"ClusterConfiguration": clusterConfiguration}}
}

func TestNoDrift(t *testing.T) {
	for name, c := range map[string]struct {
		alter  func(*host)
		config []object
		// of the passing
		detail string
		// of the failing
		subject, expected, seen string
	}{
		"kubeadm knows the directory": {
			config: []object{kubeadmConfig("etcd: {local: {dataDir: " + restored + "}}")},
			detail: "and kubeadm-config agree on " + restored,
		},
		"kubeadm knows another": {
			config: []object{kubeadmConfig("etcd: {local: {dataDir: /var/lib/etcd}}")},
			detail: "kubeadm-config still says /var/lib/etcd: a later `kubeadm upgrade` would start etcd on that directory again",
		},
		"kubeadm keeps no record": {detail: "keeps no kubeadm-config"},
		"a second manifest": {
			alter: func(h *host) {
				h.files["/etc/kubernetes/manifests/etcd.yaml.bak"] = manifest("etcd", "/var/lib/etcd")
			},
			subject: "/etc/kubernetes/manifests/etcd.yaml.bak on cp-a", expected: "one manifest of pod kube-system/etcd, /etc/kubernetes/manifests/etcd.yaml", seen: "a second one",
		},
		"a second etcd by another name": {
			alter: func(h *host) {
				h.files["/etc/kubernetes/manifests/old.yaml"] = manifest("etcd-old", "/var/lib/etcd")
			},
			subject: "/etc/kubernetes/manifests on cp-a", expected: "one manifest with a container named etcd", seen: "2",
		},
		"a file that is no pod": {
			alter:   func(h *host) { h.files["/etc/kubernetes/manifests/notes.txt"] = "remember: milk" },
			subject: "notes.txt", expected: "a pod's manifest", seen: "not a static-pod manifest",
		},
		"an empty file": {
			alter:   func(h *host) { h.files["/etc/kubernetes/manifests/empty"] = "" },
			subject: "empty", expected: "a pod's manifest", seen: "it is empty",
		},
		"etcd runs elsewhere": {
			alter:   func(h *host) { h.mounts[0].HostPath = "/var/lib/etcd" },
			subject: "etcd on cp-a", expected: "to run on " + restored, seen: "/var/lib/etcd",
		},
		"etcd doesn't run": {
			alter:   func(h *host) { h.mounts = nil },
			subject: "etcd on cp-a", expected: "1 running container", seen: "0",
		},
		"the directory is gone": {
			alter:   func(h *host) { h.holds = nil },
			subject: restored + " on cp-a", expected: "etcd's database", seen: "nothing there",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := restoredHost()
			if c.alter != nil {
				c.alter(h)
			}
			s := &Subject{
				Members: []controlplane.Member{{Name: "cp-a", Node: h}},
				Servers: []Server{serve(t, "cp-a", &apiServer{objects: map[string][]object{"configmaps": c.config}})},
			}
			f, err := noDrift(t.Context(), s)
			if c.detail == "" {
				differs(t, f, err, c.subject, c.expected, c.seen)
				return
			}
			if err != nil || f.Status != plan.StatusPassed || !strings.Contains(f.Detail, c.detail) {
				t.Errorf("%+v, %v; want a pass: %s", f, err, c.detail)
			}
		})
	}
}

func TestNoDriftNeedsKubeadmsRecordToBeReadable(t *testing.T) {
	h := restoredHost()
	s := &Subject{
		Members: []controlplane.Member{{Name: "cp-a", Node: h}},
		Servers: []Server{serve(t, "cp-a", &apiServer{objects: map[string][]object{"configmaps": {kubeadmConfig("etcd: [")}}})},
	}
	if f, err := noDrift(t.Context(), s); err == nil {
		t.Errorf("%+v; want an error: the record is not YAML", f)
	}
}
