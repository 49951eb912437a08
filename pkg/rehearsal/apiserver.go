package rehearsal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/apiserver"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// APIServerOptions say that a real kube-apiserver is started on the etcd.
type APIServerOptions struct {
	// Binary is the path of kube-apiserver, and Version what it says that it is; see apiserver.Check.
	Binary, Version string
	// EncryptionConfig is the path of the EncryptionConfiguration that it gets; "" for none.
	EncryptionConfig string
}

// APIServer is what a kube-apiserver said of the backup.
type APIServer struct {
	// Version is its own, Binary which program it is.
	Version string `json:"version"`
	Binary  string `json:"binary"`
	// Resources are those of which there are objects, in the file or made by the API server itself, in the order of groups and names.
	Resources []ListedResource `json:"resources"`
	// Unserved are kinds of which the file has objects, and which this API server doesn't serve; see Elsewhere, too.
	Unserved []UnservedKind `json:"unserved"`
	// Elsewhere are API groups with their versions that are served from inside the cluster: nobody could be asked.
	Elsewhere []string `json:"elsewhere"`
}

// ListedResource is one of which the API server was asked for all objects.
type ListedResource struct {
	Group    string `json:"group"`
	Version  string `json:"version"`
	Resource string `json:"resource"`
	Kind     string `json:"kind"`
	// Objects is how many of them the file has, of which so many are Encrypted; Listed how many of these were listed; and New how many others were.
	Objects   int `json:"objects"`
	Encrypted int `json:"encrypted"`
	Listed    int `json:"listed"`
	New       int `json:"new"`
	// Status is passed; skipped where it can't be asked for a reason that is none of the backup's; or failed.
	Status plan.Status `json:"status"`
	Detail string      `json:"detail"`
	// unread says of objects that are not encrypted why they can't be read, where each was asked for.
	unread []string
}

// UnservedKind is one that an API server doesn't know.
type UnservedKind struct {
	Group   string `json:"group"`
	Kind    string `json:"kind"`
	Objects int    `json:"objects"`
}

// Names of the checks that need an API server.
const (
	// CheckAPIServer: a kube-apiserver starts on the etcd, and says that it is ready.
	CheckAPIServer = "apiserver-serves"
	// CheckListed: every object of the file of a kind that the API server serves is listed by it.
	CheckListed = "objects-listed"
	// CheckDecrypted: what is encrypted is opened by the EncryptionConfiguration that was given.
	CheckDecrypted = "objects-decrypted"
)

// Names of the parts that need an API server.
const (
	PartAPIServer = "start-apiserver"
	PartList      = "list"
)

// identity is what an object is known by to an API server and in a file.
type identity struct{ group, kind, namespace, name string }

// fileObject is an object of the file.
type fileObject struct {
	encrypted, listed bool
	// passing says that it may go by itself: it has a lease of etcd, or API servers keep it for themselves.
	passing bool
}

// catalog are the objects of the file.
type catalog struct {
	objects map[identity]*fileObject
	// going are kinds, and resources, whose definition is being deleted: API servers go on with that.
	going map[identity]bool
	// services is the range of Services' addresses; "" where the file doesn't say.
	services string
}

// Where API servers keep the range of Services' addresses: in one object for all, or in a ServiceCIDR, of which the first is called like this (https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-objects).
const (
	keyRange       = "/registry/ranges/serviceips"
	keyServiceCIDR = "/registry/servicecidrs/kubernetes"
)

