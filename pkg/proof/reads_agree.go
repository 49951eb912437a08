package proof

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

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

// view is one way to read: it returns what it sees of the workload's objects of one resource.
type view struct {
	name string
	read func(context.Context, Server, schema.GroupVersionResource, Workload) (sightings, error)
}

// sightings are objects by name.
type sightings map[string]sighting

// sighting is what must be the same in every view. Statuses go on changing while one reads.
type sighting struct {
	uid types.UID
	// spec is decoded JSON.
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
	if len(s.Workload.Objects) == 0 || len(s.Servers) == 0 { // all would agree that there is nothing
		return plan.Failed(fmt.Sprintf("there is nothing to hold against each other: %d objects are known, on %d API servers", len(s.Workload.Objects), len(s.Servers)),
			"the step that records the workload was not carried out"), nil
	}
	// All servers at once: one that hangs takes all the time there is, and the others must not be blamed for that.
	wrongs, rights := make([][]plan.Difference, len(s.Servers)), make([][]string, len(s.Servers))
	var reading sync.WaitGroup
	for i, server := range s.Servers {
		reading.Go(func() { wrongs[i], rights[i] = readAll(ctx, server, s.Workload) })
	}
	reading.Wait()
	wrong, right := slices.Concat(wrongs...), slices.Concat(rights...)
	if len(wrong) > 0 {
		all := len(s.Servers) * len(workloadResources()) * len(views())
		return plan.Differs(fmt.Sprintf("%d of %d reads disagree with the snapshot", all-len(right), all),
			"where GET is right and LIST is wrong, the API server answers from a cache from before the restore, because it was not restarted and etcd's revision "+
				"went back: restart every API server, and restore with --bump-revision and --mark-compacted (kubernetes/kubernetes#118501)",
			wrong, right...), nil
	}
	return plan.Passed(fmt.Sprintf("%d reads on %d API servers say the same", len(right), len(s.Servers)), right...), nil
}

// readAll reads all resources of the workload from one API server in every way.
func readAll(ctx context.Context, server Server, w Workload) (wrong []plan.Difference, right []string) {
	for _, r := range workloadResources() {
		want := expected(w, r)
		for _, v := range views() {
			label := fmt.Sprintf("API server on %s, %s %s", server.Node, v.name, r.Resource)
			got, err := v.read(ctx, server, r, w)
			if err != nil {
				wrong = append(wrong, plan.Difference{Subject: label, Expected: want.String(), Seen: "an error: " + err.Error()})
				continue
			}
			d := want.against(got)
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

func expected(w Workload, r schema.GroupVersionResource) sightings {
	out := sightings{}
	for _, o := range w.Objects {
		if o.Resource == r {
			out[o.Name] = sighting{o.UID, o.Spec}
		}
	}
	return out
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
		default:
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

func viewGet(ctx context.Context, s Server, r schema.GroupVersionResource, w Workload) (sightings, error) {
	out := sightings{}
	for _, o := range w.Objects {
		if o.Resource != r {
			continue
		}
		u, err := get(ctx, s, o)
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

func viewList(resourceVersion string) func(context.Context, Server, schema.GroupVersionResource, Workload) (sightings, error) {
	return func(ctx context.Context, s Server, r schema.GroupVersionResource, w Workload) (sightings, error) {
		items, err := list(ctx, s, r, w.Namespace, metav1.ListOptions{LabelSelector: w.Selector(), ResourceVersion: resourceVersion})
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
func viewWatch(ctx context.Context, s Server, r schema.GroupVersionResource, w Workload) (sightings, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errors.New("the watch did not say within "+callTimeout.String()+" that it had sent everything"))
	defer cancel()
	initial := true
	watcher, err := s.Client.Resource(r).Namespace(w.Namespace).Watch(ctx, metav1.ListOptions{
		LabelSelector:        w.Selector(),
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
