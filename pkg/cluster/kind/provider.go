package kind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	kindcluster "sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/constants"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// Name is what cluster.Cluster's Provider returns for a cluster of this package.
const Name = "kind"

// Options say how a Provider works.
type Options struct {
	// StateDir is where records, locks and kubeconfigs are kept, for example $XDG_STATE_HOME/drill. It is created when
	// something is to be written.
	StateDir string
	// Progress, when set, receives a line whenever a creation goes on to something else. Calls don't overlap.
	Progress func(line string)
}

// Provider makes, finds and deletes clusters of kind on one container engine. Its methods may be called concurrently.
type Provider struct {
	engine   *engine
	store    store
	progress func(string)
}

// New finds a container engine that kind can use: the one that KIND_EXPERIMENTAL_PROVIDER asks for, else the first that
// answers of docker, nerdctl, finch and podman. Each is given some seconds. The error wraps cluster.ErrNoEngine.
func New(ctx context.Context, o Options) (*Provider, error) {
	if o.StateDir == "" {
		return nil, errors.New("no state directory given for clusters of kind")
	}
	dir, err := filepath.Abs(o.StateDir)
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w", o.StateDir, err)
	}
	e, err := detect(ctx)
	if err != nil {
		return nil, err
	}
	p := &Provider{engine: e, store: store{dir}, progress: o.Progress}
	if p.progress == nil {
		p.progress = func(string) {}
	}
	return p, nil
}

// Engine describes the container engine in use.
func (p *Provider) Engine() Engine { return p.engine.Engine }

// Place says which engine this is, so that it can be told from every other: what isn't found on it may be there on another one. Empty where the engine can't be told from others.
func (p *Provider) Place() string {
	e := p.engine.Engine
	switch {
	case e.ID != "":
		return engineName(e.Name, e.ID)
	case e.Hostname != "" && e.RootDir != "": // Podman has no ID
		return engineName(e.Name, e.Hostname+":"+e.RootDir)
	default:
		return ""
	}
}

// Info describes a cluster of kind.
type Info struct {
	Name string `json:"name"`
	// Nodes counts the Kubernetes nodes: control planes and workers.
	Nodes         int `json:"nodes"`
	ControlPlanes int `json:"controlPlanes"`
	Workers       int `json:"workers"`
	// Created is when the oldest of its containers was made.
	Created time.Time `json:"created"`
	// Ours is set when drill created it, all of it, and may delete it.
	Ours bool `json:"ours"`
	// Unfinished is set when drill began to create it and was killed before it was done.
	Unfinished bool `json:"unfinished,omitempty"`
	// Image is the node image.
	Image string `json:"image"`
	// Kubeconfig is the file that drill keeps for it; empty for a cluster that isn't ours.
	Kubeconfig string `json:"kubeconfig,omitempty"`
}

// List describes every cluster that kind made on this engine, ordered by name.
func (p *Provider) List(ctx context.Context) ([]Info, error) {
	all, err := p.engine.containers(ctx, "")
	if err != nil {
		return nil, err
	}
	groups := map[string][]container{}
	for _, c := range all {
		groups[c.Cluster] = append(groups[c.Cluster], c)
	}
	infos := make([]Info, 0, len(groups))
	for name, group := range groups {
		info := Info{Name: name, Created: group[0].Created}
		for _, c := range group {
			switch c.Role {
			case constants.ControlPlaneNodeRoleValue:
				info.ControlPlanes++
			case constants.WorkerNodeRoleValue:
				info.Workers++
			}
			if c.Created.Before(info.Created) {
				info.Created = c.Created
			}
			if c.isNode() && info.Image == "" {
				info.Image = c.Image
			}
		}
		info.Nodes = info.ControlPlanes + info.Workers
		rec, err := p.store.loadIfAny(name)
		if err != nil {
			return nil, err
		}
		if rec != nil && len(p.foreign(rec, group)) == 0 {
			info.Ours, info.Unfinished = true, !rec.Complete
			if _, err := os.Stat(p.store.kubeconfigPath(name)); err == nil {
				info.Kubeconfig = p.store.kubeconfigPath(name)
			}
		}
		infos = append(infos, info)
	}
	sort.Slice(infos, func(i, j int) bool { return infos[i].Name < infos[j].Name })
	return infos, nil
}

