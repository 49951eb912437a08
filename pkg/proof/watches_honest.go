package proof

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/etcd-drill/drill/pkg/plan"
)

// WatchesHonest looks at the world as a controller does, with informers that were open all along: what they hold, and what their event handlers were
// told, must be what each API server lists now.
//
// An informer goes on from the last resourceVersion that it has seen. After a restore that sets etcd's revision back, that one lies in the future:
// the API server takes up the watch all the same and leaves out everything until it is reached again, the restored objects among it, and neither side
// sees an error (kubernetes/kubernetes#118501). A new LIST or a new watch, as a person would look, shows nothing of it.
//
// Whether an informer falls for that is a matter of luck: one that asks in the second in which the API server has started and refuses everybody, because it
// doesn't know the roles yet, takes that for a reason to list anew. So each API server is also asked to go on from where a watch may have been just before
// the outage. It must say that this is too late.
func WatchesHonest(s *Subject) plan.Check {
	return plan.Check{
		Name:    "watches-honest",
		Summary: "an informer opened before the break ends up equal to a fresh LIST, with no event missed silently, on every API server",
		Phase:   plan.Prove,
		Timeout: wholeTimeout,
		Look:    func(ctx context.Context) (plan.Finding, error) { return watchesHonest(ctx, s) },
	}
}

func watchesHonest(ctx context.Context, s *Subject) (plan.Finding, error) {
	const remedy = "etcd's revision went back, or the API server kept a cache from before the restore: watches that were open then go on from a resourceVersion of the time " +
		"that is lost, and what happens until etcd gets there passes them by. Restore with --bump-revision and --mark-compacted, and restart every API server: then " +
		"every watcher is told that it is too late and lists anew (kubernetes/kubernetes#118501). Until then restart what acts on stale news: controllers, schedulers, operators"
	if s.Watchers == nil && s.Resumed {
		return plan.Skipped("the informers that were open before the outage ended with the drill that was killed in it"), nil
	}
	if s.Watchers == nil || len(s.Watchers.all) == 0 {
		return plan.Failed("no informer was open, so nothing is known about watches that were there before the break",
			"the step that opens them was not carried out").ForGood(), nil
	}
	if s.Before.Revision == 0 || s.Snapshot == nil {
		return plan.Failed("it is not known how far a watch may have been before the outage: etcd's revision was not noted, or no snapshot taken",
			"the step that notes it was not carried out").ForGood(), nil
	}
	all := s.Watchers.all
	wrongs, resumed := make([][]plan.Difference, len(all)), make([]resumption, len(all))
	var looking sync.WaitGroup
	for n, i := range all {
		looking.Go(func() {
			resumed[n] = i.goOn(ctx, s)
			wrongs[n] = i.look(ctx, s)
		})
	}
	looking.Wait()
	var wrong, deaf []plan.Difference
	var evidence []string
	bad, taken := 0, true
	for n, i := range all {
		wrong = append(wrong, wrongs[n]...)
		bad += min(1, len(wrongs[n]))
		evidence = append(evidence, i.evidence())
		if d := resumed[n].wrong; d != nil {
			deaf = append(deaf, *d)
			taken = taken && resumed[n].taken
		} else {
			evidence = append(evidence, resumed[n].right)
		}
	}
	switch {
	case bad > 0:
		f := plan.Differs(fmt.Sprintf("%d of %d informers are not what there is", bad, len(all)), remedy, append(wrong, deaf...), evidence...)
		for n, i := range all {
			if due := i.asksAgainBy(); len(wrongs[n]) > 0 && due.After(f.Due) {
				f.Due = due
			}
		}
		return f, nil
	case len(deaf) > 0:
		f := plan.Differs(fmt.Sprintf("%d of %d watches from before the outage would miss events silently", len(deaf), len(all)), remedy, deaf, evidence...)
		f.Final = taken // the informers were lucky; who went on has missed something by now
		return f, nil
	}
	return plan.Passed(fmt.Sprintf("%d informers that were open since %s hold and were told what a fresh LIST shows", len(all), clock(s.Watchers.opened)), evidence...), nil
}

// Watchers are client-go informers that stay open from before the break until the end.
type Watchers struct {
	cancel context.CancelFunc
	opened time.Time
	all    []*informer
}

// watched are the resources that informers are opened for, with what one object of each is called.
func watched() []watchedResource {
	return []watchedResource{{deployments, "deployment"}, {pods, "pod"}, {configMaps, "configmap"}}
}

type watchedResource struct {
	schema.GroupVersionResource
	one string
}

