package inventory

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Objects calls visit with every object of the source, in the order of the keys. The content is as it is stored, in the version in which it is, and nil for what is encrypted or no
// object of Kubernetes. An error of visit ends the reading and is returned as it is. The source is read once: one that is compacted meanwhile is an error.
func Objects(ctx context.Context, from Source, visit func(plan.Object, *unstructured.Unstructured) error) error {
	var d decoder
	_, err := from(ctx, func(kv etcd.KeyValue) error {
		s := d.decode(string(kv.Key), kv.Value)
		if s.content == nil {
			return visit(s.object, nil)
		}
		return visit(s.object, &unstructured.Unstructured{Object: s.content})
	})
	return err
}
