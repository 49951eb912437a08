package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Query names an object as people do, or as etcd does.
type Query struct {
	// Kind may be a kind or a resource (Deployment, deployments), in whatever case, with .GROUP behind it where there are several.
	Kind string `json:"kind"`
	// Namespace is empty for an object that belongs to the whole cluster.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Key, if set, is the key of etcd under which the object is, and all else is empty.
	Key string `json:"key"`
}

// ParseQuery reads KIND/NAMESPACE/NAME or KIND/NAME, or a key of etcd, which begins with a slash.
func ParseQuery(s string) (Query, error) {
	if strings.HasPrefix(s, "/") && strings.Count(s, "/") > 1 { // keys of Kubernetes are below /registry/, or another prefix
		return Query{Key: s}, nil
	}
	parts := strings.Split(s, "/")
	if slices.Contains(parts, "") || len(parts) < 2 || len(parts) > 3 {
		return Query{}, fmt.Errorf("object %q: it is KIND/NAMESPACE/NAME, or KIND/NAME for what belongs to the whole cluster, as in deployment/default/nginx or node/worker-1", s)
	}
	q := Query{Kind: parts[0], Name: parts[len(parts)-1]}
	if len(parts) == 3 {
		q.Namespace = parts[1]
	}
	return q, nil
}

func (q Query) String() string {
	if q.Key != "" {
		return q.Key
	}
	if q.Namespace == "" {
		return q.Kind + "/" + q.Name
	}
	return q.Kind + "/" + q.Namespace + "/" + q.Name
}

// IsKind says whether an object is of the kind that the query names.
func (q Query) IsKind(o plan.Object) bool {
	kind, group, grouped := strings.Cut(strings.ToLower(q.Kind), ".")
	gk := groupKind(o)
	if grouped && !strings.EqualFold(gk.Group, group) {
		return false
	}
	if long, short := shortNames()[kind]; short {
		kind = long
	}
	plural, singular := meta.UnsafeGuessKindToResource(gk.WithVersion(""))
	return slices.Contains([]string{strings.ToLower(gk.Kind), plural.Resource, singular.Resource}, kind)
}

