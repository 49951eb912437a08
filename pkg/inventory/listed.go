package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Key names one object.
type Key struct {
	Resource        schema.GroupResource
	Namespace, Name string
}

// String names the object as kubectl does: resource.group namespace/name, without "namespace/" for cluster-wide ones.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Resource.String() + " " + k.Name
	}
	return k.Resource.String() + " " + k.Namespace + "/" + k.Name
}

// Listed holds the UID of every object that an API server lists.
//
// It is what there was before inventories were read from etcd, and goes with Live and Missing once nobody calls them.
type Listed map[Key]types.UID

// Live reads the inventory of a running cluster: every resource that can be listed, by metadata alone, each with a LIST
// without a resource version. Left out are resources that come and go by themselves (see Transient) and mirror pods.
func Live(ctx context.Context, cfg *rest.Config) (Listed, error) {
	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	client, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	resources, err := listable(ctx, disco)
	if err != nil {
		return nil, err
	}
	out := Listed{}
	for _, r := range resources {
		l, err := client.Resource(r).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", r.GroupResource(), err)
		}
		for _, o := range l.Items {
			if _, mirror := o.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
				continue // kubelet makes it anew whenever the static pod's manifest changes; the manifest is not in etcd
			}
			out[Key{r.GroupResource(), o.Namespace, o.Name}] = o.UID
		}
	}
	return out, nil
}

// onlyAggregated returns partly unless every group that can't be discovered is served by an aggregated API server, which may well be
// away: what it serves is not in this etcd (https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/).
func onlyAggregated(ctx context.Context, disco discovery.DiscoveryInterface, partly *discovery.ErrGroupDiscoveryFailed) error {
	raw, err := disco.RESTClient().Get().AbsPath("/apis/apiregistration.k8s.io/v1/apiservices").DoRaw(ctx)
	if err != nil {
		return errors.Join(partly, err)
	}
	var services struct {
		Items []struct {
			Spec struct {
				Group, Version string
				Service        *struct{ Name string }
			}
		}
	}
	if err := json.Unmarshal(raw, &services); err != nil {
		return errors.Join(partly, err)
	}
	aggregated := map[schema.GroupVersion]bool{}
	for _, s := range services.Items {
		aggregated[schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}] = s.Spec.Service != nil
	}
	for gv := range partly.Groups {
		if !aggregated[gv] {
			return partly
		}
	}
	return nil
}

func listable(ctx context.Context, disco discovery.DiscoveryInterface) ([]schema.GroupVersionResource, error) {
	lists, err := disco.ServerPreferredResources()
	var partly *discovery.ErrGroupDiscoveryFailed
	if errors.As(err, &partly) {
		err = onlyAggregated(ctx, disco, partly)
	}
	if err != nil {
		return nil, fmt.Errorf("asking the API server what resources it has: %w", err)
	}
	transient := Transient()
	var out []schema.GroupVersionResource
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range l.APIResources {
			_, skip := transient[schema.GroupResource{Group: gv.Group, Resource: r.Name}]
			if !skip && slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "get") && !strings.Contains(r.Name, "/") {
				out = append(out, gv.WithResource(r.Name))
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the API server names no resource that can be listed")
	}
	return out, nil
}

// Transient returns the resources whose objects come and go without anybody asking, with the reason. Their absence after a
// restore is no loss.
func Transient() map[schema.GroupResource]string {
	return map[schema.GroupResource]string{
		{Resource: "events"}:                                    "the API server lets them expire, after an hour by default",
		{Group: "events.k8s.io", Resource: "events"}:            "the same objects by their newer name",
		{Group: "coordination.k8s.io", Resource: "leases"}:      "their holders renew or remake them",
		{Group: "discovery.k8s.io", Resource: "endpointslices"}: "the controller manager derives them from Services and Pods",
		{Resource: "endpoints"}:                                 "derived likewise",
		{Resource: "componentstatuses"}:                         "made up at each request; nothing is stored",
	}
}

// Missing returns what is in before and not, or not with the same UID, in after; ordered by name.
func Missing(before, after Listed) []Key {
	var out []Key
	for k, uid := range before {
		if after[k] != uid {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b Key) int { return strings.Compare(a.String(), b.String()) })
	return out
}
