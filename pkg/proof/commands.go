package proof

import (
	"fmt"
	"strconv"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// commands are how a person looks at what a check looks at, by the check's name. They are for one who has a shell on the first control plane.
func commands(s *Subject) map[string][]plan.Command {
	if len(s.Members) == 0 {
		return nil
	}
	on := s.Members[0].Name
	w := s.Workload
	run := func(argv ...string) plan.Command { return plan.Command{On: on, Argv: argv} }
	pipe := func(c plan.Command, to ...string) plan.Command { c.PipeTo = to; return c }
	until := func(c plan.Command) plan.Command { c.Until = true; return c } // kube-proxy learns of new addresses a moment later
	fresh := NewWork(w)
	etcdctl := func(args ...string) plan.Command { return run(s.Members[0].Etcd.Etcdctl(args...)...) }
	intact := []plan.Command{
		// The last 32 bytes are the SHA-256 of all bytes before them; the two lines must show the same digits.
		pipe(run("head", "-c", "-32", s.NodeSnapshot), "sha256sum"),
		pipe(run("tail", "-c", "32", s.NodeSnapshot), "od", "-An", "-v", "-tx1", "-w32"),
	}
	if s.Given != nil && s.Given.NoChecksum {
		intact = []plan.Command{run("etcdutl", "snapshot", "status", s.NodeSnapshot)}
	}
	byHand := map[string][]plan.Command{
		"snapshot-intact": intact,
		"objects-restored": {
			run("kubectl", "get", "deployments,replicasets,pods,services", "-l", w.Selector(), "-o", "custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid"),
		},
		"reads-agree": {
			run("kubectl", "get", "deployment", w.Name),
			run("kubectl", "get", "deployments", "-l", w.Selector()),
			pipe(run("kubectl", "get", "--raw", fmt.Sprintf("/apis/apps/v1/namespaces/%s/deployments?labelSelector=app%%3D%s&resourceVersion=0", w.Namespace, w.Name)), "grep", "-c", "uid"),
		},
		"status-backed": {
			run("kubectl", "get", "pods", "-l", w.Selector(), "-o", "custom-columns=NAME:.metadata.name,PHASE:.status.phase,CONTAINER:.status.containerStatuses[0].containerID"),
			run("crictl", "ps", "--no-trunc", "--name", "^"+w.Name+"$"),
		},
		"no-phantoms": {
			pipe(run("crictl", "pods", "--state", "ready", "-o", "json"), "jq", "-r", `.items[].metadata | "\(.uid) \(.namespace)/\(.name)"`),
			run("kubectl", "get", "pods", "-A", "-o", `custom-columns=UID:.metadata.uid,STATIC:.metadata.annotations.kubernetes\.io/config\.hash,NAMESPACE:.metadata.namespace,NAME:.metadata.name`),
		},
		"node-heartbeat": {
			run("kubectl", "-n", "kube-node-lease", "get", "leases", "-o", "custom-columns=NODE:.metadata.name,RENEWED:.spec.renewTime"),
			run("date", "--utc", "+%FT%T"),
		},
		"revision-forward": {
			pipe(etcdctl("endpoint", "status", "-w", "json"), "jq", ".[].Status.header.revision"),
		},
		"members-agree": {
			etcdctl("endpoint", "status", "--cluster", "-w", "table"),
			etcdctl("endpoint", "hashkv", "--cluster", "-w", "table"),
			etcdctl("alarm", "list"),
		},
		"no-drift": {
			run("ls", "-A", "/etc/kubernetes/manifests"),
			pipe(run("cat", "/etc/kubernetes/manifests/etcd.yaml"), "grep", "path: /var/lib"),
			pipe(run("kubectl", "-n", "kube-system", "get", "configmap", "kubeadm-config", "-o", "jsonpath={.data.ClusterConfiguration}"), "grep", "dataDir"),
		},
		"ledger-exact": {
			pipe(etcdctl("get", "/registry/", "--prefix", "--keys-only"), "grep", "-c", "registry"),
			pipe(run("etcdutl", "snapshot", "status", s.NodeSnapshot, "-w", "json"), "jq", ".totalKey"),
		},
		"secrets-safe": {
			run("stat", "--format=%a %n", s.NodeSnapshot, s.DataDir),
			{On: on, Argv: []string{"journalctl", "--unit", "kubelet", "--no-pager"}, PipeTo: []string{"grep", "-c", "PRIVATE KEY"}, Fails: true},
		},
		"service-answers": {
			until(pipe(run("kubectl", "get", "service", w.Name, "-o", "jsonpath={.spec.clusterIP}"),
				"xargs", "-I{}", "curl", "-fsS", "-o", "/dev/null", "-w", `%{http_code}\n`, "http://{}:"+strconv.Itoa(w.Port)+"/")),
			pipe(run("kubectl", "get", "pods", "-l", w.Selector(), "-o", `jsonpath={range .items[*]}{.status.podIP}{"\n"}{end}`),
				"xargs", "-I{}", "curl", "-fsS", "-o", "/dev/null", "-w", `%{http_code}\n`, "http://{}:"+strconv.Itoa(w.Port)+"/"),
		},
		"control-plane-renewed": {
			run("stat", "--format=%z", s.swapped(s.Members[0])),
			run("systemctl", "show", "kubelet", "--property=ActiveEnterTimestamp"),
			run("crictl", "ps", "--name", "^(etcd|kube-apiserver|kube-controller-manager|kube-scheduler)$"),
			pipe(run("crictl", "ps", "-q", "--name", "^etcd$"),
				"xargs", "-r", "crictl", "inspect", "-o", "go-template", "--template", `{{range .status.mounts}}{{.hostPath}}{{"\n"}}{{end}}`),
		},
		"new-work-runs": {
			run("kubectl", "create", "deployment", fresh, "--image="+w.Image, "--port="+strconv.Itoa(w.Port)),
			run("kubectl", "rollout", "status", "deployment/"+fresh, "--timeout=60s"),
			run("kubectl", "get", "pods", "-l", "app="+fresh, "-o", "wide"),
			run("kubectl", "delete", "deployment", fresh),
		},
	}
	if s.Swap != nil { // the paths are what they were, so the inodes tell
		byHand["control-plane-renewed"] = append(byHand["control-plane-renewed"],
			run("stat", "--format=%i %n", s.DataDir, s.Swap.Aside),
			pipe(run("pgrep", "-x", controlplane.Etcd), "xargs", "-I{}", "stat", "--format=%i %n", "/proc/{}/root"+s.Members[0].Etcd.DataDir))
	}
	return byHand
}
