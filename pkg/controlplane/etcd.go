package controlplane

import (
	"context"
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// EtcdConfig is what an etcd static-pod manifest says about its member. Paths are on the node unless said otherwise.
type EtcdConfig struct {
	// Name is the member's name.
	Name string
	// DataDir is the data directory inside the container [--data-dir], HostDataDir the same on the node.
	DataDir, HostDataDir string
	// DataVolume is the name of the hostPath volume that holds it: etcd-data with kubeadm. DataSubPath is where
	// below that volume it lies: empty where the volume is the data directory, as with kubeadm.
	DataVolume, DataSubPath string
	// ListenClientURLs, AdvertiseClientURLs: where it listens for clients, and what it tells them to use.
	ListenClientURLs, AdvertiseClientURLs []string
	// PeerURLs are what it tells other members to use [--initial-advertise-peer-urls].
	PeerURLs, ListenPeerURLs []string
	// InitialCluster, InitialClusterState and InitialClusterToken are as in the flags of these names; empty when not
	// given.
	InitialCluster, InitialClusterState, InitialClusterToken string
	// CACert, Cert and Key are the files that etcd itself uses towards clients [--trusted-ca-file, --cert-file,
	// --key-file]. The pair that kubeadm makes may also be used as a client's.
	CACert, Cert, Key string
	// PeerCert is the certificate that it shows to other members [--peer-cert-file], PeerCA that of the authority by which it knows them [--peer-trusted-ca-file]; empty when not given.
	PeerCert, PeerCA string
	// MetricsURL is the first of --listen-metrics-urls, where /readyz and /livez answer without a certificate; empty when not given.
	MetricsURL string
	// Image is the container's image.
	Image string
	// WALDir is where inside the container the write-ahead log is kept [--wal-dir]; empty where that is in the data directory, as with kubeadm.
	WALDir string `json:",omitempty"`
	// User is the one as whom it runs [securityContext.runAsUser, of the container or else of the pod]: 0 is root, as with kubeadm.
	User int64 `json:",omitempty"`
	// Flags holds every flag by its name without dashes.
	Flags map[string]string
}

// Etcdctl is what a person types on the node to ask the member: its own certificate, which kubeadm makes for clients too, and the
// loopback address where it listens there.
func (c EtcdConfig) Etcdctl(args ...string) []string {
	url := c.AdvertiseClientURLs[0]
	for _, u := range c.ListenClientURLs {
		if strings.Contains(u, "127.0.0.1") || strings.Contains(u, "[::1]") {
			url = u
			break
		}
	}
	return append([]string{"etcdctl", "--endpoints=" + url, "--cacert=" + c.CACert, "--cert=" + c.Cert, "--key=" + c.Key}, args...)
}

// ParseEtcdManifest reads the manifest of an etcd member as kubeadm writes it. Flags count in both forms, --flag=value and --flag
// value, from the container's command and args; where a flag isn't given, the environment variable that etcd reads
// in its stead is used. Errors wrap ErrNotManifest or ErrNotEtcd.
func ParseEtcdManifest(manifest []byte) (EtcdConfig, error) {
	pod, err := parsePod(manifest)
	if err != nil {
		return EtcdConfig{}, err
	}
	c, err := container(pod, Etcd)
	if err != nil {
		return EtcdConfig{}, fmt.Errorf("%w: %w", ErrNotEtcd, err)
	}
	flags := FlagsOf(c)
	if file, ok := flags["config-file"]; ok {
		return EtcdConfig{}, fmt.Errorf("%w: it takes its settings from the file %s, which makes etcd ignore all flags; kubeadm passes flags", ErrNotEtcd, file)
	}
	cfg := EtcdConfig{
		Name: flags["name"], DataDir: path.Clean(flags["data-dir"]),
		ListenClientURLs:    list(flags["listen-client-urls"]),
		AdvertiseClientURLs: list(flags["advertise-client-urls"]),
		PeerURLs:            list(flags["initial-advertise-peer-urls"]),
		ListenPeerURLs:      list(flags["listen-peer-urls"]),
		InitialCluster:      flags["initial-cluster"],
		InitialClusterState: flags["initial-cluster-state"],
		InitialClusterToken: flags["initial-cluster-token"],
		Image:               c.Image,
		Flags:               flags,
		User:                user(pod, c),
	}
	if dir := flags["wal-dir"]; dir != "" && path.Clean(dir) != path.Join(cfg.DataDir, "member", "wal") {
		cfg.WALDir = dir
	}
	if urls := list(flags["listen-metrics-urls"]); len(urls) > 0 {
		cfg.MetricsURL = urls[0]
	}
	for _, name := range []string{"name", "data-dir", "advertise-client-urls", "initial-advertise-peer-urls"} {
		if flags[name] == "" {
			return EtcdConfig{}, fmt.Errorf("%w: the command of its container has no --%s", ErrNotEtcd, name)
		}
	}
	vol, sub, err := mounted(pod, c, cfg.DataDir)
	if err != nil {
		return EtcdConfig{}, fmt.Errorf("%w: data directory %s: %w", ErrNotEtcd, cfg.DataDir, err)
	}
	cfg.DataVolume, cfg.DataSubPath = vol.Name, sub
	cfg.HostDataDir = path.Join(vol.HostPath.Path, sub)
	files := map[string]*string{"trusted-ca-file": &cfg.CACert, "cert-file": &cfg.Cert, "key-file": &cfg.Key, "peer-cert-file": &cfg.PeerCert, "peer-trusted-ca-file": &cfg.PeerCA}
	if err := hostPaths(pod, c, flags, files); err != nil {
		return EtcdConfig{}, fmt.Errorf("%w: %w", ErrNotEtcd, err)
	}
	return cfg, nil
}

// user is as whom the container runs. Where nothing is said it is the image's user, root in those of etcd.
func user(pod *corev1.Pod, c *corev1.Container) int64 {
	if sc := c.SecurityContext; sc != nil && sc.RunAsUser != nil {
		return *sc.RunAsUser
	}
	if sc := pod.Spec.SecurityContext; sc != nil && sc.RunAsUser != nil {
		return *sc.RunAsUser
	}
	return 0
}

// hostPaths finds where on the node the files lie that flags name; the field of a flag that isn't given stays as it is.
func hostPaths(pod *corev1.Pod, c *corev1.Container, flags map[string]string, fields map[string]*string) error {
	for flag, field := range fields {
		if flags[flag] == "" {
			continue
		}
		vol, sub, err := mounted(pod, c, flags[flag])
		if err != nil {
			return fmt.Errorf("--%s=%s: %w", flag, flags[flag], err)
		}
		*field = path.Join(vol.HostPath.Path, sub)
	}
	return nil
}

// ReadEtcdConfig reads the manifest of the node's etcd member.
func ReadEtcdConfig(ctx context.Context, n cluster.Node) (EtcdConfig, error) {
	file := path.Join(ManifestDir, Etcd+".yaml")
	b, err := n.ReadFile(ctx, file)
	if err != nil {
		return EtcdConfig{}, fmt.Errorf("read the etcd manifest of node %s: %w; drill needs a control plane made by kubeadm with its own etcd", n.Name(), err)
	}
	cfg, err := ParseEtcdManifest(b)
	if err != nil {
		return EtcdConfig{}, fmt.Errorf("%s on node %s: %w", file, n.Name(), err)
	}
	return cfg, nil
}

func container(pod *corev1.Pod, name string) (*corev1.Container, error) {
	var names []string
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return &pod.Spec.Containers[i], nil
		}
		names = append(names, pod.Spec.Containers[i].Name)
	}
	return nil, fmt.Errorf("no container is named %q; there are: %s", name, strings.Join(names, ", "))
}

