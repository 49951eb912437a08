package proof

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

func sandbox(id, namespace, name, uid string) controlplane.Sandbox {
	return controlplane.Sandbox{ID: id, PodNamespace: namespace, PodName: name, PodUID: uid, State: controlplane.SandboxReady, CreatedAt: started}
}

func TestNoPhantoms(t *testing.T) {
	a := newPod("default", "nginx-1-a", "u-a", "cp-a", "nginx=c-a")
	b := newPod("default", "nginx-1-b", "u-b", "cp-b", "nginx=c-b")
	mirror := newPod("kube-system", "etcd-cp-a", "u-mirror", "cp-a", "etcd=c-etcd")
	meta(mirror)["annotations"] = object{corev1.MirrorPodAnnotationKey: "hash-1", "kubernetes.io/config.hash": "hash-1"}
	helped := newPod("default", "helped", "u-h", "cp-a", "main=c-m")
	helped["spec"].(object)["initContainers"] = []object{{"name": "sidecar"}}
	helped["spec"].(object)["ephemeralContainers"] = []object{{"name": "debugger"}}
	helped["status"].(object)["initContainerStatuses"] = []object{{"name": "sidecar", "containerID": "containerd://c-s", "state": runningState()}}
	helped["status"].(object)["ephemeralContainerStatuses"] = []object{{"name": "debugger", "containerID": "containerd://c-d", "state": runningState()}}
	ended := contained("c-old", "nginx", "u-before")
	ended.State = controlplane.ContainerExited
	asleep := sandbox("s-old", "default", "before", "u-before")
	asleep.State = controlplane.SandboxNotReady
	// byHand has none of kubelet's labels.
	byHand := func(sandbox string) controlplane.Container {
		return controlplane.Container{ID: "c-hand", Name: "sleeper", SandboxID: sandbox, Image: "busybox:1", StartedAt: started}
	}
	phantom := contained("c-x", "ghost", "u-gone")
	phantom.Image = "nginx:1.22"

	for name, c := range map[string]struct {
		// what runs on cp-a besides the containers of a and of the mirror pod
		containers              []controlplane.Container
		sandboxes               []controlplane.Sandbox
		pods                    []object // instead of a, b and mirror
		passed                  string
		subject, expected, seen string
	}{
		"all are known": {
			sandboxes: []controlplane.Sandbox{sandbox("s-u-a", "default", "nginx-1-a", "u-a"), sandbox("s-hash-1", "kube-system", "etcd-cp-a", "hash-1"), asleep},
			passed:    "3 containers run, each for a pod that the API knows",
		},
		"what has ended is no phantom": {containers: []controlplane.Container{ended}, passed: "3 containers run, each for a pod that the API knows"},
		"helpers of every kind": {
			containers: []controlplane.Container{contained("c-m", "main", "u-h"), contained("c-s", "sidecar", "u-h"), contained("c-d", "debugger", "u-h")},
			pods:       []object{a, b, mirror, helped}, passed: "6 containers run, each for a pod that the API knows",
		},
		"by hand, in the sandbox of a pod, under a name and an ID that the pod has": {
			containers: []controlplane.Container{{ID: "c-m", Name: "main", SandboxID: "s-h", StartedAt: started}, contained("c-s", "sidecar", "u-h"), contained("c-d", "debugger", "u-h")},
			sandboxes:  []controlplane.Sandbox{sandbox("s-h", "default", "helped", "u-h")},
			pods:       []object{a, b, mirror, helped}, passed: "6 containers run, each for a pod that the API knows",
		},
		"a pod that the API doesn't know": {
			containers: []controlplane.Container{phantom},
			subject:    `container c-x "ghost" of pod default/pod-of-u-gone on node cp-a`, expected: "a pod with UID u-gone in the API", seen: "runs nginx:1.22 since 1970-01-01 00:01:40.250",
		},
		"the phantom and its sandbox are told once": {
			containers: []controlplane.Container{phantom}, sandboxes: []controlplane.Sandbox{sandbox("s-u-gone", "default", "ghost", "u-gone")},
			subject: `container c-x "ghost"`, expected: "a pod with UID u-gone in the API", seen: "runs nginx:1.22",
		},
		"a sandbox without a container": {
			sandboxes: []controlplane.Sandbox{sandbox("s-x", "default", "ghost", "u-gone")},
			subject:   "sandbox s-x of pod default/ghost on node cp-a", expected: "a pod with UID u-gone in the API", seen: "ready since",
		},
		"made by hand, in a sandbox made by hand": {
			containers: []controlplane.Container{byHand("s-x")}, sandboxes: []controlplane.Sandbox{sandbox("s-x", "made", "hand", "u-hand")},
			subject: `container c-hand "sleeper" of pod made/hand on node cp-a`, expected: "a pod with UID u-hand in the API", seen: "runs busybox:1",
		},
		"made by hand, in the sandbox of a pod": {
			containers: []controlplane.Container{byHand("s-u-a")}, sandboxes: []controlplane.Sandbox{sandbox("s-u-a", "default", "nginx-1-a", "u-a")},
			subject: `container c-hand "sleeper" of pod default/nginx-1-a`, expected: `a container named "sleeper" in the spec of pod default/nginx-1-a`, seen: "runs busybox:1",
		},
		"belongs to nothing": {
			containers: []controlplane.Container{byHand("s-none")},
			subject:    `container c-hand "sleeper" of no pod on node cp-a`, expected: "to belong to a pod", seen: "runs busybox:1",
		},
		"the pod is on another node": {
			containers: []controlplane.Container{contained("c-b", "nginx", "u-b")},
			subject:    `container c-b "nginx" of pod default/pod-of-u-b on node cp-a`, expected: "on node cp-b, where the API has pod default/nginx-1-b", seen: "runs",
		},
		"a second one of the same name": {
			containers: []controlplane.Container{contained("c-second", "nginx", "u-a")},
			subject:    `container c-second "nginx"`, expected: "what the pod's status names, c-a", seen: "runs",
		},
		"the status names none": {
			containers: []controlplane.Container{contained("c-p", "main", "u-p")},
			pods: []object{a, b, mirror, func() object {
				o := newPod("default", "starting", "u-p", "cp-a", "main=")
				o["status"] = object{"phase": "Pending"}
				return o
			}()},
			subject: `container c-p "main"`, expected: "what the pod's status names, a container without an ID", seen: "runs",
		},
		"a static pod whose mirror is of another manifest": {
			containers: []controlplane.Container{contained("c-etcd2", "etcd", "hash-2")},
			subject:    `container c-etcd2 "etcd"`, expected: "a pod with UID hash-2 in the API", seen: "runs",
		},
		"a static pod by the UID of its mirror": {
			containers: []controlplane.Container{contained("c-etcd2", "etcd", "u-mirror")},
			subject:    `container c-etcd2 "etcd"`, expected: "a pod with UID u-mirror in the API", seen: "runs",
		},
	} {
		t.Run(name, func(t *testing.T) {
			known := c.pods
			if known == nil {
				known = []object{a, b, mirror}
			}
			s := &Subject{
				Servers: []Server{serve(t, "cp-a", &apiServer{objects: map[string][]object{"pods": known}})},
				Cluster: machines{
					{name: "cp-a", containers: append([]controlplane.Container{contained("c-a", "nginx", "u-a"), contained("c-etcd", "etcd", "hash-1")}, c.containers...), sandboxes: c.sandboxes},
					{name: "cp-b", containers: []controlplane.Container{contained("c-b", "nginx", "u-b")}},
				},
			}
			f, err := noPhantoms(t.Context(), s)
			if c.passed == "" {
				differs(t, f, err, c.subject, c.expected, c.seen)
				if len(f.Differences) != 1 || f.Final {
					t.Errorf("final %v, %v", f.Final, f.Differences)
				}
			} else if err != nil || f.Status != plan.StatusPassed || f.Detail != c.passed {
				t.Errorf("%+v, %v; want a pass: %s", f, err, c.passed)
			}
		})
	}
}

func TestNoPhantomsNeedsBothViews(t *testing.T) {
	for name, s := range map[string]*Subject{
		"a node":  {Servers: []Server{serve(t, "cp-a", &apiServer{})}, Cluster: machines{{name: "cp-a"}, {name: "cp-b", broken: errLost}}},
		"the API": {Servers: []Server{serve(t, "cp-a", refusing("pods"))}, Cluster: machines{{name: "cp-a"}}},
	} {
		if f, err := noPhantoms(t.Context(), s); err == nil {
			t.Errorf("%s can't be read: %+v", name, f)
		}
	}
	s := &Subject{Servers: []Server{serve(t, "cp-a", &apiServer{})}, Cluster: machines{{name: "cp-a"}}}
	if f, err := noPhantoms(t.Context(), s); err != nil || f.Status != plan.StatusFailed || !strings.Contains(f.Detail, "nothing runs") {
		t.Errorf("nothing runs: %+v, %v", f, err)
	}
}
