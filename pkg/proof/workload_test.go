package proof

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

func TestObjectsRestored(t *testing.T) {
	for name, c := range map[string]struct {
		change                  func(live map[string][]object)
		subject, expected, seen string // empty where it passes
	}{
		"all are back":      {func(map[string][]object) {}, "", "", ""},
		"one is missing":    {func(live map[string][]object) { live["services"] = nil }, "services default/nginx", "UID u-service", "nothing"},
		"one was made anew": {func(live map[string][]object) { meta(live["deployments"][0])["uid"] = "u-new" }, "deployments default/nginx", "UID u-deployment", "UID u-new"},
		"one is about to go": {
			func(live map[string][]object) { meta(live["pods"][0])["deletionTimestamp"] = "2026-11-23T04:46:38Z" },
			"pods default/nginx-1-a", "to stay", "being deleted since 2026-11-23 04:46:38",
		},
		"one has changed": {
			func(live map[string][]object) { live["deployments"][0]["spec"] = object{"of": "else"} },
			"deployments default/nginx spec.of", `"nginx"`, `"else"`,
		},
		"one has more": {
			func(live map[string][]object) { live["deployments"][0]["spec"].(object)["paused"] = true },
			"deployments default/nginx spec.paused", "no such field", "true",
		},
		"one has lost everything": {
			func(live map[string][]object) { delete(live["deployments"][0], "spec") },
			"deployments default/nginx spec", `{"of":"nginx"}`, "null",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, live := nginx()
			c.change(live)
			f, err := objectsRestored(t.Context(), &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live})}})
			if c.subject != "" {
				differs(t, f, err, c.subject, c.expected, c.seen)
				if !strings.HasPrefix(f.Detail, "1 of 5 objects are not back as they were: ") || len(f.Differences) != 1 || len(f.Evidence) != 4 {
					t.Errorf("%+v", f)
				}
			} else if err != nil || f.Status != plan.StatusPassed || f.Detail != "5 objects have their UIDs and specs" {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
	if f, err := objectsRestored(t.Context(), &Subject{}); err != nil || f.Status != plan.StatusFailed || !f.Final {
		t.Errorf("without a workload: %+v, %v", f, err)
	}
	refuses := &apiServer{lie: func(w http.ResponseWriter, _ *http.Request, _ call) bool {
		status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		return true
	}}
	w, _ := nginx()
	if f, err := objectsRestored(t.Context(), &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", refuses)}}); err == nil {
		t.Errorf("an API server that refuses: %+v", f)
	}
}

