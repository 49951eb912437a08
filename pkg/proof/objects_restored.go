package proof

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

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
	if len(s.Workload.Objects) == 0 {
		return plan.Failed("it is not known what the workload consisted of", "the step that records it was not carried out"), nil
	}
	var wrong, right []string
	for _, want := range s.Workload.Objects {
		got, err := get(ctx, s.Servers[0], want)
		switch {
		case apierrors.IsNotFound(err):
			wrong = append(wrong, fmt.Sprintf("%s: expected UID %s, seen nothing", want, want.UID))
		case err != nil:
			return plan.Finding{}, err
		case got.GetUID() != want.UID:
			wrong = append(wrong, fmt.Sprintf("%s: expected UID %s, seen %s", want, want.UID, got.GetUID()))
		case got.GetDeletionTimestamp() != nil:
			wrong = append(wrong, fmt.Sprintf("%s: expected to stay, seen being deleted since %s", want, got.GetDeletionTimestamp()))
		case !reflect.DeepEqual(got.Object["spec"], want.Spec):
			wrong = append(wrong, fmt.Sprintf("%s: the spec differs from the snapshot's", want))
		default:
			right = append(right, fmt.Sprintf("%s: UID %s", want, want.UID))
		}
	}
	if len(wrong) > 0 {
		return plan.Failed(fmt.Sprintf("%d of %d objects are not back: %s", len(wrong), len(s.Workload.Objects), wrong[0]),
			"either etcd does not run on the restored directory, or the snapshot is from before the objects were made, or a controller acted on what it remembered", wrong...), nil
	}
	return plan.Passed(fmt.Sprintf("%d objects have their UIDs and specs", len(right)), right...), nil
}
