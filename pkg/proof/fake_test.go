package proof

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
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

// started is when the containers of fake nodes started; kubelet writes it in whole seconds.
var started = time.Unix(100, 250_000_000)

// newPod is a pod that says that it runs these containers, name=ID each.
func newPod(namespace, name string, uid types.UID, node string, containers ...string) object {
	o := newObject(pods, name, uid)
	meta(o)["namespace"] = namespace
	var statuses, specs []object
	for _, c := range containers {
		name, id, _ := strings.Cut(c, "=")
		specs = append(specs, object{"name": name})
		statuses = append(statuses, object{"name": name, "ready": true, "containerID": "containerd://" + id, "state": runningState()})
	}
	o["spec"] = object{"nodeName": node, "containers": specs}
	o["status"] = object{"phase": "Running", "podIP": "10.244.0.9", "containerStatuses": statuses}
	return o
}

func runningState() object {
	return object{"running": object{"startedAt": started.UTC().Truncate(time.Second).Format(time.RFC3339)}}
}

// contained is a container of a pod that runs.
func contained(id, name, podUID string) controlplane.Container {
	return controlplane.Container{ID: id, Name: name, PodName: "pod-of-" + podUID, PodNamespace: "default", PodUID: podUID, SandboxID: "s-" + podUID, StartedAt: started}
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
	address    string // 172.18.0.2 if empty
	containers []controlplane.Container
	sandboxes  []controlplane.Sandbox
	// afterwards is what `crictl inspect` tells, where that is not what `crictl ps` told.
	afterwards []controlplane.Container
	kubelet    time.Time
	// swapped is the status change time of what was renamed last: of moved, or of whatever is asked about where that is empty.
	moved   string
	swapped string
	// dirs are device and inode of what paths lead to, as stat prints them; those of all others are the same.
	dirs map[string]string
	// web is what HTTP requests from the node and its pods meet.
	web *web
	// modes are mode and owner of files, as stat prints them.
	modes map[string]string
	// logs are what files hold; kubelet's journal has no path.
	logs   map[string]string
	now    time.Time
	broken error
	mu     sync.Mutex
	ran    []string
}

func (m *machine) Name() string     { return m.name }
func (*machine) Role() cluster.Role { return cluster.ControlPlane }
func (m *machine) Address() string {
	if m.address != "" {
		return m.address
	}
	return "172.18.0.2"
}

func (*machine) ReadFile(_ context.Context, path string) ([]byte, error) {
	return nil, fmt.Errorf("read %s: %w", path, fs.ErrNotExist)
}

func (*machine) WriteFile(context.Context, string, fs.FileMode, io.Reader) error {
	return errors.New("a check must not write")
}

func (m *machine) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	if err := errors.Join(m.broken, ctx.Err()); err != nil {
		return cluster.Result{}, err
	}
	line := strings.Join(cmd.Argv, " ")
	m.mu.Lock()
	m.ran = append(m.ran, line)
	m.mu.Unlock()
	out, code := m.answer(line, cmd.Argv)
	switch {
	case code != 0:
		return cluster.Result{}, &cluster.ExitError{Node: m.name, Cmd: cmd, Code: code, Output: out}
	case cmd.Stdout != nil:
		_, err := io.WriteString(cmd.Stdout, out)
		return cluster.Result{}, err
	default:
		return cluster.Result{Stdout: []byte(out)}, nil
	}
}

