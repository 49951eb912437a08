package proof

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/etcd-drill/drill/pkg/plan"
)

// ObjectsRestored asks for each object of the workload by name: it must be the same object (UID) with the same spec. One that
// something made anew under the old name is not a restored one.
func ObjectsRestored(s *Subject) plan.Check {
	return plan.Check{
		Name:    "objects-restored",
		Summary: "every object of the scenario is back with the same UID and the spec that it had in the snapshot",
		Phase:   plan.Prove,
		Look:    func(ctx context.Context) (plan.Finding, error) { return objectsRestored(ctx, s) },
	}
}

func objectsRestored(ctx context.Context, s *Subject) (plan.Finding, error) {
	if len(s.Workload.Objects) == 0 && len(s.Workload.Beyond) > 0 {
		return plan.Skipped(s.Workload.Absent()), nil
	}
	if len(s.Workload.Objects) == 0 {
		return plan.Failed("it is not known what the workload consisted of", "the step that records it was not carried out").ForGood(), nil
	}
	var wrong []plan.Difference
	var right []string
	for _, want := range s.Workload.Objects {
		got, err := get(ctx, s.Servers[0], want)
		if err != nil && !apierrors.IsNotFound(err) {
			return plan.Finding{}, err
		}
		if apierrors.IsNotFound(err) {
			got = nil
		}
		if d := notAsBefore(want, got); len(d) > 0 {
			wrong = append(wrong, d...)
		} else {
			right = append(right, fmt.Sprintf("%s: UID %s", want, want.UID))
		}
	}
	if len(wrong) > 0 {
		return plan.Differs(fmt.Sprintf("%d of %d objects are not back as they were", len(s.Workload.Objects)-len(right), len(s.Workload.Objects)),
			"either etcd does not run on the restored directory, or the snapshot is from before the objects were made, or a controller acted on what it remembered", wrong, right...), nil
	}
	return plan.Passed(fmt.Sprintf("%d objects have their UIDs and specs", len(right)), right...), nil
}

// notAsBefore says in what an object differs from what it was; got is nil where it isn't there.
func notAsBefore(want Object, got *unstructured.Unstructured) []plan.Difference {
	subject := want.String()
	switch {
	case got == nil:
		return []plan.Difference{{Subject: subject, Expected: "UID " + string(want.UID), Seen: "nothing"}}
	case got.GetUID() != want.UID:
		return []plan.Difference{{Subject: subject, Expected: "UID " + string(want.UID), Seen: "UID " + string(got.GetUID())}}
	case got.GetDeletionTimestamp() != nil:
		return []plan.Difference{{Subject: subject, Expected: "to stay", Seen: "being deleted since " + got.GetDeletionTimestamp().UTC().Format(time.DateTime)}}
	}
	d := fieldDifferences("spec", want.Spec, got.Object["spec"])
	for i := range d {
		d[i].Subject = subject + " " + d[i].Subject
	}
	return d
}

// fieldDifferences names the fields, by their paths, in which two values of decoded JSON differ, each expected beside seen.
func fieldDifferences(path string, want, got any) []plan.Difference {
	if reflect.DeepEqual(want, got) {
		return nil
	}
	var d []plan.Difference
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		keys := maps.Clone(w)
		maps.Copy(keys, g)
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			wantField, wanted := w[k]
			gotField, there := g[k]
			if wanted && there {
				d = append(d, fieldDifferences(path+member(k), wantField, gotField)...)
			} else {
				d = append(d, plan.Difference{Subject: path + member(k), Expected: value(wantField, wanted), Seen: value(gotField, there)})
			}
		}
		return d
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			break
		}
		for i := range w {
			d = append(d, fieldDifferences(fmt.Sprintf("%s[%d]", path, i), w[i], g[i])...)
		}
		return d
	}
	return []plan.Difference{{Subject: path, Expected: value(want, true), Seen: value(got, true)}}
}

// member is a field of an object as jsonpath writes it.
func member(name string) string {
	if strings.ContainsAny(name, "./[]'\" ") {
		return "['" + name + "']"
	}
	return "." + name
}

// longestValue is how much of a value is shown, in bytes: what it differs in is named by its path already.
const longestValue = 120

func value(v any, there bool) string {
	if !there {
		return "no such field"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%v", v)
	}
	if len(b) > longestValue {
		return strings.ToValidUTF8(string(b[:longestValue]), "") + "…"
	}
	return string(b)
}