// OpenWatchers opens informers for Deployments, Pods and ConfigMaps of all namespaces on each server, with client-go's default settings as controllers
// have them, and waits until all hold what there is; the error says which don't when ctx ends. They outlive ctx and end with Close.
//
// They ask for the objects' metadata only, as the garbage collector does. That comes from the same watch cache, and a database full of large ConfigMaps is sent to nobody just when the
// API server has started and has enough to do.
func OpenWatchers(ctx context.Context, servers []Server) (*Watchers, error) {
	// Reflectors tell everybody's standard error what goes wrong. Here it is to go wrong, and the check says what came of it.
	running, cancel := context.WithCancel(klog.NewContext(context.WithoutCancel(ctx), klog.Logger{}))
	w := &Watchers{cancel: cancel}
	for _, s := range servers {
		for _, r := range watched() {
			i, err := newInformer(s, r)
			if err != nil {
				w.Close()
				return nil, fmt.Errorf("opening an informer for %s on the API server on node %s: %w", r.Resource, s.Node, err)
			}
			w.all = append(w.all, i)
		}
	}
	for _, i := range w.all {
		go i.shared.RunWithContext(running)
	}
	for _, i := range w.all {
		if !cache.WaitFor(ctx, "", i.shared.HasSyncedChecker(), i.registration.HasSyncedChecker()) {
			w.Close()
			return nil, fmt.Errorf("waiting until the %s holds what there is: %w; last seen: %w", i, context.Cause(ctx), i.lastError())
		}
	}
	w.opened = time.Now()
	for _, i := range w.all {
		i.begin()
	}
	return w, nil
}

// Close ends the informers. It doesn't wait for them: one that pauses before it tries again notices only afterwards. It may be called more than
// once, and on nil.
func (w *Watchers) Close() {
	if w != nil {
		w.cancel()
	}
}

// informer is one that is open, and what is known about how it fared.
type informer struct {
	server       Server
	resource     watchedResource
	shared       cache.SharedIndexInformer
	registration cache.ResourceEventHandlerRegistration

	mu sync.Mutex
	// told is what the event handler was told, taken together.
	told state
	// deleted says when the handler was told of the latest deletion of a name.
	deleted map[string]time.Time
	// Numbers of what the handler was told, and of the deletions among it that were only found out by listing anew.
	added, updated, removed, tombstones int
	// lists are the requests for everything, watches those that go on from a resourceVersion; both count if the API server took them up.
	lists, watches asked
	// began says how many of all that there had been when the informer had synced for the first time.
	began int
	// refused is when its latest request failed; the zero time when that was taken up.
	refused time.Time
	err     error
}

// asked are requests of one kind.
type asked struct {
	times int
	last  time.Time
	// from is the resourceVersion that the last one named.
	from string
}

func newInformer(s Server, r watchedResource) (*informer, error) {
	i := &informer{server: s, resource: r, told: state{}, deleted: map[string]time.Time{}}
	cfg := rest.CopyConfig(s.Config)
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { return &listener{RoundTripper: rt, informer: i} })
	client, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	i.shared = metadatainformer.NewSharedInformerFactory(client, 0).ForResource(r.GroupVersionResource).Informer()
	if err := i.shared.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { i.failed(err) }); err != nil {
		return nil, err
	}
	if err := i.shared.SetTransform(bare); err != nil {
		return nil, err
	}
	quiet := klog.Logger{}
	i.registration, err = i.shared.AddEventHandlerWithOptions(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { i.noteObject(o, &i.added) },
		UpdateFunc: func(_, o any) { i.noteObject(o, &i.updated) },
		DeleteFunc: i.noteDeletion,
	}, cache.HandlerOptions{Logger: &quiet})
	return i, err
}

// bare keeps of an object what is compared, without its labels, annotations and managed fields.
func bare(o any) (any, error) {
	m, err := apimeta.Accessor(o)
	if err != nil {
		return o, nil //nolint:nilerr // the tombstone of an object, which is bare already
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: m.GetNamespace(), Name: m.GetName(), UID: m.GetUID(), ResourceVersion: m.GetResourceVersion(),
	}}, nil
}

// String names the informer.
func (i *informer) String() string {
	return fmt.Sprintf("informer on API server %s for %s", i.server.Node, i.resource.Resource)
}

// noteObject takes in that the handler was told of an object as it is now.
func (i *informer) noteObject(o any, count *int) {
	key, v, err := versionOf(o)
	i.mu.Lock()
	defer i.mu.Unlock()
	*count++
	if err != nil {
		i.err = err
		return
	}
	i.told[key] = v
}

