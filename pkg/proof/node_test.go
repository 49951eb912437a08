package proof

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

var errLost = errors.New("connection lost")

func TestStatusBacked(t *testing.T) {
	run := func(id, podUID string) controlplane.Container {
		return controlplane.Container{ID: id, Name: "nginx", PodNamespace: "default", PodUID: podUID, StartedAt: time.Unix(100, 0)}
	}
	exited := run("c-a", "u-a")
	exited.State = controlplane.ContainerExited
	mirror := newPod("kube-system", "etcd-cp-a", "u-mirror", "cp-a", "etcd=c-etcd")
	meta(mirror)["annotations"] = object{corev1.MirrorPodAnnotationKey: "hash-1", "kubernetes.io/config.hash": "hash-1"}
	etcd := run("c-etcd", "hash-1")
	a, b := newPod("default", "nginx-1-a", "u-a", "cp-a", "nginx=c-a"), newPod("default", "nginx-1-b", "u-b", "cp-b", "nginx=c-b")
	// The phase of a pod whose container is about to be tried again is Running.
	waits := newPod("default", "crashes", "u-x", "cp-a")
	waits["status"].(object)["containerStatuses"] = []object{{"name": "x", "state": object{"waiting": object{"reason": "CrashLoopBackOff"}}}}
	pending := newPod("default", "pending", "u-p", "")
	pending["status"] = object{"phase": "Pending"}

	for name, c := range map[string]struct {
		pods       []object
		containers []controlplane.Container // on cp-a; cp-b runs c-b
		afterwards []controlplane.Container
		status     plan.Status
		want       string // part of the detail
	}{
		"all run": {
			[]object{a, b, mirror, waits, pending},
			[]controlplane.Container{run("c-a", "u-a"), etcd, run("c-other", "u-unknown")},
			nil, plan.StatusPassed, "3 containers that are said to run do run",
		},
		"the lie after a restore: Running, and no container": {
			[]object{a, b, mirror}, []controlplane.Container{etcd}, nil, plan.StatusFailed,
			"1 containers are said to run and don't: pod default/nginx-1-a container nginx: expected c-a running on node cp-a, seen no such running container",
		},
		"the container of another pod": {
			[]object{a}, []controlplane.Container{run("c-a", "u-before")}, nil, plan.StatusFailed,
			"pod default/nginx-1-a container nginx: expected c-a to be of pod UID u-a, seen u-before",
		},
		"a container that has ended since it was listed": {
			[]object{a}, []controlplane.Container{run("c-a", "u-a")}, []controlplane.Container{exited}, plan.StatusFailed, "seen no such running container",
		},
		"on another node": {
			[]object{newPod("default", "nginx-1-a", "u-a", "cp-b", "nginx=c-a")}, []controlplane.Container{run("c-a", "u-a")}, nil,
			plan.StatusFailed, "expected c-a running on node cp-b",
		},
		"on a node that nobody knows": {
			[]object{newPod("default", "nginx-1-a", "u-a", "cp-z", "nginx=c-a")}, []controlplane.Container{run("c-a", "u-a")}, nil,
			plan.StatusFailed, "expected c-a running on node cp-z",
		},
		"no container ID": {
			[]object{newPod("default", "nginx-1-a", "u-a", "cp-a", "nginx=")}, nil, nil, plan.StatusFailed, "expected a container without an ID running on node cp-a",
		},
		"no container at all": {
			[]object{newPod("default", "nginx-1-a", "u-a", "cp-a")}, nil, nil, plan.StatusFailed,
			"pod default/nginx-1-a: expected to name the containers that run, seen phase Running and none",
		},
		"a static pod of another manifest": {
			[]object{mirror}, []controlplane.Container{run("c-etcd", "hash-0")}, nil, plan.StatusFailed, "expected c-etcd to be of pod UID hash-1, seen hash-0",
		},
		"a static pod by the UID of its mirror": {
			[]object{mirror}, []controlplane.Container{run("c-etcd", "u-mirror")}, nil, plan.StatusFailed, "expected c-etcd to be of pod UID hash-1, seen u-mirror",
		},
		"no pod": {nil, nil, nil, plan.StatusFailed, "no pod says that it runs"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Subject{
				Servers: []Server{serve(t, "cp-a", &apiServer{objects: map[string][]object{"pods": c.pods}})},
				Cluster: machines{
					{name: "cp-a", containers: c.containers, afterwards: c.afterwards},
					{name: "cp-b", containers: []controlplane.Container{run("c-b", "u-b")}},
				},
			}
			f, err := statusBacked(t.Context(), s)
			if err != nil || f.Status != c.status || !strings.Contains(f.Detail, c.want) {
				t.Errorf("%+v, %v; want %s: %s", f, err, c.status, c.want)
			}
		})
	}
}

