package proof

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
)

// What works is shown on real clusters, by the end-to-end tests. Here are API servers and nodes that lie, which real ones do only under
// conditions that can't be made at will.

// object is a Kubernetes object as JSON.
type object = map[string]any

// call is what a client asks of an API server.
type call struct {
	verb            string // GET, LIST, WATCH, POST
	resource        string
	namespace, name string
	resourceVersion string
}

// apiServer answers from its objects, unless lie does.
type apiServer struct {
	mu      sync.Mutex
	objects map[string][]object // by resource
	// lie answers in the server's place if it returns true.
	lie func(w http.ResponseWriter, r *http.Request, c call) bool
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := parseCall(r)
	if a.lie != nil && a.lie(w, r, c) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch c.verb {
	case "GET":
		for _, o := range a.objects[c.resource] {
			if meta(o)["name"] == c.name {
				reply(w, http.StatusOK, o)
				return
			}
		}
		status(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	case "LIST":
		reply(w, http.StatusOK, listOf(a.objects[c.resource]...))
	case "WATCH":
		sendInitial(w, a.objects[c.resource]...)
		bookmark(w, true)
		<-r.Context().Done() // a watch goes on
	}
}

// parseCall reads /api/v1/… and /apis/GROUP/VERSION/….
func parseCall(r *http.Request) call {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if path[0] == "apis" {
		path = path[1:]
	}
	path = path[2:]
	c := call{verb: "LIST", resourceVersion: r.URL.Query().Get("resourceVersion")}
	if path[0] == "namespaces" && len(path) > 2 {
		c.namespace, path = path[1], path[2:]
	}
	c.resource = path[0]
	switch {
	case r.Method == http.MethodPost:
		c.verb = "POST"
	case len(path) > 1:
		c.verb, c.name = "GET", path[1]
	case r.URL.Query().Get("watch") == "true":
		c.verb = "WATCH"
	}
	return c
}

func meta(o object) object { return o["metadata"].(object) }

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v)
}

// listOf is a list; clients that know a type read only the kind of list that they expect, which here is that of pods.
func listOf(items ...object) object {
	return object{"kind": "PodList", "apiVersion": "v1", "metadata": object{"resourceVersion": "5"}, "items": append([]object{}, items...)}
}

func statusOf(code int, reason metav1.StatusReason) metav1.Status {
	return metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: int32(code), Reason: reason, Message: "the server says " + string(reason),
	}
}

func status(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	reply(w, code, statusOf(code, reason))
}

func event(w http.ResponseWriter, kind string, o any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	json.NewEncoder(w).Encode(object{"type": kind, "object": o})
	w.(http.Flusher).Flush()
}

func sendInitial(w http.ResponseWriter, objects ...object) {
	for _, o := range objects {
		event(w, "ADDED", o)
	}
}

func bookmark(w http.ResponseWriter, end bool) {
	annotations := object{}
	if end {
		annotations[metav1.InitialEventsAnnotationKey] = "true"
	}
	event(w, "BOOKMARK", object{"kind": "Any", "apiVersion": "v1", "metadata": object{"resourceVersion": "5", "annotations": annotations}})
}

// newObject is an object of the workload.
func newObject(r schema.GroupVersionResource, name string, uid types.UID) object {
	return object{
		"apiVersion": r.GroupVersion().String(), "kind": r.Resource,
		"metadata": object{"namespace": "default", "name": name, "uid": string(uid), "labels": object{"app": "nginx"}},
		"spec":     object{"of": name},
	}
}

// newPod is a pod that says that it runs these containers, name=ID each.
func newPod(namespace, name string, uid types.UID, node string, containers ...string) object {
	o := newObject(pods, name, uid)
	meta(o)["namespace"] = namespace
	var statuses []object
	for _, c := range containers {
		name, id, _ := strings.Cut(c, "=")
		statuses = append(statuses, object{"name": name, "ready": true, "containerID": "containerd://" + id, "state": object{"running": object{}}})
	}
	o["spec"] = object{"nodeName": node}
	o["status"] = object{"phase": "Running", "podIP": "10.244.0.9", "containerStatuses": statuses}
	return o
}

