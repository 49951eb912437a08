package proof

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/etcd-drill/drill/pkg/plan"
)

// ReadsAgree asks each API server in the four ways in which clients read, and holds the answers against each other.
//
// They can differ, because they take different paths: GET reads etcd; LIST without a resource version is answered from the
// API server's watch cache once that is as new as etcd says it is (consistent reads from cache, KEP-2340); LIST with
// resourceVersion=0 and WATCH come from the cache whatever its age. After etcd's revision went back the cache takes itself for
// newer than etcd, and goes on answering from before the restore (kubernetes/kubernetes#118501).
func ReadsAgree(s *Subject) plan.Check {
	return plan.Check{
		Name:    "reads-agree",
		Summary: "GET, quorum LIST, cached LIST and a new WATCH say the same on every API server",
		Phase:   plan.Prove,
		Look:    func(ctx context.Context) (plan.Finding, error) { return readsAgree(ctx, s) },
	}
}

// sample are objects of one resource that are read in every way.
type sample struct {
	resource            schema.GroupVersionResource
	namespace, selector string
	// want are all objects that the selector selects.
	want sightings
}

// samples are the workload's objects. Where not all of them are in the snapshot, what was left there of others has to be seen, too, and something that is in every cluster.
func samples(s *Subject) []sample {
	var out []sample
	for _, r := range workloadResources() {
		out = append(out, sample{r, s.Workload.Namespace, s.Workload.Selector(), expected(r, s.Workload.Objects, s.Workload.Namesakes)})
	}
	if len(s.Workload.Beyond) > 0 && len(s.Anchors) > 0 {
		var names []string
		for _, o := range s.Anchors {
			names = append(names, o.Name)
		}
		out = append(out, sample{namespaces, metav1.NamespaceAll, NamesNamespaces(names...), expected(namespaces, s.Anchors)})
	}
	return out
}

// NamesNamespaces is a label selector for the namespaces of these names: each has its name as a label
// (https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/#automatic-labelling).
func NamesNamespaces(names ...string) string {
	return corev1.LabelMetadataName + " in (" + strings.Join(names, ",") + ")"
}

// view is one way to read: it returns what it sees of a sample.
type view struct {
	name string
	read func(context.Context, Server, sample) (sightings, error)
}

// sightings are objects by name.
type sightings map[string]sighting

// sighting is what must be the same in every view. Statuses go on changing while one reads.
type sighting struct {
	uid types.UID
	// spec is decoded JSON; nil where it isn't known.
	spec any
}

func (v sightings) add(u *unstructured.Unstructured) {
	v[u.GetName()] = sighting{u.GetUID(), u.Object["spec"]}
}

func views() []view {
	return []view{
		{"GET", viewGet},
		{"quorum LIST", viewList("")},
		{"cached LIST", viewList("0")},
		{"new WATCH", viewWatch},
	}
}

func readsAgree(ctx context.Context, s *Subject) (plan.Finding, error) {
	all := samples(s)
	objects := 0
	for _, sm := range all {
		objects += len(sm.want)
	}
	if objects == 0 || len(s.Servers) == 0 { // all would agree that there is nothing
		return plan.Failed(fmt.Sprintf("there is nothing to hold against each other: %d objects are known, on %d API servers", objects, len(s.Servers)),
			"the step that records the workload was not carried out"), nil
	}
	// All servers at once: one that hangs takes all the time there is, and the others must not be blamed for that.
	wrongs, rights := make([][]plan.Difference, len(s.Servers)), make([][]string, len(s.Servers))
	var reading sync.WaitGroup
	for i, server := range s.Servers {
		reading.Go(func() { wrongs[i], rights[i] = readAll(ctx, server, all) })
	}
	reading.Wait()
	wrong, right := slices.Concat(wrongs...), slices.Concat(rights...)
	if len(wrong) > 0 {
		reads := len(s.Servers) * len(all) * len(views())
		return plan.Differs(fmt.Sprintf("%d of %d reads disagree with the snapshot", reads-len(right), reads),
			"where GET is right and LIST is wrong, the API server answers from a cache from before the restore, because it was not restarted and etcd's revision "+
				"went back: restart every API server, and restore with --bump-revision and --mark-compacted (kubernetes/kubernetes#118501)",
			wrong, right...), nil
	}
	return plan.Passed(fmt.Sprintf("%d reads on %d API servers say the same", len(right), len(s.Servers)), right...), nil
}