// TestStatusBackedAsksByName: pods of the workload that LIST hides are held against the runtime all the same.
func TestStatusBackedAsksByName(t *testing.T) {
	w, live := nginx()
	live["pods"] = []object{newPod("default", "nginx-1-a", "u-a", "cp-a", "nginx=c-a")} // nginx-1-b isn't back at all
	s := &Subject{
		Workload: w,
		Servers: []Server{serve(t, "cp-a", &apiServer{objects: live, lie: func(w http.ResponseWriter, _ *http.Request, c call) bool {
			if c.verb == "LIST" {
				reply(w, http.StatusOK, listOf())
			}
			return c.verb == "LIST"
		}})},
		Cluster: machines{{name: "cp-a"}},
	}
	f, err := statusBacked(t.Context(), s)
	if err != nil || f.Status != plan.StatusFailed || !strings.Contains(f.Detail, "1 containers are said to run and don't: pod default/nginx-1-a") {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestStatusBackedNeedsBothViews(t *testing.T) {
	refuse := func(verb string) *apiServer {
		_, live := nginx()
		return &apiServer{objects: live, lie: func(w http.ResponseWriter, _ *http.Request, c call) bool {
			if c.verb == verb {
				status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
			}
			return c.verb == verb
		}}
	}
	w, _ := nginx()
	w.Objects = append(w.Objects, Object{Resource: pods, Namespace: "default", Name: "hidden", UID: "u-hidden"})
	for name, s := range map[string]*Subject{
		"the node":      {Servers: []Server{serve(t, "cp-a", refuse("none"))}, Cluster: machines{{name: "cp-a", broken: errLost}}},
		"the API":       {Servers: []Server{serve(t, "cp-a", refuse("LIST"))}, Cluster: machines{{name: "cp-a"}}},
		"a pod by name": {Workload: w, Servers: []Server{serve(t, "cp-a", refuse("GET"))}, Cluster: machines{{name: "cp-a"}}},
	} {
		if f, err := statusBacked(t.Context(), s); err == nil || !strings.Contains(err.Error(), "cp-a") {
			t.Errorf("%s can't be read: %+v, %v", name, f, err)
		}
	}
}

func TestRuntimeUID(t *testing.T) {
	for want, annotations := range map[string]map[string]string{
		"u-api":  nil,
		"hash-1": {corev1.MirrorPodAnnotationKey: "hash-1", "kubernetes.io/config.hash": "hash-1"},
	} {
		if got := runtimeUID(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID("u-api"), Annotations: annotations}}); got != want {
			t.Errorf("%v: %s, want %s", annotations, got, want)
		}
	}
	// Anybody may write this annotation on a pod; only a mirror pod's is kubelet's.
	if got := runtimeUID(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u-api", Annotations: map[string]string{"kubernetes.io/config.hash": "x"}}}); got != "u-api" {
		t.Errorf("a pod that is no mirror has %s", got)
	}
}

const newDir, oldDir = "/var/lib/drill/x/etcd", "/var/lib/etcd"

// renewedMachine is a control plane on which everything began a second after the swap.
func renewedMachine() *machine {
	swapped := time.Unix(1795409198, 500000000)
	m := &machine{name: "cp-a", swapped: "1795409198.500000000", kubelet: swapped.Add(time.Second)}
	for _, name := range controlplane.Components() {
		m.containers = append(m.containers, controlplane.Container{
			ID: "c-" + name, Name: name, PodName: name + "-cp-a", PodNamespace: "kube-system", PodUID: "hash", StartedAt: swapped.Add(time.Second),
		})
		if name == controlplane.Etcd {
			m.containers[len(m.containers)-1].Mounts = []controlplane.Mount{
				{HostPath: "/etc/kubernetes/pki/etcd", ContainerPath: "/etc/kubernetes/pki/etcd"},
				{HostPath: newDir, ContainerPath: oldDir},
			}
		}
	}
	// A stranger of the same name is somebody else's.
	m.containers = append(m.containers, controlplane.Container{ID: "c-stranger", Name: "etcd", PodNamespace: "default", StartedAt: time.Unix(1, 0)})
	return m
}

func (m *machine) component(name string) *controlplane.Container {
	for i := range m.containers {
		if m.containers[i].Name == name {
			return &m.containers[i]
		}
	}
	return nil
}