// FlagsOf reads the flags of a container as Go's flag package would: one dash or two, the last one wins, and a flag that
// is followed by another one is a switch.
func FlagsOf(c *corev1.Container) map[string]string {
	flags := map[string]string{}
	for _, e := range c.Env {
		if name, ok := strings.CutPrefix(e.Name, "ETCD_"); ok && e.Value != "" {
			flags[strings.ReplaceAll(strings.ToLower(name), "_", "-")] = e.Value
		}
	}
	argv := append(append([]string{}, c.Command...), c.Args...)
	for i := 0; i < len(argv); i++ {
		arg := argv[i]
		if !strings.HasPrefix(arg, "-") {
			continue
		}
		name, value, given := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		switch {
		case name == "":
			continue
		case given:
		case i+1 < len(argv) && !strings.HasPrefix(argv[i+1], "-"):
			i++
			value = argv[i]
		default:
			value = "true"
		}
		flags[name] = value
	}
	return flags
}

func list(s string) []string {
	var out []string
	for v := range strings.SplitSeq(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// mounted says which hostPath volume holds a path inside a container, and where below the volume.
func mounted(pod *corev1.Pod, c *corev1.Container, inside string) (*corev1.Volume, string, error) {
	inside = path.Clean(inside)
	var mount *corev1.VolumeMount
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		at := path.Clean(m.MountPath)
		if (inside == at || at == "/" || strings.HasPrefix(inside, at+"/")) && (mount == nil || len(at) > len(path.Clean(mount.MountPath))) {
			mount = m
		}
	}
	if mount == nil {
		return nil, "", fmt.Errorf("no volume is mounted there, so it would be gone with the container")
	}
	vol, err := hostPathVolume(pod, mount.Name)
	if err != nil {
		return nil, "", err
	}
	sub := path.Join(mount.SubPath, strings.TrimPrefix(inside, path.Clean(mount.MountPath)))
	return vol, strings.Trim(sub, "/"), nil
}