// answer is what a command prints, and its exit status.
func (m *machine) answer(line string, argv []string) (string, int) {
	last := argv[len(argv)-1]
	switch {
	case strings.HasPrefix(line, "crictl ps"):
		return crictlPs(m.containers, strings.Contains(line, "--all")), 0
	case strings.HasPrefix(line, "crictl pods"):
		return crictlPods(m.sandboxes), 0
	case strings.HasPrefix(line, "crictl inspect --output go-template"):
		for i, c := range m.containers {
			if c.ID == last {
				return fmt.Sprint(1000 + i), 0
			}
		}
		return "no such container", 1
	case strings.HasPrefix(line, "crictl inspect"):
		if m.afterwards != nil {
			return crictlInspect(m.afterwards), 0
		}
		return crictlInspect(m.containers), 0
	case strings.HasPrefix(line, "systemctl show kubelet"):
		if m.kubelet.IsZero() {
			return "ActiveState=inactive\nSubState=dead\nActiveEnterTimestamp=\n", 0
		}
		return "ActiveState=active\nSubState=running\nActiveEnterTimestamp=" + m.kubelet.UTC().Format("Mon 2006-01-02 15:04:05.000000 MST") + "\n", 0
	case strings.HasPrefix(line, "stat --dereference"):
		var out strings.Builder
		for _, path := range argv[slices.Index(argv, "--")+1:] {
			fmt.Fprintln(&out, cmp.Or(m.dirs[path], "64 7"))
		}
		return strings.TrimSuffix(out.String(), "\n"), 0
	case strings.HasPrefix(line, "stat ") && m.moved != "" && last != m.moved:
		return "stat: cannot statx " + last, 1
	case strings.HasPrefix(line, "stat "):
		return m.swapped + "\n", 0
	case argv[0] == "date":
		return m.now.UTC().Format("2006-01-02T15:04:05.000000000Z") + "\n", 0
	case argv[0] == "journalctl":
		return m.logs[""], 0
	case argv[0] == "tail":
		text, there := m.logs[last]
		if !there {
			return "tail: cannot open " + last, 1
		}
		return text, 0
	case argv[0] == "sh" && argv[2] == statEach:
		var out strings.Builder
		for _, path := range argv[4:] {
			if mode, there := m.modes[path]; there {
				fmt.Fprintf(&out, "%s %s\n", mode, path)
			}
		}
		return out.String(), 0
	case argv[0] == "sh" && argv[2] == fetchAll:
		return m.web.fetch(argv[4:], false), 0
	case argv[0] == "nsenter" && strings.Contains(line, "--net -- unshare --mount --propagation private sh -c "+asPod+fetchAll+" sh "+argv[2]+" "):
		return m.web.fetch(argv[len(argv)-3:], true), 0
	case argv[0] == "sh" && argv[2] == findTokens:
		return m.web.found(argv[4], argv[6:]), 0
	default:
		return "unexpected command " + line, 127
	}
}

// web is the network between nodes, pods and Services, and what pods log.
type web struct {
	mu sync.Mutex
	// leads says which container an IP, node's port or name leads to, or which several, in turn; a stranger's is not one of the workload's. What leads nowhere
	// doesn't answer.
	leads map[string]string
	turns map[string]int
	// unreadable is a container whose log can't be read; deaf one that doesn't answer inside of its network.
	unreadable, deaf string
	// gone is a container that doesn't answer any more.
	gone string
	// pages are what containers answer with; "the page" if none is given.
	pages map[string]string
	// mute says that the image logs no requests.
	mute bool
	logs map[string][]string // tokens by container
}

// fetch is what fetchAll prints. Names are known in pods only.
func (w *web) fetch(ways []string, inPod bool) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out strings.Builder
	for n := 1; len(ways) > 2; n, ways = n+1, ways[3:] {
		times, err := strconv.Atoi(ways[1])
		if err != nil {
			return err.Error()
		}
		for i := range times {
			line, answered := w.fetchOne(ways[0], fmt.Sprintf("%s-%d", ways[2], i+1), inPod)
			fmt.Fprintf(&out, "%d %s\n", n, line)
			if !answered {
				break
			}
		}
	}
	return out.String()
}

