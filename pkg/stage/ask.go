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
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/etcd-drill/drill/pkg/probe"
	"github.com/etcd-drill/drill/pkg/proof"
)

// maxAnswer bounds what the probe reads of an answer, in bytes: more than any of its questions yields.
const maxAnswer = 4 << 20

// asker asks one server over HTTP, one question at a time.
type asker struct {
	client    *http.Client
	transport *http.Transport
	base      string
}

// newAsker makes an asker that opens a connection for every question.
func newAsker(base string, c *tls.Config) asker {
	t := &http.Transport{DisableKeepAlives: true, TLSClientConfig: c}
	return asker{client: &http.Client{Transport: t}, transport: t, base: base}
}

// keepAsking makes an asker that keeps its connection as long as all goes well: opening one costs some ten times as much as a question, for
// the client as for the server, since certificates are shown and checked. Where one must be opened again, the TLS session is taken up
// where the server still knows it.
//
// It speaks HTTP/1.1, because there a question that got no answer in time takes its connection with it. HTTP/2 only gives up the stream: a
// connection whose other end has gone would be asked again and again, and the outage would look longer than it was.
func keepAsking(base string, c *tls.Config) asker {
	if c != nil {
		c = c.Clone()
		c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	a := newAsker(base, c)
	a.transport.DisableKeepAlives = false
	a.transport.Protocols = new(http.Protocols)
	a.transport.Protocols.SetHTTP1(true)
	return a
}

// askServer is a keepAsking for an API server, with the credentials of cfg.
func askServer(cfg *rest.Config) (asker, error) {
	c, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return asker{}, err
	}
	base, _, err := rest.DefaultServerURL(cfg.Host, "", metav1.Unversioned, c != nil)
	if err != nil {
		return asker{}, err
	}
	a := keepAsking(strings.TrimSuffix(base.String(), "/"), c)
	a.client.Transport, err = rest.HTTPWrappersForConfig(cfg, a.transport)
	return a, err
}

// target makes a target of a question that this asker puts. The connection is dropped as soon as the question isn't answered well: whatever is
// behind the address by then is to be asked afresh, as a person would.
func (a asker) target(name string, question func(context.Context) (int64, error)) probe.Target {
	return probe.Target{
		Name: name,
		Try: func(ctx context.Context) (int64, error) {
			revision, err := question(ctx)
			if err != nil {
				a.transport.CloseIdleConnections()
			}
			return revision, err
		},
		Close: a.transport.CloseIdleConnections,
	}
}

// do sends a request and returns the body of an answer with status 200 or 201.
func (a asker) do(ctx context.Context, method, path string, header http.Header, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone()
	res, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, req.URL.Path, plain(err))
	}
	defer res.Body.Close()
	got, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s %s: reading the answer: %w", method, req.URL.Path, plain(err))
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("%s %s: %s: %.300s", method, req.URL.Path, res.Status, reason(got))
	}
	return got, nil
}

// reason is what an answer that is none says of itself: the message of a Status, what /readyz has marked as failed, or all of it.
func reason(answer []byte) string {
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &status) == nil && status.Message != "" {
		return status.Message
	}
	text := strings.TrimSpace(string(answer))
	var failed []string
	for line := range strings.Lines(text) {
		if check, ok := strings.CutPrefix(line, "[-]"); ok {
			failed = append(failed, strings.TrimSpace(check))
		}
	}
	if len(failed) > 0 {
		return strings.Join(failed, "; ")
	}
	return strings.ReplaceAll(text, "\n", " ")
}

// plain takes from an error what changes with every connection, the port on this side, so that the same trouble has the same text; and the URL.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		c := *op
		c.Source = nil
		return &c
	}
	return err
}

func contentType(v string) http.Header { return http.Header{"Content-Type": {v}} }

// metadataOf asks the API server for no more than an object's metadata, in the shape of the kind given
// (https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches).
func metadataOf(kind string) http.Header {
	return http.Header{"Accept": {"application/json;as=" + kind + ";g=meta.k8s.io;v=v1,application/json"}}
}

