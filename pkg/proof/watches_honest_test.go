package proof

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/etcd-drill/drill/pkg/plan"
)

// timeline is an API server with an etcd: it knows what happened and when, and can be restored to what it was. It answers a watch as the real one does,
// also one that goes on from a revision that is yet to come.
type timeline struct {
	// silent keeps an event from those who watch; refuse answers a request in the server's place. Both are set before the server is used.
	silent func(resource, kind, name string) bool
	refuse func(w http.ResponseWriter, c call, initial bool) bool

	mu       sync.Mutex
	revision int64
	// oldest is where the watch cache begins.
	oldest  int64
	objects map[string]map[string]object
	events  []happening
	// changed is closed when something happens.
	changed chan struct{}
	server  *httptest.Server
}

type happening struct {
	revision       int64
	resource, kind string
	object         object
}

var kinds = map[string]string{"deployments": "Deployment", "pods": "Pod", "configmaps": "ConfigMap"}

func (l *timeline) happen(resource, kind string, o object) {
	l.events = append(l.events, happening{l.revision, resource, kind, o})
	close(l.changed)
	l.changed = make(chan struct{})
}

// put makes an object or changes it.
func (l *timeline) put(r schema.GroupVersionResource, name string, uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revision++
	o := newObject(r, name, uid)
	o["kind"] = kinds[r.Resource]
	meta(o)["resourceVersion"] = strconv.FormatInt(l.revision, 10)
	kind := "ADDED"
	if _, there := l.objects[r.Resource][name]; there {
		kind = "MODIFIED"
	}
	if l.objects[r.Resource] == nil {
		l.objects[r.Resource] = map[string]object{}
	}
	l.objects[r.Resource][name] = o
	l.happen(r.Resource, kind, o)
}

func (l *timeline) remove(r schema.GroupVersionResource, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revision++
	last := maps.Clone(l.objects[r.Resource][name])
	last["metadata"] = maps.Clone(meta(last))
	meta(last)["resourceVersion"] = strconv.FormatInt(l.revision, 10)
	delete(l.objects[r.Resource], name)
	l.happen(r.Resource, "DELETED", last)
}

// saved is a snapshot.
type saved struct {
	revision int64
	objects  map[string]map[string]object
}

func (l *timeline) save() saved {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := saved{l.revision, map[string]map[string]object{}}
	for r, objects := range l.objects {
		s.objects[r] = maps.Clone(objects)
	}
	return s
}

// restore makes it what it was, with the revision raised by that much, and starts the API server anew.
func (l *timeline) restore(s saved, bump int64) {
	l.mu.Lock()
	l.revision, l.objects, l.events = s.revision+bump, s.objects, nil
	l.oldest = l.revision
	l.mu.Unlock()
	l.server.CloseClientConnections()
}

func (l *timeline) now() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.revision
}

