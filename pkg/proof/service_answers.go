package proof

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// ServiceAnswers sends HTTP requests through the real data path: from every node to each pod's own IP, which takes the network between
// pods; to the Service's cluster IP and to its port on each node, which take kube-proxy's rules; and, from inside the network of the pods
// themselves, to the Service by its name, which takes the cluster's DNS as well.
//
// That something answers is not enough: rules from before the restore may lead to something else. Every request carries a token of its own, which
// must turn up in the log of the pod that was asked or, over the Service, of one of them. Where the image logs no requests, the answer must be
// the same as the pods give directly.
func ServiceAnswers(s *Subject) plan.Check {
	return plan.Check{
		Name: "service-answers",
		Summary: "from every node, the workload's own pods answer over their IPs, the Service's cluster IP and its node ports, and from inside a pod over the Service's name, " +
			"as their logs show",
		Phase: plan.Prove,
		Look:  func(ctx context.Context) (plan.Finding, error) { return serviceAnswers(ctx, s) },
	}
}

func serviceAnswers(ctx context.Context, s *Subject) (plan.Finding, error) {
	t, wrong, err := workloadNow(ctx, s)
	if err != nil {
		return plan.Finding{}, err
	}
	running, err := onNodes(ctx, s.Cluster.Nodes(), runningOn)
	if err != nil {
		return plan.Finding{}, err
	}
	w, from := t.place(s.Cluster, running)
	wrong = append(wrong, w...)
	for _, n := range s.Cluster.Nodes() {
		from = append(from, vantage{name: "node " + n.Name(), node: n})
	}
	w, right, err := t.ask(ctx, from)
	if err != nil {
		return plan.Finding{}, err
	}
	if wrong = append(wrong, w...); len(wrong) > 0 {
		bySubject(wrong)
		return plan.Differs(fmt.Sprintf("%d ways to the workload don't lead there", len(wrong)),
			"if status-backed failed too, the pods exist in etcd only; if pods answer on their IPs and the Service doesn't, kube-proxy or the EndpointSlices are from before the restore: "+
				"restart kube-proxy; if only the name doesn't, look at CoreDNS; what is answered by something else goes by rules that nobody has renewed", wrong, right...), nil
	}
	if len(right) == 0 {
		return plan.Failed("the workload has no address to ask", "see objects-restored"), nil
	}
	return plan.Passed(fmt.Sprintf("%d of %d requests were answered by the workload's own pods", len(right), len(right)), right...), nil
}

// target is a Service and the pods behind it, which all serve HTTP.
type target struct {
	// namespace and name are the Service's.
	namespace, name string
	// clusterIP is empty where there is none to ask; then the name isn't asked either.
	clusterIP string
	// port is that of the pods and of the Service, nodePort the one on every node; 0 where it has none.
	port, nodePort int
	// nodes are the addresses of all nodes.
	nodes []string
	pods  []backend
}

// backend is one pod of a target.
type backend struct {
	name, ip string
	uid      types.UID
	// node and containers are where it runs, as the container runtime says.
	node       cluster.Node
	containers []string
}

// vantage is where requests are sent from: a node, or the network of a pod there.
type vantage struct {
	name string
	node cluster.Node
	// container is the one whose network it is; empty for the node's own.
	container string
}

// workloadNow is the workload as the API has it now, and what is missing of it.
func workloadNow(ctx context.Context, s *Subject) (target, []plan.Difference, error) {
	t := target{namespace: s.Workload.Namespace, name: s.Workload.Name, port: s.Workload.Port, nodes: addresses(s.Cluster)}
	var wrong []plan.Difference
	for _, o := range s.Workload.Objects {
		if o.Resource != pods && o.Resource != services {
			continue
		}
		u, err := get(ctx, s.Servers[0], o)
		if apierrors.IsNotFound(err) {
			wrong = append(wrong, plan.Difference{Subject: o.String(), Expected: "an address to ask", Seen: "no such object"})
			continue
		}
		if err != nil {
			return target{}, nil, err
		}
		if ip, err := t.add(o, u); err != nil {
			return target{}, nil, err
		} else if net.ParseIP(ip) == nil {
			wrong = append(wrong, plan.Difference{Subject: o.String(), Expected: "an address to ask", Seen: fmt.Sprintf("%q", ip)})
		}
	}
	return t, wrong, nil
}

