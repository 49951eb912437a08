package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/proof"
)

// fieldManager is the name under which drill's writes appear in managedFields.
const fieldManager = "drill"

// poll is the interval of this package's waits.
const poll = 100 * time.Millisecond

// node is where a person types.
func (s *Stage) node() string { return s.Target.Members[0].Name }

func (s *Stage) typed(argv ...string) plan.Command { return plan.Command{On: s.node(), Argv: argv} }

func (s *Stage) client() (*kubernetes.Clientset, error) {
	return kubernetes.NewForConfig(s.Subject.Servers[0].Config)
}

// until polls look until it says true, and ends in an error that says what was last seen.
func until(ctx context.Context, what string, look func(context.Context) (done bool, seen string)) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		done, seen := look(ctx)
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w; last seen: %s", what, context.Cause(ctx), seen)
		case <-tick.C:
		}
	}
}

// CheckNames makes sure that nothing on the cluster has the names that the run is going to use.
func (s *Stage) CheckNames() plan.Step {
	return plan.Step{
		Name:  "check-names",
		Phase: plan.Arrange,
		Title: "Make sure that nothing on the cluster has the names that will be used",
		Why:   "drill touches nothing that it did not make.",
		Do:    s.vacant,
	}
}

// Deploy puts the workload on the cluster and waits until it serves.
func (s *Stage) Deploy() plan.Step {
	w := s.Subject.Workload
	return plan.Step{
		Name:  "deploy-workload",
		Phase: plan.Arrange,
		Title: "Deploy nginx with two replicas behind a Service",
		Why: "To know later whether a restore worked, there must be something to look for: a Deployment, its pods, and a Service that reaches them. " +
			"The image has a fixed tag: with `:latest` kubelet asks the registry at every start of a container, and the recovery would depend on the registry too.",
		Commands: []plan.Command{
			s.typed("kubectl", "create", "deployment", w.Name, "--image="+w.Image, "--replicas="+strconv.Itoa(workloadReplicas), "--port="+strconv.Itoa(w.Port)),
			s.typed("kubectl", "expose", "deployment", w.Name, "--port="+strconv.Itoa(w.Port), "--type=NodePort"),
			s.typed("kubectl", "rollout", "status", "deployment/"+w.Name, "--timeout=120s"),
			s.typed("kubectl", "get", "deployment,pods,service", "-l", w.Selector(), "-o", "wide"),
		},
		Expect: "`deployment \"nginx\" successfully rolled out`, and two pods `Running`, `1/1`.",
		Do:     s.deploy,
		Learn:  s.learnWorkload,
	}
}

func (s *Stage) deploy(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	w := s.Subject.Workload
	create := metav1.CreateOptions{FieldManager: fieldManager}
	if _, err := client.AppsV1().Deployments(w.Namespace).Create(ctx, deployment(w), create); err != nil && !s.madeBefore(err) {
		return err
	}
	if _, err = client.CoreV1().Services(w.Namespace).Create(ctx, service(w), create); s.madeBefore(err) {
		return nil
	}
	return err
}

// madeBefore says whether the process that began the run has made what now can't be made once more.
func (s *Stage) madeBefore(err error) bool {
	return s.recalled && s.vacated && apierrors.IsAlreadyExists(err)
}

func (s *Stage) vacant(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	taken, err := s.taken(ctx, client)
	if err != nil {
		return err
	}
	if len(taken) > 0 {
		return fmt.Errorf("%s in namespace %s would be mixed up with what the drill makes, and drill touches nothing that it did not make: use another cluster, or, if it is left over from an earlier drill, delete it",
			strings.Join(taken, " and "), s.Subject.Workload.Namespace)
	}
	s.vacated = true
	return nil
}