func (l *timeline) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := parseCall(r)
	initial := r.URL.Query().Get("sendInitialEvents") == "true"
	if l.refuse != nil && l.refuse(w, c, initial) {
		return
	}
	if c.verb == "WATCH" {
		l.watch(w, r, c, initial)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o, there := l.objects[c.resource][c.name]
	switch {
	case c.verb == "GET" && there:
		reply(w, http.StatusOK, o)
	case c.verb == "GET":
		status(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	default:
		var items []object
		for _, o := range l.objects[c.resource] {
			items = append(items, asAsked(r, o))
		}
		list := listOf(items...)
		list["kind"], list["apiVersion"] = kinds[c.resource]+"List", apiVersionOf(c.resource)
		if ofMetadata(r) {
			list["kind"], list["apiVersion"] = "PartialObjectMetadataList", metav1.SchemeGroupVersion.String()
		}
		list["metadata"] = object{"resourceVersion": strconv.FormatInt(l.revision, 10)}
		reply(w, http.StatusOK, list)
	}
}

// ofMetadata says whether a request asks for the metadata only.
func ofMetadata(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
}

// asAsked returns what a request is sent of an object.
func asAsked(r *http.Request, o object) object {
	if !ofMetadata(r) {
		return o
	}
	return object{"kind": "PartialObjectMetadata", "apiVersion": metav1.SchemeGroupVersion.String(), "metadata": o["metadata"]}
}

func apiVersionOf(resource string) string {
	if resource == "deployments" {
		return "apps/v1"
	}
	return "v1"
}

func (l *timeline) watch(w http.ResponseWriter, r *http.Request, c call, initial bool) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	l.mu.Lock()
	from, err := strconv.ParseInt(c.resourceVersion, 10, 64)
	var begin []object
	if initial {
		for _, o := range l.objects[c.resource] {
			begin = append(begin, asAsked(r, o))
		}
		from = l.revision
	} else if err != nil || from < l.oldest {
		l.mu.Unlock()
		event(w, "ERROR", statusOf(http.StatusGone, metav1.StatusReasonExpired))
		return
	}
	l.mu.Unlock()
	if initial {
		sendInitial(w, begin...)
		event(w, "BOOKMARK", asAsked(r, object{"kind": kinds[c.resource], "apiVersion": apiVersionOf(c.resource), "metadata": object{
			"resourceVersion": strconv.FormatInt(from, 10), "annotations": object{metav1.InitialEventsAnnotationKey: "true"},
		}}))
	}
	for {
		l.mu.Lock()
		events, changed := slices.Clone(l.events), l.changed
		l.mu.Unlock()
		for _, e := range events {
			if e.revision <= from || e.resource != c.resource {
				continue
			}
			from = e.revision
			if l.silent == nil || !l.silent(e.resource, e.kind, meta(e.object)["name"].(string)) {
				event(w, e.kind, asAsked(r, e.object))
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

// watchedDrill is a drill as it is when the workload is about to be deleted: with a snapshot, and informers that are open.
func watchedDrill(t *testing.T, l *timeline) (*Subject, saved) {
	t.Helper()
	l.revision, l.changed, l.objects = 10, make(chan struct{}), map[string]map[string]object{}
	l.server = httptest.NewServer(l)
	t.Cleanup(func() { l.server.CloseClientConnections(); l.server.Close() })
	cfg := &rest.Config{Host: l.server.URL, QPS: -1}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.put(deployments, "nginx", "d1")
	l.put(deployments, "coredns", "d2")
	l.put(pods, "nginx-a", "p1")
	l.put(pods, "coredns-a", "p2")
	l.put(configMaps, "settings", "c1")
	s := &Subject{
		Servers:   []Server{{Node: "n1", Config: cfg, Client: client}},
		Revisions: &Revisions{},
		Snapshot:  &plan.SnapshotInfo{Revision: l.now()},
		Workload: Workload{Namespace: "default", Name: "nginx", Objects: []Object{
			{Resource: deployments, Namespace: "default", Name: "nginx", UID: "d1"}, {Resource: pods, Namespace: "default", Name: "nginx-a", UID: "p1"},
		}},
	}
	snapshot := l.save()
	if s.Watchers, err = OpenWatchers(t.Context(), s.Servers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Watchers.Close)
	return s, snapshot
}

// breakIt deletes the workload, changes a few other things, and waits until the informers know.
func breakIt(t *testing.T, l *timeline, s *Subject) {
	t.Helper()
	l.remove(deployments, "nginx")
	l.remove(pods, "nginx-a")
	l.put(pods, "coredns-a", "p2")
	l.put(configMaps, "settings", "c1")
	l.put(configMaps, "late", "c2")
	s.Before.Revision = l.now()
	s.Revisions.Note(time.Now(), l.now())
	for _, i := range s.Watchers.all {
		until(t, func() bool {
			i.mu.Lock()
			defer i.mu.Unlock()
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(i.told) == len(l.objects[i.resource.Resource]) && i.heard() > i.began
		})
	}
}

// until waits for something that must come.
func until(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatal("it never came to that")
		case <-tick.C:
		}
	}
}

// listedAnew waits until every informer has.
func listedAnew(t *testing.T, s *Subject) {
	t.Helper()
	for _, i := range s.Watchers.all {
		until(t, func() bool {
			i.mu.Lock()
			defer i.mu.Unlock()
			return i.lists.times > 1
		})
	}
}

// settled looks until the check passes or must not be looked at again, as the engine does.
func settled(t *testing.T, s *Subject) (f plan.Finding) {
	t.Helper()
	until(t, func() bool {
		var err error
		if f, err = watchesHonest(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		return f.Status == plan.StatusPassed || f.Final
	})
	return f
}

// looked looks once, and wants differences with these parts: subject | expected | seen.
func looked(t *testing.T, s *Subject, want ...string) plan.Finding {
	t.Helper()
	f, err := watchesHonest(t.Context(), s)
	if err != nil || f.Status != plan.StatusFailed || f.Remedy == "" {
		t.Fatalf("%+v, %v; want a failure with a remedy", f, err)
	}
	for _, w := range want {
		part := strings.Split(w, " | ")
		if !slices.ContainsFunc(f.Differences, func(d plan.Difference) bool {
			return strings.Contains(d.Subject, part[0]) && strings.Contains(d.Expected, part[1]) && strings.Contains(d.Seen, part[2])
		}) {
			t.Errorf("no difference of %q among\n%s", w, lines(f.Differences))
		}
	}
	return f
}

func lines(differences []plan.Difference) string {
	var out []string
	for _, d := range differences {
		out = append(out, d.String())
	}
	return strings.Join(out, "\n")
}

// TestHonestWatches: the API server started anew on a raised revision tells everybody that it is too late, everybody lists anew, and all is equal.
func TestHonestWatches(t *testing.T) {
	t.Parallel()
	l := &timeline{}
	s, snapshot := watchedDrill(t, l)
	breakIt(t, l, s)
	l.restore(snapshot, 1000)
	l.put(configMaps, "settings", "c1")
	s.Revisions.Note(time.Now(), l.now())
	f := settled(t, s)
	if f.Status != plan.StatusPassed {
		t.Fatalf("%s\n%s", f.Detail, lines(f.Differences))
	}
	for _, want := range [][]string{
		{"for deployments: holds 2", "1 deleted", "listed 2 times"}, {"for pods: holds 2", "listed 2 times"}, {"for configmaps: holds 1", "found out late", "listed 2 times"},
		{"watch on API server n1 for configmaps", "refused"},
	} {
		if !holds(f.Evidence, want...) {
			t.Errorf("no evidence of %q in\n%s", want, strings.Join(f.Evidence, "\n"))
		}
	}
}

// TestWatchesThatGoOnInTheFuture: nobody raised the revision. The watches go on from one that is yet to come, and nobody tells them what came back.
func TestWatchesThatGoOnInTheFuture(t *testing.T) {
	t.Parallel()
	l := &timeline{}
	s, snapshot := watchedDrill(t, l)
	breakIt(t, l, s)
	l.restore(snapshot, 0)
	s.Revisions.Note(time.Now(), l.now())
	for _, i := range s.Watchers.all {
		until(t, func() bool {
			i.mu.Lock()
			defer i.mu.Unlock()
			return i.watches.times > 0
		})
	}
	f := looked(t, s,
		"informer on API server n1: deployment default/nginx | UID d1, as a fresh LIST says | not there; the informer says it was deleted at ",
		"informer on API server n1: pod default/nginx-a | UID p1 | not there",
		"informer on API server n1: configmap default/settings | resourceVersion 15 and no later one | resourceVersion 19",
		"informer on API server n1: configmap default/late | not there, as a fresh LIST says | UID c2",
		"informer on API server n1 for pods | list anew after etcd's revision went back from 20 to 15 | went on from resourceVersion 18",
		"watch on API server n1 for deployments from resourceVersion 20 | 410 Gone | it is taken up",
	)
	if f.Final || !strings.Contains(f.Detail, "3 of 3 informers") {
		t.Errorf("got %+v, want 3 of 3 informers, and that they may yet settle", f)
	}
	// Once the revision is reached again, the watches go on as if nothing had been, and what they missed stays missed.
	for range 10 {
		l.put(configMaps, "settings", "c1")
	}
	looked(t, s, "informer on API server n1: deployment default/nginx | UID d1 | not there")
}

// TestLuckyInformers: they were refused while the API server started, and listed anew. Others are not as lucky, so the check fails; for good as soon as such a watch was
// sent something else than a refusal.
func TestLuckyInformers(t *testing.T) {
	t.Parallel()
	var starting sync.Map
	l := &timeline{refuse: func(w http.ResponseWriter, c call, initial bool) bool {
		if _, yes := starting.LoadAndDelete(c.resource); !yes || c.verb != "WATCH" {
			return false
		}
		status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		return true
	}}
	s, snapshot := watchedDrill(t, l)
	breakIt(t, l, s)
	for r := range kinds {
		starting.Store(r, true)
	}
	l.restore(snapshot, 0)
	s.Revisions.Note(time.Now(), l.now())
	listedAnew(t, s)
	want := func(f plan.Finding, final bool) {
		if f.Status != plan.StatusFailed || f.Final != final || len(f.Differences) != 3 || !strings.Contains(f.Differences[0].Seen, "it is taken up: what happens after revision 15") {
			t.Errorf("got %s, final %v, want %v\n%s", f.Detail, f.Final, final, lines(f.Differences))
		}
	}
	want(looked(t, s), false)
	for range 10 { // until the revision is reached again, and more
		for _, r := range watched() {
			l.put(r.GroupVersionResource, "settings", "c1")
		}
	}
	want(settled(t, s), true)
}

// TestEventsThatNobodySends: each kind of event that a server keeps to itself is seen to be missing, and listing anew brings it right.
func TestEventsThatNobodySends(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind, object string
		change       func(l *timeline)
		want         string
	}{
		"made": {"ADDED", "new", func(l *timeline) { l.put(pods, "new", "p3") },
			"informer on API server n1: pod default/new | UID p3, as a fresh LIST says | not there; the informer never heard of it"},
		"changed": {"MODIFIED", "coredns", func(l *timeline) { l.put(deployments, "coredns", "d2") },
			"informer on API server n1: deployment default/coredns | resourceVersion 1016, as a fresh LIST says | UID d2 at resourceVersion 12"},
		"deleted": {"DELETED", "coredns-a", func(l *timeline) { l.remove(pods, "coredns-a") },
			"informer on API server n1: pod default/coredns-a | not there, as a fresh LIST says | UID p2"},
		"replaced": {"DELETED", "coredns", func(l *timeline) { l.remove(deployments, "coredns"); l.put(deployments, "coredns", "d9") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &timeline{silent: func(_, kind, object string) bool { return kind == c.kind && object == c.object }}
			s, snapshot := watchedDrill(t, l)
			breakIt(t, l, s)
			l.restore(snapshot, 1000)
			s.Revisions.Note(time.Now(), l.now())
			listedAnew(t, s)
			if f := settled(t, s); f.Status != plan.StatusPassed {
				t.Fatalf("before the event: %s", f.Detail)
			}
			c.change(l)
			if c.want == "" { // the next event tells it as well
				if f := settled(t, s); f.Status != plan.StatusPassed {
					t.Error(f.Detail)
				}
				return
			}
			looked(t, s, c.want)
			l.restore(l.save(), 1000)
			if f := settled(t, s); f.Status != plan.StatusPassed {
				t.Errorf("after listing anew: %s", f.Detail)
			}
		})
	}
}

// TestLISTThatLies: where LIST itself is from before the restore and agrees with the informer, GET tells.
func TestLISTThatLies(t *testing.T) {
	t.Parallel()
	l := &timeline{}
	l.refuse = func(w http.ResponseWriter, c call, _ bool) bool {
		if c.verb != "GET" || c.name != "nginx" {
			return false
		}
		o := newObject(deployments, "nginx", "d1")
		meta(o)["resourceVersion"] = "11"
		reply(w, http.StatusOK, o)
		return true
	}
	s, _ := watchedDrill(t, l)
	breakIt(t, l, s)
	looked(t, s, "informer on API server n1: deployment default/nginx | UID d1, as a GET says | not there; the informer says it was deleted")
}

// TestHandlerThatWasNotTold: what the informer holds is not enough, its event handlers must have been told.
func TestHandlerThatWasNotTold(t *testing.T) {
	t.Parallel()
	l := &timeline{}
	s, snapshot := watchedDrill(t, l)
	breakIt(t, l, s)
	l.restore(snapshot, 1000)
	listedAnew(t, s)
	if f := settled(t, s); f.Status != plan.StatusPassed {
		t.Fatal(f.Detail)
	}
	i := s.Watchers.all[0]
	i.mu.Lock()
	delete(i.told, "default/nginx")
	i.mu.Unlock()
	f := looked(t, s, "event handler of the informer on API server n1: deployment default/nginx | UID d1 | not there; the informer says it was deleted")
	if len(f.Differences) != 1 {
		t.Errorf("got\n%s\nwant one difference", lines(f.Differences))
	}
}

// TestNothingIsProvenByNothing: what can't have missed anything doesn't pass.
func TestNothingIsProvenByNothing(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) (*timeline, *Subject) {
		l := &timeline{}
		s, _ := watchedDrill(t, l)
		s.Before.Revision = l.now()
		return l, s
	}
	for name, c := range map[string]struct {
		spoil func(*timeline, *Subject)
		want  string // in the detail, or a difference
	}{
		"no informers":       {func(_ *timeline, s *Subject) { s.Watchers = nil }, "no informer was open"},
		"empty informers":    {func(_ *timeline, s *Subject) { s.Watchers = &Watchers{} }, "no informer was open"},
		"no revision before": {func(_ *timeline, s *Subject) { s.Before.Revision = 0 }, "not known how far"},
		"no snapshot":        {func(_ *timeline, s *Subject) { s.Snapshot = nil }, "not known how far"},
		"nothing was told":   {func(*timeline, *Subject) {}, "expected news since it was opened, seen none, of 2 objects"},
		"there are no objects": {func(l *timeline, _ *Subject) {
			l.remove(configMaps, "settings")
		}, "for configmaps: expected an object at least to be told about, seen none"},
		"no server": {func(l *timeline, _ *Subject) { l.server.Listener.Close(); l.server.CloseClientConnections() }, "expected a fresh LIST to compare with, seen API server on n1: LIST deployments"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, s := open(t)
			c.spoil(l, s)
			var f plan.Finding
			until(t, func() bool {
				f, _ = watchesHonest(t.Context(), s)
				return f.Status == plan.StatusFailed && strings.Contains(f.Detail+"\n"+lines(f.Differences), c.want)
			})
			if f.Remedy == "" || f.Final == (f.Differences != nil) {
				t.Errorf("got %+v", f)
			}
		})
	}
}