// noteDeletion takes in that the handler was told that an object is gone.
func (i *informer) noteDeletion(o any) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o)
	_, late := o.(cache.DeletedFinalStateUnknown)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.removed++
	if late {
		i.tombstones++
	}
	if err != nil {
		i.err = err
		return
	}
	delete(i.told, key)
	i.deleted[key] = time.Now()
}

func (i *informer) failed(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.err = err
}

func (i *informer) lastError() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err == nil {
		return errors.New("no error")
	}
	return i.err
}

// reflectorPause is how long a reflector waits at most until it asks again: 30 s, which chance may double (client-go's tools/cache). Then it has to take in the answer.
const reflectorPause = 60*time.Second + callTimeout

// asksAgainBy is until when an informer whose latest request failed can't know better; the zero time if it was taken up. After an outage of half a minute one that is unlucky once, because
// the API server has only just started, knows nothing for two minutes.
func (i *informer) asksAgainBy() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.refused.IsZero() {
		return time.Time{}
	}
	return i.refused.Add(reflectorPause)
}

// begin says that everything from now on is news.
func (i *informer) begin() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.began = i.heard()
}

// heard counts what the informer learnt. Its mutex must be held.
func (i *informer) heard() int { return i.added + i.updated + i.removed + i.lists.times }

// listener is the way of an informer's requests. It sees what client-go's reflector tells nobody: whether it goes on or begins anew.
type listener struct {
	http.RoundTripper
	informer *informer
}

// WrappedRoundTripper lets client-go find the transport behind.
func (l *listener) WrappedRoundTripper() http.RoundTripper { return l.RoundTripper }

// RoundTrip is part of http.RoundTripper.
func (l *listener) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.RoundTripper.RoundTrip(r)
	q := r.URL.Query()
	watches, _ := strconv.ParseBool(q.Get("watch"))
	initial, _ := strconv.ParseBool(q.Get("sendInitialEvents")) // a watch that begins with everything there is: a streaming list (KEP-3157)
	i := l.informer
	i.mu.Lock()
	defer i.mu.Unlock()
	i.refused = time.Time{}
	if err != nil || res.StatusCode != http.StatusOK {
		i.refused = time.Now()
	}
	switch {
	case err != nil:
		i.err = err
	case res.StatusCode != http.StatusOK:
		i.err = fmt.Errorf("%s %s: %s", r.Method, r.URL.Path, res.Status)
	case watches && !initial:
		i.watches = asked{i.watches.times + 1, time.Now(), q.Get("resourceVersion")}
	default:
		i.lists = asked{i.lists.times + 1, time.Now(), q.Get("resourceVersion")}
	}
	return res, err
}

// state is which objects there are, by namespace/name.
type state map[string]version

// version is what an object must have in common in all views.
type version struct {
	uid             types.UID
	resourceVersion uint64
	// source says who says so.
	source string
}

func versionOf(o any) (key string, v version, err error) {
	key, err = cache.MetaNamespaceKeyFunc(o)
	if err != nil {
		return "", version{}, err
	}
	m, err := apimeta.Accessor(o)
	if err != nil {
		return "", version{}, err
	}
	v.uid = m.GetUID()
	v.resourceVersion, err = strconv.ParseUint(m.GetResourceVersion(), 10, 64) // an integer that grows, since Kubernetes 1.35 by contract (KEP-5504)
	if err != nil {
		err = fmt.Errorf("%s has a resourceVersion that is no number: %w", key, err)
	}
	return key, v, err
}

// belief is what somebody takes for what there is.
type belief struct {
	who  string
	held state
}

// look holds the informer and its event handler against what there is.
func (i *informer) look(ctx context.Context, s *Subject) []plan.Difference {
	broken := func(expected string, err error) []plan.Difference {
		return []plan.Difference{{Subject: i.String(), Expected: expected, Seen: err.Error()}}
	}
	before, err := i.truth(ctx, s, nil)
	if err != nil {
		return broken("a fresh LIST to compare with", err)
	}
	beliefs, err := i.beliefs()
	if err != nil {
		return broken("objects with a name and a resourceVersion", err)
	}
	wrong := i.compare(beliefs, before, before)
	if len(wrong) > 0 {
		// The cluster may have moved on while one looked: what is newer than the first LIST must be in a second.
		after, err := i.truth(ctx, s, before)
		if err != nil {
			return broken("a fresh LIST to compare with", err)
		}
		wrong = i.compare(beliefs, before, after)
	}
	return append(wrong, i.alive(s, before)...)
}

// resumePatience is how long an API server that answers a watch may take to send its refusal; one that says nothing until then seems to have taken the watch up.
const resumePatience = 3 * time.Second

