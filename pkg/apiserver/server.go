package apiserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// Options say which kube-apiserver is started, and on what.
type Options struct {
	// Binary is the path of the program, see Find, and Version what it says that it is, see Check.
	Binary, Version string
	// Dir is a folder of this user's alone, in which the files are made that the program needs. It must exist, and is left as it is.
	Dir string
	// Etcd is where the data are, an address that begins with https://; CA, Cert and Key are in PEM, the latter two of a client.
	Etcd          string
	CA, Cert, Key []byte
	// ServiceRange is the range of Services' addresses in the data, as kube-apiserver's flag --service-cluster-ip-range takes it; "" is kubeadm's default.
	ServiceRange string
	// EncryptionConfig is the path of an EncryptionConfiguration; "" for none.
	EncryptionConfig string
}

// defaultRange is that of kubeadm (DefaultServicesSubnet in cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go of kubernetes).
const defaultRange = "10.96.0.0/12"

// Server is a kube-apiserver in a child of a child process, on a free port of the loopback address. It lets in only who knows the token that Start made.
type Server struct {
	// Config is how to reach it.
	Config *rest.Config
	// Version is what it says of itself, v1.37.2 for example.
	Version string

	end   context.CancelFunc
	ended chan struct{}
	err   error
}

// ErrNotReady says that a kube-apiserver was started and did not come to serve: what it found in etcd, or what it was given, may be why. Its last words are in the error.
var ErrNotReady = errors.New("kube-apiserver doesn't serve")

// ErrConfig says that the EncryptionConfiguration is none that kube-apiserver takes, or that a plugin which it names doesn't answer.
var ErrConfig = errors.New("EncryptionConfiguration")

// ErrUnfit says that the program can't be used here, whatever is in etcd: it doesn't know a flag that Kubernetes has had for years, or lacks a library.
var ErrUnfit = errors.New("kube-apiserver can't be used")

// ErrTime says that kube-apiserver had not answered a single time when its time was over.
var ErrTime = errors.New("kube-apiserver doesn't answer")

// because tells by its words what a kube-apiserver that doesn't serve says of itself; nil where what it found in etcd may be why.
func because(words string, encryption bool) error {
	says := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(words, text) })
	}
	switch {
	// LoadEncryptionConfig in k8s.io/apiserver's pkg/server/options/encryptionconfig, and the names of its checks of health for plugins.
	case encryption && says("error while parsing file", "error while building transformers", "kms-provider"):
		return ErrConfig
	case says("unknown flag:", "unknown shorthand flag:", "error while loading shared libraries"): // pflag's words and those of ld.so
		return ErrUnfit
	default:
		return nil
	}
}

// Find returns where kube-apiserver should be: the one in $KUBEBUILDER_ASSETS, where tools for tests of controllers put it (https://book.kubebuilder.io/reference/envtest.html), or the one in $PATH.
func Find(getenv func(string) string) (string, error) {
	const program = "kube-apiserver"
	if dir := getenv("KUBEBUILDER_ASSETS"); dir != "" {
		return filepath.Join(dir, program), nil
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("there is no %s in $PATH, and $KUBEBUILDER_ASSETS is not set; name one with --apiserver=PATH. `setup-envtest use` gets one, and so does each release of Kubernetes", program)
	}
	return path, nil
}

// Check says what is wrong with a program: it is there, and says that it is kube-apiserver. It returns the version that it says, v1.37.2 for example.
func Check(ctx context.Context, path string) (version string, err error) {
	if path, err = filepath.Abs(path); err != nil { // a name alone would be looked for in $PATH
		return "", err
	}
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
		return "", fmt.Errorf("%s is no program", path)
	}
	const begins = "Kubernetes "
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	said, is := strings.CutPrefix(strings.TrimSpace(string(out)), begins)
	if err != nil {
		return "", fmt.Errorf("%s is asked for its version: %w", path, err)
	}
	if !is {
		return "", fmt.Errorf("%s is not kube-apiserver: asked for its version, it says %.40q", path, string(out))
	}
	return said, nil
}