// catalogue reads the names of what is in the file.
func (r *rehearsal) catalogue(ctx context.Context) (*catalog, error) {
	c := &catalog{objects: map[identity]*fileObject{}, going: map[identity]bool{}}
	finder := inventory.NewFinder()
	_, err := r.live(ctx, func(kv etcd.KeyValue) error {
		key := string(kv.Key)
		switch key {
		case keyRange:
			c.services = cmp.Or(c.services, strings.Join(texts(finder.Object(kv).Content, "range"), ","))
		case keyServiceCIDR:
			c.services = strings.Join(texts(finder.Object(kv).Content, "spec.cidrs"), ",")
		}
		o, encryption := finder.Name(kv)
		if o.Kind == "Key" || o.Name == key {
			return nil // no object that could be listed
		}
		id := idOf(inventory.Group(o), o.Kind, o.Namespace, o.Name)
		c.objects[id] = &fileObject{encrypted: encryption != "", passing: kv.Lease != 0 || ownBooks(o)}
		if o.Kind == "CustomResourceDefinition" {
			content := finder.Object(kv).Content
			if len(texts(content, "metadata.deletionTimestamp")) > 0 {
				group := strings.Join(texts(content, "spec.group"), "")
				for _, name := range slices.Concat(texts(content, "spec.names.kind"), texts(content, "spec.names.plural")) {
					c.going[idOf(group, name, "", "")] = true
				}
				c.objects[id].passing = true
			}
		}
		return nil
	})
	for id, o := range c.objects {
		o.passing = o.passing || c.going[identity{group: id.group, kind: id.kind}]
	}
	return c, err
}

// texts are the texts at a path, also those of a list there.
func texts(content map[string]any, path string) (out []string) {
	values, _ := inventory.Fields(content, path) // the paths are right
	for _, v := range values {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case []any:
			for _, e := range v {
				if s, is := e.(string); is {
					out = append(out, s)
				}
			}
		}
	}
	return out
}

// idOf joins the names under which the same objects go: Events are in two groups and stored as those of the core.
func idOf(group, kind, namespace, name string) identity {
	if group == "events.k8s.io" {
		group = ""
	}
	return identity{group, kind, namespace, name}
}

// ownBooks says of an object that API servers may remove it by themselves, when they start or at any moment: the Lease by which one of them, which is gone, said that it was there; what one of another version has made for itself; and
// addresses that no Service has.
func ownBooks(o plan.Object) bool {
	switch inventory.Group(o) {
	case "coordination.k8s.io":
		return o.Namespace == metav1.NamespaceSystem && strings.HasPrefix(o.Name, "apiserver-")
	case "flowcontrol.apiserver.k8s.io", "apiregistration.k8s.io":
		return true
	default:
		return o.Kind == "IPAddress"
	}
}

// find returns an object of the file that was listed; nil for one that isn't there. Of an encrypted custom resource, the key tells the resource and not the kind.
func (c *catalog) find(r apiserver.Resource, o metav1.Object) *fileObject {
	if f := c.objects[idOf(r.Group, r.Kind, o.GetNamespace(), o.GetName())]; f != nil {
		return f
	}
	return c.objects[idOf(r.Group, r.Resource, o.GetNamespace(), o.GetName())]
}

// locks is how many objects are encrypted.
func (c *catalog) locks() (n int) {
	for _, o := range c.objects {
		if o.encrypted {
			n++
		}
	}
	return n
}

// count counts the objects of each kind, and of each resource where that is all that is known.
func (c *catalog) count() (objects, encrypted map[identity]int) {
	objects, encrypted = map[identity]int{}, map[identity]int{}
	for id, o := range c.objects {
		kind := identity{group: id.group, kind: id.kind}
		objects[kind]++
		if o.encrypted {
			encrypted[kind]++
		}
	}
	return objects, encrypted
}