// foreign are those containers that the record doesn't cover.
func (p *Provider) foreign(rec *record, all []container) []container {
	var out []container
	for _, c := range all {
		if !p.sameEngine(rec) || !rec.owns(c) {
			out = append(out, c)
		}
	}
	return out
}

func (p *Provider) sameEngine(rec *record) bool {
	return rec.Engine == p.engine.Name && (rec.EngineID == "" || p.engine.ID == "" || rec.EngineID == p.engine.ID)
}

// elsewhere is the error for a cluster that is not on this engine, going by its record.
func (p *Provider) elsewhere(rec *record) error {
	return fmt.Errorf("cluster %s was created on another container engine (%s, and this is %s); hint: reach that one with %s or "+
		"the engine's own context, and `drill cluster delete %s` there; or, if that engine is gone for good, remove %s",
		rec.Name, engineName(rec.Engine, rec.EngineID), engineName(p.engine.Name, p.engine.ID), ProviderVariable,
		rec.Name, p.store.recordPath(rec.Name))
}

func engineName(name, id string) string { return strings.TrimSpace(name + " " + id) }

// Attach reaches a cluster that kind made, by whomever. Errors wrap cluster.ErrBadName; cluster.ErrNotFound, with the nearest
// names that exist; cluster.ErrNotKubeadm for one whose control planes kubeadm has not set up, each with an etcd as a static pod.
func (p *Provider) Attach(ctx context.Context, name string) (cluster.Cluster, error) {
	if err := validateExisting(name); err != nil {
		return nil, err
	}
	c, err := p.open(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := checkKubeadm(ctx, c); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	return c, nil
}

// open is Attach without a look inside.
func (p *Provider) open(ctx context.Context, name string) (*kindCluster, error) {
	all, err := p.engine.containers(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, p.notFound(ctx, name)
	}
	c := &kindCluster{provider: p, name: name}
	for _, role := range []cluster.Role{cluster.ControlPlane, cluster.Worker} {
		for _, k := range all { // ordered by name
			if k.Role != string(role) {
				continue
			}
			if !k.Running {
				return nil, fmt.Errorf("cluster %s: node %s is not running (%s); hint: `%s start %s`",
					name, k.Name, k.Status, p.engine.Name, strings.Join(names(all), " "))
			}
			c.nodes = append(c.nodes, &node{engine: p.engine, id: k.ID, name: k.Name, role: role, address: k.Address})
		}
	}
	if len(cluster.ControlPlanes(c)) == 0 {
		return nil, fmt.Errorf("cluster %s: %w: it has no control plane, only %s",
			name, cluster.ErrNotKubeadm, strings.Join(names(all), ", "))
	}
	return c, nil
}

// Start starts those containers of the cluster that don't run, as they are left when the container engine ended and did not start them again, and returns their names. It needn't be drill's own.
// The error wraps cluster.ErrNotFound where there is no such cluster.
func (p *Provider) Start(ctx context.Context, name string) ([]string, error) {
	if err := validateExisting(name); err != nil {
		return nil, err
	}
	all, err := p.engine.containers(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, p.notFound(ctx, name)
	}
	stopped := slices.DeleteFunc(all, func(c container) bool { return c.Running })
	if len(stopped) == 0 {
		return nil, nil
	}
	args := []string{"start"}
	for _, c := range stopped {
		args = append(args, c.ID)
	}
	if _, err := p.engine.output(ctx, startTimeout, args...); err != nil {
		return nil, fmt.Errorf("cluster %s: starting %s: %w", name, strings.Join(names(stopped), ", "), err)
	}
	return names(stopped), nil
}

func (p *Provider) notFound(ctx context.Context, name string) error {
	infos, err := p.List(ctx)
	if err != nil {
		return fmt.Errorf("%w: %q", cluster.ErrNotFound, name)
	}
	var existing []string
	for _, i := range infos {
		existing = append(existing, i.Name)
	}
	return notFound(name, existing)
}

// What kubeadm leaves on each control plane of a cluster with stacked etcd. Of etcd it is the manifest alone that tells:
// with an external etcd, kubeadm's own guide puts that one's certificate authority where a stacked one has its own
// (https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/high-availability/#external-etcd-nodes).
const (
	adminConf    = "/etc/kubernetes/admin.conf"
	etcdManifest = "/etc/kubernetes/manifests/etcd.yaml"
)

func checkKubeadm(ctx context.Context, c cluster.Cluster) error {
	nodes := cluster.ControlPlanes(c)
	found := make([][]string, len(nodes))
	group, ctx := errgroup.WithContext(ctx)
	for i, n := range nodes {
		group.Go(func() error {
			res, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"find", adminConf, etcdManifest, cluster.LockFile, "-maxdepth", "0"}})
			var exit *cluster.ExitError
			if err != nil && !errors.As(err, &exit) {
				return err
			}
			found[i] = lines(res.Stdout)
			if !slices.Contains(found[i], adminConf) {
				return fmt.Errorf("%w: node %s has no %s", cluster.ErrNotKubeadm, n.Name(), adminConf)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// Where a run was broken off, manifests may have been moved away, also on control planes that don't have the lock; what it has left has to be got at.
	if slices.ContainsFunc(found, func(files []string) bool { return slices.Contains(files, cluster.LockFile) }) {
		return nil
	}
	for i, n := range nodes {
		if !slices.Contains(found[i], etcdManifest) {
			return fmt.Errorf("%w: node %s has no %s, so etcd is not one of its static pods; hint: a recovery that was broken off may have moved it to "+
				"/etc/kubernetes/manifests-moved-by-RUN, and `drill runs` lists such runs", cluster.ErrNotKubeadm, n.Name(), etcdManifest)
		}
	}
	return nil
}

// kubeconfig asks kind for the administrator's kubeconfig with the address that works from here. kind's function takes no
// context; it runs the engine's command line twice, and is left alone when ctx ends.
func (p *Provider) kubeconfig(ctx context.Context, name string) ([]byte, error) {
	type answer struct {
		config string
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		config, err := p.kind(&logger{progress: func(string) {}}).KubeConfig(name, false)
		answers <- answer{config, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return nil, fmt.Errorf("reading the kubeconfig of cluster %s: %w", name, withOutput(a.err))
		}
		return []byte(a.config), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("reading the kubeconfig of cluster %s: %w", name, ctx.Err())
	}
}

func (p *Provider) kind(l *logger) *kindcluster.Provider {
	return kindcluster.NewProvider(kindcluster.ProviderWithLogger(l), p.engine.provider())
}

// Delete removes a cluster that drill created, what its nodes stored, its record and its kubeconfig. Errors wrap
// cluster.ErrBadName; cluster.ErrNotFound when it doesn't exist or is gone already (then nothing of it is left behind
// either); cluster.ErrNotOurs when somebody else made it or a part of it.
func (p *Provider) Delete(ctx context.Context, name string) error {
	if err := validateExisting(name); err != nil {
		return err
	}
	rec, err := p.store.loadIfAny(name)
	if err != nil {
		return err
	}
	if rec == nil {
		all, err := p.engine.containers(ctx, name)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return p.notFound(ctx, name)
		}
		return notOurs(name, all)
	}
	release, err := p.store.lock(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	// Whoever held the lock a moment ago may have changed what is there.
	if rec, err = p.store.load(name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return p.notFound(ctx, name)
		}
		return err
	}
	if !p.sameEngine(rec) {
		return p.elsewhere(rec)
	}
	all, err := p.engine.containers(ctx, name)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return errors.Join(p.notFound(ctx, name), p.store.forget(name))
	}
	if foreign := p.foreign(rec, all); len(foreign) > 0 {
		return notOurs(name, foreign)
	}
	return p.remove(ctx, rec)
}

func notOurs(name string, foreign []container) error {
	return fmt.Errorf("%w: %s (%s); hint: `kind delete cluster --name %s`, if it is yours",
		cluster.ErrNotOurs, name, strings.Join(names(foreign), ", "), name)
}