// versionLimit is how long a program may take to say its version.
const versionLimit = 30 * time.Second

const (
	// attempts is how often a port is chosen: another process may take it before kube-apiserver does.
	attempts = 3
	// readyLimit is how long kube-apiserver may take until it serves, and readyPause how often it is asked.
	readyLimit = 3 * time.Minute
	readyPause = 100 * time.Millisecond
)

// Start starts kube-apiserver and returns when it is ready. Neither webhooks nor aggregated APIs are reached by it: whatever it is to send to somewhere else than etcd goes to a socket on which nobody listens. The error wraps ErrNotReady where the program ran and
// is to blame, or what it found. The worker's WorkerMain must have Jobs.
func Start(ctx context.Context, w etcd.Worker, o Options) (*Server, error) {
	var last error
	for range attempts {
		s, err := start(ctx, w, o)
		if err == nil || !strings.Contains(err.Error(), "address already in use") {
			return s, err
		}
		last = err
	}
	return nil, last
}

func start(ctx context.Context, w etcd.Worker, o Options) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("start kube-apiserver: %w", err)
	}
	files, config, err := o.prepare(port)
	if err != nil {
		return nil, fmt.Errorf("start kube-apiserver: %w", err)
	}
	program, err := filepath.Abs(o.Binary) // it runs in another folder
	if err != nil {
		return nil, fmt.Errorf("start kube-apiserver: %w", err)
	}
	child, end := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{Config: config, end: end, ended: make(chan struct{})}
	run := runRequest{Program: program, Args: o.args(port, files), Log: filepath.Join(o.Dir, "kube-apiserver.log"), Dir: o.Dir}
	go func() {
		defer close(s.ended)
		var a runAnswer
		if s.err = w.Do(child, jobRun, run, &a, nil); s.err == nil {
			s.err = fmt.Errorf("%w: kube-apiserver: %s", etcd.ErrWorker, cmp.Or(a.NotStarted, a.Killed))
		}
	}()
	if err := s.ready(ctx); err != nil {
		s.Stop()
		switch {
		case ctx.Err() != nil || errors.Is(err, etcd.ErrWorker):
			return nil, fmt.Errorf("start kube-apiserver: %w", err)
		case errors.Is(err, ErrTime):
			return nil, err
		}
		switch why := because(err.Error(), o.EncryptionConfig != ""); {
		case errors.Is(why, ErrConfig):
			return nil, fmt.Errorf("%w %s can't be used: %w", why, o.EncryptionConfig, err)
		case errors.Is(why, ErrUnfit):
			return nil, fmt.Errorf("%w: %w; name one of the version of the cluster that the backup is of", why, err)
		default:
			return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
		}
	}
	return s, nil
}

// Stop ends the server at once, and returns when it is gone. It may be called more than once.
func (s *Server) Stop() {
	s.end()
	<-s.ended
}

// ready waits until the server says that it is, but for what informer-sync is about: one that can't read all Secrets, say, since it lacks the key, never has all of its informers filled. Which resource it can't read is said by List.
func (s *Server) ready(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	client, err := discovery.NewDiscoveryClientForConfig(s.Config)
	if err != nil {
		return err
	}
	pause := time.NewTicker(readyPause)
	defer pause.Stop()
	for {
		said, err := client.RESTClient().Get().AbsPath("/readyz").Param("verbose", "").Param("exclude", "informer-sync").Do(limited).Raw()
		if err == nil {
			v, err := client.ServerVersion()
			if err != nil {
				return fmt.Errorf("ask for its version: %w", err)
			}
			s.Version = v.GitVersion
			return nil
		}
		select {
		case <-s.ended:
			return s.err
		case <-ctx.Done():
			return ctx.Err()
		case <-limited.Done():
			lacks := unready(said)
			if lacks == "" {
				return fmt.Errorf("%w within %s: %w; this machine may be too slow for it", ErrTime, readyLimit, err)
			}
			return fmt.Errorf("it isn't ready after %s: %s", readyLimit, lacks)
		case <-pause.C:
		}
	}
}