// add takes a pod or the Service in, if it has an address, and returns that.
func (t *target) add(o Object, u *unstructured.Unstructured) (string, error) {
	if o.Resource == pods {
		pod, err := typed[corev1.Pod]([]unstructured.Unstructured{*u})
		if err != nil {
			return "", err
		}
		t.addPod(pod[0])
		return pod[0].Status.PodIP, nil
	}
	svc, err := typed[corev1.Service]([]unstructured.Unstructured{*u})
	if err != nil {
		return "", err
	}
	t.addService(svc[0])
	return svc[0].Spec.ClusterIP, nil
}

func (t *target) addPod(pod corev1.Pod) {
	if net.ParseIP(pod.Status.PodIP) != nil {
		t.pods = append(t.pods, backend{name: pod.Name, ip: pod.Status.PodIP, uid: pod.UID})
	}
}

func (t *target) addService(svc corev1.Service) {
	if net.ParseIP(svc.Spec.ClusterIP) == nil {
		return
	}
	t.clusterIP = svc.Spec.ClusterIP
	for _, p := range svc.Spec.Ports {
		if int(p.Port) == t.port {
			t.nodePort = int(p.NodePort)
		}
	}
}

func addresses(c cluster.Cluster) []string {
	var out []string
	for _, n := range c.Nodes() {
		out = append(out, n.Address())
	}
	return out
}

// place finds the target's pods among the containers that run on each node, and returns the pods that aren't there, and one pod on each
// node as a vantage.
func (t *target) place(c cluster.Cluster, running map[string][]controlplane.Container) (missing []plan.Difference, from []vantage) {
	for i := range t.pods {
		p := &t.pods[i]
		for _, n := range c.Nodes() {
			for _, c := range running[n.Name()] {
				if c.PodUID == string(p.uid) {
					p.node, p.containers = n, append(p.containers, c.ID)
				}
			}
		}
		if p.node == nil {
			missing = append(missing, plan.Difference{Subject: "pod " + t.namespace + "/" + p.name, Expected: "a running container, to be asked and to ask from", Seen: "none on any node"})
			continue
		}
		if !slices.ContainsFunc(from, func(v vantage) bool { return v.node.Name() == p.node.Name() }) {
			from = append(from, vantage{name: "pod " + p.name, node: p.node, container: p.containers[0]})
		}
	}
	return missing, from
}

// question is one request and what came of it.
type question struct {
	// to says where it goes, from whence it comes.
	to, from string
	url      string
	// token is what the request carries, and what a log shows that has it.
	token string
	// asked is the pod that the request is for; nil where any will do.
	asked *backend
	// failed says why there was no answer; body is the answer's SHA-256 in hexadecimal.
	failed, body string
}

func (q question) subject() string { return q.to + " from " + q.from }

// ask sends requests from everywhere to everywhere, and says which went wrong and which came to whom they were meant for.
func (t *target) ask(ctx context.Context, from []vantage) (wrong []plan.Difference, right []string, err error) {
	prefix := strings.ToLower(rand.Text())
	var all []*question
	asking, ctxAsking := errgroup.WithContext(ctx)
	for _, v := range from {
		questions := t.questions(v)
		for _, q := range questions {
			q.token = fmt.Sprintf("%s-%d", prefix, len(all))
			q.url += "/?drill=" + q.token
			all = append(all, q)
		}
		asking.Go(func() error { return v.send(ctxAsking, questions) })
	}
	if err := asking.Wait(); err != nil {
		return nil, nil, err
	}
	seen, err := t.witnesses(ctx, prefix, all)
	if err != nil {
		return nil, nil, err
	}
	logs := slices.ContainsFunc(all, func(q *question) bool { return q.asked != nil && len(seen[q.token]) > 0 })
	direct := map[string]bool{}
	for _, q := range all {
		if q.asked != nil && q.failed == "" {
			direct[q.body] = true
		}
	}
	for _, q := range all {
		var d *plan.Difference
		var line string
		switch {
		case q.failed != "":
			d = &plan.Difference{Expected: "an answer", Seen: q.failed}
		case logs:
			d, line = q.witnessed(seen[q.token])
		default:
			d, line = q.alike(direct)
		}
		if d == nil {
			right = append(right, q.subject()+": "+line)
			continue
		}
		d.Subject = q.subject()
		wrong = append(wrong, *d)
	}
	slices.Sort(right)
	return wrong, right, nil
}

