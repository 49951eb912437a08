package pin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/run"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/step"
)

// Write makes the pins for a Kubernetes version below dir: of Kubernetes itself, and of the versions of etcd and CoreDNS
// that its kubeadm asks for, where these are not there yet.
func Write(ctx context.Context, dir, version string, log *step.Log) error {
	if !regexp.MustCompile(`^v1\.[0-9]+\.[0-9]+(-[a-z]+\.[0-9]+)?$`).MatchString(version) {
		return fmt.Errorf("%q is not a version of Kubernetes such as v1.37.2", version)
	}
	c := kubernetesComponent(dir, version)
	if err := log.Do("pins of Kubernetes "+version, func() error { return writeKubernetes(ctx, c, version) }); err != nil {
		return err
	}
	var images Images
	err := log.Do("images that kubeadm "+version+" asks for", func() (err error) {
		images, err = writeImages(ctx, c, imagesFile(dir, version), version, log)
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(
		ensurePins(ctx, etcdComponent(dir, images.EtcdVersion()), "etcd", images.EtcdVersion(), log),
		ensurePins(ctx, coreDNSComponent(dir, images.CoreDNSVersion()), "coredns", images.CoreDNSVersion(), log),
	)
}

// ensurePins writes the go.mod of a component that can be required as it is.
func ensurePins(ctx context.Context, c Component, short, version string, log *step.Log) error {
	if _, err := os.Stat(filepath.Join(c.Dir, "go.sum")); err == nil {
		return nil
	}
	return log.Do("pins of "+c.Name, func() error {
		return inPlace(c.Dir, func(work string) error {
			if err := startModule(work, short, c.Name, ""); err != nil {
				return err
			}
			return addTools(ctx, work, c.Packages, version)
		})
	})
}

// writeKubernetes writes the go.mod of Kubernetes, which can't be required as it is: it more its own staging modules
// by folders that only its repository has. They are replaced by their published versions here. Its choice of Go's
// compatibility switches is taken over: it decides how the programs behave.
func writeKubernetes(ctx context.Context, c Component, version string) error {
	return inPlace(c.Dir, func(work string) error {
		upstream, err := upstreamModule(ctx, work, version)
		if err != nil {
			return err
		}
		var more strings.Builder
		staging := "v0." + strings.TrimPrefix(version, "v1.")
		for _, g := range upstream.Godebug {
			fmt.Fprintf(&more, "\ngodebug %s=%s\n", g.Key, g.Value)
		}
		more.WriteString("\nreplace (\n")
		for _, r := range upstream.Replace {
			if strings.HasPrefix(r.New.Path, "./staging/") {
				fmt.Fprintf(&more, "\t%s => %s %s\n", r.Old.Path, r.Old.Path, staging)
			}
		}
		more.WriteString(")\n")
		if err := startModule(work, "kubernetes", "Kubernetes "+version, more.String()); err != nil {
			return err
		}
		return addTools(ctx, work, c.Packages, version)
	})
}

// goModule is the part of "go mod edit -json" that is wanted here.
type goModule struct {
	Godebug []struct{ Key, Value string }
	Replace []struct{ Old, New struct{ Path string } }
}

func upstreamModule(ctx context.Context, dir, version string) (goModule, error) {
	var m goModule
	out, err := run.Output(ctx, run.Cmd{Argv: []string{"go", "mod", "download", "-json", "k8s.io/kubernetes@" + version}, Dir: dir, Env: environment()})
	if err != nil {
		return m, fmt.Errorf("finding Kubernetes %s: %w", version, err)
	}
	var found struct{ GoMod string }
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		return m, fmt.Errorf("finding Kubernetes %s: %w", version, err)
	}
	out, err = run.Output(ctx, run.Cmd{Argv: []string{"go", "mod", "edit", "-json", found.GoMod}, Dir: dir, Env: environment()})
	if err != nil {
		return m, fmt.Errorf("reading the go.mod of Kubernetes %s: %w", version, err)
	}
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		return m, fmt.Errorf("reading the go.mod of Kubernetes %s: %w", version, err)
	}
	return m, nil
}

// startModule writes a go.mod without requirements. Its go line is the lowest that all components can do with; the go
// command raises it where one needs more.
func startModule(dir, short, what, more string) error {
	text := fmt.Sprintf("// %s: made by \"nodeimage pin\".\n\nmodule pins/%s\n\ngo 1.26.0\n%s", what, short, more)
	return os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o644)
}

func addTools(ctx context.Context, dir string, packages []string, version string) error {
	argv := []string{"go", "get", "-tool"}
	for _, p := range packages {
		argv = append(argv, p+"@"+version)
	}
	for _, argv := range [][]string{argv, {"go", "mod", "tidy"}} {
		if err := run.Run(ctx, run.Cmd{Argv: argv, Dir: dir, Env: environment()}); err != nil {
			return fmt.Errorf("pinning: %w", err)
		}
	}
	return nil
}

// writeImages builds kubeadm and keeps the list that it gives.
func writeImages(ctx context.Context, c Component, file, version string, log *step.Log) (images Images, err error) {
	work, err := os.MkdirTemp("", "drill-kubeadm-")
	if err != nil {
		return nil, fmt.Errorf("building kubeadm: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	c.Packages = []string{"k8s.io/kubernetes/cmd/kubeadm"}
	if err := c.Build(ctx, work, log.Writer()); err != nil {
		return nil, err
	}
	images, err = AskKubeadm(ctx, filepath.Join(work, "kubeadm"), version)
	if err != nil {
		return nil, err
	}
	text := "# What \"kubeadm config images list --kubernetes-version " + version + "\" prints.\n" + strings.Join(images, "\n") + "\n"
	return images, os.WriteFile(file, []byte(text), 0o644)
}

// inPlace lets f fill a fresh folder and moves go.mod and go.sum to dir when f succeeds, so that a failure leaves the
// pins as they were.
func inPlace(dir string, f func(work string) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".pin-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := f(work); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := os.Rename(filepath.Join(work, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("keeping the pins: %w", err)
		}
	}
	return nil
}
