//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/runner"
)

func TestE2E(t *testing.T) {
	RegisterFailHandler(Fail)
	passed := RunSpecs(t, "drill")
	if !passed { // once more, where whoever sees no more than the end of a long log finds it
		for _, why := range failures {
			t.Log(why)
		}
	}
}

// failures say of each spec that failed where and why.
var failures []string

var _ = ReportAfterSuite("failures", func(r Report) {
	for _, spec := range r.SpecReports {
		if spec.Failed() {
			failures = append(failures, fmt.Sprintf("%s\n%s\n%s", spec.FullText(), spec.FailureLocation(), spec.FailureMessage()))
		}
	}
})

// lab is what all specs share.
type lab struct {
	// binary is drill as `make build` builds it.
	binary string
	// stateDir is drill's state directory, and stateHome the variable that leads the binary to it.
	stateDir, stateHome string
	provider            *kind.Provider
}

var shared lab

var _ = BeforeSuite(func(ctx SpecContext) {
	binary, err := gexec.Build("github.com/etcd-drill/drill/drill")
	Expect(err).NotTo(HaveOccurred())
	home := GinkgoT().TempDir()
	shared = lab{binary: binary, stateHome: home, stateDir: home + "/drill"}
	shared.provider, err = kind.New(ctx, kind.Options{StateDir: shared.stateDir, Progress: func(line string) { GinkgoWriter.Println(line) }})
	Expect(err).NotTo(HaveOccurred())
}, NodeTimeout(10*time.Minute))

var _ = AfterSuite(func() { gexec.CleanupBuildArtifacts() })

func (l lab) worker() etcd.Worker { return etcd.Worker{Command: []string{l.binary, "etcd-worker"}} }

// givenCluster names a cluster of one control plane that is there already, for whoever runs few specs many times.
const givenCluster = "DRILL_E2E_CLUSTER"

// newCluster makes a cluster that is deleted when the specs around are done.
func (l lab) newCluster(ctx context.Context, controlPlanes int) cluster.Cluster {
	GinkgoHelper()
	if given := os.Getenv(givenCluster); given != "" && controlPlanes == 1 {
		c, err := l.provider.Attach(ctx, given)
		Expect(err).NotTo(HaveOccurred())
		return c
	}
	name := "drill-e2e-" + runner.Letters()
	c, err := l.provider.Create(ctx, kind.CreateOptions{Name: name, ControlPlanes: controlPlanes, Image: os.Getenv("DRILL_NODE_IMAGE")})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx SpecContext) {
		Expect(l.provider.Delete(ctx, name)).To(Succeed())
	}, NodeTimeout(3*time.Minute))
	return c
}