// questions are those that are put from one place. From inside a pod the name is asked; all else is asked from nodes.
func (t *target) questions(v vantage) []*question {
	var out []*question
	add := func(to, host string, port int, asked *backend) {
		out = append(out, &question{to: to, from: v.name, url: "http://" + net.JoinHostPort(host, strconv.Itoa(port)), asked: asked})
	}
	service := "Service " + t.name
	if v.container != "" {
		if t.clusterIP != "" {
			// The search domains of the pod's resolv.conf complete the name, so that the cluster's domain need not be known.
			name := t.name + "." + t.namespace + ".svc"
			add(service+" as "+name, name, t.port, nil)
		}
		return out
	}
	for i := range t.pods {
		add("pod "+t.pods[i].name+" at "+t.pods[i].ip, t.pods[i].ip, t.port, &t.pods[i])
	}
	if t.clusterIP != "" {
		add(service+" at "+t.clusterIP, t.clusterIP, t.port, nil)
	}
	if t.nodePort != 0 {
		for _, a := range t.nodes {
			add(fmt.Sprintf("%s at %s", service, net.JoinHostPort(a, strconv.Itoa(t.nodePort))), a, t.nodePort, nil)
		}
	}
	return out
}

// fetchAll asks for all URLs at the same time, and prints a line for each: its number, and "answered" with the SHA-256 of what came, or "failed" with the
// reason. An HTTP status of 400 or more is a failure. A proxy that is set up on the node knows nothing of the cluster's addresses.
const fetchAll = `n=0
for url; do
  n=$((n + 1))
  (
    if said=$(curl --fail --silent --show-error --noproxy "*" --max-time 2 "$url" 2>&1); then
      said=$(printf %s "$said" | sha256sum)
      echo "$n answered ${said%% *}"
    else
      printf '%s failed %s\n' "$n" "$(printf %s "$said" | tr '\n' ' ')"
    fi
  ) &
done
wait
`

// asPod makes the shell, which is in a mount namespace of its own, resolve names as the pod of process $1 does. The pod's file is copied: a bind
// mount of /proc/PID/root/… would be one of the node's own file, since mount(8) resolves the link. The name must come from the cluster's DNS, and neither
// from the node's /etc/hosts nor from a resolver on the node.
const asPod = `set -e
mount -t tmpfs -o mode=0700,size=64k drill /tmp
cat "/proc/$1/root/etc/resolv.conf" >/tmp/resolv.conf
echo "hosts: dns" >/tmp/nsswitch.conf
mount --bind /tmp/resolv.conf /etc/resolv.conf
if [ -e /etc/nsswitch.conf ]; then mount --bind /tmp/nsswitch.conf /etc/nsswitch.conf; fi
shift
set +e
`

// send puts the questions, all at the same time, and notes the answers in them. That nothing can be sent from here is an answer to each.
func (v vantage) send(ctx context.Context, questions []*question) error {
	if len(questions) == 0 {
		return nil
	}
	argv := []string{"sh", "-c", fetchAll, "sh"}
	if v.container != "" {
		pid, err := controlplane.PID(ctx, v.node, v.container)
		if err != nil {
			return err
		}
		process := strconv.Itoa(pid)
		argv = []string{
			"nsenter", "--target", process, "--net", "--", "unshare", "--mount", "--propagation", "private", "sh", "-c", asPod + fetchAll, "sh", process,
		}
	}
	for _, q := range questions {
		argv = append(argv, q.url)
	}
	out, err := cluster.Run(ctx, v.node, argv...)
	var exit *cluster.ExitError
	switch {
	case err == nil:
		return take(out, questions)
	case errors.As(err, &exit): // the pod ended meanwhile, or the node lacks a program
		for _, q := range questions {
			q.failed = "could not be sent: " + strings.TrimSpace(exit.Output)
		}
		return nil
	default:
		return fmt.Errorf("requests from %s: %w", v.name, err)
	}
}

