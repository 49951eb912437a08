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
// must turn up in the log of the pod that was asked or, over the Service, of one of them. Whether the image logs requests is learnt where no stranger
// can answer, on the loopback interface inside each pod's network. Where it logs none, the answer must be the one that is given there.
//
// kube-proxy picks an endpoint by chance for each connection, so that one stale endpoint among good ones is met by one request in a few. Over the Service
// many are sent, and all must arrive (https://kubernetes.io/docs/reference/networking/virtual-ips/).
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
	if absent := s.Workload.Absent(); absent != "" {
		return plan.Skipped(absent), nil
	}
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
	return plan.Passed(fmt.Sprintf("all %d ways to the workload lead to its own pods", len(right)), right...), nil
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

// loopback is the address of the pod's own loopback interface, of the family of its IP.
func (b backend) loopback() string {
	if net.ParseIP(b.ip).To4() == nil {
		return "::1"
	}
	return "127.0.0.1"
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

// question is one way to the workload, and what came of the requests on it.
type question struct {
	// to says where it goes, from whence it comes.
	to, from string
	// url is what is asked for; each request adds its number to it.
	url string
	// inside is the container in whose network it is asked; empty for where it is sent from.
	inside string
	// times is how many requests are sent, one after the other until one fails.
	times int
	// token is what the requests carry, each with its number added; it is what a log shows that has them.
	token string
	// asked is the pod that the request is for; nil where any will do.
	asked *backend
	// failed says why there was no answer; bodies are the answers' SHA-256 in hexadecimal.
	failed string
	bodies []string
}

func (q question) subject() string { return q.to + " from " + q.from }

// tokens are what the requests carry.
func (q question) tokens() []string {
	out := make([]string, q.times)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%d", q.token, i+1)
	}
	return out
}