// readAll reads all samples from one API server in every way.
func readAll(ctx context.Context, server Server, all []sample) (wrong []plan.Difference, right []string) {
	for _, sm := range all {
		want := maps.Clone(sm.want)
		for _, v := range views() {
			label := fmt.Sprintf("API server on %s, %s %s", server.Node, v.name, sm.resource.Resource)
			got, err := v.read(ctx, server, sm)
			if err != nil {
				wrong = append(wrong, plan.Difference{Subject: label, Expected: want.String(), Seen: "an error: " + err.Error()})
				continue
			}
			d := want.against(got)
			want.learn(got)
			for i := range d {
				d[i].Subject = label + " " + d[i].Subject
			}
			if wrong = append(wrong, d...); len(d) == 0 {
				right = append(right, fmt.Sprintf("%s: %s", label, got))
			}
		}
	}
	return wrong, right
}

func expected(r schema.GroupVersionResource, objects ...[]Object) sightings {
	out := sightings{}
	for _, o := range slices.Concat(objects...) {
		if o.Resource == r {
			out[o.Name] = sighting{o.UID, o.Spec}
		}
	}
	return out
}

// learn takes specs that aren't known from the first who shows them: the others must show the same.
func (v sightings) learn(got sightings) {
	for name, want := range v {
		if seen, there := got[name]; there && want.spec == nil && seen.uid == want.uid {
			v[name] = seen
		}
	}
}

// against names, in order, the objects that were seen otherwise than they should be, or not, or though they shouldn't.
func (v sightings) against(got sightings) []plan.Difference {
	names := maps.Clone(v)
	maps.Copy(names, got)
	var d []plan.Difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		want, wanted := v[name]
		seen, there := got[name]
		switch {
		case !there:
			d = append(d, plan.Difference{Subject: name, Expected: "UID " + string(want.uid), Seen: "nothing"})
		case !wanted:
			d = append(d, plan.Difference{Subject: name, Expected: "nothing", Seen: "UID " + string(seen.uid)})
		case want.uid != seen.uid:
			d = append(d, plan.Difference{Subject: name, Expected: "UID " + string(want.uid), Seen: "UID " + string(seen.uid)})
		case want.spec != nil:
			for _, f := range fieldDifferences("spec", want.spec, seen.spec) {
				f.Subject = name + " " + f.Subject
				d = append(d, f)
			}
		}
	}
	return d
}

// String lists names with UIDs in order; "nothing" when there are none.
func (v sightings) String() string {
	if len(v) == 0 {
		return "nothing"
	}
	var out []string
	for name, x := range v {
		out = append(out, fmt.Sprintf("%s (%s)", name, x.uid))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func viewGet(ctx context.Context, s Server, sm sample) (sightings, error) {
	out := sightings{}
	for _, name := range slices.Sorted(maps.Keys(sm.want)) {
		u, err := get(ctx, s, Object{Resource: sm.resource, Namespace: sm.namespace, Name: name})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out.add(u)
	}
	return out, nil
}

func viewList(resourceVersion string) func(context.Context, Server, sample) (sightings, error) {
	return func(ctx context.Context, s Server, sm sample) (sightings, error) {
		items, err := list(ctx, s, sm.resource, sm.namespace, metav1.ListOptions{LabelSelector: sm.selector, ResourceVersion: resourceVersion})
		if err != nil {
			return nil, err
		}
		out := sightings{}
		for _, u := range items {
			out.add(&u)
		}
		return out, nil
	}
}

// viewWatch opens a watch that begins with what there is, and reads up to the bookmark that says that this was all
// (streaming lists, KEP-3157: on by default since Kubernetes 1.32).
func viewWatch(ctx context.Context, s Server, sm sample) (sightings, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errors.New("the watch did not say within "+callTimeout.String()+" that it had sent everything"))
	defer cancel()
	initial := true
	watcher, err := s.Client.Resource(sm.resource).Namespace(sm.namespace).Watch(ctx, metav1.ListOptions{
		LabelSelector:        sm.selector,
		SendInitialEvents:    &initial,
		AllowWatchBookmarks:  true,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the watch: %w", err)
	}
	defer watcher.Stop()
	out := sightings{}
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w; seen until then: %s", context.Cause(ctx), out)
		case e, open := <-watcher.ResultChan():
			if !open {
				early := errors.New("the API server ended the watch early")
				if ctx.Err() != nil { // it was ended here
					early = context.Cause(ctx)
				}
				return nil, fmt.Errorf("%w; seen until then: %s", early, out)
			}
			done, err := out.take(e)
			if err != nil || done {
				return out, err
			}
		}
	}
}

// take applies an event, and says whether it was the bookmark that ends the beginning.
func (v sightings) take(e watch.Event) (done bool, err error) {
	if e.Type == watch.Error {
		return false, apierrors.FromObject(e.Object)
	}
	o, ok := e.Object.(*unstructured.Unstructured)
	if !ok {
		return false, fmt.Errorf("the watch sent a %T", e.Object)
	}
	switch e.Type {
	case watch.Bookmark:
		return o.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true", nil
	case watch.Deleted:
		delete(v, o.GetName())
	default:
		v.add(o)
	}
	return false, nil
}
