package recipe

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/kindsrc"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/rootfs"
)

// workloadSpec is the one file system that all images share which need more than a static program. It is in one layer,
// so a node stores it once.
func workloadSpec() rootfs.Spec {
	return rootfs.Spec{Packages: []string{
		"bash", "ca-certificates", "curl", // for whoever looks around in a pod
		"conntrack", "iptables", "nftables", "iproute2", "kmod", // kube-proxy and podroutes
		"nginx-light", // the workload
	}}
}

// nodeSpec is the file system of a node: what kind's own base image has, on an older Debian.
func nodeSpec(kind kindsrc.Source) rootfs.Spec {
	return rootfs.Spec{
		Packages: []string{
			"systemd", "systemd-sysv", // services
			"conntrack", "ethtool", "iproute2", "iptables", "kmod", "mount", "nftables", "util-linux", // kubelet and kube-proxy
			"e2fsprogs", "libseccomp2", "pigz", "runc", // containers
			"bash", "ca-certificates", "curl", "jq", "procps", // kind's scripts, and people
		},
		Prepare: func(ctx context.Context, root string) error { return prepareNode(ctx, root, kind) },
	}
}

// prepareNode does to root what kind's Dockerfile does to its base image.
func prepareNode(ctx context.Context, root string, kind kindsrc.Source) error {
	if err := copyBaseFiles(kind.BaseFiles(), root); err != nil {
		return fmt.Errorf("copying the files of kind's base image: %w", err)
	}
	if err := rewordEntrypoint(filepath.Join(root, "usr/local/bin/entrypoint")); err != nil {
		return err
	}
	if err := silenceServices(root); err != nil {
		return fmt.Errorf("removing services that a node doesn't need: %w", err)
	}
	commands := [][]string{
		{"systemctl", "enable", "kubelet.service", "containerd.service", "undo-mount-hacks.service"},
		// It would register things with the host's kernel.
		{"systemctl", "mask", "systemd-binfmt.service"},
	}
	for _, argv := range commands {
		if err := rootfs.Chroot(ctx, root, argv...); err != nil {
			return fmt.Errorf("preparing the node's services: %w", err)
		}
	}
	return os.MkdirAll(filepath.Join(root, "etc/kubernetes/manifests"), 0o755)
}

// copyBaseFiles copies from to root. Files in a module are never executable, so the scripts are made so here.
func copyBaseFiles(from, root string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		to := filepath.Join(root, rel)
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if filepath.Base(filepath.Dir(rel)) == "bin" {
			mode = 0o755
		}
		return os.WriteFile(to, data, mode)
	})
}

// rewordEntrypoint closes a race. kind waits for a node's log to say that the system is up, but takes one early message,
// written on cgroup v1 only, for the same; kubeadm then starts before containerd. With the message in other words kind
// waits as it does on cgroup v2.
func rewordEntrypoint(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading kind's entrypoint: %w", err)
	}
	old, reworded := []byte("detected cgroup v1"), []byte("this host has cgroup v1")
	if n := bytes.Count(data, old); n != 1 {
		return fmt.Errorf("kind's entrypoint says %q %d times, not once: this version of kind needs another look", old, n)
	}
	return os.WriteFile(path, bytes.Replace(data, old, reworded, 1), 0o755)
}

// silenceServices leaves only what a node needs to start.
func silenceServices(root string) error {
	globs := []string{
		"lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
		"lib/systemd/system/multi-user.target.wants/*", "lib/systemd/system/local-fs.target.wants/*",
		"lib/systemd/system/sockets.target.wants/*udev*", "lib/systemd/system/sockets.target.wants/*initctl*",
		"lib/systemd/system/basic.target.wants/*", "etc/systemd/system/*.wants/*",
	}
	for _, glob := range globs {
		found, err := filepath.Glob(filepath.Join(root, glob))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	// Kernel messages of the host would only confuse in a node's journal.
	conf := filepath.Join(root, "etc/systemd/journald.conf")
	data, err := os.ReadFile(conf)
	if err != nil {
		return err
	}
	return os.WriteFile(conf, []byte(strings.TrimRight(string(data), "\n")+"\nReadKMsg=no\n"), 0o644)
}
