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
	run := func(id, podUID string) controlplane.Container { return contained(id, "nginx", podUID) }
	exited := run("c-a", "u-a")
	exited.State = controlplane.ContainerExited
	earlier := run("c-a", "u-a")
	earlier.StartedAt = started.Add(-time.Second)
	mirror := newPod("kube-system", "etcd-cp-a", "u-mirror", "cp-a", "etcd=c-etcd")
	meta(mirror)["annotations"] = object{corev1.MirrorPodAnnotationKey: "hash-1", "kubernetes.io/config.hash": "hash-1"}
	etcd := contained("c-etcd", "etcd", "hash-1")
	a, b := newPod("default", "nginx-1-a", "u-a", "cp-a", "nginx=c-a"), newPod("default", "nginx-1-b", "u-b", "cp-b", "nginx=c-b")
	// The phase of a pod whose container is about to be tried again is Running.
	waits := newPod("default", "crashes", "u-x", "cp-a")
	waits["status"].(object)["containerStatuses"] = []object{{"name": "x", "state": object{"waiting": object{"reason": "CrashLoopBackOff"}}}}
	pending := newPod("default", "pending", "u-p", "")
	pending["status"] = object{"phase": "Pending"}
	// says is nginx-1-a with something else said of its container, or of one more of another kind.
	says := func(kind string, status object) object {
		o := newPod("default", "nginx-1-a", "u-a", "cp-a", "nginx=c-a")
		o["status"].(object)[kind] = []object{status}
		return o
	}
	ended := func(id string) object {
		return object{"terminated": object{"reason": "Completed", "containerID": "containerd://" + id, "startedAt": nil, "finishedAt": nil}}
	}
	helper := func(id string) object {
		return object{"name": "helper", "ready": true, "started": true, "containerID": "containerd://" + id, "state": runningState()}
	}
	nginxOf, helperOf := run("c-a", "u-a"), contained("c-h", "helper", "u-a")

	for name, c := range map[string]struct {
		pods       []object
		containers []controlplane.Container // on cp-a; cp-b runs c-b
		afterwards []controlplane.Container
		// passed is the detail of a check that passes.
		passed                  string
		subject, expected, seen string
	}{
		"all run": {
			pods:       []object{a, b, mirror, waits, pending},
			containers: []controlplane.Container{nginxOf, etcd, run("c-other", "u-unknown")},
			passed:     "3 containers that are said to run do run",
		},
		"one that works before the others has ended well": {
			pods:       []object{says("initContainerStatuses", object{"name": "init", "ready": true, "containerID": "containerd://c-i", "state": ended("c-i")})},
			containers: []controlplane.Container{nginxOf},
			passed:     "1 containers that are said to run do run",
		},
		"a sidecar and a debugger run": {
			pods:       []object{says("initContainerStatuses", helper("c-h")), says("ephemeralContainerStatuses", helper("c-h"))},
			containers: []controlplane.Container{nginxOf, helperOf},
			passed:     "4 containers that are said to run do run",
		},
		"the lie after a restore: Running, and no container": {
			pods: []object{a, b, mirror}, containers: []controlplane.Container{etcd},
			subject: "pod default/nginx-1-a container nginx", expected: "c-a running on node cp-a", seen: "no such running container",
		},
		"a sidecar doesn't run": {
			pods: []object{says("initContainerStatuses", helper("c-h"))}, containers: []controlplane.Container{nginxOf},
			subject: "pod default/nginx-1-a container helper", expected: "c-h running on node cp-a", seen: "no such running container",
		},
		"a debugger doesn't run": {
			pods: []object{says("ephemeralContainerStatuses", helper("c-h"))}, containers: []controlplane.Container{nginxOf},
			subject: "pod default/nginx-1-a container helper", expected: "c-h running on node cp-a", seen: "no such running container",
		},
		"the container of another pod": {
			pods: []object{a}, containers: []controlplane.Container{run("c-a", "u-before")},
			subject: "pod default/nginx-1-a container nginx", expected: "c-a of pod UID u-a", seen: "u-before",
		},
		"another container of the pod": {
			pods: []object{a}, containers: []controlplane.Container{contained("c-a", "helper", "u-a")},
			subject: "pod default/nginx-1-a container nginx", expected: "c-a named nginx", seen: "helper",
		},
		"started at another time": {
			pods: []object{a}, containers: []controlplane.Container{earlier},
			subject: "pod default/nginx-1-a container nginx", expected: "c-a started at 1970-01-01 00:01:40", seen: "started at 1970-01-01 00:01:39",
		},
		"said to have ended, and runs": {
			pods:       []object{says("containerStatuses", object{"name": "nginx", "containerID": "containerd://c-a", "state": ended("c-a")})},
			containers: []controlplane.Container{nginxOf},
			subject:    "pod default/nginx-1-a container nginx", expected: "c-a not to run: the status says that it ended (Completed)", seen: "running since 1970-01-01 00:01:40.250",
		},
		"said to wait for its next try, and runs": {
			pods: []object{says("containerStatuses", object{
				"name": "nginx", "containerID": "containerd://c-a", "state": object{"waiting": object{"reason": "CrashLoopBackOff"}}, "lastState": ended("c-a"),
			})},
			containers: []controlplane.Container{nginxOf},
			subject:    "pod default/nginx-1-a container nginx", expected: "c-a not to run: the status says that it waits (CrashLoopBackOff)", seen: "running since",
		},
		"the one before it is said to have ended, and runs": {
			pods: []object{says("containerStatuses", object{
				"name": "nginx", "ready": true, "containerID": "containerd://c-a", "state": runningState(), "lastState": ended("c-h"),
			})},
			containers: []controlplane.Container{nginxOf, helperOf},
			subject:    "pod default/nginx-1-a container nginx", expected: "c-h not to run", seen: "running since",
		},
		"called ready, and said to have ended": {
			pods:       []object{says("containerStatuses", object{"name": "nginx", "ready": true, "containerID": "containerd://c-a", "state": ended("c-a")})},
			containers: []controlplane.Container{nginxOf},
			subject:    "pod default/nginx-1-a container nginx", expected: "c-a in the state that the status says: ended (Completed)", seen: "running since",
		},
		"a container that has ended since it was listed": {
			pods: []object{a}, containers: []controlplane.Container{nginxOf}, afterwards: []controlplane.Container{exited},
			subject: "pod default/nginx-1-a container nginx", expected: "c-a running", seen: "no such running container",
		},
		"on another node": {
			pods: []object{newPod("default", "nginx-1-a", "u-a", "cp-b", "nginx=c-a")}, containers: []controlplane.Container{nginxOf},
			subject: "pod default/nginx-1-a container nginx", expected: "c-a running on node cp-b", seen: "no such running container",
		},
		"on a node that nobody knows": {
			pods: []object{newPod("default", "nginx-1-a", "u-a", "cp-z", "nginx=c-a")}, containers: []controlplane.Container{nginxOf},
			subject: "pod default/nginx-1-a container nginx", expected: "c-a running on node cp-z", seen: "no such running container",
		},
		"no container ID": {
			pods:    []object{newPod("default", "nginx-1-a", "u-a", "cp-a", "nginx=")},
			subject: "pod default/nginx-1-a container nginx", expected: "a container without an ID running on node cp-a", seen: "no such running container",
		},
		"no container at all": {
			pods:    []object{newPod("default", "nginx-1-a", "u-a", "cp-a")},
			subject: "pod default/nginx-1-a", expected: "to name the containers that run", seen: "phase Running and none",
		},
		"a static pod of another manifest": {
			pods: []object{mirror}, containers: []controlplane.Container{contained("c-etcd", "etcd", "hash-0")},
			subject: "pod kube-system/etcd-cp-a container etcd", expected: "c-etcd of pod UID hash-1", seen: "hash-0",
		},
		"a static pod by the UID of its mirror": {
			pods: []object{mirror}, containers: []controlplane.Container{contained("c-etcd", "etcd", "u-mirror")},
			subject: "pod kube-system/etcd-cp-a container etcd", expected: "c-etcd of pod UID hash-1", seen: "u-mirror",
		},
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
			if c.passed == "" {
				differs(t, f, err, c.subject, c.expected, c.seen)
				if len(f.Differences) != 1 {
					t.Errorf("%d differences: %v", len(f.Differences), f.Differences)
				}
			} else if err != nil || f.Status != plan.StatusPassed || f.Detail != c.passed {
				t.Errorf("%+v, %v; want a pass: %s", f, err, c.passed)
			}
		})
	}
	s := &Subject{Servers: []Server{serve(t, "cp-a", &apiServer{})}, Cluster: machines{{name: "cp-a"}}}
	if f, err := statusBacked(t.Context(), s); err != nil || f.Status != plan.StatusFailed || f.Detail != "no pod says that it runs" {
		t.Errorf("no pod: %+v, %v", f, err)
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
	if err != nil || f.Status != plan.StatusFailed || !strings.Contains(f.Detail, "1 statements of pods about their containers are not true: pod default/nginx-1-a") {
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
	const start, early = "a start after 2026-11-23 04:46:38.500", "2026-11-23 04:46:38.499"
	for name, c := range map[string]struct {
		change                  func(m *machine)
		subject, expected, seen string // empty where it passes
	}{
		"all of it":                 {func(*machine) {}, "", "", ""},
		"a kubelet from before":     {func(m *machine) { m.kubelet = before }, "kubelet on cp-a", start, early},
		"an API server from before": {func(m *machine) { m.component("kube-apiserver").StartedAt = before }, "kube-apiserver on cp-a", start, early},
		"an etcd from before":       {func(m *machine) { m.component("etcd").StartedAt = before }, "etcd on cp-a", start, early},
		"etcd on the old directory": {
			func(m *machine) { m.component("etcd").Mounts[1].HostPath = oldDir }, "etcd on cp-a", "to run on " + newDir, `"` + oldDir + `"`,
		},
		"etcd with its data in the container": {func(m *machine) { m.component("etcd").Mounts = nil }, "etcd on cp-a", "to run on " + newDir, `""`},
		"no scheduler":                        {func(m *machine) { m.component("kube-scheduler").PodNamespace = "default" }, "kube-scheduler on cp-a", "1 running container", "0"},
		"a scheduler that has ended": {
			func(m *machine) {
				m.afterwards = append(m.afterwards, m.containers...)
				for i := range m.afterwards {
					if m.afterwards[i].Name == "kube-scheduler" {
						m.afterwards[i].State = controlplane.ContainerExited
					}
				}
			}, "kube-scheduler on cp-a", "1 running container", "0",
		},
		"two controller managers": {
			func(m *machine) {
				second := *m.component("kube-controller-manager")
				second.ID = "c-second"
				m.containers = append(m.containers, second)
			}, "kube-controller-manager on cp-a", "1 running container", "2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := renewedMachine()
			c.change(m)
			s := &Subject{DataDir: newDir, Members: []controlplane.Member{{Name: "cp-a", Node: m, Etcd: controlplane.EtcdConfig{DataDir: oldDir}}}}
			f, err := controlPlaneRenewed(t.Context(), s)
			if c.subject != "" {
				differs(t, f, err, c.subject, c.expected, c.seen)
				if len(f.Differences) != 1 || f.Final { // somebody may yet restart it
					t.Errorf("final %v, differences %v", f.Final, f.Differences)
				}
			} else if err != nil || f.Status != plan.StatusPassed || !strings.Contains(f.Detail, "etcd runs on "+newDir) || len(f.Evidence) != 6 {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
	t.Run("on every member", func(t *testing.T) {
		second := renewedMachine()
		second.kubelet = before
		cfg := controlplane.EtcdConfig{DataDir: oldDir}
		s := &Subject{DataDir: newDir, Members: []controlplane.Member{{Name: "cp-a", Node: renewedMachine(), Etcd: cfg}, {Name: "cp-b", Node: second, Etcd: cfg}}}
		f, err := controlPlaneRenewed(t.Context(), s)
		differs(t, f, err, "kubelet on cp-b", start, early)
	})
	t.Run("since the manifest of before was taken away", func(t *testing.T) {
		away := "/etc/kubernetes/moved/etcd.yaml"
		cfg := controlplane.EtcdConfig{DataDir: oldDir}
		second := renewedMachine()
		second.moved = away
		s := &Subject{DataDir: newDir, TakenAway: map[string]string{"cp-b": away}, Members: []controlplane.Member{{Name: "cp-a", Node: renewedMachine(), Etcd: cfg}, {Name: "cp-b", Node: second, Etcd: cfg}}}
		if f, err := controlPlaneRenewed(t.Context(), s); err != nil || f.Status != plan.StatusPassed {
			t.Errorf("%+v, %v", f, err)
		}
		second.kubelet = before
		f, err := controlPlaneRenewed(t.Context(), s)
		differs(t, f, err, "kubelet on cp-b", start, early)
		// After a rollback it is the manifest in place that counts: it was put there before kubelet started.
		s.Old = &Old{DataDir: newDir}
		second.moved, second.kubelet = "", time.Unix(1795409199, 500000000)
		if f, err := rolledBack(t, s, "control-plane-renewed")(t.Context()); err != nil || f.Status != plan.StatusPassed {
			t.Errorf("%+v, %v", f, err)
		}
		second.moved = away
		if f, err := rolledBack(t, s, "control-plane-renewed")(t.Context()); err == nil {
			t.Errorf("%+v: the file that was moved away was asked for", f)
		}
	})
	if f, err := controlPlaneRenewed(t.Context(), &Subject{}); err != nil || f.Status != plan.StatusFailed {
		t.Errorf("no control plane: %+v, %v", f, err)
	}
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
	got, err := swapTime(t.Context(), &machine{swapped: "1795409198.000000042"}, etcdManifest)
	if want := time.Unix(1795409198, 42); err != nil || !got.Equal(want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}
