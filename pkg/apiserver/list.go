package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// Resource is one of which a server can list the objects.
type Resource struct {
	// GroupVersionResource has the version that the server prefers.
	schema.GroupVersionResource
	Kind string
}

// Discovery is what a server says that it serves.
type Discovery struct {
	// Resources are in the order of their groups and names.
	Resources []Resource
	// Elsewhere are API groups with their versions that others serve, from inside the cluster. They can't be asked.
	Elsewhere []string
}

const (
	// discoverLimit is how long it may take until the server serves what definitions define, which it begins to do one after the other, and discoverPause how often it is asked.
	discoverLimit = time.Minute
	discoverPause = 200 * time.Millisecond
	// pageSize is how many objects are asked for at once, as kubectl does.
	pageSize = 500
)

// Discover returns what can be listed, once every custom resource is among it whose definition the server has accepted.
func (s *Server) Discover(ctx context.Context) (Discovery, error) {
	ctx, cancel := context.WithTimeout(ctx, discoverLimit)
	defer cancel()
	client, err := discovery.NewDiscoveryClientForConfig(s.Config)
	if err != nil {
		return Discovery{}, err
	}
	pause := time.NewTicker(discoverPause)
	defer pause.Stop()
	for {
		found, missing, err := s.discover(ctx, client)
		if err == nil && len(missing) == 0 {
			return found, nil
		}
		if err == nil {
			err = fmt.Errorf("definitions are accepted, and what they define isn't served: %s", strings.Join(missing, ", "))
		}
		select {
		case <-ctx.Done():
			return Discovery{}, fmt.Errorf("discover what kube-apiserver serves: %w", errors.Join(ctx.Err(), err))
		case <-s.ended:
			return Discovery{}, s.gone()
		case <-pause.C:
		}
	}
}

// discover asks once. missing are resources, and groups, that should be served and aren't yet.
func (s *Server) discover(ctx context.Context, client *discovery.DiscoveryClient) (found Discovery, missing []string, err error) {
	var services struct {
		Items []struct {
			Spec struct {
				Group   string           `json:"group"`
				Version string           `json:"version"`
				Service *json.RawMessage `json:"service"`
			} `json:"spec"`
		} `json:"items"`
	}
	if err := get(ctx, client.RESTClient(), "/apis/apiregistration.k8s.io/v1/apiservices", &services); err != nil {
		return found, nil, err
	}
	elsewhere := map[string]bool{}
	for _, i := range services.Items {
		if i.Spec.Service != nil {
			elsewhere[schema.GroupVersion{Group: i.Spec.Group, Version: i.Spec.Version}.String()] = true
		}
	}
	found.Elsewhere = slices.Sorted(maps.Keys(elsewhere))

	lists, err := client.ServerPreferredResourcesWithContext(ctx)
	var failed *discovery.ErrGroupDiscoveryFailed
	switch {
	case errors.As(err, &failed):
		for gv, why := range failed.Groups {
			if !elsewhere[gv.String()] {
				missing = append(missing, fmt.Sprintf("%s (%v)", gv, why))
			}
		}
	case err != nil:
		return found, nil, err
	}
	served := map[schema.GroupResource]bool{}
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			return found, nil, err
		}
		for _, r := range l.APIResources {
			served[gv.WithResource(r.Name).GroupResource()] = true
			// The state of components is asked of them, and stored nowhere.
			if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") || elsewhere[l.GroupVersion] || gv.Group == "" && r.Name == "componentstatuses" {
				continue
			}
			found.Resources = append(found.Resources, Resource{GroupVersionResource: gv.WithResource(r.Name), Kind: r.Kind})
		}
	}
	slices.SortFunc(found.Resources, func(a, b Resource) int { return strings.Compare(a.Group+"/"+a.Resource, b.Group+"/"+b.Resource) })

	defined, err := s.defined(ctx, client)
	for _, d := range defined {
		if !served[d] {
			missing = append(missing, d.String())
		}
	}
	return found, missing, err
}

// defined are the resources of definitions that the server has accepted.
func (s *Server) defined(ctx context.Context, client *discovery.DiscoveryClient) (out []schema.GroupResource, err error) {
	var definitions struct {
		Items []struct {
			Spec struct {
				Group string `json:"group"`
				Names struct {
					Plural string `json:"plural"`
				} `json:"names"`
				Versions []struct {
					Served bool `json:"served"`
				} `json:"versions"`
			} `json:"spec"`
			Status struct {
				Conditions []metav1.Condition `json:"conditions"`
			} `json:"status"`
		} `json:"items"`
	}
	if err := get(ctx, client.RESTClient(), "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definitions); err != nil {
		return nil, err
	}
	for _, d := range definitions.Items {
		established := slices.ContainsFunc(d.Status.Conditions, func(c metav1.Condition) bool { return c.Type == "Established" && c.Status == metav1.ConditionTrue })
		served := false
		for _, v := range d.Spec.Versions {
			served = served || v.Served
		}
		if established && served {
			out = append(out, schema.GroupResource{Group: d.Spec.Group, Resource: d.Spec.Names.Plural})
		}
	}
	return out, nil
}

func get(ctx context.Context, client rest.Interface, path string, into any) error {
	body, err := client.Get().AbsPath(path).Do(ctx).Raw()
	if err != nil {
		return fmt.Errorf("ask kube-apiserver for %s: %w", path, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer of kube-apiserver to %s: %w", path, err)
	}
	return nil
}

// List calls each with every object of a resource, from this goroutine. The server reads and converts the whole of each object, and of that sends the metadata. An error of each ends it and is returned. It wraps ErrNotReady, or
// etcd.ErrWorker, where the server has ended.
func (s *Server) List(ctx context.Context, r Resource, each func(metav1.Object) error) error {
	client, err := metadata.NewForConfig(s.Config)
	if err != nil {
		return err
	}
	o := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := client.Resource(r.GroupVersionResource).List(ctx, o)
		if err != nil {
			select {
			case <-s.ended:
				return s.gone()
			default:
				return fmt.Errorf("list %s: %w", r.GroupResource(), whole(err))
			}
		}
		for i := range page.Items {
			if err := each(&page.Items[i]); err != nil {
				return err
			}
		}
		if o.Continue = page.Continue; o.Continue == "" {
			return nil
		}
	}
}

// Get asks for one object, of which the server sends the metadata.
func (s *Server) Get(ctx context.Context, r Resource, namespace, name string) error {
	client, err := metadata.NewForConfig(s.Config)
	if err != nil {
		return err
	}
	if _, err := client.Resource(r.GroupVersionResource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil {
		select {
		case <-s.ended:
			return s.gone()
		default:
			return fmt.Errorf("get %s %s: %w", r.GroupResource(), strings.TrimPrefix(namespace+"/"+name, "/"), whole(err))
		}
	}
	return nil
}

// gone says why the server has ended, which it has.
func (s *Server) gone() error {
	if errors.Is(s.err, etcd.ErrWorker) {
		return fmt.Errorf("kube-apiserver ended while it was asked: %w", s.err)
	}
	return fmt.Errorf("%w: it ended while it was asked: %w", ErrNotReady, s.err)
}

// whole is an answer's message without what client-go puts around it, where the server has said something.
func whole(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Message != "" {
		return errors.New(strings.TrimPrefix(status.Status().Message, "Internal error occurred: "))
	}
	return err
}