// taken names what has a name that the run is going to use, or carries its label, or would send traffic to its pods.
func (s *Stage) taken(ctx context.Context, client kubernetes.Interface) ([]string, error) {
	w := s.Subject.Workload
	labelled, err := proof.Objects(ctx, s.Subject.Servers[0], w)
	if err != nil {
		return nil, err
	}
	var taken []string
	for _, o := range labelled {
		taken = append(taken, o.String())
	}
	services, err := client.CoreV1().Services(w.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	ours := labels.Set{"app": w.Name}
	for _, svc := range services.Items {
		if svc.Name == w.Name || svc.Name == proof.NewWork(w) || len(svc.Spec.Selector) > 0 && labels.SelectorFromSet(svc.Spec.Selector).Matches(ours) {
			taken = append(taken, "service "+svc.Name)
		}
	}
	late, err := client.CoreV1().ConfigMaps(w.Namespace).List(ctx, metav1.ListOptions{LabelSelector: lateLabel})
	if err != nil {
		return nil, err
	}
	for _, cm := range late.Items {
		taken = append(taken, "configmap "+cm.Name)
	}
	for _, name := range []string{w.Name, proof.NewWork(w)} {
		_, err := client.AppsV1().Deployments(w.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			taken = append(taken, "deployment "+name)
		} else if !apierrors.IsNotFound(err) {
			return nil, err
		}
	}
	_, err = client.CoreV1().ConfigMaps(w.Namespace).Get(ctx, probeConfigMapName, metav1.GetOptions{})
	if err == nil {
		taken = append(taken, "configmap "+probeConfigMapName)
	} else if !apierrors.IsNotFound(err) {
		return nil, err
	}
	slices.Sort(taken)
	return slices.Compact(taken), nil
}

func deployment(w proof.Workload) *appsv1.Deployment {
	selector := map[string]string{"app": w.Name}
	replicas := int32(workloadReplicas)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: w.Name, Namespace: w.Namespace, Labels: selector},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: selector},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: w.Name, Image: w.Image, Ports: []corev1.ContainerPort{{ContainerPort: int32(w.Port)}},
				}}},
			},
		},
	}
}

func service(w proof.Workload) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: w.Name, Namespace: w.Namespace, Labels: map[string]string{"app": w.Name}},
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeNodePort, // so that the machine drill runs on can ask, too
			Selector: map[string]string{"app": w.Name},
			Ports:    []corev1.ServicePort{{Port: int32(w.Port), TargetPort: intstr.FromInt(w.Port), Protocol: corev1.ProtocolTCP}},
		},
	}
}

// learnWorkload waits until the workload has settled and records what it consists of.
func (s *Stage) learnWorkload(ctx context.Context) error {
	if err := s.rolledOut(ctx); err != nil {
		return err
	}
	objects, err := proof.Objects(ctx, s.Subject.Servers[0], s.Subject.Workload)
	if err != nil {
		return err
	}
	s.Subject.Workload.Objects, s.Subject.Workload.Beyond = objects, nil
	s.divide()
	if s.service, err = s.serviceAddress(ctx); err != nil {
		return err
	}
	return until(ctx, "the Service answers at "+s.service.url(), func(ctx context.Context) (bool, string) {
		err := s.service.ask(ctx)
		return err == nil, fmt.Sprint(err)
	})
}

func (s *Stage) rolledOut(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	w := s.Subject.Workload
	return until(ctx, fmt.Sprintf("Deployment %s has %d available replicas of image %s", w.Name, workloadReplicas, w.Image),
		func(ctx context.Context) (bool, string) {
			d, err := client.AppsV1().Deployments(w.Namespace).Get(ctx, w.Name, metav1.GetOptions{})
			if err != nil {
				return false, err.Error()
			}
			done := d.Status.ObservedGeneration >= d.Generation && d.Status.AvailableReplicas == workloadReplicas && d.Status.Replicas == workloadReplicas
			return done, fmt.Sprintf("%d of %d available%s", d.Status.AvailableReplicas, workloadReplicas, s.stuckPods(ctx, client))
		})
}

