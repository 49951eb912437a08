package stage

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/procedure"
)

const (
	etcdManifest   = "/etc/kubernetes/manifests/etcd.yaml"
	serverManifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
	kubeletCert    = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	nodeDir        = "/var/lib/drill/a-run"
)

var errLost = errors.New("connection lost")

// readOnly are the programs that may be run on a node before a run begins, with what must follow, where they could do more than read.
var readOnly = map[string]string{
	"true": "", "test": "", "stat": "", "df": "", "date": "", "ps": "", "grep": "", "sed": "--quiet", "systemctl": "show", "realpath": "", "find": "/etc/kubernetes/manifests",
}

// sound is a control plane as kubeadm sets it up, in perfect order until a test changes something. It records what is done to it. Its files lie in a
// folder of this machine, where grep and sed really run; the other programs have prepared answers.
type sound struct {
	t       testing.TB
	name    string
	address string
	root    string
	// answers are what programs print; one with a nil error exits 0.
	answers map[string]answer
	exists  []string // what is there besides files
	lost    func(argv []string) bool

	mu      sync.Mutex
	ran     [][]string
	printed bytes.Buffer
	written []string
}

type answer struct {
	out  string
	code int
}

func newSound(t testing.TB, name, address string) *sound {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("grep and sed must be those of GNU, as they are on nodes")
	}
	s := &sound{t: t, name: name, address: address, root: t.TempDir(), lost: func([]string) bool { return false }}
	s.answers = map[string]answer{
		"true":      {},
		"systemctl": {"LoadState=loaded\nActiveState=active\nSubState=running\n", 0},
		"ps": {"   2723 Ssl  0::/../../kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podb5a4.slice/cri-containerd-4b0b.scope\n" +
			"   2800 Z    -\n", 0},
		"df":   {"File            1B-blocks  IFree Inodes Mounted on\n/var/lib 10737418240 655360 655361 /var\n/var     10737418240 655360 655361 /var\n/         1048576 10 655361 /\n", 1},
		"stat": {"20480000\n", 0},
	}
	for _, f := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		b, err := os.ReadFile("../controlplane/testdata/" + f + "-v1.37.yaml")
		if err != nil {
			t.Fatal(err)
		}
		s.write("/etc/kubernetes/manifests/"+f+".yaml", strings.NewReplacer("172.18.0.3", address, "cp-a", name).Replace(string(b)))
	}
	cert, key := pair(t, -time.Hour, time.Hour)
	for _, f := range []string{"etcd/server.crt", "etcd/peer.crt", "apiserver-etcd-client.crt", "apiserver.crt"} {
		s.write("/etc/kubernetes/pki/"+f, cert)
	}
	authority, _ := pair(t, -24*time.Hour, 24*time.Hour) // they live longer than what they sign
	for _, f := range []string{"etcd/ca.crt", "ca.crt"} {
		s.write("/etc/kubernetes/pki/"+f, authority)
	}
	s.write(kubeletCert, cert+key)
	for _, f := range []string{"admin", "controller-manager", "scheduler"} {
		s.kubeconfig("/etc/kubernetes/"+f+".conf", clientcmdapi.AuthInfo{ClientCertificateData: []byte(cert), ClientKeyData: []byte(key), Token: "secret-token"})
	}
	s.kubeconfig("/etc/kubernetes/kubelet.conf", clientcmdapi.AuthInfo{ClientCertificate: kubeletCert, ClientKey: kubeletCert})
	return s
}

// pair is a certificate that is valid from and until so long after now, and its key, as PEM.
func pair(t testing.TB, from, until time.Duration) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "someone"}, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(encodePEM("CERTIFICATE", der)), string(encodePEM("PRIVATE KEY", private))
}

func (s *sound) kubeconfig(file string, user clientcmdapi.AuthInfo) {
	s.t.Helper()
	b, err := clientcmd.Write(clientcmdapi.Config{
		CurrentContext: "it",
		Contexts:       map[string]*clientcmdapi.Context{"it": {Cluster: "c", AuthInfo: "me"}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"me": &user},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(file, string(b))
}

func (s *sound) write(file, content string) {
	s.t.Helper()
	at := filepath.Join(s.root, file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, []byte(content), 0o600)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sound) change(file, old, with string) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.root, file))
	if err != nil || !strings.Contains(string(b), old) {
		s.t.Fatalf("%s has no %q: %v", file, old, err)
	}
	s.write(file, strings.ReplaceAll(string(b), old, with))
}