// ask sends requests from everywhere to everywhere, and says which went wrong and which came to whom they were meant for. All nodes must be among the
// places: pods are asked inside of their networks from the nodes that they are on.
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
	own := map[string]string{} // answers that the pods gave inside of their networks
	for _, q := range all {
		if q.inside != "" && q.failed == "" {
			own[q.asked.name] = q.bodies[0]
		}
	}
	for _, q := range all {
		var d *plan.Difference
		var line string
		switch {
		case q.failed != "":
			d = &plan.Difference{Expected: "an answer", Seen: q.failed}
			if n := len(q.bodies); n > 0 {
				d.Seen = fmt.Sprintf("%d answers, and then: %s", n, q.failed)
			}
		case len(seen) > 0: // the image logs requests
			d, line = q.witnessed(seen)
		default:
			d, line = q.alike(own)
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

const (
	// timesPod is how many requests over a Service are sent for each pod behind it, and timesLeast how many at least: of three endpoints that are picked by
	// chance, 8 requests miss one with a probability of 4 %, and there are as many ways as the Service has, from each node.
	timesPod   = 4
	timesLeast = 8
)

// fewNodes is how many nodes are all asked from all.
const fewNodes = 5

// neighbours are the nodes whose node ports are asked from one: all of a few; of more itself and the next, so that each is asked from within and from another one, and the number
// of questions doesn't grow with the square of theirs.
func (t *target) neighbours(of string) []string {
	i := slices.Index(t.nodes, of)
	if len(t.nodes) <= fewNodes || i < 0 {
		return t.nodes
	}
	return []string{of, t.nodes[(i+1)%len(t.nodes)]}
}

// questions are those that are put from one place. From inside a pod the name is asked; all else is asked from nodes, and pods inside of their networks from
// the node that they are on.
func (t *target) questions(v vantage) []*question {
	var out []*question
	add := func(to, host string, port, times int, asked *backend) *question {
		q := &question{to: to, from: v.name, url: "http://" + net.JoinHostPort(host, strconv.Itoa(port)), times: times, asked: asked}
		out = append(out, q)
		return q
	}
	many := max(timesPod*len(t.pods), timesLeast)
	service := "Service " + t.name
	if v.container != "" {
		if t.clusterIP != "" {
			// The search domains of the pod's resolv.conf complete the name, so that the cluster's domain need not be known.
			name := t.name + "." + t.namespace + ".svc"
			add(service+" as "+name, name, t.port, many, nil)
		}
		return out
	}
	for i := range t.pods {
		p := &t.pods[i]
		add("pod "+p.name+" at "+p.ip, p.ip, t.port, 1, p)
		if p.node != nil && p.node.Name() == v.node.Name() {
			q := add("pod "+p.name+" at "+p.loopback(), p.loopback(), t.port, 1, p)
			q.inside, q.from = p.containers[0], "inside of it"
		}
	}
	if t.clusterIP != "" {
		add(service+" at "+t.clusterIP, t.clusterIP, t.port, many, nil)
	}
	if t.nodePort != 0 {
		for _, a := range t.neighbours(v.node.Address()) {
			add(fmt.Sprintf("%s at %s", service, net.JoinHostPort(a, strconv.Itoa(t.nodePort))), a, t.nodePort, many, nil)
		}
	}
	return out
}

// fetchAll takes a container, a number and a URL for each way. It asks on all ways at the same time, on each for the URL with 1, 2, … up to the number added,
// one after the other and each over a connection of its own, until one fails; inside the network of the container if one is given. For each request it prints
// the number of the way, and "answered" with the SHA-256 of what came, or "failed" with the reason. An HTTP status of 400 or more is a failure. A proxy that is
// set up on the node knows nothing of the cluster's addresses.
//
// That connections aren't used twice is asked of the server, which must see to it (RFC 9112, 9.6). One curl asks all that is asked on a way: starting a process for each request would take a node that is busy, as after a recovery, longer than the answers do. It writes a line after each request, also after the one that failed.
const fetchAll = `dir=$(mktemp -d "${XDG_RUNTIME_DIR:-/run}/drill-answers.XXXXXX") || exit
trap 'rm -rf -- "$dir"' EXIT
n=0
while [ $# -gt 2 ]; do
  n=$((n + 1))
  (
    enter=
    if [ -n "$1" ]; then
      if ! pid=$(crictl inspect --output go-template --template "{{.info.pid}}" "$1"); then
        echo "$n failed crictl inspect tells no process of container $1"
        exit
      fi
      enter="nsenter --target $pid --net --"
    fi
    asked=$($enter curl --fail --fail-early --silent --show-error --noproxy "*" --max-time 2 --header "Connection: close" \
      --output "$dir/$n-#1" --write-out "asked\n" "$3-[1-$2]" 2>"$dir/$n")
    code=$?
    set --
    for each in $asked; do set -- "$@" "$dir/$n-$(($# + 1))"; done
    if [ "$code" -ne 0 ] && [ $# -gt 0 ]; then
      failed=$#
      set --
      while [ $(($# + 1)) -lt "$failed" ]; do set -- "$@" "$dir/$n-$(($# + 1))"; done
    fi
    if [ $# -gt 0 ]; then
      sha256sum -- "$@" | while read -r sum rest; do echo "$n answered $sum"; done
    fi
    if [ "$code" -ne 0 ]; then
      printf '%s failed %s\n' "$n" "$(tr '\n' ' ' <"$dir/$n")"
    fi
  ) &
  shift 3
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
		argv = append(argv, q.inside, strconv.Itoa(q.times), q.url)
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
	for line := range strings.Lines(out) {
		number, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(number)
		how, what, _ := strings.Cut(rest, " ")
		if err != nil || n < 1 || n > len(questions) || how != "answered" && how != "failed" || what == "" {
			return fmt.Errorf("requests to the workload: unexpected line %q", line)
		}
		if q := questions[n-1]; how == "answered" {
			q.bodies = append(q.bodies, what)
		} else {
			q.failed = what
		}
	}
	for _, q := range questions {
		if q.failed == "" && len(q.bodies) != q.times {
			return fmt.Errorf("requests to the workload: %d of %d to %s were told of", len(q.bodies), q.times, q.subject())
		}
	}
	return nil
}

const (
	// logPatience is how long a request may take from its answer to the log: the container's output goes through the runtime into a file.
	logPatience = time.Second
	// logSilence is how long none of the requests must be in any log until the image is taken for one that logs none.
	logSilence = 5 * time.Second
	logPoll    = 50 * time.Millisecond
	// logTail is how many lines at the end of a log are searched. Others ask as well.
	logTail = 20000
	// unreadable is what findTokens prints after the prefix where a log can't be read.
	unreadable = "!"
)

// findTokens prints, for every container given after the prefix $1 and the number of lines $2, its ID with each token in its log; or with the prefix and an
// exclamation mark if that can't be read.
const findTokens = `prefix=$1
tail=$2
shift 2
for id; do
  { crictl logs --tail "$tail" "$id" 2>&1 || echo "$prefix!"; } | grep -o -e "$prefix!" -e "$prefix-[0-9]*-[0-9]*" | sort -u | while read -r token; do echo "$id $token"; done
done
`

// witnesses returns which pods have each request in their logs, by its token. It looks until every answered request is found, or until
// logPatience is over; logSilence where none is.
func (t *target) witnesses(ctx context.Context, prefix string, all []*question) (map[string][]string, error) {
	began := time.Now()
	tick := time.NewTicker(logPoll)
	defer tick.Stop()
	missing := func(seen map[string][]string) bool {
		return slices.ContainsFunc(all, func(q *question) bool {
			return q.failed == "" && slices.ContainsFunc(q.tokens(), func(token string) bool { return len(seen[token]) == 0 })
		})
	}
	for {
		seen, err := t.witnessesNow(ctx, prefix)
		patience := logPatience
		if len(seen) == 0 {
			patience = logSilence
		}
		if err != nil || time.Since(began) >= patience || !missing(seen) {
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
			if token == prefix+unreadable {
				return nil, fmt.Errorf("the log of container %s of pod %s/%s can't be read; try `crictl logs` on its node", short(id), t.namespace, owners[id])
			}
			if owner := owners[id]; owner != "" && !slices.Contains(seen[token], owner) {
				seen[token] = append(seen[token], owner)
			}
		}
	}
	return seen, nil
}

// witnessed holds requests that were answered against the pods whose logs have each, by its token.
func (q question) witnessed(seen map[string][]string) (*plan.Difference, string) {
	var pods []string
	found := 0
	for _, token := range q.tokens() {
		by := seen[token]
		if len(by) > 0 {
			found++
		}
		pods = append(pods, by...)
	}
	slices.Sort(pods)
	pods = slices.Compact(pods)
	switch {
	case q.asked != nil && !slices.Contains(pods, q.asked.name):
		seen := "answered, and the request is in no log of the workload"
		if len(pods) > 0 {
			seen = "answered by pod " + pods[0]
		}
		return &plan.Difference{Expected: "an answer of that pod", Seen: seen}, ""
	case found == 0:
		return &plan.Difference{Expected: "an answer of one of its pods", Seen: "answered, and the request is in no log of the workload: something else answers"}, ""
	case found < q.times:
		return &plan.Difference{
			Expected: fmt.Sprintf("%d answers of its pods", q.times),
			Seen:     fmt.Sprintf("%d answers, %d of which are to requests that are in no log of the workload: something else answers as well", q.times, q.times-found),
		}, ""
	case q.times > 1:
		return nil, fmt.Sprintf("%d requests, answered by %s", q.times, strings.Join(pods, ", "))
	default:
		return nil, "answered by pod " + q.asked.name
	}
}

// alike holds answers against those that the pods gave inside of their networks, by the pods' names.
func (q question) alike(own map[string]string) (*plan.Difference, string) {
	for _, body := range q.bodies {
		ok := false
		for pod, answer := range own {
			ok = ok || answer == body && (q.asked == nil || q.asked.name == pod)
		}
		if !ok {
			return &plan.Difference{
				Expected: "the answer that its pods give inside of their networks (the image logs no requests)", Seen: "another, with SHA-256 " + body[:min(len(body), 12)],
			}, ""
		}
	}
	return nil, "the answer that the pods give inside of their networks (the image logs no requests)"
}
