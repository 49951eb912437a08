package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/probe"
	"github.com/etcd-drill/drill/pkg/proof"
)

// Names of the probe's questions.
const (
	probeEtcd    = "etcd"
	probeServer  = "apiserver"
	probeGet     = "get"
	probeList    = "list"
	probeWrite   = "write"
	probeService = "service"
)

// The probe's rhythm.
const (
	probeInterval = 100 * time.Millisecond
	probePatience = time.Second
)

// probeConfigMapName is what the probe writes to.
const probeConfigMapName = "drill-probe"

// WatchOutage starts the probe. It runs until the plan is closed.
func (s *Stage) WatchOutage() plan.Step {
	return plan.Step{
		Name:  "start-probe",
		Phase: plan.Arrange,
		Title: "Start to measure from outside: etcd, reads, writes, the Service",
		Why: "How long something was away can only be said by somebody who kept asking. Each question goes over a connection of its own, every " +
			probeInterval.String() + ".",
		Do:   s.startProbe,
		Live: true,
	}
}

func (s *Stage) startProbe(ctx context.Context) error {
	if s.Subject.Revisions == nil {
		s.Subject.Revisions = &proof.Revisions{}
	}
	targets, err := s.probeTargets(ctx)
	if err != nil {
		return err
	}
	// The probe outlives this step; the plan's Close stops it.
	began := time.Now()
	s.probe = probe.Start(context.WithoutCancel(ctx), probeInterval, probePatience, targets...)
	for _, t := range targets {
		if s.recalled && !slices.Contains([]string{probeEtcd, probeServer, probeWrite}, t.Name) {
			continue // the workload may be what was broken meanwhile
		}
		if err := s.probe.Wait(ctx, t.Name, began); err != nil {
			return fmt.Errorf("before anything was broken: %w", err)
		}
	}
	return nil
}

// probeTargets are the questions. Each has a connection of its own, so that none waits for another.
func (s *Stage) probeTargets(ctx context.Context) ([]probe.Target, error) {
	raw, err := s.Subject.Cluster.Kubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	usual, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		return nil, err
	}
	look, err := s.sought()
	if err != nil {
		return nil, err
	}
	etcd := keepAsking(strings.TrimSuffix(s.endpoint.URL, "/"), s.endpoint.TLS)
	targets := []probe.Target{etcd.target(probeEtcd, func(ctx context.Context) (int64, error) { return etcd.healthy(ctx, s.Subject.Revisions) })}
	for _, q := range []struct {
		name     string
		server   *rest.Config
		question func(context.Context, asker) (int64, error)
	}{
		{probeServer, s.Subject.Servers[0].Config, func(ctx context.Context, a asker) (int64, error) { return 0, a.ready(ctx) }},
		{probeGet, usual, func(ctx context.Context, a asker) (int64, error) { return 0, a.gets(ctx, look) }},
		{probeList, usual, func(ctx context.Context, a asker) (int64, error) { return 0, a.lists(ctx, look) }},
		{probeWrite, usual, func(ctx context.Context, a asker) (int64, error) { return a.writes(ctx) }},
	} {
		a, err := askServer(q.server)
		if err != nil {
			return nil, err
		}
		targets = append(targets, a.target(q.name, func(ctx context.Context) (int64, error) { return q.question(ctx, a) }))
	}
	if s.Subject.Workload.Absent() != "" {
		return targets, nil // after the restore nobody is there who could answer
	}
	return append(targets, probe.Target{Name: probeService, Try: func(ctx context.Context) (int64, error) { return 0, s.service.ask(ctx) }}), nil
}

func deploymentUID(w proof.Workload) types.UID {
	for _, o := range w.Objects {
		if o.Resource.Resource == "deployments" && o.Name == w.Name {
			return o.UID
		}
	}
	return ""
}

func (s *Stage) serviceAddress(ctx context.Context) (serviceAddress, error) {
	client, err := s.client()
	if err != nil {
		return serviceAddress{}, err
	}
	w := s.Subject.Workload
	svc, err := client.CoreV1().Services(w.Namespace).Get(ctx, w.Name, metav1.GetOptions{})
	if err != nil {
		return serviceAddress{}, err
	}
	if len(svc.Spec.Ports) == 0 || svc.Spec.Ports[0].NodePort == 0 {
		return serviceAddress{}, fmt.Errorf("service %s/%s has no node port, so it can't be asked from outside of the cluster", w.Namespace, w.Name)
	}
	return serviceAddress{Host: s.Subject.Cluster.Nodes()[0].Address(), Port: svc.Spec.Ports[0].NodePort}, nil
}

// Measure computes the numbers of the run.
func (s *Stage) Measure(ctx context.Context, marks plan.Marks) (plan.Measurement, error) {
	m := plan.Measurement{Snapshot: s.Subject.Snapshot}
	var problems []error
	if !marks.OutageBegan.IsZero() && s.ended != nil {
		var err error
		m.EndedByThemselves, err = s.ended(ctx)
		problems = append(problems, err)
	}
	if s.probe == nil && !s.recalled {
		return m, errors.Join(problems...)
	}
	switch {
	case marks.OutageBegan.IsZero():
	case s.probe == nil:
		problems = append(problems, errors.New("the probe ended with the drill that began the outage, so how long that was is not known"))
	default:
		s.hearOut(ctx)
		var err error
		m.Outage, err = s.outage(ctx, marks.OutageBegan)
		problems = append(problems, err)
	}
	if s.probe != nil {
		record := s.probe.Record(marks)
		m.Probe = &record
	}
	if !marks.OutageBegan.IsZero() && s.Subject.Snapshot != nil {
		var err error
		m.Loss, err = s.loss(ctx, marks)
		problems = append(problems, err)
	}
	return m, errors.Join(problems...)
}