func (s *sound) remove(file string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.root, file)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sound) Name() string     { return s.name }
func (*sound) Role() cluster.Role { return cluster.ControlPlane }
func (s *sound) Address() string  { return s.address }

func (s *sound) ReadFile(ctx context.Context, file string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.lost([]string{"ReadFile", file}) {
		return nil, errLost
	}
	b, err := os.ReadFile(filepath.Join(s.root, file))
	if err != nil {
		return nil, fmt.Errorf("reading %s on node %s: %w", file, s.name, fs.ErrNotExist)
	}
	return b, nil
}

func (s *sound) WriteFile(_ context.Context, file string, _ fs.FileMode, _ io.Reader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = append(s.written, file)
	return nil
}

func (s *sound) Exec(ctx context.Context, cmd cluster.Cmd) (cluster.Result, error) {
	if err := ctx.Err(); err != nil {
		return cluster.Result{}, err
	}
	if s.lost(cmd.Argv) {
		return cluster.Result{}, errLost
	}
	a := s.answer(ctx, cmd.Argv)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran = append(s.ran, cmd.Argv)
	s.printed.WriteString(a.out)
	res := cluster.Result{Stdout: []byte(a.out)}
	if cmd.Stdout != nil {
		res.Stdout = nil
		if _, err := io.WriteString(cmd.Stdout, a.out); err != nil {
			s.t.Error(err)
		}
	}
	if a.code != 0 {
		return res, &cluster.ExitError{Node: s.name, Cmd: cmd, Code: a.code, Output: string(res.Stdout)}
	}
	return res, nil
}

func (s *sound) answer(ctx context.Context, argv []string) answer {
	if a, ok := s.answers[argv[0]]; ok {
		return a
	}
	switch argv[0] {
	case "date":
		return answer{out: time.Now().UTC().Format(time.RFC3339) + "\n"}
	case "test":
		if !slices.Equal(argv[:3], []string{"test", "!", "-e"}) {
			s.t.Errorf("unexpected: %q", argv)
		}
		if slices.Contains(s.exists, argv[3]) {
			return answer{code: 1}
		}
		return answer{}
	case "grep", "sed", "find":
		at := slices.Clone(argv[1:])
		for i := slices.Index(at, "--") + 1; i < len(at); i++ {
			at[i] = filepath.Join(s.root, at[i])
			if argv[0] == "find" { // has its folder first
				break
			}
		}
		c := exec.CommandContext(ctx, argv[0], at...)
		out, err := c.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			s.t.Error(err)
		}
		return answer{strings.ReplaceAll(string(out), s.root, ""), c.ProcessState.ExitCode()}
	}
	s.t.Errorf("unexpected: %q", argv)
	return answer{code: 127}
}

// untouched makes sure that nothing but reading was done, and that no key left the node.
func (s *sound) untouched() {
	s.t.Helper()
	if len(s.written) > 0 {
		s.t.Errorf("node %s: files were written: %q", s.name, s.written)
	}
	for _, argv := range s.ran {
		then, ok := readOnly[argv[0]]
		if !ok || then != "" && argv[1] != then {
			s.t.Errorf("node %s: %q is not known only to read", s.name, argv)
		}
		for _, arg := range argv {
			if argv[0] == "sed" && (strings.HasPrefix(arg, "-i") || strings.HasPrefix(arg, "--in-place")) {
				s.t.Errorf("node %s: %q writes", s.name, argv)
			}
		}
	}
	for _, secret := range []string{"PRIVATE KEY", "client-key-data", "secret-token"} {
		if strings.Contains(s.printed.String(), secret) {
			s.t.Errorf("node %s: %q left the node", s.name, secret)
		}
	}
}

// several is a cluster of these control planes. Whoever asks for its kubeconfig has seen nothing that speaks against a run.
type several []*sound

var errBeyond = errors.New("no kubeconfig")

func (several) Name() string                               { return "lab" }
func (several) Provider() string                           { return "none" }
func (several) Kubeconfig(context.Context) ([]byte, error) { return nil, errBeyond }
func (c several) Nodes() (nodes []cluster.Node) {
	for _, s := range c {
		nodes = append(nodes, s)
	}
	return nodes
}