func TestFieldDifferences(t *testing.T) {
	want := object{"replicas": int64(2), "selector": object{"app.kubernetes.io/name": "x"}, "containers": []any{object{"image": "a"}, object{"image": "b"}}}
	for name, c := range map[string]struct {
		got  any
		want []string
	}{
		"the same":     {object{"replicas": int64(2), "selector": object{"app.kubernetes.io/name": "x"}, "containers": []any{object{"image": "a"}, object{"image": "b"}}}, nil},
		"another kind": {"text", []string{`spec: expected {"containers":[{"image":"a"},{"image":"b"}],"replicas":2,"selector":{"app.kubernetes.io/name":"x"}}, seen "text"`}},
		"several fields": {
			object{"replicas": int64(3), "selector": object{"app.kubernetes.io/name": "y"}, "containers": []any{object{"image": "a"}, object{"image": "c"}}},
			[]string{`spec.containers[1].image: expected "b", seen "c"`, "spec.replicas: expected 2, seen 3", `spec.selector['app.kubernetes.io/name']: expected "x", seen "y"`},
		},
		"another length": {
			object{"replicas": int64(2), "selector": object{"app.kubernetes.io/name": "x"}, "containers": []any{object{"image": "a"}}},
			[]string{`spec.containers: expected [{"image":"a"},{"image":"b"}], seen [{"image":"a"}]`},
		},
	} {
		var got []string
		for _, d := range fieldDifferences("spec", want, c.got) {
			got = append(got, d.String())
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	if got := value(strings.Repeat("é", longestValue), true); len(got) > longestValue+len("…") || !strings.HasSuffix(got, "…") {
		t.Errorf("a long value: %q", got)
	}
}

// servedWorkload is nginx with two pods on two nodes, behind a Service with a port on every node, and the network that leads there.
func servedWorkload() (Workload, map[string][]object, machines) {
	w, live := nginx()
	live["services"][0]["spec"] = object{"clusterIP": "10.96.0.7", "ports": []any{object{"port": 80, "nodePort": 30080}}}
	for i, ip := range []string{"10.244.0.5", "10.244.1.6"} {
		live["pods"][i]["status"] = object{"podIP": ip}
	}
	network := &web{leads: map[string]string{
		"10.244.0.5": "c-a", "10.244.1.6": "c-b", "10.96.0.7": "c-b", "172.18.0.2:30080": "c-a", "172.18.0.3:30080": "c-a", "nginx.default.svc": "c-b",
	}}
	return w, live, machines{
		{name: "cp-a", web: network, containers: []controlplane.Container{contained("c-a", "nginx", "u-a"), contained("c-other", "other", "u-other")}},
		{name: "cp-b", address: "172.18.0.3", web: network, containers: []controlplane.Container{contained("c-b", "nginx", "u-b")}},
	}
}

func TestServiceAnswers(t *testing.T) {
	const all = "all 14 ways to the workload lead to its own pods" // of 2 nodes: 2 pods, a Service, 2 node ports; of 2 pods: a name, and themselves
	everywhere := func(w *web, to string) {
		for address := range w.leads {
			w.leads[address] = to
		}
	}
	for name, c := range map[string]struct {
		change                  func(w *web, live map[string][]object, nodes machines)
		passed                  string
		evidence                string
		subject, expected, seen string
	}{
		"all answer": {
			change: func(*web, map[string][]object, machines) {}, passed: all,
			evidence: "Service nginx as nginx.default.svc from pod nginx-1-b: 8 requests, answered by nginx-1-b",
		},
		"the image logs nothing": {
			change: func(w *web, _ map[string][]object, _ machines) { w.mute = true }, passed: all,
			evidence: "Service nginx at 10.96.0.7 from node cp-a: the answer that the pods give inside of their networks (the image logs no requests)",
		},
		"a pod doesn't answer": {
			change:  func(w *web, _ map[string][]object, _ machines) { delete(w.leads, "10.244.1.6") },
			subject: "pod nginx-1-b at 10.244.1.6 from node cp-a", expected: "an answer", seen: "Connection timed out",
		},
		"a pod's IP leads to another pod": {
			change:  func(w *web, _ map[string][]object, _ machines) { w.leads["10.244.1.6"] = "c-a" },
			subject: "pod nginx-1-b at 10.244.1.6 from node cp-b", expected: "an answer of that pod", seen: "answered by pod nginx-1-a",
		},
		"a pod's IP leads to a stranger": {
			change:  func(w *web, _ map[string][]object, _ machines) { w.leads["10.244.1.6"] = "c-other" },
			subject: "pod nginx-1-b at 10.244.1.6 from node cp-b", expected: "an answer of that pod", seen: "the request is in no log of the workload",
		},
		"the Service doesn't answer": {
			change:  func(w *web, _ map[string][]object, _ machines) { delete(w.leads, "10.96.0.7") },
			subject: "Service nginx at 10.96.0.7 from node cp-a", expected: "an answer", seen: "Connection timed out",
		},
		"the Service leads to a stranger with the same page": {
			change:  func(w *web, _ map[string][]object, _ machines) { w.leads["10.96.0.7"] = "c-other" },
			subject: "Service nginx at 10.96.0.7 from node cp-b", expected: "an answer of one of its pods", seen: "something else answers",
		},
		"the Service leads to a stranger, and the image logs nothing": {
			change: func(w *web, _ map[string][]object, _ machines) {
				w.mute, w.leads["10.96.0.7"], w.pages = true, "c-other", map[string]string{"c-other": "another page"}
			},
			subject: "Service nginx at 10.96.0.7 from node cp-b", expected: "the answer that its pods give", seen: "another, with SHA-256 ",
		},
		"everything leads to a stranger with the same page": {
			change:  func(w *web, _ map[string][]object, _ machines) { everywhere(w, "c-other") },
			subject: "pod nginx-1-a at 10.244.0.5 from node cp-a", expected: "an answer of that pod", seen: "the request is in no log of the workload",
		},
		"everything leads to a stranger, and the image logs nothing": {
			change: func(w *web, _ map[string][]object, _ machines) {
				everywhere(w, "c-other")
				w.mute, w.pages = true, map[string]string{"c-other": "another page"}
			},
			subject: "pod nginx-1-a at 10.244.0.5 from node cp-a", expected: "the answer that its pods give", seen: "another, with SHA-256 ",
		},
		"a pod's IP leads to another pod, and the image logs nothing": {
			change: func(w *web, _ map[string][]object, _ machines) {
				w.mute, w.leads["10.244.1.6"], w.pages = true, "c-a", map[string]string{"c-a": "the page of a"}
			},
			subject: "pod nginx-1-b at 10.244.1.6 from node cp-a", expected: "the answer that its pods give", seen: "another, with SHA-256 ",
		},
		"a pod doesn't answer inside of its own network": {
			change:  func(w *web, _ map[string][]object, _ machines) { w.deaf = "c-b" },
			subject: "pod nginx-1-b at 127.0.0.1 from inside of it", expected: "an answer", seen: "Connection timed out",
		},
		"one of the Service's endpoints is a stranger": {
			change:  func(w *web, _ map[string][]object, _ machines) { w.leads["10.96.0.7"] = "c-a c-b c-a c-b c-other" },
			subject: "Service nginx at 10.96.0.7 from node cp-a", expected: "8 answers of its pods", seen: "that are in no log of the workload: something else answers as well",
		},
		"one of the Service's endpoints doesn't answer": {
			change: func(w *web, _ map[string][]object, _ machines) {
				w.leads["10.96.0.7"], w.gone = "c-a c-b c-b c-gone", "c-gone"
			},
			subject: "Service nginx at 10.96.0.7 from node cp-a", expected: "an answer", seen: "3 answers, and then: curl: (28) Connection timed out",
		},
		"a node's port doesn't answer": {
			change:  func(w *web, _ map[string][]object, _ machines) { delete(w.leads, "172.18.0.3:30080") },
			subject: "Service nginx at 172.18.0.3:30080 from node cp-a", expected: "an answer", seen: "Connection timed out",
		},
		"the name isn't known": {
			change:  func(w *web, _ map[string][]object, _ machines) { delete(w.leads, "nginx.default.svc") },
			subject: "Service nginx as nginx.default.svc from pod nginx-1-a", expected: "an answer", seen: "Connection timed out",
		},
		"the name leads to a stranger": {
			change:  func(w *web, _ map[string][]object, _ machines) { w.leads["nginx.default.svc"] = "c-other" },
			subject: "Service nginx as nginx.default.svc from pod nginx-1-a", expected: "an answer of one of its pods", seen: "something else answers",
		},
		"a pod without a container": {
			change:  func(_ *web, _ map[string][]object, nodes machines) { nodes[1].containers = nil },
			subject: "pod default/nginx-1-b", expected: "a running container", seen: "none on any node",
		},
		"a pod has no address": {
			change:  func(_ *web, live map[string][]object, _ machines) { live["pods"][0]["status"] = object{} },
			subject: "pods default/nginx-1-a", expected: "an address to ask", seen: `""`,
		},
		"a Service without an address": {
			change: func(_ *web, live map[string][]object, _ machines) {
				live["services"][0]["spec"] = object{"clusterIP": "None"}
			},
			subject: "services default/nginx", expected: "an address to ask", seen: `"None"`,
		},
		"a pod isn't there": {
			change:  func(_ *web, live map[string][]object, _ machines) { live["pods"] = live["pods"][:1] },
			subject: "pods default/nginx-1-b", expected: "an address to ask", seen: "no such object",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // those that find no trace of a request wait for it
			w, live, nodes := servedWorkload()
			c.change(nodes[0].web, live, nodes)
			f, err := serviceAnswers(t.Context(), &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live})}, Cluster: nodes})
			if c.passed == "" {
				differs(t, f, err, c.subject, c.expected, c.seen)
			} else if err != nil || f.Status != plan.StatusPassed || f.Detail != c.passed || !holds(f.Evidence, c.evidence) {
				t.Errorf("%+v, %v; want a pass: %s", f, err, c.passed)
			}
		})
	}
	w, live, nodes := servedWorkload()
	w.Objects = w.Objects[:2] // neither pods nor a Service
	s := &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live})}, Cluster: nodes}
	if f, err := serviceAnswers(t.Context(), s); err != nil || f.Status != plan.StatusFailed || !strings.Contains(f.Detail, "no address to ask") {
		t.Errorf("without an address: %+v, %v", f, err)
	}
	w, live, nodes = servedWorkload()
	nodes[1].broken = errLost
	s = &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live})}, Cluster: nodes}
	if f, err := serviceAnswers(t.Context(), s); err == nil {
		t.Errorf("a node that can't be reached: %+v", f)
	}
}