// unready are those lines of an answer to /readyz that say what is missing.
func unready(said []byte) string {
	var out []string
	for line := range strings.Lines(string(said)) {
		if strings.HasPrefix(line, "[-]") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(out, ", ")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// files are the paths of what kube-apiserver is given.
type files struct {
	etcdCA, etcdCert, etcdKey, cert, key, tokens, egress, encryption string
}

// prepare writes the files, and says how the server will be reached.
func (o Options) prepare(port int) (files, *rest.Config, error) {
	at := func(name string) string { return filepath.Join(o.Dir, name) }
	f := files{
		etcdCA: at("etcd-ca.crt"), etcdCert: at("etcd-client.crt"), etcdKey: at("etcd-client.key"), cert: at("apiserver.crt"), key: at("apiserver.key"), tokens: at("tokens.csv"), egress: at("egress.yaml"),
	}
	const host = "127.0.0.1"
	serving, key, err := cert.GenerateSelfSignedCertKey(host, []net.IP{net.ParseIP(host)}, nil)
	if err != nil {
		return f, nil, err
	}
	token := rand.Text()
	// Names are those that the configuration has: what is dialed for a webhook, an aggregated API or a kubelet is "cluster", what isn't in the cluster is "controlplane". Etcd is not named, and is dialed as ever
	// (https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/).
	nowhere := at("nobody-listens.sock")
	egress := "apiVersion: apiserver.k8s.io/v1beta1\nkind: EgressSelectorConfiguration\negressSelections:\n"
	for _, name := range []string{"cluster", "controlplane"} {
		egress += "- name: " + name + "\n  connection:\n    proxyProtocol: HTTPConnect\n    transport:\n      uds:\n        udsName: " + strconv.Quote(nowhere) + "\n"
	}
	for path, content := range map[string][]byte{
		f.etcdCA: o.CA, f.etcdCert: o.Cert, f.etcdKey: o.Key, f.cert: serving, f.key: key, f.egress: []byte(egress), f.tokens: []byte(token + ",rehearsal,rehearsal,system:masters\n"),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return f, nil, err
		}
	}
	if o.EncryptionConfig != "" {
		if f.encryption, err = filepath.Abs(o.EncryptionConfig); err != nil {
			return f, nil, err
		}
	}
	return f, &rest.Config{
		Host: "https://" + host + ":" + strconv.Itoa(port), BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: serving},
		QPS:   -1,                                                        // it has nothing else to do
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }, // whatever the environment says
	}, nil
}

// args are the arguments of kube-apiserver.
func (o Options) args(port int, f files) []string {
	services := o.ServiceRange
	if services == "" {
		services = defaultRange
	}
	advertise := "127.0.0.1"
	first, _, _ := strings.Cut(services, ",")
	if p, err := netip.ParsePrefix(first); err == nil && p.Addr().Is6() {
		advertise = "::1" // it must be of the same family
	}
	args := []string{
		"--etcd-servers=" + o.Etcd, "--etcd-cafile=" + f.etcdCA, "--etcd-certfile=" + f.etcdCert, "--etcd-keyfile=" + f.etcdKey,
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(port), "--advertise-address=" + advertise, "--tls-cert-file=" + f.cert, "--tls-private-key-file=" + f.key,
		"--service-cluster-ip-range=" + services,
		"--service-account-issuer=https://rehearsal.invalid", "--service-account-key-file=" + f.key, "--service-account-signing-key-file=" + f.key,
		"--token-auth-file=" + f.tokens, "--anonymous-auth=false", "--authorization-mode=AlwaysAllow", "--profiling=false",
		// Every resource of this version, also those that are off by default: there may be objects of them.
		"--runtime-config=api/all=true",
		// It says to nobody that it is there, and asks nobody.
		"--endpoint-reconciler-type=none", "--egress-selector-config-file=" + f.egress,
		// What it makes itself when it starts is asked about by nobody either; webhooks that fail closed would refuse it.
		"--disable-admission-plugins=" + strings.Join(o.plugins(), ","),
		// Nothing is to be compacted, and what the file has is to stay as it is for as long as it is read.
		"--etcd-compaction-interval=0",
		// Lists are answered from etcd itself, and not from a cache that would have to be filled first.
		"--watch-cache=false",
	}
	if f.encryption != "" {
		args = append(args, "--encryption-provider-config="+f.encryption)
	}
	return args
}