// take reads what fetchAll printed.
func take(out string, questions []*question) error {
	answers := 0
	for line := range strings.Lines(out) {
		number, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(number)
		how, what, _ := strings.Cut(rest, " ")
		if err != nil || n < 1 || n > len(questions) || how != "answered" && how != "failed" || what == "" {
			return fmt.Errorf("requests to the workload: unexpected line %q", line)
		}
		answers++
		if how == "answered" {
			questions[n-1].body = what
		} else {
			questions[n-1].failed = what
		}
	}
	if answers != len(questions) {
		return fmt.Errorf("requests to the workload: %d of %d were told of", answers, len(questions))
	}
	return nil
}

const (
	// logPatience is how long a request may take from its answer to the log: the container's output goes through the runtime into a file.
	logPatience = time.Second
	logPoll     = 50 * time.Millisecond
	// logTail is how many lines at the end of a log are searched. Others ask as well.
	logTail = 20000
)

// findTokens prints, for every container given after the prefix $1 and the number of lines $2, its ID with each token in its log.
const findTokens = `prefix=$1
tail=$2
shift 2
for id; do
  crictl logs --tail "$tail" "$id" 2>&1 | grep -o -e "$prefix-[0-9]*" | sort -u | while read -r token; do echo "$id $token"; done
done
`

// witnesses returns which pods have each request in their logs, by its token. It looks until every answered request is found, or until
// logPatience is over.
func (t *target) witnesses(ctx context.Context, prefix string, all []*question) (map[string][]string, error) {
	deadline := time.Now().Add(logPatience)
	tick := time.NewTicker(logPoll)
	defer tick.Stop()
	for {
		seen, err := t.witnessesNow(ctx, prefix)
		if err != nil || !time.Now().Before(deadline) || !slices.ContainsFunc(all, func(q *question) bool { return q.failed == "" && len(seen[q.token]) == 0 }) {
			return seen, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func (t *target) witnessesNow(ctx context.Context, prefix string) (map[string][]string, error) {
	owners := map[string]string{} // pods by container
	ids := map[string][]string{}  // containers by node
	var nodes []cluster.Node
	for _, p := range t.pods {
		if p.node == nil {
			continue
		}
		if ids[p.node.Name()] == nil {
			nodes = append(nodes, p.node)
		}
		ids[p.node.Name()] = append(ids[p.node.Name()], p.containers...)
		for _, c := range p.containers {
			owners[c] = p.name
		}
	}
	found, err := onNodes(ctx, nodes, func(ctx context.Context, n cluster.Node) (string, error) {
		argv := append([]string{"sh", "-c", findTokens, "sh", prefix, strconv.Itoa(logTail)}, ids[n.Name()]...)
		out, err := cluster.Run(ctx, n, argv...)
		if err != nil {
			return "", fmt.Errorf("logs of the workload: %w", err)
		}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	seen := map[string][]string{}
	for _, out := range found {
		for line := range strings.Lines(out) {
			id, token, _ := strings.Cut(strings.TrimSpace(line), " ")
			if owner := owners[id]; owner != "" && !slices.Contains(seen[token], owner) {
				seen[token] = append(seen[token], owner)
			}
		}
	}
	return seen, nil
}

// witnessed holds a request that was answered against the pods whose logs have it.
func (q question) witnessed(by []string) (*plan.Difference, string) {
	switch {
	case q.asked != nil && !slices.Contains(by, q.asked.name):
		seen := "answered, and the request is in no log of the workload"
		if len(by) > 0 {
			seen = "answered by pod " + by[0]
		}
		return &plan.Difference{Expected: "an answer of that pod", Seen: seen}, ""
	case len(by) == 0:
		return &plan.Difference{Expected: "an answer of one of its pods", Seen: "answered, and the request is in no log of the workload: something else answers"}, ""
	default:
		return nil, "answered by pod " + by[0]
	}
}

// alike holds an answer against those that the pods gave directly.
func (q question) alike(direct map[string]bool) (*plan.Difference, string) {
	if !direct[q.body] {
		return &plan.Difference{Expected: "the answer that its pods give (the image logs no requests)", Seen: "another, with SHA-256 " + q.body[:min(len(q.body), 12)]}, ""
	}
	return nil, "the answer that the pods give (the image logs no requests)"
}