// resumption is what came of asking an API server to go on with a watch from before the outage.
type resumption struct {
	// wrong is nil when it was refused; right says so.
	wrong *plan.Difference
	right string
	// taken says that it was taken up for sure: it sent something else than a refusal.
	taken bool
}

// goOn asks the API server to go on with a watch from the revision that etcd had just before the outage, as one does that was open then. It must be told
// that this is too late (410 Gone), because what followed that revision is lost and what follows now is something else.
func (i *informer) goOn(ctx context.Context, s *Subject) resumption {
	from := s.Before.Revision
	subject := fmt.Sprintf("watch on API server %s for %s from resourceVersion %d, where etcd was just before the outage", i.server.Node, i.resource.Resource, from)
	if from <= s.Snapshot.Revision && s.Snapshot.Source == "" { // the revision of one that was given may be of another history
		return resumption{right: subject + ": nothing had happened since the snapshot that it could be wrong about"}
	}
	differ := func(seen string, taken bool) resumption {
		return resumption{wrong: &plan.Difference{Subject: subject, Expected: "an error that makes the client list anew (410 Gone)", Seen: seen}, taken: taken}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	limit := int64(callTimeout / time.Second)
	w, err := i.server.Client.Resource(i.resource.GroupVersionResource).Watch(ctx, metav1.ListOptions{
		ResourceVersion: strconv.FormatInt(from, 10), TimeoutSeconds: &limit, AllowWatchBookmarks: true,
	})
	if err == nil {
		defer w.Stop()
		quiet := time.NewTimer(resumePatience)
		defer quiet.Stop()
		taken := fmt.Sprintf("it is taken up: what happens after revision %d, the snapshot's, and before that one is never sent", s.Snapshot.Revision)
		select {
		case <-quiet.C:
			return differ(taken, false) // or the refusal is late
		case e, open := <-w.ResultChan():
			switch {
			case open && e.Type != watch.Error:
				return differ(taken, true)
			case open:
				err = apierrors.FromObject(e.Object)
			default:
				err = errors.Join(errors.New("the API server ended the watch without a word"), ctx.Err())
			}
		}
	}
	if tooLate(err) {
		return resumption{right: subject + ": refused, " + err.Error()}
	}
	return differ(err.Error(), false)
}

// tooLate reports whether an error makes every client list anew.
func tooLate(err error) bool {
	return err != nil && (apierrors.IsResourceExpired(err) || apierrors.IsGone(err))
}

// truth returns what there is: a quorum LIST, and what a GET shows of the workload's objects, which reads etcd even where LIST is answered from a stale
// cache. Objects that GET showed before are not asked for again.
func (i *informer) truth(ctx context.Context, s *Subject, before state) (state, error) {
	client, err := metadata.NewForConfig(i.server.Config)
	if err != nil {
		return nil, err
	}
	out := state{}
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return client.Resource(i.resource.GroupVersionResource).List(ctx, o)
	}
	err = eachOf(ctx, i.server, i.resource.GroupVersionResource, largePage, list, func(o *metav1.PartialObjectMetadata) error {
		key, v, err := versionOf(o)
		v.source = "a fresh LIST"
		out[key] = v
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, o := range s.Workload.Objects {
		key := o.Namespace + "/" + o.Name
		if o.Resource != i.resource.GroupVersionResource || out[key].uid != "" {
			continue
		}
		if known, ok := before[key]; ok {
			out[key] = known
			continue
		}
		u, err := get(ctx, i.server, o)
		if apierrors.IsNotFound(err) {
			continue // whether it ought to be there is for other checks to say
		}
		if err != nil {
			return nil, err
		}
		_, v, err := versionOf(u)
		if err != nil {
			return nil, err
		}
		v.source = "a GET"
		out[key] = v
	}
	return out, nil
}

// beliefs returns what the informer holds and what its event handler was told.
func (i *informer) beliefs() ([]belief, error) {
	store := state{}
	for _, o := range i.shared.GetStore().List() {
		key, v, err := versionOf(o)
		if err != nil {
			return nil, err
		}
		store[key] = v
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return []belief{{"informer", store}, {"event handler of the informer", maps.Clone(i.told)}}, nil
}

// compare returns what in the beliefs fits neither what there was before one looked at them nor what there was afterwards. What the event handler got
// wrong because the informer did is said once.
func (i *informer) compare(beliefs []belief, before, after state) []plan.Difference {
	var out []plan.Difference
	keys := map[string]bool{}
	for _, s := range []state{before, after, beliefs[0].held, beliefs[1].held} {
		for k := range s {
			keys[k] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		for n, b := range beliefs {
			have, ok := b.held[key]
			store, stored := beliefs[0].held[key]
			if n > 0 && ok == stored && have == store || fits(key, have, ok, before, after) {
				continue
			}
			d := plan.Difference{Subject: fmt.Sprintf("%s on API server %s: %s %s", b.who, i.server.Node, i.resource.one, key)}
			d.Expected, d.Seen = expectedOf(key, have, before, after), i.seen(key, have, ok)
			out = append(out, d)
		}
	}
	return out
}

// fits reports whether what is held of an object is what it was at some moment between before and after.
func fits(key string, have version, held bool, before, after state) bool {
	was, there := before[key]
	is, stays := after[key]
	switch {
	case !held:
		return !there || !stays || was.uid != is.uid
	case there && have.uid == was.uid:
		return have.resourceVersion >= was.resourceVersion && (!stays || is.uid != was.uid || have.resourceVersion <= is.resourceVersion)
	default:
		return stays && have.uid == is.uid && have.resourceVersion <= is.resourceVersion
	}
}

func expectedOf(key string, have version, before, after state) string {
	want, there := after[key]
	if !there {
		return "not there, as a fresh LIST says"
	}
	first, was := before[key]
	switch {
	case have.uid != want.uid:
		return fmt.Sprintf("UID %s, as %s says", want.uid, want.source)
	case was && have.resourceVersion < first.resourceVersion:
		return fmt.Sprintf("resourceVersion %d, as %s says", first.resourceVersion, first.source)
	default:
		return fmt.Sprintf("resourceVersion %d and no later one, as %s says", want.resourceVersion, want.source)
	}
}

func (i *informer) seen(key string, have version, held bool) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	at, gone := i.deleted[key]
	switch {
	case held:
		return fmt.Sprintf("UID %s at resourceVersion %d", have.uid, have.resourceVersion)
	case gone:
		return "not there; the informer says it was deleted at " + clock(at)
	default:
		return "not there; the informer never heard of it"
	}
}

// alive returns why nothing could be said about the watch even though all is equal: nobody knows whether it still works. And it names a watch
// that went on across a fall of etcd's revision: such a one has missed whatever happened until etcd was there again, be it equal by now or not.
func (i *informer) alive(s *Subject, now state) []plan.Difference {
	var out []plan.Difference
	differ := func(expected, seen string) {
		out = append(out, plan.Difference{Subject: i.String(), Expected: expected, Seen: seen})
	}
	synced := i.shared.LastSyncResourceVersion()
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case synced == "" || i.lists.times == 0:
		differ("a resourceVersion up to which it has heard", "none: it never got an answer")
	case len(now) == 0:
		differ("an object at least to be told about", "none: there is nothing that it could have missed, and nothing is proven")
	case i.heard() == i.began:
		differ("news since it was opened", "none, of "+strconv.Itoa(len(now))+" objects: nobody knows whether its watch still works")
	}
	if s.Revisions == nil {
		return out
	}
	if fell := s.Revisions.fall(); fell != nil && !i.lists.last.After(fell.fromSeen) {
		since := "its watch was never interrupted"
		if i.watches.last.After(fell.fromSeen) {
			since = fmt.Sprintf("its watch went on from resourceVersion %s at %s", i.watches.from, clock(i.watches.last))
		}
		differ(fmt.Sprintf("to list anew after etcd's revision went back from %d to %d at %s", fell.from, fell.to, clock(fell.toSeen)),
			fmt.Sprintf("it listed last at %s; %s", clock(i.lists.last), since))
	}
	return out
}

// evidence is what is known about the informer in one line.
func (i *informer) evidence() string {
	synced := i.shared.LastSyncResourceVersion()
	held := len(i.shared.GetStore().ListKeys())
	i.mu.Lock()
	defer i.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: holds %d at resourceVersion %s; was told of %d added, %d updated, %d deleted", i, held, synced, i.added, i.updated, i.removed)
	if i.tombstones > 0 {
		fmt.Fprintf(&b, " (%d of them found out late, by listing anew)", i.tombstones)
	}
	fmt.Fprintf(&b, "; listed %s", i.lists)
	if i.lists.last.After(i.watches.last) { // a streaming list goes on as a watch
		b.WriteString(", and watches since")
	} else {
		fmt.Fprintf(&b, "; its watch was taken up again %s, from resourceVersion %s", i.watches, i.watches.from)
	}
	return b.String()
}

// String says how often and when.
func (a asked) String() string {
	switch a.times {
	case 0:
		return "never"
	case 1:
		return "once, at " + clock(a.last)
	default:
		return fmt.Sprintf("%d times, last at %s", a.times, clock(a.last))
	}
}
