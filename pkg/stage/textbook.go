package stage

import "github.com/etcd-drill/drill/pkg/controlplane"

// textbookEtcd is the etcd of a control plane as kubeadm sets it up, on a node of that name; the address is an example.
func textbookEtcd(node string) controlplane.EtcdConfig {
	const pki = "/etc/kubernetes/pki/etcd/"
	return controlplane.EtcdConfig{
		Name:    node,
		DataDir: "/var/lib/etcd", HostDataDir: "/var/lib/etcd", DataVolume: "etcd-data",
		ListenClientURLs:    []string{"https://127.0.0.1:2379", "https://172.18.0.2:2379"},
		AdvertiseClientURLs: []string{"https://172.18.0.2:2379"},
		PeerURLs:            []string{"https://172.18.0.2:2380"},
		CACert:              pki + "ca.crt", Cert: pki + "server.crt", Key: pki + "server.key",
		MetricsURL: "http://127.0.0.1:2381",
	}
}