// set sets the stage on the nodes, and makes sure that nothing was touched there or here.
func set(ctx context.Context, t *testing.T, nodes ...*sound) error {
	t.Helper()
	return setFor(ctx, t, procedure.KubeletStop(), nodes...)
}

// setFor is set, for the procedure.
func setFor(ctx context.Context, t *testing.T, p procedure.Procedure, nodes ...*sound) error {
	t.Helper()
	dir := t.TempDir()
	_, err := Set(ctx, several(nodes), p, Options{RunID: "a-run", Dir: dir})
	for _, n := range nodes {
		n.untouched()
	}
	if left, readErr := os.ReadDir(dir); readErr != nil || len(left) > 0 {
		t.Errorf("the run's folder on this machine holds %v, %v", left, readErr)
	}
	return err
}

// reasons are what the error joins.
func reasons(err error) (all []*Refusal) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, reasons(e)...)
		}
		return all
	}
	if r, ok := err.(*Refusal); ok {
		return []*Refusal{r}
	}
	if inner := errors.Unwrap(err); inner != nil {
		return reasons(inner)
	}
	return nil
}

func TestSoundControlPlanesAreAccepted(t *testing.T) {
	for name, nodes := range map[string][]*sound{
		"one":   {newSound(t, "cp-a", "172.18.0.3")},
		"three": {newSound(t, "cp-a", "172.18.0.3"), newSound(t, "cp-b", "172.18.0.4"), newSound(t, "cp-c", "172.18.0.5")},
	} {
		if err := set(t.Context(), t, nodes...); !errors.Is(err, errBeyond) {
			t.Errorf("%s: %v", name, err)
		}
		for _, n := range nodes {
			if len(n.ran) > 10 { // each takes about as long as a command on a node of kind or over SSH does
				t.Errorf("%s: %d commands", name, len(n.ran))
			}
		}
	}
}

