package proof

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/pager"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Subject is what the checks look at. Steps fill in what becomes known while a run goes on, so a check reads it only when it is
// evaluated.
type Subject struct {
	Cluster cluster.Cluster
	Members []controlplane.Member
	// Servers are all API servers, each on its own address: a load balancer would hide the one that lies.
	Servers []Server
	// Worker verifies the snapshot.
	Worker etcd.Worker
	// Endpoints reach the etcd of each member, in the order of Members.
	Endpoints []etcd.Endpoint
	// DataDir is the host path on which etcd must run after the recovery.
	DataDir string
	// Swap is what tells that directory from the one that had its path before; nil where the two have different paths.
	Swap *Swap
	// TakenAway is, by the node's name, where the procedure leaves the etcd manifest of before, once it is out of kubelet's sight and nothing runs any more: a rename sets the status change time of
	// what is renamed. Empty where the new manifest takes the place of the old one by one rename.
	TakenAway map[string]string
	// RunDir is the run's own folder on this machine, NodeDir the one on each node.
	RunDir, NodeDir string
	// Transcript returns what the run has reported so far, as it will be written.
	Transcript func() ([]byte, error)
	// Leaks knows what Secrets held before the break, so that it is found afterwards though no API server tells it any more; nil until that was noted.
	Leaks *Leaks
	// Revisions follows etcd's revision from before the break on.
	Revisions *Revisions
	// Resumed says that another process began the run: what lived in that one ended with it.
	Resumed bool
	// Watchers are informers that were opened before the break; nil until then.
	Watchers *Watchers
	// Before is what there was before the outage.
	Before Before
	// Old is what a rollback has put back; nil until it has.
	Old *Old
	// Own are objects that drill itself goes on writing, which prove and lose nothing.
	Own []plan.Object
	// Workload is what the scenario deployed.
	Workload Workload
	// NodeSnapshot is where the snapshot lies for a person who types on the first control plane.
	NodeSnapshot string
	// Snapshot describes the snapshot that is restored; nil until it was taken, or taken over.
	Snapshot *plan.SnapshotInfo
	// Given describes the snapshot that somebody else made and gave to be restored, as it was found before anything was touched; nil where the run takes its own.
	Given *plan.SnapshotInfo
	// OtherCluster says that the snapshot may be of another cluster: somebody has asked for it.
	OtherCluster bool
	// Anchors are objects that are in a snapshot which was given and that every cluster has, for what has to be asked for something though the workload is not in it. Their specs are not known.
	Anchors []Object
	// Ledger keeps what LedgerExact has read for Loss; LedgerExact sets it.
	Ledger *LedgerCache
}

// Swap tells directories apart that have had the same path, where they were renamed and the manifest was not changed.
type Swap struct {
	// Aside is where on each node a directory was moved to when the one on which etcd must run got its path: a rename sets the status change time of what is renamed.
	Aside string
	// Inodes are those of the directories on which etcd must run, by the node's name, noted when they were made.
	Inodes map[string]uint64
	// Manifest is where etcd's manifest as it was is kept on each node.
	Manifest string
}

// Before is what was noted before the break and once more just before the control plane was taken down.
type Before struct {
	// AtBreak and AtOutage are what etcd held at these two moments.
	AtBreak, AtOutage inventory.Inventory
	// Revision is etcd's, just before the control plane was taken down; 0 if that moment never came.
	Revision int64
	// Clocks are what each node's own clock said just before the control plane was taken down, by the node's name.
	Clocks map[string]time.Time
}

// Workload is what the scenario deployed and what it looked like when the snapshot was taken.
type Workload struct {
	// Namespace, Name and Image are of the Deployment. Its Service has the same name, and both select the label app=Name.
	Namespace, Name, Image string
	// Port is the TCP port that its containers and its Service serve HTTP on.
	Port int
	// Objects are all objects of the workload, as they were just before the snapshot: what the restore must bring back. Of a snapshot that was given, they are those of them that it holds.
	Objects []Object
	// Beyond are objects of the workload that a snapshot which was given doesn't hold: what the restore must take away.
	Beyond []Object
	// Namesakes are other objects with the workload's label in such a snapshot: what the restore brings back besides. Their specs are not known.
	Namesakes []Object
}

// Absent says why nothing of the workload can be expected after the restore; empty where all of it can.
func (w Workload) Absent() string {
	if len(w.Beyond) == 0 {
		return ""
	}
	return fmt.Sprintf("%d of the %d objects that the run deployed are not in the snapshot that was given, so that no restore of it brings them back",
		len(w.Beyond), len(w.Objects)+len(w.Beyond))
}

// Selector selects the workload's objects.
func (w Workload) Selector() string { return "app=" + w.Name }

// Object is one Kubernetes object at one moment.
type Object struct {
	Resource        schema.GroupVersionResource
	Namespace, Name string
	UID             types.UID
	// Spec is the object's spec as decoded JSON.
	Spec any
}

// UnmarshalJSON reads numbers as client-go does, so that specs which are equal stay so when they have been written down.
func (o *Object) UnmarshalJSON(b []byte) error {
	type plain Object // without this method
	var p plain
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	var spec struct{ Spec json.RawMessage }
	if err := json.Unmarshal(b, &spec); err != nil {
		return err
	}
	if err := utiljson.Unmarshal(spec.Spec, &p.Spec); err != nil {
		return err
	}
	*o = Object(p)
	return nil
}

// String names the object as kubectl does: resource namespace/name.
func (o Object) String() string {
	return fmt.Sprintf("%s %s/%s", o.Resource.Resource, o.Namespace, o.Name)
}