func (w *web) fetchOne(inside, address string, inPod bool) (string, bool) {
	parsed, err := url.Parse(address)
	if err != nil {
		return "failed " + err.Error(), false
	}
	container, leads := w.leads[parsed.Hostname()]
	if !leads {
		container, leads = w.leads[parsed.Host]
	}
	if several := strings.Fields(container); len(several) > 1 {
		if w.turns == nil {
			w.turns = map[string]int{}
		}
		container = several[w.turns[parsed.Host]%len(several)]
		w.turns[parsed.Host]++
	}
	ip := net.ParseIP(parsed.Hostname())
	switch {
	case ip == nil && !inPod:
		leads = false
	case inside != "":
		container, leads = inside, ip.IsLoopback() && inside != w.deaf
	}
	if !leads || w.gone != "" && container == w.gone {
		return "failed curl: (28) Connection timed out", false
	}
	if !w.mute {
		if w.logs == nil {
			w.logs = map[string][]string{}
		}
		w.logs[container] = append(w.logs[container], parsed.Query().Get("drill"))
	}
	page := w.pages[container]
	if page == "" {
		page = "the page"
	}
	return fmt.Sprintf("answered %x", sha256.Sum256([]byte(page))), true
}

// found is what findTokens prints.
func (w *web) found(prefix string, containers []string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out strings.Builder
	for _, id := range containers {
		if id == w.unreadable {
			fmt.Fprintf(&out, "%s %s%s\n", id, prefix, unreadable)
		}
		for _, token := range w.logs[id] {
			if strings.HasPrefix(token, prefix+"-") {
				fmt.Fprintf(&out, "%s %s\n", id, token)
			}
		}
	}
	return out.String()
}

func stateIn(c controlplane.Container) string {
	if c.State == "" {
		return controlplane.ContainerRunning
	}
	return c.State
}

// crictlPs is what `crictl ps -o json` prints.
func crictlPs(list []controlplane.Container, all bool) string {
	out := []object{}
	for _, c := range list {
		if stateIn(c) != controlplane.ContainerRunning && !all {
			continue
		}
		labels := object{}
		if c.PodUID+c.PodNamespace != "" {
			labels = object{"io.kubernetes.pod.name": c.PodName, "io.kubernetes.pod.namespace": c.PodNamespace, "io.kubernetes.pod.uid": c.PodUID}
		}
		out = append(out, object{
			"id": c.ID, "podSandboxId": c.SandboxID, "metadata": object{"name": c.Name}, "state": stateIn(c), "createdAt": fmt.Sprint(c.StartedAt.UnixNano()), "labels": labels,
		})
	}
	return encode(object{"containers": out})
}

// crictlPods is what `crictl pods -o json` prints.
func crictlPods(list []controlplane.Sandbox) string {
	out := []object{}
	for _, s := range list {
		out = append(out, object{
			"id": s.ID, "metadata": object{"name": s.PodName, "namespace": s.PodNamespace, "uid": s.PodUID}, "state": s.State, "createdAt": fmt.Sprint(s.CreatedAt.UnixNano()),
		})
	}
	return encode(object{"items": out})
}

// crictlInspect is what `crictl inspect -o json` prints.
func crictlInspect(list []controlplane.Container) string {
	out := []object{}
	for _, c := range list {
		out = append(out, object{"status": object{
			"id": c.ID, "state": stateIn(c), "startedAt": c.StartedAt.Format(time.RFC3339Nano), "finishedAt": c.FinishedAt.Format(time.RFC3339Nano), "mounts": c.Mounts,
			"logPath": c.LogPath, "image": object{"image": c.Image},
		}})
	}
	return encode(out)
}

func encode(v any) string {
	var b bytes.Buffer
	json.NewEncoder(&b).Encode(v)
	return b.String()
}

// vanishing is a node whose pods end just before something is sent from inside of them.
type vanishing struct{ *machine }

func (v *vanishing) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	if cmd.Argv[0] == "nsenter" {
		return cluster.Result{}, &cluster.ExitError{Node: v.name, Cmd: cmd, Code: 1, Output: "nsenter: cannot open /proc/" + cmd.Argv[2] + "/ns/net: No such file or directory\n"}
	}
	return v.machine.Exec(ctx, cmd)
}

// mixed is a cluster of nodes of any kind.
type mixed []cluster.Node

func (mixed) Name() string                               { return "fake" }
func (mixed) Provider() string                           { return "none" }
func (mixed) Kubeconfig(context.Context) ([]byte, error) { return nil, errors.New("none") }
func (m mixed) Nodes() []cluster.Node                    { return m }

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
