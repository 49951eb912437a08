package stage

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/probe"
)

// Names of the probe's questions.
const (
	probeEtcd    = "etcd"
	probeServer  = "apiserver"
	probeRead    = "read"
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

// maxAnswer bounds what the probe reads of an answer, in bytes: more than any of its questions yields.
const maxAnswer = 4 << 20

// WatchOutage starts the probe. It runs until the plan is closed.
func (s *Stage) WatchOutage() plan.Step {
	return plan.Step{
		Name:  "start-probe",
		Phase: plan.Arrange,
		Title: "Start to measure from outside: etcd, reads, writes, the Service",
		Why: "How long something was away can only be said by somebody who kept asking. Each question goes over a connection of its own, every " +
			probeInterval.String() + ".",
		Do: s.startProbe,
	}
}

func (s *Stage) startProbe(ctx context.Context) error {
	targets, err := s.probeTargets(ctx)
	if err != nil {
		return err
	}
	// The probe outlives this step; the plan's Close stops it.
	began := time.Now()
	s.probe = probe.Start(context.WithoutCancel(ctx), probeInterval, probePatience, targets...)
	for _, t := range targets {
		if err := s.probe.Wait(ctx, t.Name, began); err != nil {
			return fmt.Errorf("before anything was broken: %w", err)
		}
	}
	return nil
}

func (s *Stage) probeTargets(ctx context.Context) ([]probe.Target, error) {
	raw, err := s.Subject.Cluster.Kubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	usual, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		return nil, err
	}
	users, err := newAsker(usual)
	if err != nil {
		return nil, err
	}
	direct, err := newAsker(s.Subject.Servers[0].Config)
	if err != nil {
		return nil, err
	}
	etcd := asker{client: clientWith(s.endpoint.TLS), base: strings.TrimSuffix(s.endpoint.URL, "/")}
	return []probe.Target{
		{Name: probeEtcd, Try: etcd.health},
		{Name: probeServer, Try: direct.ready},
		{Name: probeRead, Try: func(ctx context.Context) error { return users.readsWorkload(ctx, s) }},
		{Name: probeWrite, Try: users.writes},
		{Name: probeService, Try: s.service.ask},
	}, nil
}

// asker asks one server over HTTP.
type asker struct {
	client *http.Client
	base   string
}

// clientWith makes a client that opens a connection for every request: one that was open when a server died may take long to
// notice, and the outage would look longer than it was.
func clientWith(c *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true, Proxy: nil}}
}

func newAsker(cfg *rest.Config) (asker, error) {
	c, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return asker{}, err
	}
	base, _, err := rest.DefaultServerURL(cfg.Host, "", metav1.Unversioned, c != nil)
	if err != nil {
		return asker{}, err
	}
	return asker{client: clientWith(c), base: strings.TrimSuffix(base.String(), "/")}, nil
}

// do sends a request and returns the body of an answer with status 200 or 201.
func (a asker) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("%s %s: %s: %.200s", method, path, res.Status, got)
	}
	return got, nil
}

// health asks etcd on its client port; the answer needs a linearizable read (etcd's server/etcdserver/api/etcdhttp).
func (a asker) health(ctx context.Context) error {
	got, err := a.do(ctx, http.MethodGet, "/health", "", nil)
	if err != nil {
		return err
	}
	var h struct {
		Health string `json:"health"`
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(got, &h); err != nil {
		return err
	}
	if h.Health != "true" {
		return errors.New("etcd says that it is not healthy: " + h.Reason)
	}
	return nil
}

func (a asker) ready(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodGet, "/readyz", "", nil)
	return err
}

// readsWorkload is good when a quorum LIST shows the workload's Deployment, by UID.
func (a asker) readsWorkload(ctx context.Context, s *Stage) error {
	w := s.Subject.Workload
	got, err := a.do(ctx, http.MethodGet, "/apis/apps/v1/namespaces/"+w.Namespace+"/deployments?labelSelector="+url.QueryEscape(w.Selector()), "", nil)
	if err != nil {
		return err
	}
	var list metav1.PartialObjectMetadataList
	if err := json.Unmarshal(got, &list); err != nil {
		return err
	}
	want := s.deploymentUID()
	for _, o := range list.Items {
		if o.UID == want {
			return nil
		}
	}
	return fmt.Errorf("LIST shows %d Deployments and not the one with UID %s", len(list.Items), want)
}