// lastWord is how long, all together, services are waited for that don't answer when a run ends. It is some times the patience of a question.
const lastWord = 10 * time.Second

// hearOut lets services that have just not answered do so: a run ends at some moment, and on a busy machine an answer that is late at that moment is no outage that goes on.
func (s *Stage) hearOut(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWord)
	defer cancel()
	for _, name := range []string{probeEtcd, probeGet, probeList, probeWrite, probeService} {
		if asked := s.probe.Series(name); len(asked) > 0 && asked[len(asked)-1].Err != nil {
			_ = s.probe.Wait(ctx, name, time.Now()) // who doesn't answer is away, which is what is told then
		}
	}
}

func (s *Stage) outage(ctx context.Context, began time.Time) (plan.Outage, error) {
	o := plan.Outage{Interruptions: []plan.Interruption{}}
	back := func(name string) *float64 {
		d, gaps := s.probe.Series(name).Back(began)
		for _, g := range gaps {
			o.Interruptions = append(o.Interruptions, interruption(name, g, began))
		}
		if d == nil {
			return nil
		}
		return seconds(*d)
	}
	o.EtcdSeconds, o.ReadSeconds, o.WriteSeconds, o.ServiceSeconds = back(probeEtcd), later(back(probeGet), back(probeList)), back(probeWrite), back(probeService)
	running, err := s.workRunning(ctx)
	if err != nil {
		return o, fmt.Errorf("when the workload's containers started: %w", err)
	}
	if s.Subject.Workload.Absent() == "" {
		o.WorkSeconds = s.workBack(running, began)
	} else {
		o.NotAsked = []string{"work", probeService}
	}
	o.FloorSeconds, err = s.floor(ctx, began)
	if err != nil {
		return o, fmt.Errorf("how quickly etcd and the API server can start: %w", err)
	}
	return o, nil
}

func interruption(kind string, g probe.Gap, began time.Time) plan.Interruption {
	i := plan.Interruption{Kind: kind, AfterSeconds: *seconds(max(0, g.Began.Sub(began)))}
	if !g.Ended.IsZero() {
		i.Seconds = seconds(g.Ended.Sub(g.Began))
	}
	return i
}

// later is the larger of two times, and nil when either never came. Reading needs both GET and LIST: after a restore without a raised
// revision GET shows what etcd has, while LIST says for as long as the watch cache lives that there is nothing (kubernetes/kubernetes#118501).
func later(a, b *float64) *float64 {
	if a == nil || b == nil {
		return nil
	}
	if *a > *b {
		return a
	}
	return b
}

// workBack is when the last container of the workload started; nil unless every pod has one. The node's clock is taken to be this
// machine's, as it is with kind.
func (s *Stage) workBack(running map[string]controlplane.Container, began time.Time) *float64 {
	var last time.Time
	for _, o := range s.Subject.Workload.Objects {
		if o.Resource.Resource != "pods" {
			continue
		}
		c, ok := running[string(o.UID)]
		if !ok {
			return nil
		}
		if c.StartedAt.After(last) {
			last = c.StartedAt
		}
	}
	return seconds(max(0, last.Sub(began)))
}

// floor is the larger of etcd's and the API server's own start on the first control plane, each from its container's start until it says that it is ready. Where the API server's container is there before
// etcd answers, what it waits for etcd is a part of its start. The node's clock is taken to be this machine's.
func (s *Stage) floor(ctx context.Context, began time.Time) (*float64, error) {
	found, err := controlplane.Containers(ctx, s.Target.Members[0].Node, false)
	if err != nil {
		return nil, err
	}
	started := map[string]time.Time{}
	for _, c := range found {
		if c.PodNamespace == metav1.NamespaceSystem && c.StartedAt.After(began) {
			started[c.Name] = c.StartedAt
		}
	}
	return floorOf(started, s.probe.Series(probeEtcd), s.probe.Series(probeServer)), nil
}

// floorOf computes the floor from when the containers started, by name, and the probe's samples; nil when either was not restarted or
// is not back.
func floorOf(started map[string]time.Time, etcd, server probe.Series) *float64 {
	etcdStart, serverStart := started[controlplane.Etcd], started[controlplane.APIServer]
	if etcdStart.IsZero() || serverStart.IsZero() {
		return nil
	}
	etcdReady, serverReady := etcd.FirstGood(etcdStart), server.FirstGood(serverStart)
	if etcdReady.IsZero() || serverReady.IsZero() {
		return nil
	}
	return seconds(max(etcdReady.Sub(etcdStart), serverReady.Sub(serverStart)))
}

func seconds(d time.Duration) *float64 {
	f := float64(d.Round(time.Millisecond).Milliseconds()) / 1000 // Seconds would print as 3.8689999999999998
	return &f
}