func TestControlPlaneRenewed(t *testing.T) {
	before := time.Unix(1795409198, 499000000) // a millisecond before the swap
	for name, c := range map[string]struct {
		change func(m *machine)
		status plan.Status
		want   string // part of the detail
	}{
		"all of it": {func(*machine) {}, plan.StatusPassed, "etcd runs on " + newDir},
		"a kubelet from before": {
			func(m *machine) { m.kubelet = before }, plan.StatusFailed,
			"1 parts of the control plane are from before the swap or on other data: kubelet on cp-a: expected a start after 04:46:38.500, seen 04:46:38.499",
		},
		"an API server from before": {
			func(m *machine) { m.component("kube-apiserver").StartedAt = before }, plan.StatusFailed,
			"kube-apiserver on cp-a: expected a start after 04:46:38.500, seen 04:46:38.499",
		},
		"an etcd from before": {
			func(m *machine) { m.component("etcd").StartedAt = before }, plan.StatusFailed, "etcd on cp-a: expected a start after",
		},
		"etcd on the old directory": {
			func(m *machine) { m.component("etcd").Mounts[1].HostPath = oldDir }, plan.StatusFailed,
			"etcd on cp-a: expected to run on " + newDir + `, seen "` + oldDir + `"`,
		},
		"etcd with its data in the container": {
			func(m *machine) { m.component("etcd").Mounts = nil }, plan.StatusFailed, `etcd on cp-a: expected to run on ` + newDir + `, seen ""`,
		},
		"no scheduler": {
			func(m *machine) { m.component("kube-scheduler").PodNamespace = "default" }, plan.StatusFailed,
			"kube-scheduler on cp-a: expected 1 running container, seen 0",
		},
		"a scheduler that has ended": {
			func(m *machine) {
				m.afterwards = append(m.afterwards, m.containers...)
				for i := range m.afterwards {
					if m.afterwards[i].Name == "kube-scheduler" {
						m.afterwards[i].State = controlplane.ContainerExited
					}
				}
			}, plan.StatusFailed, "kube-scheduler on cp-a: expected 1 running container, seen 0",
		},
		"two controller managers": {
			func(m *machine) {
				second := *m.component("kube-controller-manager")
				second.ID = "c-second"
				m.containers = append(m.containers, second)
			}, plan.StatusFailed, "kube-controller-manager on cp-a: expected 1 running container, seen 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := renewedMachine()
			c.change(m)
			s := &Subject{DataDir: newDir, Members: []controlplane.Member{{Name: "cp-a", Node: m, Etcd: controlplane.EtcdConfig{DataDir: oldDir}}}}
			f, err := controlPlaneRenewed(t.Context(), s)
			if err != nil || f.Status != c.status || !strings.Contains(f.Detail, c.want) {
				t.Errorf("%+v, %v; want %s: %s", f, err, c.status, c.want)
			}
		})
	}
	t.Run("on every member", func(t *testing.T) {
		second := renewedMachine()
		second.kubelet = before
		cfg := controlplane.EtcdConfig{DataDir: oldDir}
		s := &Subject{DataDir: newDir, Members: []controlplane.Member{{Name: "cp-a", Node: renewedMachine(), Etcd: cfg}, {Name: "cp-b", Node: second, Etcd: cfg}}}
		f, err := controlPlaneRenewed(t.Context(), s)
		if err != nil || f.Status != plan.StatusFailed || !strings.Contains(f.Detail, "kubelet on cp-b") {
			t.Errorf("%+v, %v", f, err)
		}
	})
}

func TestControlPlaneThatCannotBeRead(t *testing.T) {
	for want, change := range map[string]func(m *machine){
		errLost.Error():                     func(m *machine) { m.broken = errLost },
		"it is not running: systemd says":   func(m *machine) { m.kubelet = time.Time{} },
		`stat says "1795409198" for`:        func(m *machine) { m.swapped = "1795409198" },
		`stat says "?" for`:                 func(m *machine) { m.swapped = "?" },
		`stat says "179.5409198x" for`:      func(m *machine) { m.swapped = "179.5409198x" },
		`stat says "1795409198.5" for`:      func(m *machine) { m.swapped = "1795409198.5" },
		`stat says "1795409198.-00000005"`:  func(m *machine) { m.swapped = "1795409198.-00000005" },
		`stat says "1795409198,500000000" `: func(m *machine) { m.swapped = "1795409198,500000000" },
	} {
		m := renewedMachine()
		change(m)
		s := &Subject{DataDir: newDir, Members: []controlplane.Member{{Name: "cp-a", Node: m, Etcd: controlplane.EtcdConfig{DataDir: oldDir}}}}
		if f, err := controlPlaneRenewed(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v; want %s", f, err, want)
		}
	}
}

func TestSwapTime(t *testing.T) {
	got, err := swapTime(t.Context(), &machine{swapped: "1795409198.000000042"})
	if want := time.Unix(1795409198, 42); err != nil || !got.Equal(want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}