// TestLogsThatCannotBeRead: what isn't known to be in no log is not taken for an image that logs nothing.
func TestLogsThatCannotBeRead(t *testing.T) {
	w, live, nodes := servedWorkload()
	nodes[0].web.unreadable = "c-b"
	s := &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live})}, Cluster: nodes}
	if f, err := serviceAnswers(t.Context(), s); err == nil || !strings.Contains(err.Error(), "the log of container c-b of pod default/nginx-1-b can't be read") {
		t.Errorf("%+v, %v", f, err)
	}
}

// script runs what is run on nodes, with programs of these names in front of the others, and scratch as the folder for what lasts no longer. It returns the lines of the answer, sorted.
func script(t *testing.T, programs map[string]string, scratch, text string, args ...string) []string {
	t.Helper()
	dir := t.TempDir()
	for name, program := range programs {
		write(t, filepath.Join(dir, name), []byte("#!/bin/sh\n"+program+"\n"), 0o700)
	}
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", text, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "XDG_RUNTIME_DIR="+scratch)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	slices.Sort(lines)
	return lines
}

func TestFindTokens(t *testing.T) {
	crictl := `case "$1 $2 $4" in
"logs --tail c-a") echo "GET /?drill=p-0-1 GET /?drill=p-0-11"; echo "GET /?drill=p-0-1 GET /?drill=q-0-1" >&2 ;;
*) echo "no such container" >&2; exit 1 ;;
esac`
	want := []string{"c-a p-0-1", "c-a p-0-11", "c-b p" + unreadable}
	if got := script(t, map[string]string{"crictl": crictl}, t.TempDir(), findTokens, "p", "7", "c-a", "c-b"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestFetchAll has a real curl ask a real server. Where there is no curl, the suite on real clusters alone runs the script, on nodes, which have one.
func TestFetchAll(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("this machine has no curl, as nodes have")
	}
	var connections atomic.Int64
	pages := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/u-3" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, r.Header.Get("Inside"), r.URL.Path)
	}))
	pages.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	pages.Start()
	t.Cleanup(pages.Close)
	scratch := t.TempDir()
	run := func(args ...string) []string {
		return script(t, map[string]string{
			"crictl": `case "$1 $2 $4" in
"inspect --output --template") [ "$6" = c-gone ] && exit 1; echo 42 ;;
*) exit 1 ;;
esac`,
			"nsenter": `[ "$1 $2 $3 $4 $5" = "--target 42 --net -- curl" ] || exit 1
shift 5
echo "inside" >&2
exec curl --header "Inside: yes" "$@"`,
		}, scratch, fetchAll, args...)
	}
	sum := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
	want := []string{
		"1 answered " + sum("/u-1"), "1 answered " + sum("/u-2"), "1 failed curl: (22) The requested URL returned error: 404",
		"2 answered " + sum("yes/v-1"),
		"3 failed crictl inspect tells no process of container c-gone",
		"4 answered " + sum("yes/u-1"), "4 answered " + sum("yes/u-2"), "4 failed inside curl: (22) The requested URL returned error: 404", // what has several lines is told in one
	}
	slices.Sort(want)
	if got := run("", "5", pages.URL+"/u", "c-a", "1", pages.URL+"/v", "c-gone", "1", pages.URL+"/w", "c-a", "4", pages.URL+"/u"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := connections.Load(); got != 7 {
		t.Errorf("%d connections for 7 requests", got)
	}
	if got, want := run("", "2", "http://127.0.0.1:1/x"), "1 failed curl: (7)"; len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("%q, want %q", got, want)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// TestTokens: every request has one of its own, in every look, and no value stands inside of a script.
func TestTokens(t *testing.T) {
	w, live, nodes := servedWorkload()
	s := &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live})}, Cluster: nodes}
	for range 2 {
		if f, err := serviceAnswers(t.Context(), s); err != nil || f.Status != plan.StatusPassed {
			t.Fatalf("%+v, %v", f, err)
		}
	}
	seen := map[string]bool{}
	for _, tokens := range nodes[0].web.logs {
		for _, token := range tokens {
			if token == "" || seen[token] {
				t.Errorf("token %q", token)
			}
			seen[token] = true
		}
	}
	if len(seen) != 2*(2+2*(2+3*8)+2*8) {
		t.Errorf("%d tokens", len(seen))
	}
}