// askAPIServer starts kube-apiserver on etcd, and has it list everything.
func (r *rehearsal) askAPIServer(ctx context.Context, dir string, server *etcd.Server) error {
	objects, err := r.catalogue(ctx)
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "apiserver")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var api *apiserver.Server
	err = r.part(PartAPIServer, func() (err error) {
		api, err = apiserver.Start(ctx, r.Worker, apiserver.Options{
			Binary: r.APIServer.Binary, Version: r.APIServer.Version, Dir: dir, Etcd: server.Endpoint.URL, CA: server.CA, Cert: server.ClientCert, Key: server.ClientKey,
			ServiceRange: objects.services, EncryptionConfig: r.APIServer.EncryptionConfig,
		})
		return err
	})
	if err != nil {
		if ctx.Err() != nil || !errors.Is(err, apiserver.ErrNotReady) {
			return err
		}
		if r.APIServer.EncryptionConfig == "" && objects.locks() > 0 {
			// It waits for some of its own reads to succeed, of namespaces for example.
			return fmt.Errorf("%d objects are encrypted, and kube-apiserver can't do without reading them: give --encryption-config; %w", objects.locks(), err)
		}
		r.check(CheckAPIServer, plan.StatusFailed, err.Error())
		return r.blame(ctx, err)
	}
	defer api.Stop()
	r.check(CheckAPIServer, plan.StatusPassed, fmt.Sprintf("kube-apiserver %s starts on it, and is ready", api.Version))
	out := &APIServer{Version: api.Version, Binary: r.APIServer.Binary, Resources: []ListedResource{}, Unserved: []UnservedKind{}, Elsewhere: []string{}}
	r.result.APIServer = out
	return r.part(PartList, func() error {
		found, err := api.Discover(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return err // it may be this machine that is too slow
		}
		if err != nil {
			return r.blame(ctx, err)
		}
		out.Elsewhere = append(out.Elsewhere, found.Elsewhere...)
		return r.list(ctx, api, found.Resources, objects, out)
	})
}

// list has every resource listed, and compares.
func (r *rehearsal) list(ctx context.Context, api *apiserver.Server, resources []apiserver.Resource, objects *catalog, out *APIServer) error {
	inFile, encrypted := objects.count()
	known := map[identity]bool{}
	for _, resource := range resources {
		l := ListedResource{Group: resource.Group, Version: resource.Version, Resource: resource.Resource, Kind: resource.Kind, Status: plan.StatusPassed}
		for _, id := range []identity{idOf(resource.Group, resource.Kind, "", ""), idOf(resource.Group, resource.Resource, "", "")} {
			l.Objects, l.Encrypted, known[id] = l.Objects+inFile[id], l.Encrypted+encrypted[id], true
		}
		if err := r.listOne(ctx, api, resource, objects, &l); err != nil {
			return err
		}
		if l.Objects+l.New > 0 || l.Status != plan.StatusPassed {
			out.Resources = append(out.Resources, l)
		}
	}
	for id, n := range inFile {
		if !known[id] {
			out.Unserved = append(out.Unserved, UnservedKind{Group: id.group, Kind: id.kind, Objects: n})
		}
	}
	slices.SortFunc(out.Unserved, func(a, b UnservedKind) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group)) })
	return r.judge(objects, known, out)
}

// maxNamed is how many objects are named that were not listed.
const maxNamed = 5

// listOne has one resource listed. It is an error where the rehearsal can't go on.
func (r *rehearsal) listOne(ctx context.Context, api *apiserver.Server, resource apiserver.Resource, objects *catalog, l *ListedResource) error {
	if l.Encrypted > 0 && r.APIServer.EncryptionConfig == "" {
		l.Status, l.Detail = plan.StatusSkipped, fmt.Sprintf("%d objects of it are encrypted, and no EncryptionConfiguration is given", l.Encrypted)
		return r.getPlain(ctx, api, resource, objects, l)
	}
	err := api.List(ctx, resource, func(o metav1.Object) error {
		if f := objects.find(resource, o); f != nil {
			f.listed = true
			l.Listed++
		} else {
			l.New++
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, apiserver.ErrNotReady), errors.Is(err, etcd.ErrWorker):
		return r.blame(ctx, err)
	case err == nil:
	case strings.Contains(err.Error(), "conversion webhook for"):
		// It was to be asked where there is nobody, which says nothing about the backup.
		l.Status, l.Detail = plan.StatusSkipped, "a webhook converts objects of it, and none can be asked here"
	default:
		l.Status, l.Detail = plan.StatusFailed, err.Error()
		if l.Encrypted > 0 {
			return r.getPlain(ctx, api, resource, objects, l)
		}
	}
	return nil
}

// getPlain asks for each object of a resource that isn't encrypted: one that can't be opened keeps all the others from being listed.
func (r *rehearsal) getPlain(ctx context.Context, api *apiserver.Server, resource apiserver.Resource, objects *catalog, l *ListedResource) error {
	for id, o := range objects.objects {
		if o.encrypted || id.kind != resource.Kind || id.group != idOf(resource.Group, "", "", "").group {
			continue
		}
		err := api.Get(ctx, resource, id.namespace, id.name)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, apiserver.ErrNotReady), errors.Is(err, etcd.ErrWorker):
			return r.blame(ctx, err)
		case err != nil:
			l.unread = append(l.unread, err.Error())
		default:
			o.listed = true
			l.Listed++
		}
	}
	return nil
}