// plugins are those by which others, or rules in the data, have a say in what is written. Names that a version doesn't know are an error to it.
func (o Options) plugins() []string {
	out := []string{"MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"}
	v, err := version.ParseGeneric(o.Version)
	for plugin, since := range map[string]string{"ValidatingAdmissionPolicy": "1.26", "MutatingAdmissionPolicy": "1.32"} { // pkg/kubeapiserver/options/plugins.go of kubernetes
		if err == nil && v.AtLeast(version.MustParseGeneric(since)) {
			out = append(out, plugin)
		}
	}
	slices.Sort(out)
	return out
}

// Jobs are what a worker must be able to do for this package; see etcd.WorkerMain.
func Jobs() []etcd.Job { return []etcd.Job{{Name: jobRun, Run: runHere}} }

const jobRun = "kube-apiserver"

// runRequest is what a child is asked to run.
type runRequest struct {
	Program string   `json:"program"`
	Args    []string `json:"args"`
	// Log is where what it says goes, and Dir where it runs.
	Log string `json:"log"`
	Dir string `json:"dir"`
}

// runAnswer is what it answers where there is no error.
type runAnswer struct {
	// NotStarted says why the program could not even be started.
	NotStarted string `json:"notStarted"`
	// Killed says by which signal it ended that somebody else had sent; the kernel does when memory runs out.
	Killed string `json:"killed"`
}

// runHere runs the program until it ends or the context does, which is told when the process that asked for it is gone.
func runHere(ctx context.Context, request json.RawMessage, _ func([]byte) error) (any, error) {
	var in runRequest
	if err := json.Unmarshal(request, &in); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(in.Log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // nothing of it is needed any more
	cmd := exec.CommandContext(ctx, in.Program, in.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = in.Dir, log, log
	killWithGroup(cmd)
	unlock := dieWithParent(cmd)
	defer unlock()
	if err := cmd.Start(); err != nil {
		return runAnswer{NotStarted: err.Error()}, nil
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if ctx.Err() == nil && errors.As(err, &exit) && exit.ExitCode() < 0 {
		return runAnswer{Killed: exit.String() + "; its last words: " + lastWords(in.Log)}, nil
	}
	if ctx.Err() == nil {
		if err == nil {
			err = errors.New("it ended by itself")
		}
		return nil, fmt.Errorf("%s: %w; its last words: %s", in.Program, err, lastWords(in.Log))
	}
	return nil, ctx.Err()
}

const (
	// maxWords is how much of the end of a log is read, and mostWords how many lines of it are told.
	maxWords  = 64 << 10
	mostWords = 3
)

// lastWords are the last errors in a log of klog's, or else its last lines.
func lastWords(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err == nil && st.Size() > maxWords {
		_, _ = f.Seek(-maxWords, io.SeekEnd) // from its beginning it is as well
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	var bad, all []string
	for line := range bytes.Lines(content) {
		text := strings.TrimSpace(string(line))
		if text == "" {
			continue
		}
		all = append(all, text)
		if klogError(text) {
			bad = append(bad, text)
		}
	}
	if len(bad) == 0 {
		bad = all
	}
	return strings.Join(bad[max(0, len(bad)-mostWords):], "\n")
}

// klogError says whether a line is an error or the end: they begin with E or F and the date, and those of Go and of the flags with a word
// (https://kubernetes.io/docs/concepts/cluster-administration/system-logs/#klog-output).
func klogError(line string) bool {
	if strings.HasPrefix(line, "Error: ") || strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "error: ") {
		return true
	}
	if len(line) < 5 || line[0] != 'E' && line[0] != 'F' {
		return false
	}
	_, err := strconv.Atoi(line[1:5])
	return err == nil
}