func TestAnswersThatCannotBeRead(t *testing.T) {
	for _, out := range []string{
		"", "1 answered abc\n", "1 answered abc\n2 answered\n", "1 answered abc\n3 answered abc\n", "sh: curl: not found\n", "1 answered a\n2 said b\n",
		"1 answered abc\n2 answered abc\n",
	} {
		if err := take(out, []*question{{times: 1}, {times: 2}}); err == nil {
			t.Errorf("%q: no error", out)
		}
	}
	q := []*question{{times: 1}, {times: 3}}
	if err := take("2 answered def\n2 failed curl: (7) Failed to connect\n1 answered abc\n", q); err != nil || q[0].bodies[0] != "abc" || len(q[1].bodies) != 1 || q[1].failed != "curl: (7) Failed to connect" {
		t.Errorf("%+v %+v, %v", q[0], q[1], err)
	}
}

// TestNowhereToSendFrom: a pod that has ended since it was listed can't be asked from; that is told, and the others are asked all the same.
func TestNowhereToSendFrom(t *testing.T) {
	w, live, nodes := servedWorkload()
	gone := &vanishing{machine: nodes[1]}
	s := &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", &apiServer{objects: live})}, Cluster: mixed{nodes[0], gone}}
	f, err := serviceAnswers(t.Context(), s)
	differs(t, f, err, "Service nginx as nginx.default.svc from pod nginx-1-b", "an answer", "could not be sent: nsenter: cannot open /proc/1000/ns/net")
	if len(f.Differences) != 1 {
		t.Errorf("%v", f.Differences)
	}
}

