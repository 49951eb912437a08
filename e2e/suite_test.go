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

	"github.com/etcd-drill/drill/e2e/calendar"
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
	// one is the cluster of one control plane that all specs share which don't need one of their own; nil until the first needs it.
	one cluster.Cluster
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

var _ = AfterSuite(func(ctx SpecContext) {
	gexec.CleanupBuildArtifacts()
	if shared.one != nil && os.Getenv(givenCluster) == "" {
		Expect(shared.provider.Delete(ctx, shared.one.Name())).To(Succeed())
	}
}, NodeTimeout(3*time.Minute))

func (l lab) worker() etcd.Worker { return etcd.Worker{Command: []string{l.binary, "etcd-worker"}} }

// givenCluster names a cluster of one control plane that is there already, for whoever runs few specs many times.
const givenCluster = "DRILL_E2E_CLUSTER"

// oneNode is a cluster of one control plane, the same for all specs: a run that is proven leaves one that works, and so does one that is undone. The first to need it
// waits until it is made.
func (l *lab) oneNode(ctx context.Context) cluster.Cluster {
	GinkgoHelper()
	if l.one != nil {
		return l.one
	}
	var err error
	if given := os.Getenv(givenCluster); given != "" {
		l.one, err = l.provider.Attach(ctx, given)
	} else {
		l.one, err = l.provider.Create(ctx, kind.CreateOptions{Name: "drill-e2e-" + runner.Letters(), ControlPlanes: 1, Image: os.Getenv("DRILL_NODE_IMAGE")})
	}
	Expect(err).NotTo(HaveOccurred())
	return l.one
}

// newCluster makes a cluster that is deleted when the specs around are done.
func (l *lab) newCluster(ctx context.Context, controlPlanes int) cluster.Cluster {
	GinkgoHelper()
	name := "drill-e2e-" + runner.Letters()
	c, err := l.provider.Create(ctx, kind.CreateOptions{Name: name, ControlPlanes: controlPlanes, Image: os.Getenv("DRILL_NODE_IMAGE")})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx SpecContext) {
		Expect(l.provider.Delete(ctx, name)).To(Succeed())
	}, NodeTimeout(3*time.Minute))
	return c
}

// turn are the labels of the i-th of some specs that take turns: `make test` leaves those with the label turns out, but for the ones that have the label sample as well, one of so many, others each day.
func turn(i, of int) Labels {
	if calendar.Turn(i, of, time.Now()) {
		return Label("turns", "sample")
	}
	return Label("turns")
}
