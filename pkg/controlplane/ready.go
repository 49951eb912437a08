package controlplane

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/etcd-drill/drill/pkg/cluster"
)

const (
	// waitLimit bounds a wait whose context has no nearer deadline.
	waitLimit = 5 * time.Minute
	// askLimit bounds one look.
	askLimit = 2 * time.Second
	// bodyLimit bounds what is read of an answer, in bytes; the metrics of an etcd are some hundred thousand.
	bodyLimit = 8 << 20
	// logLimit bounds fetching the log lines for the error of a wait that failed.
	logLimit = 10 * time.Second
	// logLines are told of the log's end, and logComplaints before it, out of the last logWhole.
	logLines      = 15
	logComplaints = 3
	logWhole      = 600
)

// ReadyURL says where, as seen from the node itself, the component of a static-pod manifest tells whether it is ready:
// where its readiness probe looks or, as the controller manager has none, its liveness probe.
func ReadyURL(manifest []byte, component string) (string, error) {
	return probeURL(manifest, component, func(c *corev1.Container) []*corev1.Probe { return []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe} })
}

// liveURL is ReadyURL for whether the component is alive: where its liveness probe looks, or else its readiness probe.
func liveURL(manifest []byte, component string) (string, error) {
	return probeURL(manifest, component, func(c *corev1.Container) []*corev1.Probe { return []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} })
}