func TestNewWorkRuns(t *testing.T) {
	const name = "nginx-after-recovery"
	deployment := func(observed, available int) object {
		o := newObject(deployments, name, "u-fresh")
		meta(o)["generation"] = 1
		o["kind"] = "Deployment"
		o["status"] = object{"observedGeneration": observed, "availableReplicas": available}
		return o
	}
	svc := func(ip string) object {
		o := newObject(services, name, "u-fresh-service")
		o["kind"] = "Service"
		o["spec"] = object{"clusterIP": ip, "ports": []any{object{"port": 80}}}
		return o
	}
	pod := newPod("default", name+"-1-a", "u-pod", "cp-b", "nginx=c-fresh")
	unscheduled, withoutIP := newPod("default", "p", "u-pod", ""), newPod("default", "p", "u-pod", "cp-b")
	withoutIP["status"] = object{}
	for title, c := range map[string]struct {
		deployment object
		service    object
		pods       []object
		change     func(w *web, nodes machines)
		passed     string
		// absent says that a snapshot was given that doesn't hold the workload.
		absent                  bool
		subject, expected, seen string
		// unaware says that those who lead to the Service may not have heard of it yet.
		unaware bool
	}{
		"it runs": {
			deployment: deployment(1, 1), service: svc("10.96.0.9"), pods: []object{pod},
			passed: "pod nginx-after-recovery-1-a runs on cp-b and answers at 10.244.0.9, and as Service nginx-after-recovery",
		},
		"the restored workload is not in the snapshot, so that the new pod asks itself": {
			deployment: deployment(1, 1), service: svc("10.96.0.9"), pods: []object{pod}, absent: true,
			passed: "pod nginx-after-recovery-1-a runs on cp-b and answers at 10.244.0.9, and as Service nginx-after-recovery",
		},
		"the restored workload is not in the snapshot, and the new Service's name doesn't lead anywhere": {
			deployment: deployment(1, 1), service: svc("10.96.0.9"), pods: []object{pod}, absent: true, change: func(w *web, _ machines) { delete(w.leads, name+".default.svc") },
			subject: "Service nginx-after-recovery as nginx-after-recovery.default.svc from pod nginx-after-recovery-1-a", expected: "an answer", seen: "Connection timed out", unaware: true,
		},
		"nobody takes it up": {
			deployment: deployment(0, 0), service: svc("10.96.0.9"),
			subject: "Deployment " + name, expected: "taken up by the controller manager", seen: "nothing of it",
		},
		"no pod":  {deployment: deployment(1, 0), service: svc("10.96.0.9"), subject: "Deployment " + name, expected: "1 pod", seen: "0"},
		"no node": {deployment: deployment(1, 0), service: svc("10.96.0.9"), pods: []object{unscheduled}, subject: "pod p", expected: "a node, given by the scheduler", seen: "none"},
		"no IP":   {deployment: deployment(1, 0), service: svc("10.96.0.9"), pods: []object{withoutIP}, subject: "pod p", expected: "an IP, told by kubelet on cp-b", seen: `""`},
		"a Service without an address": {
			deployment: deployment(1, 1), service: svc(""), pods: []object{pod}, subject: "Service " + name, expected: "a cluster IP", seen: `""`,
		},
		"the lie: available, and no container": {
			deployment: deployment(1, 1), service: svc("10.96.0.9"), pods: []object{pod}, change: func(_ *web, nodes machines) { nodes[1].containers = nil },
			subject: "pod default/nginx-after-recovery-1-a", expected: "a running container", seen: "none on any node",
		},
		"on another node than the scheduler said": {
			deployment: deployment(1, 1), service: svc("10.96.0.9"), pods: []object{newPod("default", "p", "u-pod", "cp-z")},
			subject: "pod p", expected: "on node cp-z", seen: "on node cp-b",
		},
		"the pod doesn't answer": {
			deployment: deployment(1, 1), service: svc("10.96.0.9"), pods: []object{pod}, change: func(w *web, _ machines) { delete(w.leads, "10.244.0.9") },
			subject: "pod nginx-after-recovery-1-a at 10.244.0.9 from node cp-a", expected: "an answer", seen: "Connection timed out",
		},
		"the new Service doesn't answer": {
			deployment: deployment(1, 1), service: svc("10.96.0.9"), pods: []object{pod}, change: func(w *web, _ machines) { delete(w.leads, "10.96.0.9") },
			subject: "Service nginx-after-recovery at 10.96.0.9 from node cp-b", expected: "an answer", seen: "Connection timed out", unaware: true,
		},
		"the new Service leads to the old workload": {
			deployment: deployment(1, 1), service: svc("10.96.0.9"), pods: []object{pod}, change: func(w *web, _ machines) { w.leads["10.96.0.9"] = "c-a" },
			subject: "Service nginx-after-recovery at 10.96.0.9 from node cp-b", expected: "an answer of one of its pods", seen: "something else answers", unaware: true,
		},
		"the new name isn't known": {
			deployment: deployment(1, 1), service: svc("10.96.0.9"), pods: []object{pod}, change: func(w *web, _ machines) { delete(w.leads, name+".default.svc") },
			subject: "Service nginx-after-recovery as nginx-after-recovery.default.svc from pod nginx-1-a", expected: "an answer", seen: "Connection timed out", unaware: true,
		},
		"nothing of the restored workload runs": {
			deployment: deployment(1, 1), service: svc("10.96.0.9"), pods: []object{pod},
			change: func(_ *web, nodes machines) {
				nodes[0].containers, nodes[1].containers = nil, []controlplane.Container{contained("c-fresh", "nginx", "u-pod")}
			},
			subject: "restored workload that asks for Service nginx-after-recovery", expected: "a running container to ask from", seen: "none",
		},
		"not yet available": {
			deployment: deployment(1, 0), service: svc("10.96.0.9"), pods: []object{pod}, subject: "Deployment " + name, expected: "1 available replica", seen: "0",
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w, live, nodes := servedWorkload()
			network := nodes[0].web
			network.leads["10.244.0.9"], network.leads["10.96.0.9"], network.leads[name+".default.svc"] = "c-fresh", "c-fresh", "c-fresh"
			nodes[1].containers = append(nodes[1].containers, contained("c-fresh", "nginx", "u-pod"))
			if c.change != nil {
				c.change(network, nodes)
			}
			made := map[string]int{}
			server := &apiServer{objects: live, lie: func(w http.ResponseWriter, _ *http.Request, got call) bool {
				fresh := map[string]object{"deployments": c.deployment, "services": c.service}[got.resource]
				switch {
				case got.verb == "POST":
					if made[got.resource]++; made[got.resource] == 1 {
						reply(w, http.StatusCreated, fresh)
					} else {
						status(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
					}
				case got.verb == "GET" && got.name == name:
					reply(w, http.StatusOK, fresh)
				case got.verb == "LIST" && got.resource == "pods":
					reply(w, http.StatusOK, listOf(c.pods...))
				default:
					return false
				}
				return true
			}}
			if c.absent {
				w.Objects, w.Beyond = nil, w.Objects
			}
			ways := 7
			if c.absent {
				ways--
			}
			s, since := &Subject{Workload: w, Servers: []Server{serve(t, "cp-a", server)}, Cluster: nodes}, time.Time{}
			for range 2 { // the second look finds what the first one made
				f, err := newWorkRuns(t.Context(), s, &since)
				if since.IsZero() || time.Since(since) > time.Minute {
					t.Errorf("first looked for at %v", since)
				}
				if want := map[bool]time.Time{true: since.Add(2 * time.Minute).Add(2 * callTimeout)}[c.unaware]; !f.Due.Equal(want) {
					t.Errorf("another answer is due at %v, want %v", f.Due, want)
				}
				if c.passed == "" {
					differs(t, f, err, c.subject, c.expected, c.seen)
				} else if err != nil || f.Status != plan.StatusPassed || f.Detail != c.passed || len(f.Evidence) != ways {
					t.Errorf("%+v, %v; want a pass: %s", f, err, c.passed)
				}
			}
			if made["deployments"] != 2 || made["services"] != 2 {
				t.Errorf("asked for %v", made)
			}
		})
	}
}