// serve starts an API server and returns the view of it.
func serve(t *testing.T, node string, a *apiServer) Server {
	t.Helper()
	s := httptest.NewServer(a)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	cfg := &rest.Config{Host: s.URL, QPS: -1}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return Server{Node: node, Config: cfg, Client: client}
}

// machine is a node whose commands have prepared answers.
type machine struct {
	name       string
	containers []controlplane.Container
	// afterwards is what `crictl inspect` tells, where that is not what `crictl ps` told.
	afterwards []controlplane.Container
	kubelet    time.Time
	swapped    string
	// unreachable says which IPs don't answer.
	unreachable []string
	broken      error
}

func (m *machine) Name() string     { return m.name }
func (*machine) Role() cluster.Role { return cluster.ControlPlane }
func (*machine) Address() string    { return "172.18.0.2" }
func (*machine) ReadFile(_ context.Context, path string) ([]byte, error) {
	return nil, fmt.Errorf("read %s: %w", path, fs.ErrNotExist)
}

func (*machine) WriteFile(context.Context, string, fs.FileMode, io.Reader) error {
	return errors.New("a check must not write")
}

func (m *machine) Exec(_ context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	if m.broken != nil {
		return cluster.Result{}, m.broken
	}
	said := func(s string) (cluster.Result, error) { return cluster.Result{Stdout: []byte(s)}, nil }
	switch line := strings.Join(cmd.Argv, " "); {
	case strings.HasPrefix(line, "crictl ps"):
		return said(crictlPs(m.containers))
	case strings.HasPrefix(line, "crictl inspect"):
		if m.afterwards != nil {
			return said(crictlInspect(m.afterwards))
		}
		return said(crictlInspect(m.containers))
	case strings.HasPrefix(line, "systemctl show kubelet"):
		if m.kubelet.IsZero() {
			return said("ActiveState=inactive\nSubState=dead\nActiveEnterTimestamp=\n")
		}
		return said("ActiveState=active\nSubState=running\nActiveEnterTimestamp=" + m.kubelet.UTC().Format("Mon 2006-01-02 15:04:05.000000 MST") + "\n")
	case strings.HasPrefix(line, "stat "):
		return said(m.swapped + "\n")
	case strings.HasPrefix(line, "curl "):
		for _, ip := range m.unreachable {
			if strings.Contains(cmd.Argv[len(cmd.Argv)-1], ip) {
				return cluster.Result{}, &cluster.ExitError{Node: m.name, Cmd: cmd, Code: 28, Output: "curl: (28) Connection timed out"}
			}
		}
		return said("")
	default:
		return cluster.Result{}, fmt.Errorf("unexpected command %s", line)
	}
}

// crictlPs is what `crictl ps -o json` prints.
func crictlPs(list []controlplane.Container) string {
	out := []object{}
	for _, c := range list {
		out = append(out, object{
			"id": c.ID, "podSandboxId": "sandbox", "metadata": object{"name": c.Name}, "state": controlplane.ContainerRunning,
			"createdAt": fmt.Sprint(c.StartedAt.UnixNano()),
			"labels":    object{"io.kubernetes.pod.name": c.PodName, "io.kubernetes.pod.namespace": c.PodNamespace, "io.kubernetes.pod.uid": c.PodUID},
		})
	}
	return encode(object{"containers": out})
}

// crictlInspect is what `crictl inspect -o json` prints.
func crictlInspect(list []controlplane.Container) string {
	out := []object{}
	for _, c := range list {
		state := c.State
		if state == "" {
			state = controlplane.ContainerRunning
		}
		out = append(out, object{"status": object{
			"id": c.ID, "state": state, "startedAt": c.StartedAt.Format(time.RFC3339Nano), "mounts": c.Mounts,
		}})
	}
	return encode(out)
}

func encode(v any) string {
	var b bytes.Buffer
	json.NewEncoder(&b).Encode(v)
	return b.String()
}

// machines are a cluster.
type machines []*machine

func (machines) Name() string                               { return "fake" }
func (machines) Provider() string                           { return "none" }
func (machines) Kubeconfig(context.Context) ([]byte, error) { return nil, errors.New("none") }
func (m machines) Nodes() []cluster.Node {
	var out []cluster.Node
	for _, n := range m {
		out = append(out, n)
	}
	return out
}

// holds reports whether some line of a finding's evidence has all these parts.
func holds(lines []string, parts ...string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) })
	})
}