// Kinds returns what says of an object whether it is of a kind that one of the queries means. Those of definitions go by all of their names; of encrypted custom resources the kind may be the name of the resource. The error wraps
// ErrNoObject where a query means nothing of which there are objects in any source. Each source is read once.
func Kinds(ctx context.Context, queries []Query, sources ...Source) (func(plan.Object) bool, error) {
	s, seen, defined := newSurveyor(SurveyOptions{}), map[schema.GroupKind]plan.Object{}, make([]map[schema.GroupKind]bool, len(queries))
	for i := range defined {
		defined[i] = map[schema.GroupKind]bool{}
	}
	for _, from := range sources {
		_, err := from(ctx, func(kv etcd.KeyValue) error {
			k := s.sketch(kv)
			if len(seen) < maxKinds {
				seen[groupKind(k.object)] = k.object
			}
			d, is := definitionIn(k)
			for i, q := range queries {
				if is && q.means(d) {
					defined[i][schema.GroupKind{Group: d.Group, Kind: d.Names.Kind}] = true
					defined[i][schema.GroupKind{Group: d.Group, Kind: d.Names.Plural}] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("looking for kinds: %w", err)
		}
	}
	meant := map[schema.GroupKind]bool{}
	for i, q := range queries {
		found := false
		for gk, o := range seen {
			if q.IsKind(o) || defined[i][gk] {
				meant[gk], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("%w: there is nothing of kind %s", ErrNoObject, q.Kind)
		}
	}
	return func(o plan.Object) bool { return meant[groupKind(o)] }, nil
}

// means says whether a definition gives the query's name of a kind to what it defines.
func (q Query) means(d definition) bool {
	kind, group, grouped := strings.Cut(strings.ToLower(q.Kind), ".")
	if grouped && !strings.EqualFold(d.Group, group) {
		return false
	}
	names := append([]string{d.Names.Plural, d.Names.Singular, d.Names.Kind}, d.Names.ShortNames...)
	return slices.ContainsFunc(names, func(name string) bool { return name != "" && strings.EqualFold(name, kind) })
}

// shortNames are those of built-in resources that people know by heart (https://kubernetes.io/docs/reference/kubectl/#resource-types).
func shortNames() map[string]string {
	return map[string]string{
		"cj": "cronjob", "cm": "configmap", "crd": "customresourcedefinition", "deploy": "deployment", "ds": "daemonset", "ep": "endpoints", "ev": "event", "hpa": "horizontalpodautoscaler",
		"ing": "ingress", "netpol": "networkpolicy", "no": "node", "ns": "namespace", "pdb": "poddisruptionbudget", "po": "pod", "pv": "persistentvolume", "pvc": "persistentvolumeclaim",
		"rc": "replicationcontroller", "rs": "replicaset", "sa": "serviceaccount", "sc": "storageclass", "sts": "statefulset", "svc": "service",
	}
}

// FoundObject is an object as it is stored.
type FoundObject struct {
	Key    string
	Object plan.Object
	// CreateRevision and ModRevision are etcd's, of the key; the latter is the object's resourceVersion.
	CreateRevision, ModRevision int64
	// Content is the object in the version in which it is stored; nil for what is encrypted or no object.
	Content map[string]any
	// Encryption is how an encrypted value begins.
	Encryption string
}

// ErrNoObject says that there is no object that the query means.
var ErrNoObject = errors.New("no such object")

// maxHints is how many objects are named that might have been meant.
const maxHints = 5

// Find returns the objects of a source that a query means: mostly one, several where the same name is there in several groups. Where there is none, the error wraps ErrNoObject and names some that might have been meant. The data of
// Secrets, and what is copied of it into annotations, is Hidden unless secrets is set.
func Find(ctx context.Context, from Source, q Query, secrets bool) ([]FoundObject, error) {
	var out []FoundObject
	var sameKind, sameName []string
	hint := func(into *[]string, o plan.Object) {
		at, there := slices.BinarySearch(*into, o.String())
		if there || at >= maxHints {
			return
		}
		*into = slices.Insert(*into, at, o.String())
		*into = (*into)[:min(len(*into), maxHints)]
	}
	s := newSurveyor(SurveyOptions{})
	// defined are the kinds, and the resources, that definitions give to the name that stands in the query.
	defined := map[schema.GroupKind]bool{}
	find := func(kv etcd.KeyValue) error {
		k := s.sketch(kv)
		o := k.object
		if d, is := definitionIn(k); is && q.means(d) {
			defined[schema.GroupKind{Group: d.Group, Kind: d.Names.Kind}] = true
			defined[schema.GroupKind{Group: d.Group, Kind: d.Names.Plural}] = true // of an encrypted one, only that is known
		}
		switch kind, name := q.IsKind(o) || defined[groupKind(o)], o.Name == q.Name; {
		case q.Key != "" && string(kv.Key) == q.Key, q.Key == "" && kind && name && o.Namespace == q.Namespace:
			f := foundIn(&s.decoder, kv)
			if !secrets {
				hideSecret(f)
			}
			out = append(out, f)
		case kind && (name || o.Namespace == q.Namespace):
			hint(&sameKind, o)
		case name:
			hint(&sameName, o)
		}
		return nil
	}
	_, err := from(ctx, find)
	if err == nil && len(out) == 0 && len(defined) > 0 { // the definition may have come behind the object
		sameKind, sameName = nil, nil
		_, err = from(ctx, find)
	}
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", q, err)
	}
	if len(out) == 0 && q.Key != "" {
		return nil, fmt.Errorf("%w: there is no key %s", ErrNoObject, q)
	}
	if len(out) == 0 {
		if hints := append(sameKind, sameName...); len(hints) > 0 {
			return nil, fmt.Errorf("%w: %s; there are %s", ErrNoObject, q, strings.Join(hints, ", "))
		}
		return nil, fmt.Errorf("%w: %s; there is nothing of that kind in the namespace, and nothing else of that name", ErrNoObject, q)
	}
	slices.SortFunc(out, func(a, b FoundObject) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// foundIn takes a value apart.
func foundIn(d *decoder, kv etcd.KeyValue) FoundObject {
	s := d.decode(string(kv.Key), kv.Value)
	return FoundObject{Key: string(kv.Key), Object: s.object, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Content: s.content, Encryption: s.encryption}
}

// hideSecret hides the data of a Secret, and of its annotations what may be a copy of it.
func hideSecret(f FoundObject) {
	if f.Content == nil || f.Object.Kind != "Secret" {
		return
	}
	for _, field := range []string{"data", "stringData"} {
		values, _ := f.Content[field].(map[string]any)
		for name := range values {
			values[name] = Hidden
		}
	}
	annotations, _, _ := unstructured.NestedFieldNoCopy(f.Content, "metadata", "annotations")
	values, _ := annotations.(map[string]any)
	for name := range values {
		values[name] = Hidden
	}
}

const jobFind = "find"

// findRequest is what FindIn asks a child for.
type findRequest struct {
	fileRequest
	Query   Query `json:"query"`
	Secrets bool  `json:"secrets"`
}

// FindIn is Find in a snapshot or, with raw, in a database that has no trailer. A child process reads it, after it has looked whether it is sound; the error wraps a sentinel of package etcd where the file is to blame.
func FindIn(ctx context.Context, w etcd.Worker, path string, raw bool, q Query, secrets bool) ([]FoundObject, error) {
	file, err := newFileRequest(path, raw)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", path, err)
	}
	var answer findAnswer
	if err := w.Do(ctx, jobFind, findRequest{file, q, secrets}, &answer, nil); err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", path, err)
	}
	if answer.Missing != "" {
		return nil, &missing{answer.Missing}
	}
	return answer.Found, nil
}

// findAnswer is what a child answers.
type findAnswer struct {
	Found []FoundObject
	// Missing is what Find said where there is no such object.
	Missing string
}

// missing is ErrNoObject as a child told it.
type missing struct{ text string }

func (m *missing) Error() string { return m.text }
func (m *missing) Unwrap() error { return ErrNoObject }

// findHere does in the child what FindIn asked for.
func findHere(ctx context.Context, request json.RawMessage, _ func([]byte) error) (any, error) {
	var in findRequest
	if err := json.Unmarshal(request, &in); err != nil {
		return nil, err
	}
	debug.SetMemoryLimit(childMemory)
	info, _, err := etcd.Examine(ctx, in.Path, etcd.ExamineOptions{Raw: in.Raw})
	if err == nil {
		err = etcd.CanReadHere(info)
	}
	if err != nil {
		return nil, err
	}
	f, err := etcd.OpenFile(ctx, in.Path, in.Raw)
	if err != nil {
		return nil, err
	}
	objects, err := Find(ctx, FromFile(f), in.Query, in.Secrets)
	err = errors.Join(err, f.Close())
	if errors.Is(err, ErrNoObject) {
		return findAnswer{Missing: err.Error()}, nil
	}
	return findAnswer{Found: objects}, err
}