func (s *Stage) deploymentUID() types.UID {
	for _, o := range s.Subject.Workload.Objects {
		if o.Resource.Resource == "deployments" {
			return o.UID
		}
	}
	return ""
}

// writes applies a ConfigMap with a new value, which makes it where it is missing.
func (a asker) writes(ctx context.Context) error {
	body := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"at":%q}}`, probeConfigMapName, time.Now().UTC().Format(time.RFC3339Nano))
	_, err := a.do(ctx, http.MethodPatch, "/api/v1/namespaces/"+workloadNamespace+"/configmaps/"+probeConfigMapName+"?fieldManager="+fieldManager+"&force=true",
		"application/apply-patch+yaml", body)
	return err
}

// serviceAddress is where this machine reaches the workload's Service.
type serviceAddress struct {
	host string
	port int32
}

func (a serviceAddress) url() string {
	return "http://" + net.JoinHostPort(a.host, strconv.Itoa(int(a.port))) + "/"
}

// ask is good when the workload answers over its Service.
func (a serviceAddress) ask(ctx context.Context) error {
	_, err := asker{client: clientWith(nil), base: strings.TrimSuffix(a.url(), "/")}.do(ctx, http.MethodGet, "/", "", nil)
	return err
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
	return serviceAddress{host: s.Subject.Cluster.Nodes()[0].Address(), port: svc.Spec.Ports[0].NodePort}, nil
}

// Measure computes the numbers of the run.
func (s *Stage) Measure(ctx context.Context, marks plan.Marks) (plan.Measurement, error) {
	m := plan.Measurement{Snapshot: s.Subject.Snapshot}
	if s.probe == nil {
		return m, nil
	}
	var problems []error
	if !marks.OutageBegan.IsZero() {
		var err error
		m.Outage, err = s.outage(ctx, marks.OutageBegan)
		problems = append(problems, err)
	}
	if !marks.OutageBegan.IsZero() && s.Subject.Snapshot != nil {
		var err error
		m.Loss, err = s.loss(ctx, marks, m.Outage.ReadSeconds != nil)
		problems = append(problems, err)
	}
	return m, errors.Join(problems...)
}

func (s *Stage) outage(ctx context.Context, began time.Time) (plan.Outage, error) {
	back := func(name string) *float64 {
		if d := s.probe.Series(name).Back(began); d != nil {
			return seconds(*d)
		}
		return nil
	}
	o := plan.Outage{EtcdSeconds: back(probeEtcd), ReadSeconds: back(probeRead), WriteSeconds: back(probeWrite), ServiceSeconds: back(probeService)}
	running, err := s.workRunning(ctx)
	if err != nil {
		return o, fmt.Errorf("when the workload's containers started: %w", err)
	}
	o.WorkSeconds = s.workBack(running, began)
	o.FloorSeconds, err = s.floor(ctx, began)
	if err != nil {
		return o, fmt.Errorf("how quickly etcd and the API server can start: %w", err)
	}
	return o, nil
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

// floor is the larger of etcd's and the API server's own start on the first control plane: of etcd from container started to healthy, of the
// API server from the later of container started and etcd healthy, to ready. The node's clock is taken to be this machine's.
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
	etcdReady := etcd.FirstGood(etcdStart)
	if etcdReady.IsZero() {
		return nil
	}
	if etcdReady.After(serverStart) {
		serverStart = etcdReady
	}
	serverReady := server.FirstGood(serverStart)
	if serverReady.IsZero() {
		return nil
	}
	return seconds(max(etcdReady.Sub(etcdStart), serverReady.Sub(serverStart)))
}

func seconds(d time.Duration) *float64 {
	f := float64(d.Round(time.Millisecond).Milliseconds()) / 1000 // Seconds would print as 3.8689999999999998
	return &f
}