// TestChecks: every check is complete, and none looks at anything before it is evaluated.
func TestChecks(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Checks(&Subject{}) {
		if c.Name == "" || c.Summary == "" || c.Look == nil || seen[c.Name] {
			t.Errorf("check %+v", c)
		}
		if want := map[bool]plan.Phase{true: plan.Protect, false: plan.Prove}[c.Name == "snapshot-intact"]; c.Phase != want {
			t.Errorf("check %s is of phase %s, want %s", c.Name, c.Phase, want)
		}
		seen[c.Name] = true
	}
	if len(seen) != 15 {
		t.Errorf("%d checks", len(seen))
	}
}

// TestNeighbours: every node's port is asked from itself and from another one, and of many nodes from no more.
func TestNeighbours(t *testing.T) {
	for _, n := range []int{1, 3, fewNodes, fewNodes + 1, 100} {
		w := target{}
		for i := range n {
			w.nodes = append(w.nodes, fmt.Sprintf("10.0.0.%d", i))
		}
		asked, itself := map[string]int{}, 0
		for _, from := range w.nodes {
			for _, to := range w.neighbours(from) {
				asked[to]++
				if to == from {
					itself++
				}
			}
		}
		want := 2
		if n <= fewNodes {
			want = n
		}
		for _, node := range w.nodes {
			if asked[node] != want {
				t.Errorf("of %d nodes %s is asked from %d, want %d", n, node, asked[node], want)
			}
		}
		if itself != n {
			t.Errorf("of %d nodes %d are asked from within", n, itself)
		}
	}
}
