package stage

import (
	"fmt"

	"github.com/etcd-drill/drill/pkg/controlplane"
)

// textbookEtcd is the etcd of a control plane as kubeadm sets it up, on a node of that name, the i-th from 0; the address is an example.
func textbookEtcd(node string, i int) controlplane.EtcdConfig {
	address := fmt.Sprintf("172.18.0.%d", i+2)
	const pki = "/etc/kubernetes/pki/etcd/"
	return controlplane.EtcdConfig{
		Name:    node,
		DataDir: "/var/lib/etcd", HostDataDir: "/var/lib/etcd", DataVolume: "etcd-data",
		ListenClientURLs:    []string{"https://127.0.0.1:2379", "https://" + address + ":2379"},
		AdvertiseClientURLs: []string{"https://" + address + ":2379"},
		PeerURLs:            []string{"https://" + address + ":2380"},
		CACert:              pki + "ca.crt", Cert: pki + "server.crt", Key: pki + "server.key",
		MetricsURL: "http://127.0.0.1:2381",
	}
}
