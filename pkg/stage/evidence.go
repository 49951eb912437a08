package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/proof"
)

// Evidence collects, from every node, what explains a failure: the container runtime's view, kubelet's journal and, on control planes,
// the manifests and the logs of the four components. It goes on where something can't be had.
//
// People hand such files on. So private keys, bearer tokens and the values of Secrets are masked, the last as far as they were known before the break or
// an API server can still be asked for them, and only their owner can read the files.
func (s *Stage) Evidence(ctx context.Context, dir string) ([]string, error) {
	var paths []string
	var problems []error
	known := s.Subject.Leaks != nil
	if err := s.knowSecrets(ctx); err != nil {
		what := "only keys and tokens are"
		if known {
			what = "only keys, tokens and what the Secrets held before the break are"
		}
		problems = append(problems, fmt.Errorf("no API server tells what the Secrets hold, so that %s masked in the evidence: %w", what, err))
	}
	leaks := s.Subject.Leaks
	for _, n := range s.Subject.Cluster.Nodes() {
		folder := filepath.Join(dir, n.Name())
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return paths, err
		}
		for name, text := range exhibits(ctx, n, &problems) {
			path := filepath.Join(folder, name)
			if err := os.WriteFile(path, leaks.Mask(text), 0o600); err != nil {
				return paths, err
			}
			paths = append(paths, path)
		}
	}
	return paths, masked(errors.Join(problems...), leaks)
}

// masked is an error whose text gives nothing away: it may hold what a command printed before it failed.
func masked(err error, leaks *proof.Leaks) error {
	if err == nil {
		return nil
	}
	if text := err.Error(); string(leaks.Mask([]byte(text))) != text {
		return errors.New(string(leaks.Mask([]byte(text))))
	}
	return err
}

// knowSecrets adds what the Secrets hold now to Subject.Leaks, as the first API server tells it that answers. It is called before the break as well, since
// afterwards there may be none that answers, and the Secrets may hold something else. They are kept in memory alone.
func (s *Stage) knowSecrets(ctx context.Context) error {
	if s.Subject.Leaks == nil {
		s.Subject.Leaks = proof.NewLeaks()
	}
	var problems []error
	for _, server := range s.Subject.Servers {
		err := s.Subject.Leaks.Learn(ctx, server)
		if err == nil {
			return nil
		}
		problems = append(problems, err)
	}
	if len(problems) == 0 {
		return errors.New("no API server is known")
	}
	return errors.Join(problems...)
}

// exhibits returns the files of one node by name.
func exhibits(ctx context.Context, n cluster.Node, problems *[]error) map[string][]byte {
	out := map[string][]byte{}
	keep := func(name string, text []byte, err error) {
		if err != nil {
			*problems = append(*problems, fmt.Errorf("%s of node %s: %w", name, n.Name(), err))
		}
		if len(text) > 0 {
			out[name] = text
		}
	}
	run := func(name string, argv ...string) {
		res, err := n.Exec(ctx, cluster.Cmd{Argv: argv})
		keep(name, res.Stdout, err)
	}
	run("crictl-ps.txt", "crictl", "ps", "--all")
	run("crictl-pods.txt", "crictl", "pods")
	run("kubelet.log", "journalctl", "--unit", "kubelet", "--no-pager", "--lines", "1000", "--output", "short-iso-precise")
	if n.Role() != cluster.ControlPlane {
		return out
	}
	for _, c := range controlplane.Components() {
		text, err := controlplane.Log(ctx, n, c, 1000)
		keep(c+".log", []byte(text), err)
		manifest, err := n.ReadFile(ctx, controlplane.ManifestDir+"/"+c+".yaml")
		keep(c+".yaml", manifest, err)
	}
	return out
}