// probeURL is where the first of the probes looks that there is.
func probeURL(manifest []byte, component string, probes func(*corev1.Container) []*corev1.Probe) (string, error) {
	pod, err := parsePod(manifest)
	if err != nil {
		return "", err
	}
	c, err := container(pod, component)
	if err != nil {
		return "", err
	}
	probe := cmp.Or(probes(c)...)
	if probe == nil || probe.HTTPGet == nil {
		return "", fmt.Errorf("container %s has no readiness or liveness probe over HTTP; kubeadm gives it one", component)
	}
	get := probe.HTTPGet
	port := get.Port.IntValue()
	if get.Port.Type == intstr.String {
		i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == get.Port.StrVal })
		if i < 0 {
			return "", fmt.Errorf("container %s has no port named %q, which its probe asks", component, get.Port.StrVal)
		}
		port = int(c.Ports[i].ContainerPort)
	}
	host := get.Host
	if host == "" {
		// Static pods of a control plane share the node's network.
		host = "127.0.0.1"
	}
	scheme := strings.ToLower(string(get.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/" + strings.TrimPrefix(get.Path, "/"), nil
}

// WaitAlive looks where the component's liveness probe does, every interval, until anything answers there, whatever it says. etcd answers there as soon as it serves its peers, where the readiness
// probe waits for a leader. It says whether anything did before ctx ended: for who can go on without.
func WaitAlive(ctx context.Context, n cluster.Node, component string, interval time.Duration) bool {
	manifest, err := n.ReadFile(ctx, path.Join(ManifestDir, component+".yaml"))
	if err != nil {
		return false
	}
	url, err := liveURL(manifest, component)
	if err != nil {
		return false
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if said, err := look(ctx, n, url); err == nil && said.status != 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// WaitReady looks at a component (see Components) every interval until it says that it is ready, at the address where
// the kubelet's probe looks according to the manifest that is in place. The question is put on the node or, where the address
// is the node's own, from here, and without checking the certificate: it is the component's own.
//
// It ends with the context, or after 5 minutes where that has no nearer deadline. The error wraps the context's and
// says what was last seen, and the last lines of the log of the component and of the first one that it depends on and
// that isn't ready either: an etcd that ended after it was ready keeps an API server waiting whose own log doesn't say why.
func WaitReady(ctx context.Context, n cluster.Node, component string, interval time.Duration) error {
	if interval <= 0 {
		return fmt.Errorf("wait for %s: interval of %v is not positive", component, interval)
	}
	manifest, err := n.ReadFile(ctx, path.Join(ManifestDir, component+".yaml"))
	if err != nil {
		return fmt.Errorf("wait for %s of node %s: %w", component, n.Name(), err)
	}
	url, err := ReadyURL(manifest, component)
	if err != nil {
		return fmt.Errorf("wait for %s of node %s: %w", component, n.Name(), err)
	}
	waiting, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	began := time.Now()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := "nothing yet"
	for {
		said, err := look(waiting, n, url)
		if err == nil && said.status == http.StatusOK {
			return nil
		}
		// What a look saw that was cut short by the deadline is less than what the one before saw.
		if waiting.Err() == nil {
			last = said.String()
			if err != nil {
				last = err.Error()
			}
		}
		select {
		case <-waiting.Done():
			return fmt.Errorf("%s of node %s is not ready after %.1f s: %w; %slast seen at %s: %s; %s", component, n.Name(),
				time.Since(began).Seconds(), waiting.Err(), cause(ctx, n, component), url, last, lastLog(ctx, n, component))
		case <-tick.C:
		}
	}
}

// EtcdRole is what an etcd says of its part in the cluster.
type EtcdRole struct {
	// Leads says that it is the leader.
	Leads bool
	// Peers is how many other members it is connected with.
	Peers int
}

// EtcdRoleOf reads the role from the metrics of the node's etcd, which are at the address given: etcd_server_is_leader and etcd_network_active_peers (https://etcd.io/docs/latest/metrics/).
func EtcdRoleOf(ctx context.Context, n cluster.Node, metricsURL string) (EtcdRole, error) {
	said, err := look(ctx, n, metricsURL+"/metrics")
	if err == nil && said.status != http.StatusOK {
		err = errors.New(said.String())
	}
	if err != nil {
		return EtcdRole{}, fmt.Errorf("ask the etcd of node %s for its role at %s: %w", n.Name(), metricsURL, err)
	}
	var r EtcdRole
	known := false
	for line := range strings.Lines(said.text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		known = known || name == "etcd_server_is_leader"
		switch {
		case value != "1":
		case name == "etcd_server_is_leader":
			r.Leads = true
		case strings.HasPrefix(name, "etcd_network_active_peers{"):
			r.Peers++
		}
	}
	if !known {
		return EtcdRole{}, fmt.Errorf("ask the etcd of node %s for its role at %s: it doesn't say whether it leads", n.Name(), metricsURL)
	}
	return r, nil
}

// answer is what was seen at an address.
type answer struct {
	// status is that of HTTP; 0 means that nothing answered.
	status int
	// text is what was answered or, where nothing was, why.
	text string
}

// String is what was answered. Of a verbose list of checks, as an API server gives it, only those that failed count.
func (a answer) String() string {
	if a.status == 0 {
		return a.text
	}
	text := a.text
	if failed := slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return !strings.HasPrefix(line, "[-]") }); len(failed) > 0 {
		text = strings.Join(failed, "\n")
	}
	return fmt.Sprintf("status %d: %s", a.status, text)
}

// look asks at the address as the node sees it, without checking the certificate. One that is the node's own is asked from here, which saves the node a process for every look: dozens a second of them,
// at the very time at which it is to start the component.
func look(ctx context.Context, n cluster.Node, url string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askLimit)
	defer cancel()
	if addressed(url, n) {
		return ask(ctx, url)
	}
	out, err := cluster.Run(ctx, n, "curl", "--silent", "--show-error", "--insecure", "--noproxy", "*",
		"--max-time", strconv.FormatFloat(askLimit.Seconds(), 'f', -1, 64), "--write-out", "\n%{http_code}", url)
	var exit *cluster.ExitError
	switch {
	case errors.As(err, &exit):
		// What curl complains about tells more than the command; when it is not curl that complains, something else is wrong.
		if i := strings.Index(exit.Output, "curl: ("); i >= 0 {
			return answer{text: strings.TrimSpace(exit.Output[i:])}, nil
		}
		return answer{}, err
	case err != nil:
		return answer{}, err
	}
	i := strings.LastIndexByte(out, '\n')
	status, err := strconv.Atoi(out[i+1:])
	if err != nil {
		return answer{}, fmt.Errorf("ask %s: curl printed no status: %w", url, err)
	}
	return answer{status: status, text: strings.TrimSpace(out[:max(i, 0)])}, nil
}