// TestOddControlPlanesAreAccepted: what is unusual and no reason to refuse.
func TestOddControlPlanesAreAccepted(t *testing.T) {
	for name, change := range map[string]func(*sound){
		"no administrator's kubeconfig":          func(s *sound) { s.remove("/etc/kubernetes/admin.conf") },
		"a kubeconfig without a current context": func(s *sound) { s.change("/etc/kubernetes/admin.conf", "current-context: it", `current-context: ""`) },
		"a kubeconfig with its names in quotes":  func(s *sound) { s.change("/etc/kubernetes/admin.conf", "client-key-data:", `"client-key-data" :`) },
		"kubelet's certificate is in its kubeconfig": func(s *sound) {
			cert, key := pair(s.t, -time.Hour, time.Hour)
			s.kubeconfig("/etc/kubernetes/kubelet.conf", clientcmdapi.AuthInfo{ClientCertificateData: []byte(cert), ClientKeyData: []byte(key)})
			s.remove(kubeletCert)
		},
		"kubelet's certificate has a relative name": func(s *sound) {
			s.kubeconfig("/etc/kubernetes/kubelet.conf", clientcmdapi.AuthInfo{ClientCertificate: "../../var/lib/kubelet/pki/kubelet-client-current.pem"})
		},
		"no etcd process": func(s *sound) { s.answers["ps"] = answer{code: 1} },
		"an etcd in a pod of somebody's": func(s *sound) {
			s.answers["ps"] = answer{out: "77 S 11:cpu:/kubepods/burstable/podabc/def,1:name=systemd:/kubepods/x\n"}
		},
		"the API server uses its address": func(s *sound) { s.change(serverManifest, "https://127.0.0.1:2379", "https://172.18.0.3:2379") },
		"the API server uses its name":    func(s *sound) { s.change(serverManifest, "https://127.0.0.1:2379", "https://cp-a:2379") },
		"the API server says localhost":   func(s *sound) { s.change(serverManifest, "https://127.0.0.1:2379", "https://localhost:2379") },
		"etcd listens everywhere": func(s *sound) {
			s.change(etcdManifest, "--listen-client-urls=https://127.0.0.1:2379,https://172.18.0.3:2379", "--listen-client-urls=https://0.0.0.0:2379")
		},
		"one of several servers is ours": func(s *sound) {
			s.change(serverManifest, "https://127.0.0.1:2379", "https://10.0.0.9:2379,https://172.18.0.3:2379")
		},
		"a file system without inodes":     func(s *sound) { s.answers["df"] = answer{"/var/lib 10737418240 0 0 /var\n", 1} },
		"inodes that are not told":         func(s *sound) { s.answers["df"] = answer{"/var/lib 10737418240 - - /var\n", 1} },
		"a mount with a space in its name": func(s *sound) { s.answers["df"] = answer{"/var/lib 10737418240 1000 1000 /var lib\n", 0} },
		"an authority that replaces another": func(s *sound) {
			old, _ := pair(s.t, -2*time.Hour, -time.Hour)
			now, _ := pair(s.t, -time.Hour, time.Hour)
			s.write("/etc/kubernetes/pki/ca.crt", old+now)
		},
		"an authority beside what can't be read": func(s *sound) {
			now, _ := pair(s.t, -time.Hour, time.Hour)
			s.write("/etc/kubernetes/pki/ca.crt", "-----BEGIN CERTIFICATE-----\nb29wcw==\n-----END CERTIFICATE-----\n"+now)
		},
		"a certificate behind something else": func(s *sound) {
			cert, key := pair(s.t, -time.Hour, time.Hour)
			s.write("/etc/kubernetes/pki/apiserver.crt", "Certificate:\n  Data\n"+key+cert)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSound(t, "cp-a", "172.18.0.3")
			change(s)
			if err := set(t.Context(), t, s); !errors.Is(err, errBeyond) {
				t.Error(err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	type test struct {
		change func(*sound)
		says   []string
	}
	tests := map[string]test{
		"no command runs": {
			func(s *sound) { s.lost = func([]string) bool { return true } },
			[]string{"node cp-a: it can't be reached: seen: connection lost; wanted: a node on which commands run", "hint: see that the machine is up"},
		},
		"no command runs any more": {
			func(s *sound) { s.lost = func(argv []string) bool { return argv[0] != "ReadFile" } },
			[]string{"node cp-a: it can't be reached: seen: ", "connection lost; wanted"}, // which question notices first is by chance
		},
		"no file can be read any more": {
			func(s *sound) { s.lost = func(argv []string) bool { return argv[len(argv)-1] == serverManifest } },
			[]string{"node cp-a: it can't be reached: seen: read ", " of node cp-a: connection lost; wanted"}, // two questions read that file
		},
		"etcd's data is below its volume": {
			func(s *sound) {
				s.change(etcdManifest, "path: /var/lib/etcd\n", "path: /var/lib\n")
				s.change(etcdManifest, "mountPath: /var/lib/etcd\n", "mountPath: /var/lib\n")
			},
			[]string{"node cp-a: etcd's data directory is no volume of its own: seen: it is etcd below its volume etcd-data; wanted: a volume that is the data directory"},
		},
		"etcd's write-ahead log is elsewhere": {
			func(s *sound) { s.change(etcdManifest, "    - --name=", "    - --wal-dir=/wal\n    - --name=") },
			[]string{"node cp-a: etcd keeps its write-ahead log outside of its data directory: seen: --wal-dir=/wal; wanted: "},
		},
		"etcd is not root": {
			func(s *sound) {
				s.change(etcdManifest, "    seccompProfile:\n", "    runAsUser: 1001\n    seccompProfile:\n")
			},
			[]string{"node cp-a: etcd does not run as root: seen: runAsUser: 1001; wanted: "},
		},
		"the scheduler's manifest has another name": {
			func(s *sound) { s.remove("/etc/kubernetes/manifests/kube-scheduler.yaml") },
			[]string{"node cp-a: whether its kube-scheduler is ready can't be told: seen: ", "kubeadm init phase control-plane scheduler --dry-run"},
		},
		"the controller manager has no probe": {
			func(s *sound) {
				s.write("/etc/kubernetes/manifests/kube-controller-manager.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-controller-manager, namespace: kube-system}\nspec: {containers: [{name: kube-controller-manager}]}\n")
			},
			[]string{"node cp-a: whether its kube-controller-manager is ready can't be told: seen: container kube-controller-manager has no readiness or liveness probe over HTTP"},
		},
		"a copy of etcd's manifest lies beside it": {
			func(s *sound) {
				s.write(etcdManifest+".bak", "kind: Pod\nmetadata: {name: etcd, namespace: kube-system}\nspec: {containers: [{name: etcd}]}\n")
			},
			[]string{
				"node cp-a: files in the folder of the manifests are in each other's way: seen: " + etcdManifest + ".bak on cp-a: expected one manifest of pod kube-system/etcd, " + etcdManifest + ", seen a second one",
				"hint: move what doesn't belong there out of /etc/kubernetes/manifests",
			},
		},
		"a file among the manifests is no pod": {
			func(s *sound) { s.write("/etc/kubernetes/manifests/notes.txt", "restart on Mondays") },
			[]string{"files in the folder of the manifests are in each other's way: seen: /etc/kubernetes/manifests/notes.txt on cp-a: expected a pod's manifest, seen "},
		},
		"the manifests can't be listed": {
			func(s *sound) { s.answers["find"] = answer{"find: not found", 127} },
			[]string{"node cp-a: which manifests kubelet runs can't be told: seen: list /etc/kubernetes/manifests of node cp-a"},
		},
		"no systemd": {
			func(s *sound) {
				s.answers["systemctl"] = answer{"System has not been booted with systemd as init system (PID 1). Can't operate.", 1}
			},
			[]string{"node cp-a: kubelet does not run as a unit of systemd: seen: ask systemd", "not been booted with systemd", "hint: drill needs nodes that are run by systemd"},
		},
		"no systemctl": {
			func(s *sound) {
				s.answers["systemctl"] = answer{`exec: "systemctl": executable file not found in $PATH`, 127}
			},
			[]string{"node cp-a: kubelet does not run as a unit of systemd", "executable file not found", "hint: drill needs nodes that are run by systemd"},
		},
		"kubelet is no unit": {
			func(s *sound) {
				s.answers["systemctl"] = answer{"LoadState=not-found\nActiveState=inactive\nSubState=dead\n", 0}
			},
			[]string{"node cp-a: kubelet does not run as a unit of systemd: seen: LoadState=not-found, ActiveState=inactive (dead); wanted: a unit kubelet that is loaded and active", "hint: on the node, `systemctl status kubelet`"},
		},
		"kubelet is stopped": {
			func(s *sound) {
				s.answers["systemctl"] = answer{"LoadState=loaded\nActiveState=inactive\nSubState=dead\n", 0}
			},
			[]string{"seen: LoadState=loaded, ActiveState=inactive (dead)"},
		},
		"kubelet keeps ending": {
			func(s *sound) {
				s.answers["systemctl"] = answer{"LoadState=loaded\nActiveState=activating\nSubState=auto-restart\n", 0}
			},
			[]string{"seen: LoadState=loaded, ActiveState=activating (auto-restart)"},
		},
		"etcd is external": {
			func(s *sound) {
				s.change(serverManifest, "https://127.0.0.1:2379", "https://10.0.0.9:2379,https://10.0.0.10:2379")
			},
			[]string{"node cp-a: its API server stores in another etcd: seen: --etcd-servers=https://10.0.0.9:2379,https://10.0.0.10:2379 in " + serverManifest + ", and the static pods of etcd serve https://172.18.0.3:2379", "hint: drill is for control planes made by kubeadm"},
		},
		"etcd is on another port": {
			func(s *sound) { s.change(serverManifest, "https://127.0.0.1:2379", "https://127.0.0.1:12379") },
			[]string{"node cp-a: its API server stores in another etcd"},
		},
		"another etcd runs": {
			func(s *sound) {
				s.answers["ps"] = answer{s.answers["ps"].out + "    812 Ssl  0::/system.slice/etcd.service\n", 0}
			},
			[]string{"node cp-a: an etcd runs there that is no static pod's: seen: process 812 in control group /system.slice/etcd.service; wanted", "hint: `systemctl status 812`"},
		},
		"another etcd runs, and control groups are of version 1": {
			func(s *sound) {
				s.answers["ps"] = answer{"812 Ssl 9:name=systemd:/system.slice/etcd.service,2:cpuacct:/,1:cpu:/,0::/system.slice/etcd.service\n", 0}
			},
			[]string{"seen: process 812 in control group /system.slice/etcd.service; wanted"},
		},
		"processes can't be listed": {
			func(s *sound) { s.answers["ps"] = answer{"ps: not found", 127} },
			[]string{"node cp-a: its processes can't be listed", "ps: not found", "hint: see that `ps` is on the node"},
		},
		"no manifest of the API server": {
			func(s *sound) { s.remove(serverManifest) },
			[]string{"node cp-a: what its API server needs is not known: seen: read the manifest of the API server of node cp-a: reading " + serverManifest, "hint: put its manifest back"},
		},
		"an API server without etcd": {
			func(s *sound) { s.change(serverManifest, "    - --etcd-servers=https://127.0.0.1:2379\n", "") },
			[]string{"node cp-a: what its API server needs is not known", "no --etcd-servers"},
		},
		"a file that holds no certificate": {
			func(s *sound) { s.write("/etc/kubernetes/pki/apiserver.crt", "oops\n") },
			[]string{"the API server's serving certificate (/etc/kubernetes/pki/apiserver.crt) can't be read: the file is not there, or holds no certificate"},
		},
		"an authority that has expired": {
			func(s *sound) {
				old, _ := pair(s.t, -2*time.Hour, -time.Hour)
				older, _ := pair(s.t, -3*time.Hour, -2*time.Hour)
				s.write("/etc/kubernetes/pki/etcd/ca.crt", old+older)
			},
			[]string{
				"node cp-a: authorities of its control plane are not valid: seen: the authority by which etcd knows its clients (/etc/kubernetes/pki/etcd/ca.crt) expired at ",
				"hint: compare the clocks; `kubeadm certs renew` leaves authorities alone",
			},
		},
		"an authority's file that is gone": {
			func(s *sound) { s.remove("/etc/kubernetes/pki/ca.crt") },
			[]string{"authorities of its control plane are not valid: seen: the authority by which the API server knows its clients (/etc/kubernetes/pki/ca.crt) can't be read: the file is not there"},
		},
		"etcd's data path is an alias": {
			func(s *sound) {
				s.change(etcdManifest, "path: /var/lib/etcd\n", "path: *data\n")
				s.change(etcdManifest, "mountPath: /var/lib/etcd\n", "mountPath: &data /var/lib/etcd\n")
			},
			[]string{"node cp-a: the path of etcd's data directory can't be changed in its manifest: seen: ", "hint: write hostPath of volume etcd-data in " + etcdManifest + " without an anchor, alias or tag"},
		},
		"a file that is gone": {
			func(s *sound) { s.remove("/etc/kubernetes/pki/etcd/peer.crt") },
			[]string{"etcd's certificate towards other members (/etc/kubernetes/pki/etcd/peer.crt) can't be read: the file is not there"},
		},
		"no kubeconfig": {
			func(s *sound) { s.write("/etc/kubernetes/scheduler.conf", "a: [\n") },
			[]string{"node cp-a: a kubeconfig can't be read: seen: /etc/kubernetes/scheduler.conf: ", "hint: `kubeadm init phase kubeconfig`"},
		},
		"the node's clock is behind": {
			func(s *sound) {
				s.answers["date"] = answer{time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339), 0}
			},
			[]string{"(/etc/kubernetes/scheduler.conf) is not valid before", "; it is 20", "Z there; wanted: valid certificates", "hint: compare the clocks"},
		},
		"the node's clock is ahead": {
			func(s *sound) {
				s.answers["date"] = answer{time.Now().Add(2 * time.Hour).UTC().Format(time.RFC3339), 0}
			},
			[]string{"(/etc/kubernetes/scheduler.conf) expired at", "Z there; wanted: valid certificates"},
		},
		"no clock": {
			func(s *sound) { s.answers["date"] = answer{"soon", 0} },
			[]string{"node cp-a: its clock can't be read: seen: parsing time"},
		},
		"date fails": {
			func(s *sound) { s.answers["date"] = answer{"oops", 1} },
			[]string{"node cp-a: its clock can't be read: seen: on node cp-a: date"},
		},
		"the disk is full": {
			func(s *sound) {
				s.answers["df"] = answer{"/var/lib/drill 100000000 655360 655361 /var/lib/drill\n/var/lib 10737418240 655360 655361 /var\n", 1}
			},
			[]string{"node cp-a: its disk is too full: seen: 95 MiB free on /var/lib/drill; wanted: 283 MiB and 100 inodes, room for the data directory that is restored and for that of a rollback (a database of 20 MiB)", "hint: make room there"},
		},
		"no inodes": {
			func(s *sound) { s.answers["df"] = answer{"/var/lib 10737418240 3 655361 /var\n", 1} },
			[]string{"node cp-a: its disk is too full: seen: 3 inodes free on /var; wanted: 283 MiB and 100 inodes"},
		},
		"df says nothing": {
			func(s *sound) { s.answers["df"] = answer{"oops", 0} },
			[]string{`node cp-a: what is free on its disk can't be told: seen: df says "oops"`},
		},
		"df fails": {
			func(s *sound) { s.answers["df"] = answer{"", 127} },
			[]string{"node cp-a: what is free on its disk can't be told: seen: on node cp-a: df"},
		},
		"this machine's disk is full": {
			func(s *sound) {
				s.answers["df"] = answer{"/var/lib 4611686018427387904 655360 655361 /var\n", 1}
				s.answers["stat"] = answer{"1125899906842624", 0}
			},
			[]string{"this machine: its disk is too full: seen: ", "wanted: 3221225594 MiB and 100 inodes, room for the snapshot and for what is restored for 1 control planes", "hint: make room there, or set XDG_STATE_HOME"},
		},
		"no database": {
			func(s *sound) { s.answers["stat"] = answer{"stat: cannot statx", 1} },
			[]string{"node cp-a: the size of etcd's database can't be told: seen: on node cp-a: stat --format=%s -- /var/lib/etcd/member/snap/db", "hint: compare --data-dir"},
		},
		"an empty database": {
			func(s *sound) { s.answers["stat"] = answer{"0", 0} },
			[]string{`node cp-a: the size of etcd's database can't be told: seen: stat says "0"`},
		},
		"the data directory is there": {
			func(s *sound) { s.exists = []string{nodeDir + "/etcd"} },
			[]string{"node cp-a: a directory is there already that the run makes: seen: " + nodeDir + "/etcd; wanted: no such file or folder", "hint: a run's directories carry its name"},
		},
		"the rollback's directory is there": {
			func(s *sound) { s.exists = []string{nodeDir + "/etcd-rolled-back"} },
			[]string{"node cp-a: a directory is there already that the run makes: seen: " + nodeDir + "/etcd-rolled-back"},
		},
	}
	expired, key := pair(t, -2*time.Hour, -time.Hour)
	embedded := func(file string) func(*sound) {
		return func(s *sound) {
			s.kubeconfig(file, clientcmdapi.AuthInfo{ClientCertificateData: []byte(expired), ClientKeyData: []byte(key)})
		}
	}
	inFile := func(file string) func(*sound) { return func(s *sound) { s.write(file, expired+key) } }
	for file, c := range map[string]struct {
		of     string
		change func(string) func(*sound)
	}{
		"/etc/kubernetes/pki/etcd/server.crt":           {"etcd's serving certificate", inFile},
		"/etc/kubernetes/pki/etcd/peer.crt":             {"etcd's certificate towards other members", inFile},
		"/etc/kubernetes/pki/apiserver-etcd-client.crt": {"the API server's certificate towards etcd", inFile},
		"/etc/kubernetes/pki/apiserver.crt":             {"the API server's serving certificate", inFile},
		"/etc/kubernetes/admin.conf":                    {"the client certificate of the administrator", embedded},
		"/etc/kubernetes/controller-manager.conf":       {"the client certificate of the controller manager", embedded},
		"/etc/kubernetes/scheduler.conf":                {"the client certificate of the scheduler", embedded},
	} {
		tests["expired: "+file] = test{c.change(file), []string{
			"node cp-a: certificates of its control plane are not valid: seen: " + c.of + " (" + file + ") expired at", "`kubeadm certs renew all`",
		}}
	}
	tests["expired: "+kubeletCert] = test{inFile(kubeletCert), []string{
		"node cp-a: kubelet's certificate is not valid: seen: the client certificate of kubelet (" + kubeletCert + ") expired at", "`kubeadm certs renew` leaves this one alone",
	}}
	tests["expired: kubelet.conf"] = test{embedded("/etc/kubernetes/kubelet.conf"), []string{"node cp-a: kubelet's certificate is not valid: seen: the client certificate of kubelet (/etc/kubernetes/kubelet.conf)"}}

	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSound(t, "cp-a", "172.18.0.3")
			c.change(s)
			err := set(t.Context(), t, s)
			prefix, want := "cluster lab can't be drilled as it is, and nothing was touched: ", 1
			if strings.Contains(name, "the node's clock is") { // nor is kubelet's certificate valid then, which is another reason
				prefix, want = "cluster lab can't be drilled as it is, for 2 reasons, and nothing was touched:\n", 2
			}
			if all := reasons(err); len(all) != want || !strings.HasPrefix(err.Error(), prefix) {
				t.Fatalf("%d reasons: %v", len(all), err)
			}
			for _, want := range append(c.says, "; hint: ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
		})
	}
}

// TestAllRefusalsAreTold: of every node, and of this machine.
func TestAllRefusalsAreTold(t *testing.T) {
	a, b, c := newSound(t, "cp-a", "172.18.0.3"), newSound(t, "cp-b", "172.18.0.4"), newSound(t, "cp-c", "172.18.0.5")
	a.exists = []string{nodeDir + "/etcd", nodeDir + "/etcd-rolled-back"}
	a.answers["systemctl"] = answer{"LoadState=loaded\nActiveState=failed\nSubState=failed\n", 0}
	a.answers["stat"] = answer{"1125899906842624", 0} // the largest counts for all
	b.lost = func([]string) bool { return true }
	err := set(t.Context(), t, a, b, c)
	var got []string
	for _, r := range reasons(err) {
		got = append(got, r.Node+": "+r.What)
	}
	want := []string{
		"cp-a: a directory is there already that the run makes",
		"cp-a: a directory is there already that the run makes",
		"cp-a: kubelet does not run as a unit of systemd",
		"cp-a: its disk is too full",
		"cp-b: it can't be reached",
		"cp-c: its disk is too full",
		": its disk is too full",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q,\nwant %q", got, want)
	}
	if !errors.Is(err, errLost) || !errors.Is(err, cluster.ErrOccupied) {
		t.Errorf("the causes are not wrapped: %v", err)
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 1+len(want) || lines[0] != "cluster lab can't be drilled as it is, for 7 reasons, and nothing was touched:" {
		t.Errorf("%d lines: %v", len(lines), err)
	}
}

func TestRunFolderMissing(t *testing.T) {
	_, err := Set(t.Context(), several{newSound(t, "cp-a", "172.18.0.3")}, procedure.KubeletStop(), Options{RunID: "a-run", Dir: filepath.Join(t.TempDir(), "none")})
	if all := reasons(err); len(all) != 1 || !strings.Contains(err.Error(), "this machine: what is free on its disk can't be told: seen: statfs ") || !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestNoEtcdOfKubeadm(t *testing.T) {
	a, b := newSound(t, "cp-a", "172.18.0.3"), newSound(t, "cp-b", "172.18.0.4")
	a.remove(etcdManifest)
	b.write(etcdManifest, "")
	err := set(t.Context(), t, a, b)
	for _, want := range []string{"for 2 reasons", "\nnode cp-a: read the etcd manifest", "\nnode cp-b: " + etcdManifest, "drill needs a control plane made by kubeadm with its own etcd"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
	if len(a.ran)+len(b.ran) > 0 {
		t.Errorf("something else was asked: %q %q", a.ran, b.ran)
	}
}

func TestPreflightEnds(t *testing.T) {
	t.Run("with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := set(ctx, t, newSound(t, "cp-a", "172.18.0.3"))
		if !errors.Is(err, context.Canceled) || len(reasons(err)) > 0 {
			t.Error(err)
		}
	})
	t.Run("when a node never answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, err := Set(t.Context(), alone{silent{}}, procedure.KubeletStop(), Options{RunID: "a-run", Dir: t.TempDir()})
			if all := reasons(err); len(all) != 1 || all[0].What != "it can't be reached" || !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	})
}

// silent is a control plane that answers nothing.
type silent struct{ cluster.Node }

func (silent) Name() string       { return "cp-a" }
func (silent) Role() cluster.Role { return cluster.ControlPlane }
func (silent) ReadFile(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// alone is a cluster of one node.
type alone struct{ node cluster.Node }

func (alone) Name() string                               { return "lab" }
func (alone) Provider() string                           { return "none" }
func (alone) Kubeconfig(context.Context) ([]byte, error) { return nil, errBeyond }
func (a alone) Nodes() []cluster.Node                    { return []cluster.Node{a.node} }