// TestWatchThatCannotBeAskedFor is not taken for one that goes on: it may yet be refused.
func TestWatchThatCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	s := &Subject{Snapshot: &plan.SnapshotInfo{Revision: 15}, Before: Before{Revision: 20}}
	for want, h := range map[string]http.HandlerFunc{
		"the server says TooManyRequests": func(w http.ResponseWriter, _ *http.Request) {
			status(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
		},
		"the API server ended the watch without a w": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "application/json") },
	} {
		busy := httptest.NewServer(h)
		t.Cleanup(busy.Close)
		client, err := dynamic.NewForConfig(&rest.Config{Host: busy.URL, QPS: -1})
		if err != nil {
			t.Fatal(err)
		}
		i := &informer{server: Server{Node: "n1", Client: client}, resource: watched()[0]}
		if got := i.goOn(t.Context(), s); got.wrong == nil || got.taken || !strings.Contains(got.wrong.Seen, want) {
			t.Errorf("got %+v, want %q", got, want)
		}
	}
}

// TestInformerThatWaits: one that was refused when it asked last knows nothing for as long as it waits until it asks again, and is not to be judged before.
func TestInformerThatWaits(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	l := &timeline{refuse: func(w http.ResponseWriter, c call, _ bool) bool {
		if !down.Load() || c.verb != "WATCH" {
			return false
		}
		status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		return true
	}}
	s, snapshot := watchedDrill(t, l)
	breakIt(t, l, s)
	down.Store(true)
	began := time.Now()
	l.restore(snapshot, 1000)
	for _, i := range s.Watchers.all {
		until(t, func() bool { return !i.asksAgainBy().IsZero() })
	}
	if f := looked(t, s); f.Final || f.Due.Before(began.Add(time.Minute)) {
		t.Errorf("an answer is due at %v, after %v; want a minute at least", f.Due, f.Due.Sub(began))
	}
	down.Store(false)
	if f := settled(t, s); f.Status != plan.StatusPassed {
		t.Errorf("%s\n%s", f.Detail, lines(f.Differences))
	}
	// One that goes on and is wrong all the same waits for nothing.
	i := s.Watchers.all[0]
	i.mu.Lock()
	i.told["default/nginx"] = version{}
	i.mu.Unlock()
	if f := looked(t, s); !f.Due.IsZero() {
		t.Errorf("an answer is due at %v; want that nothing is waited for", f.Due)
	}
}

// TestOpenWatchersSaysWhatIsMissing, and gives up with its context.
func TestOpenWatchersSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	l := &timeline{refuse: func(w http.ResponseWriter, c call, _ bool) bool {
		if c.resource != "pods" {
			return false
		}
		status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		return true
	}}
	l.revision, l.changed, l.objects = 10, make(chan struct{}), map[string]map[string]object{}
	l.server = httptest.NewServer(l)
	t.Cleanup(func() { l.server.CloseClientConnections(); l.server.Close() })
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errors.New("time is over"))
	defer cancel()
	w, err := OpenWatchers(ctx, []Server{{Node: "n1", Config: &rest.Config{Host: l.server.URL}}})
	if w != nil || err == nil {
		t.Fatalf("got %v, %v", w, err)
	}
	for _, want := range []string{"n1 for pods", "time is over", "forbid"} {
		if !strings.Contains(strings.ToLower(err.Error()), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	w.Close() // on nil
}