// addressed says whether the host of the address is the node's, which the machine that drill runs on can reach (see cluster.Node).
func addressed(address string, n cluster.Node) bool {
	u, err := url.Parse(address)
	return err == nil && n.Address() != "" && u.Hostname() == n.Address()
}

// ask is look from here. The connection is one of its own: one that was kept from before would not say whether a new one can be had.
func ask(ctx context.Context, address string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answer{}, err
	}
	client := http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as kubelet does for its probes: the certificate is the component's own, and nothing that is told to it is secret
		DisableKeepAlives: true,
	}}
	resp, err := client.Do(req)
	if err != nil {
		return answer{text: err.Error()}, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if err != nil {
		return answer{text: err.Error()}, nil
	}
	return answer{status: resp.StatusCode, text: strings.TrimSpace(string(body))}, nil
}

// Log returns the last lines that a component's latest container wrote, whether it runs or not. One that has only just been started, after others that ended, may not have said anything yet: then it
// is what the one before wrote.
func Log(ctx context.Context, n cluster.Node, component string, lines int) (string, error) {
	ids, err := cluster.Run(ctx, n, "crictl", "ps", "--all", "--last", "3", "--quiet", "--name", "^"+component+"$") // the latest first
	if err != nil {
		return "", fmt.Errorf("log of %s of node %s: %w", component, n.Name(), err)
	}
	if ids == "" {
		return "", fmt.Errorf("log of %s of node %s: it has no container, so the kubelet didn't start it", component, n.Name())
	}
	for _, id := range strings.Fields(ids) {
		res, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"crictl", "logs", "--tail", strconv.Itoa(lines), id}})
		if err != nil {
			return "", fmt.Errorf("log of %s of node %s: %w", component, n.Name(), err)
		}
		// crictl passes on both streams of the container as they are; components write to standard error.
		if log := strings.TrimSpace(string(res.Stdout) + string(res.Stderr)); log != "" {
			return log, nil
		}
	}
	return "", nil
}

// cause is what is wrong with the first component that this one depends on (see Components) and that isn't ready, and "" where all of them are or can't be asked. It is for the error of a wait, whose
// own context is over.
func cause(ctx context.Context, n cluster.Node, component string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logLimit)
	defer cancel()
	all := Components()
	for _, c := range all[:max(0, slices.Index(all, component))] {
		manifest, err := n.ReadFile(ctx, path.Join(ManifestDir, c+".yaml"))
		if err != nil {
			continue
		}
		url, err := ReadyURL(manifest, c)
		if err != nil {
			continue
		}
		if said, err := look(ctx, n, url); err == nil && said.status != http.StatusOK {
			return fmt.Sprintf("%s, which it depends on, isn't ready either: seen at %s: %s; %s; of %s itself: ", c, url, said, lastLog(ctx, n, c), component)
		}
	}
	return ""
}

// lastLog is for the error of a wait, whose own context is over.
func lastLog(ctx context.Context, n cluster.Node, component string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logLimit)
	defer cancel()
	log, err := Log(ctx, n, component, logWhole)
	if err != nil {
		return err.Error()
	}
	return tellLog(log)
}

// complaint is a line in which a component says what it can't get on with.
var complaint = regexp.MustCompile(`(?i)\b(error|fatal|panic|not defined|unknown flag|no space left|permission denied|refused)\b|^[EF][0-9]{4} `)

// tellLog is the end of a log and, where something was complained of before that, the first of it: a component that is called wrongly prints all of its help after it.
func tellLog(log string) string {
	if log == "" {
		return "its log is empty"
	}
	lines := strings.Split(strings.TrimRight(log, "\n"), "\n")
	end := max(0, len(lines)-logLines)
	var first []string
	for _, line := range lines[:end] {
		if len(first) < logComplaints && complaint.MatchString(line) {
			first = append(first, line)
		}
	}
	told := "its log ends with:\n" + strings.Join(lines[end:], "\n")
	if len(first) > 0 {
		told = "its log complains first of:\n" + strings.Join(first, "\n") + "\n" + told
	}
	return told
}