// judge says what the lists show.
func (r *rehearsal) judge(objects *catalog, served map[identity]bool, out *APIServer) error {
	lacking := map[identity][]string{}
	for id, o := range objects.objects {
		if kind := (identity{group: id.group, kind: id.kind}); served[kind] && !o.listed && !o.passing {
			lacking[kind] = append(lacking[kind], strings.TrimPrefix(id.namespace+"/"+id.name, "/"))
		}
	}
	var listed, encrypted, resources, unread int
	for _, o := range objects.objects { // of two resources that show the same objects, each has listed all of them
		if o.listed {
			listed++
		}
	}
	locks := objects.locks()
	var wrong, locked []string
	for i := range out.Resources {
		l := &out.Resources[i]
		if l.Status == plan.StatusPassed {
			names := slices.Concat(lacking[idOf(l.Group, l.Kind, "", "")], lacking[idOf(l.Group, l.Resource, "", "")])
			if slices.Sort(names); len(names) > 0 {
				l.Status, l.Detail = plan.StatusFailed, fmt.Sprintf("%d of %d objects of the file are not listed, among them %s", len(names), l.Objects, strings.Join(names[:min(len(names), maxNamed)], ", "))
				wrong = append(wrong, l.name()+": "+l.Detail)
				continue
			}
			resources, encrypted = resources+1, encrypted+l.Encrypted
			continue
		}
		if len(l.unread) > 0 {
			slices.Sort(l.unread)
			wrong = append(wrong, l.unread[0])
		}
		unread += l.Objects - l.Listed
		switch {
		case l.Status == plan.StatusFailed && l.Encrypted > 0:
			locked = append(locked, l.name()+": "+l.Detail)
		case l.Status == plan.StatusFailed:
			wrong = append(wrong, l.name()+": "+l.Detail)
		}
	}
	detail := fmt.Sprintf("%d objects of the file are listed, of %d resources", listed, resources)
	if unread > 0 {
		detail += fmt.Sprintf("; %d others are encrypted, or of resources that a webhook converts", unread)
	}
	for _, u := range out.Unserved {
		detail += fmt.Sprintf("; %d of kind %s, which it doesn't serve", u.Objects, strings.TrimSuffix(u.Kind+"."+u.Group, "."))
	}
	r.outcome(CheckListed, wrong, detail)

	switch {
	case locks == 0:
		r.check(CheckDecrypted, plan.StatusSkipped, "nothing in the file is encrypted")
	case r.APIServer.EncryptionConfig == "":
		r.check(CheckDecrypted, plan.StatusSkipped, fmt.Sprintf("%d objects are encrypted, and no EncryptionConfiguration is given to open them with", locks))
	default:
		r.outcome(CheckDecrypted, locked, fmt.Sprintf("%d of %d encrypted objects are opened with the EncryptionConfiguration that was given", encrypted, locks))
	}
	if all := append(wrong, locked...); len(all) > 0 {
		return &unfit{errors.New(all[0])}
	}
	return nil
}

// outcome notes a check that fails if something is wrong.
func (r *rehearsal) outcome(check string, wrong []string, detail string) {
	if len(wrong) > 0 {
		r.check(check, plan.StatusFailed, strings.Join(wrong, "; "))
		return
	}
	r.check(check, plan.StatusPassed, detail)
}

func (l ListedResource) name() string { return strings.TrimSuffix(l.Resource+"."+l.Group, ".") }