// Server is one API server on its own address.
type Server struct {
	// Node is the name of the node it runs on.
	Node string
	// Config reaches it.
	Config *rest.Config
	// Client speaks to it.
	Client dynamic.Interface
}

// wholeTimeout bounds a look at all objects of a kind on a large cluster.
const wholeTimeout = 2 * time.Minute

// callTimeout bounds one request to an API server; a watch is bounded by its context.
const callTimeout = 5 * time.Second

// Servers returns every API server of c. The kubeconfig's credentials are used with each control plane's own address, which
// kubeadm puts into the serving certificate as the advertise address.
func Servers(ctx context.Context, c cluster.Cluster) ([]Server, error) {
	raw, err := c.Kubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	base, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of cluster %s: %w", c.Name(), err)
	}
	var out []Server
	for _, n := range cluster.ControlPlanes(c) {
		cfg := rest.CopyConfig(base)
		cfg.Host = "https://" + net.JoinHostPort(n.Address(), apiServerPort)
		cfg.QPS, cfg.Burst = -1, -1 // the checks are few and must not queue behind each other
		client, err := dynamic.NewForConfig(cfg)
		if err != nil {
			return nil, fmt.Errorf("client for the API server on node %s: %w", n.Name(), err)
		}
		out = append(out, Server{Node: n.Name(), Config: cfg, Client: client})
	}
	return out, nil
}

// apiServerPort is where kubeadm lets every API server listen unless told otherwise (localAPIEndpoint.bindPort), and where kind does.
const apiServerPort = "6443"

// Resources of a workload.
var (
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	replicaSets = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
	pods        = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	services    = schema.GroupVersionResource{Version: "v1", Resource: "services"}
)

func workloadResources() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{deployments, replicaSets, pods, services}
}

// Objects reads every object of the workload as it is now.
func Objects(ctx context.Context, s Server, w Workload) ([]Object, error) {
	var out []Object
	for _, r := range workloadResources() {
		list, err := list(ctx, s, r, w.Namespace, metav1.ListOptions{LabelSelector: w.Selector()})
		if err != nil {
			return nil, err
		}
		for _, u := range list {
			out = append(out, objectOf(r, u))
		}
	}
	return out, nil
}

func objectOf(r schema.GroupVersionResource, u unstructured.Unstructured) Object {
	return Object{Resource: r, Namespace: u.GetNamespace(), Name: u.GetName(), UID: u.GetUID(), Spec: u.Object["spec"]}
}

func list(ctx context.Context, s Server, r schema.GroupVersionResource, namespace string, o metav1.ListOptions) ([]unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	l, err := s.Client.Resource(r).Namespace(namespace).List(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("API server on %s: LIST %s: %w", s.Node, r.Resource, err)
	}
	return l.Items, nil
}

// How many objects are asked for at once: a page is answered within callTimeout, also where each object may be 1 MiB large.
const (
	objectsPage = 500
	largePage   = 100
)

// listAll asks for every object of a kind in all namespaces.
func listAll(ctx context.Context, s Server, r schema.GroupVersionResource) (items []unstructured.Unstructured, err error) {
	err = each(ctx, s, r, objectsPage, func(u unstructured.Unstructured) error {
		items = append(items, u)
		return nil
	})
	return items, err
}

// each visits every object of a kind in all namespaces, as eachOf does.
func each(ctx context.Context, s Server, r schema.GroupVersionResource, page int64, visit func(unstructured.Unstructured) error) error {
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return s.Client.Resource(r).List(ctx, o)
	}
	return eachOf(ctx, s, r, page, list, func(u *unstructured.Unstructured) error { return visit(*u) })
}

// eachOf visits every object of a kind that list returns. They are asked for page by page, each within callTimeout; all pages are of the same moment. An API server may answer a page
// from etcd where it answers the whole from its cache; whether the two say the same is for reads-agree.
func eachOf[T runtime.Object](ctx context.Context, s Server, r schema.GroupVersionResource, page int64, list pager.ListPageFunc, visit func(T) error) error {
	pages := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		return list(ctx, o)
	})
	pages.PageSize = page
	err := pages.EachListItem(ctx, metav1.ListOptions{}, func(o runtime.Object) error {
		item, ok := o.(T)
		if !ok {
			return fmt.Errorf("an item is %T", o)
		}
		return visit(item)
	})
	if err != nil {
		return fmt.Errorf("API server on %s: LIST %s: %w", s.Node, r.Resource, err)
	}
	return nil
}

func get(ctx context.Context, s Server, o Object) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	u, err := s.Client.Resource(o.Resource).Namespace(o.Namespace).Get(ctx, o.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("API server on %s: GET %s: %w", s.Node, o, err)
	}
	return u, nil
}

// Checks returns every check, in the order in which they are evaluated: what is cheap and tells most first, what makes new
// objects last.
func Checks(s *Subject) []plan.Check {
	all := []plan.Check{
		SnapshotIntact(s),
		ObjectsRestored(s),
		ReadsAgree(s),
		StatusBacked(s),
		ControlPlaneRenewed(s),
		RevisionForward(s),
		LedgerExact(s),
		MembersAgree(s),
		NoDrift(s),
		NoPhantoms(s),
		ServiceAnswers(s),
		NodeHeartbeat(s),
		NewWorkRuns(s),
		WatchesHonest(s),
		SecretsSafe(s),
	}
	byHand := commands(s)
	for i, c := range all {
		all[i].Commands = byHand[c.Name]
	}
	return all
}