// read decodes the answer to a question into v.
func (a asker) read(ctx context.Context, method, path string, header http.Header, body []byte, v any) error {
	got, err := a.do(ctx, method, path, header, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(got, v); err != nil {
		return fmt.Errorf("%s %s: the answer is no such JSON as expected: %w", method, path, err)
	}
	return nil
}

// healthy asks etcd on its client port whether it is healthy, which takes a leader, a read that needs a quorum, and no alarm (etcd's
// server/etcdserver/api/etcdhttp); then for its revision, which is noted.
func (a asker) healthy(ctx context.Context, seen *proof.Revisions) (int64, error) {
	var h struct {
		Health string `json:"health"`
		Reason string `json:"reason"`
	}
	if err := a.read(ctx, http.MethodGet, "/health", nil, nil, &h); err != nil {
		return 0, err
	}
	if h.Health != "true" {
		return 0, errors.New("etcd says that it is not healthy: " + h.Reason)
	}
	revision, err := a.revision(ctx)
	if err != nil {
		return 0, err
	}
	seen.Note(time.Now(), revision)
	return revision, nil
}

// revision reads etcd's revision. The read needs a quorum and goes through one member, so that one answer is never older than the one before:
// a member that lags makes them wait (https://etcd.io/docs/v3.6/learning/api_guarantees/). It uses etcd's JSON gateway, which is on
// unless --enable-grpc-gateway says otherwise (https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/).
func (a asker) revision(ctx context.Context) (int64, error) {
	var r struct {
		Header struct {
			Revision string `json:"revision"` // 64 bits don't fit into JSON's numbers
		} `json:"header"`
	}
	// Any key will do, also one that isn't there; this one, "health", is what etcdctl asks for, too.
	const question = `{"key":"aGVhbHRo","count_only":true}`
	if err := a.read(ctx, http.MethodPost, "/v3/kv/range", contentType("application/json"), []byte(question), &r); err != nil {
		return 0, err
	}
	return parseRevision(r.Header.Revision)
}

func parseRevision(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("the answer tells no revision of etcd, but %q", s)
	}
	return n, nil
}

// ready asks an API server whether it is.
func (a asker) ready(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodGet, "/readyz", nil, nil)
	return err
}

// soughtDeployment is the workload's Deployment.
func soughtDeployment(w proof.Workload, uid types.UID) sought {
	all := "/apis/apps/v1/namespaces/" + w.Namespace + "/deployments"
	return sought{kind: "Deployment", get: all + "/" + w.Name, list: all + "?labelSelector=" + url.QueryEscape(w.Selector()), uids: []types.UID{uid}}
}

// soughtNamespace is the namespace kube-system.
func soughtNamespace(uids []types.UID) sought {
	const all, name = "/api/v1/namespaces", metav1.NamespaceSystem
	return sought{kind: "Namespace", get: all + "/" + name, list: all + "?labelSelector=" + url.QueryEscape(proof.NamesNamespaces(name)), uids: uids}
}

// gets is good when a GET shows what is sought, by UID.
func (a asker) gets(ctx context.Context, look sought) error {
	var o metav1.PartialObjectMetadata
	if err := a.read(ctx, http.MethodGet, look.get, metadataOf("PartialObjectMetadata"), nil, &o); err != nil {
		return err
	}
	if !slices.Contains(look.uids, o.UID) {
		return fmt.Errorf("GET shows a %s with UID %q and not the one with UID %s", look.kind, o.UID, look.uids[0])
	}
	return nil
}

// lists is good when a quorum LIST shows what is sought, by UID.
func (a asker) lists(ctx context.Context, look sought) error {
	var list metav1.PartialObjectMetadataList
	if err := a.read(ctx, http.MethodGet, look.list, metadataOf("PartialObjectMetadataList"), nil, &list); err != nil {
		return err
	}
	for _, o := range list.Items {
		if slices.Contains(look.uids, o.UID) {
			return nil
		}
	}
	return fmt.Errorf("LIST shows %d %ss and not the one with UID %s", len(list.Items), look.kind, look.uids[0])
}

// writes applies a ConfigMap with a new value, which makes it where it is missing, and returns the revision that this write became.
func (a asker) writes(ctx context.Context) (int64, error) {
	header := metadataOf("PartialObjectMetadata")
	header.Set("Content-Type", "application/apply-patch+yaml")
	body := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"at":%q}}`, probeConfigMapName, time.Now().UTC().Format(time.RFC3339Nano))
	path := "/api/v1/namespaces/" + workloadNamespace + "/configmaps/" + probeConfigMapName + "?fieldManager=" + fieldManager + "&force=true"
	var o metav1.PartialObjectMetadata
	if err := a.read(ctx, http.MethodPatch, path, header, body, &o); err != nil {
		return 0, err
	}
	return parseRevision(o.ResourceVersion)
}

// serviceAddress is where this machine reaches the workload's Service.
type serviceAddress struct {
	Host string `json:"host"`
	Port int32  `json:"port"`
}

func (a serviceAddress) url() string {
	return "http://" + net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port))) + "/"
}

// ask is good when the workload answers over its Service. Each time it opens a connection: kube-proxy's rules decide where a connection goes
// when it is opened, and one that is open would go on to its pod though no new one got through.
func (a serviceAddress) ask(ctx context.Context) error {
	_, err := newAsker(strings.TrimSuffix(a.url(), "/"), nil).do(ctx, http.MethodGet, "/", nil, nil)
	return err
}