// stuckPods says why pods of the workload don't start, as far as their statuses tell.
func (s *Stage) stuckPods(ctx context.Context, client kubernetes.Interface) string {
	found, err := client.CoreV1().Pods(s.Subject.Workload.Namespace).List(ctx, metav1.ListOptions{LabelSelector: s.Subject.Workload.Selector()})
	if err != nil {
		return ""
	}
	var out []string
	for _, p := range found.Items {
		for _, c := range p.Status.ContainerStatuses {
			if w := c.State.Waiting; w != nil {
				out = append(out, fmt.Sprintf("; pod %s waits: %s %s", p.Name, w.Reason, w.Message))
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

// Tools makes sure that etcd's command line tools are on the node.
func (s *Stage) Tools() plan.Step {
	// The image of etcd has both tools. Being static programs they run outside of the container as well.
	const fetch = `command -v etcdctl && command -v etcdutl || cp /proc/$(pidof -s etcd)/root/usr/local/bin/etcdctl /proc/$(pidof -s etcd)/root/usr/local/bin/etcdutl /usr/local/bin/`
	return plan.Step{
		Name:  "find-tools",
		Phase: plan.Arrange,
		Title: "Get etcdctl and etcdutl",
		Why: "`etcdctl` speaks to a running etcd; `etcdutl` works on its files. Since etcd 3.6 only `etcdutl` restores snapshots and shows their status. " +
			"They should be of the same version as the server. Where the node doesn't have them, they can be copied out of the running etcd container, whose image holds both. " +
			"(The variable ETCDCTL_API is no longer needed: version 3 of the API is the only one.)",
		Commands: []plan.Command{
			s.typed("sh", "-c", fetch),
			s.typed("etcdctl", "version"),
			s.typed("etcdutl", "version"),
		},
		Expect: "Two version numbers, the same as that of the etcd image in `/etc/kubernetes/manifests/etcd.yaml`.",
		Do:     func(ctx context.Context) error { return etcd.Ready(ctx, s.Subject.Worker) },
	}
}

// ReadEtcdCommand reads from the running etcd pod how etcd is to be reached.
func (s *Stage) ReadEtcdCommand() plan.Step {
	return plan.Step{
		Name:  "read-etcd-command",
		Phase: plan.Arrange,
		Title: "Read etcd's endpoints and certificate paths from its pod",
		Why: "Every `etcdctl` command needs an endpoint and three files: `--cacert` is etcd's `--trusted-ca-file`, `--cert` its `--cert-file`, `--key` its `--key-file`, " +
			"and `--endpoints` is one of its `--listen-client-urls`. They are read from the running pod rather than guessed.",
		Commands: []plan.Command{
			s.typed("kubectl", "-n", "kube-system", "get", "pod", "etcd-"+s.node(), "-o", `jsonpath={range .spec.containers[0].command[*]}{@}{"\n"}{end}`),
			s.typed("ls", "-l", "/etc/kubernetes/pki/etcd"),
		},
		Expect: "The command of etcd, a flag a line, `--data-dir` and the three files among them; and the files themselves.",
		Do:     s.readEtcdCommand,
	}
}

// readEtcdCommand holds what the API says of each etcd against the manifest on its node.
func (s *Stage) readEtcdCommand(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	for _, m := range s.Target.Members {
		pod, err := client.CoreV1().Pods(metav1.NamespaceSystem).Get(ctx, "etcd-"+m.Name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("the pod of etcd on node %s: %w", m.Name, err)
		}
		i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == controlplane.Etcd })
		if i < 0 {
			return errors.New("the etcd pod on " + m.Name + " has no container " + controlplane.Etcd)
		}
		running := controlplane.FlagsOf(&pod.Spec.Containers[i])
		for flag, want := range map[string]string{"data-dir": m.Etcd.Flags["data-dir"], "name": m.Etcd.Name} {
			if running[flag] != want {
				return fmt.Errorf("node %s: the manifest says --%s=%s, and the running etcd was started with %q: kubelet has not taken up the manifest, or can't", m.Name, flag, want, running[flag])
			}
		}
	}
	return nil
}

func (s *Stage) etcdctl(argv ...string) plan.Command {
	return s.typed(s.Target.Members[0].Etcd.Etcdctl(argv...)...)
}

// EtcdHealth asks etcd whether it is healthy.
func (s *Stage) EtcdHealth() plan.Step {
	return plan.Step{
		Name:     "etcd-health",
		Phase:    plan.Arrange,
		Title:    "Ask etcd whether it is healthy",
		Why:      "It shows that the endpoint and the certificates are right before anything depends on them. Healthy means that etcd answered a read that needs a quorum.",
		Commands: []plan.Command{s.etcdctl("endpoint", "health")},
		Expect:   "`is healthy: successfully committed proposal`, with the time that it took.",
		Do:       func(ctx context.Context) error { return etcd.Health(ctx, s.endpoint) },
	}
}

// EtcdStatus asks etcd for its version, size and leader.
func (s *Stage) EtcdStatus() plan.Step {
	return plan.Step{
		Name:     "etcd-status",
		Phase:    plan.Arrange,
		Title:    "Ask etcd for its status",
		Why:      "Version, size of the database, whether it is the leader, and the raft index: worth writing down next to a backup.",
		Commands: []plan.Command{s.etcdctl("endpoint", "status", "--write-out=table"), s.etcdctl("member", "list", "--write-out=table")},
		Expect:   "One line a member. The name in the member list is the one that a restore must keep.",
		Do: func(ctx context.Context) error {
			members, err := etcd.Members(ctx, s.endpoint)
			if err != nil {
				return err
			}
			if len(members) != len(s.Target.Members) {
				return fmt.Errorf("etcd has %d members and the cluster %d control planes: restoring needs one etcd on each control plane", len(members), len(s.Target.Members))
			}
			return nil
		},
	}
}
