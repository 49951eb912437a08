package controlplane

import (
	"context"
	"fmt"
	"path"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// APIServerConfig is what an API server's static-pod manifest says about what it needs in order to start. Paths are on the node.
type APIServerConfig struct {
	// EtcdServers are the URLs of the etcd in which it stores, for example https://127.0.0.1:2379 [--etcd-servers].
	EtcdServers []string
	// EtcdCert is the certificate that it shows to etcd [--etcd-certfile], Cert the one that it serves with [--tls-cert-file], EtcdCA and ClientCA those of the authorities by which it knows etcd and
	// its own clients [--etcd-cafile, --client-ca-file]; empty when not given.
	EtcdCert, Cert, EtcdCA, ClientCA string
}

// ParseAPIServerManifest reads the manifest of an API server as kubeadm writes it; flags count as in ParseEtcdManifest. Errors wrap
// ErrNotManifest or ErrNotAPIServer.
func ParseAPIServerManifest(manifest []byte) (APIServerConfig, error) {
	pod, err := parsePod(manifest)
	if err != nil {
		return APIServerConfig{}, err
	}
	c, err := container(pod, APIServer)
	if err != nil {
		return APIServerConfig{}, fmt.Errorf("%w: %w", ErrNotAPIServer, err)
	}
	flags := FlagsOf(c)
	cfg := APIServerConfig{EtcdServers: list(flags["etcd-servers"])}
	if len(cfg.EtcdServers) == 0 {
		return APIServerConfig{}, fmt.Errorf("%w: the command of its container has no --etcd-servers", ErrNotAPIServer)
	}
	files := map[string]*string{"etcd-certfile": &cfg.EtcdCert, "tls-cert-file": &cfg.Cert, "etcd-cafile": &cfg.EtcdCA, "client-ca-file": &cfg.ClientCA}
	if err := hostPaths(pod, c, flags, files); err != nil {
		return APIServerConfig{}, fmt.Errorf("%w: %w", ErrNotAPIServer, err)
	}
	return cfg, nil
}

// ReadAPIServerConfig reads the manifest of the node's API server.
func ReadAPIServerConfig(ctx context.Context, n cluster.Node) (APIServerConfig, error) {
	file := path.Join(ManifestDir, APIServer+".yaml")
	b, err := n.ReadFile(ctx, file)
	if err != nil {
		return APIServerConfig{}, fmt.Errorf("read the manifest of the API server of node %s: %w", n.Name(), err)
	}
	cfg, err := ParseAPIServerManifest(b)
	if err != nil {
		return APIServerConfig{}, fmt.Errorf("%s on node %s: %w", file, n.Name(), err)
	}
	return cfg, nil
}
