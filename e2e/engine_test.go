//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/runner"
)

// ownEngine is a Docker Engine that only these specs use, so that it can be stopped without taking anybody else's containers along. It has a network namespace of its own: two engines in one
// would undo each other's packet filter rules. What is to reach its nodes is started in that namespace.
type ownEngine struct {
	place
	dir, namespace string
	daemon         *gexec.Session
}

// newOwnEngine starts one, with the node image in it. It takes root, and the commands ip and nsenter.
func newOwnEngine(ctx SpecContext) *ownEngine {
	GinkgoHelper()
	dir, err := os.MkdirTemp("", "drill-engine-") // a short name: that of a socket may not be long
	Expect(err).NotTo(HaveOccurred())
	e := &ownEngine{dir: dir, namespace: filepath.Base(dir)}
	e.place = place{
		stateHome: GinkgoT().TempDir(),
		by:        []string{"nsenter", "--net=/run/netns/" + e.namespace},
		env:       []string{"DOCKER_HOST=" + e.host(), "KIND_EXPERIMENTAL_PROVIDER=docker"},
	}
	e.does(ctx, exec.CommandContext(ctx, "ip", "netns", "add", e.namespace))
	DeferCleanup(func(ctx SpecContext) {
		e.does(ctx, exec.CommandContext(ctx, "ip", "netns", "delete", e.namespace))
		Expect(os.RemoveAll(dir)).To(Succeed())
	}, NodeTimeout(3*time.Minute))
	e.does(ctx, e.command(ctx, "ip", "link", "set", "lo", "up"))
	e.start(ctx)
	DeferCleanup(func(ctx SpecContext) {
		e.stop(ctx, syscall.SIGTERM)
		e.does(ctx, exec.CommandContext(ctx, "umount", e.data())) // the engine mounts it on itself, and leaves it so
	}, NodeTimeout(3*time.Minute))

	image := os.Getenv("DRILL_NODE_IMAGE")
	Expect(image).NotTo(BeEmpty(), "$DRILL_NODE_IMAGE names the node image")
	from, into := exec.CommandContext(ctx, "docker", "save", image), e.command(ctx, "docker", "load")
	into.Stdin, err = from.StdoutPipe()
	Expect(err).NotTo(HaveOccurred())
	Expect(from.Start()).To(Succeed())
	e.does(ctx, into)
	Expect(from.Wait()).To(Succeed())
	return e
}

func (e *ownEngine) host() string { return "unix://" + filepath.Join(e.dir, "sock") }
func (e *ownEngine) data() string { return filepath.Join(e.dir, "data") }

func (e *ownEngine) start(ctx context.Context) {
	GinkgoHelper()
	cmd := e.command(context.WithoutCancel(ctx), "dockerd",
		"--host", e.host(), "--data-root", e.data(), "--exec-root", filepath.Join(e.dir, "exec"), "--pidfile", filepath.Join(e.dir, "pid"),
		// Where containerd is the host's, the engines share it.
		"--containerd-namespace", e.namespace, "--containerd-plugins-namespace", e.namespace+"-plugins")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(log.Close)
	e.daemon, err = gexec.Start(cmd, log, log)
	Expect(err).NotTo(HaveOccurred())
	Eventually(ctx, func(g Gomega) {
		g.Expect(e.daemon).NotTo(gexec.Exit(), func() string { b, _ := os.ReadFile(log.Name()); return string(b) })
		g.Expect(e.command(ctx, "docker", "info").Run()).To(Succeed())
	}).WithTimeout(time.Minute).Should(Succeed())
}

// stop ends it by the signal: SIGTERM has it end its containers before, as when a machine shuts down, SIGKILL does not, and they are ended when it starts again.
func (e *ownEngine) stop(ctx context.Context, with syscall.Signal) {
	GinkgoHelper()
	e.daemon.Signal(with)
	Eventually(ctx, e.daemon).WithTimeout(2 * time.Minute).Should(gexec.Exit())
	Expect(os.RemoveAll(filepath.Join(e.dir, "pid"))).To(Succeed()) // one that was killed leaves it, and the next may refuse to start because of it
}

func (e *ownEngine) restart(ctx context.Context, with syscall.Signal) {
	GinkgoHelper()
	e.stop(ctx, with)
	e.start(ctx)
}

func (e *ownEngine) does(ctx context.Context, cmd *exec.Cmd) {
	GinkgoHelper()
	s, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	Eventually(ctx, s).Should(gexec.Exit(0))
}

// These specs say what becomes of a run in whose outage the container engine ends and starts again. A node of kind is a container: it ends with the engine, and is started with it. Then kubelet runs
// again, and with it the etcd that the manifest in place names.
var _ = Describe("a container engine that is restarted in the outage", Ordered, ContinueOnFailure, Label("engine"), func() {
	const name = "drill-e2e-engine"
	var e *ownEngine
	BeforeAll(func(ctx SpecContext) {
		e = newOwnEngine(ctx)
		s := e.drill("cluster", "create", name, "--image", os.Getenv("DRILL_NODE_IMAGE"))
		Eventually(ctx, s).Should(gexec.Exit(0))
		DeferCleanup(func(ctx SpecContext) {
			s := e.drill("cluster", "delete", name)
			Eventually(ctx, s).Should(gexec.Exit(0))
		}, NodeTimeout(3*time.Minute))
	}, NodeTimeout(20*time.Minute))

	for _, up := range []takeUp{resume(), rollback()} {
		for _, c := range []struct {
			procedure procedure.Procedure
			died
			with syscall.Signal
		}{
			{procedure.KubeletStop(), died{step: "stop-kubelet", moment: after}, syscall.SIGTERM},
			{procedure.KubeletStop(), died{step: "stop-control-plane", moment: after}, syscall.SIGTERM},
			{procedure.KubeletStop(), died{step: "stop-control-plane", moment: after}, syscall.SIGKILL},
			{procedure.KubeletStop(), died{step: "swap-manifest", moment: after}, syscall.SIGTERM},
			{procedure.KubeletStop(), died{step: "start-kubelet", moment: before}, syscall.SIGKILL},
			{procedure.KubeletStop(), died{step: "wait-etcd", moment: before}, syscall.SIGTERM},
			{procedure.ManifestMove(), died{step: "wait-etcd-gone", moment: after}, syscall.SIGTERM},
			{procedure.ManifestMove(), died{step: "swap-manifest", moment: after}, syscall.SIGKILL},
		} {
			It(fmt.Sprintf("%s: %s, killed %s %s, and the engine by %s", up.command, c.procedure.Name, c.moment, c.step, c.with), func(ctx SpecContext) {
				c.down = true
				id := e.die(ctx, name, c.procedure, c.died)
				e.restart(ctx, c.with)
				e.takes(ctx, up, c.died, id)
			}, SpecTimeout(15*time.Minute))
		}

		It(up.command+": a node that was stopped is started", func(ctx SpecContext) {
			d := died{step: "stop-control-plane", moment: after, down: true}
			id := e.die(ctx, name, procedure.KubeletStop(), d)
			e.does(ctx, e.command(ctx, "docker", "stop", name+"-control-plane"))
			e.takes(ctx, up, d, id)
		}, SpecTimeout(15*time.Minute))
	}

	for _, c := range []struct {
		step string
		with syscall.Signal
	}{{"stop-kubelet", syscall.SIGTERM}, {"stop-control-plane", syscall.SIGKILL}, {"start-kubelet", syscall.SIGTERM}} {
		It(fmt.Sprintf("is survived by a drill that has just done %s, and the engine killed by %s", c.step, c.with), func(ctx SpecContext) {
			s := e.drill("run", "deployment-loss", "--cluster", name, "-o", "json", "--outage-limit", patience.String())
			Eventually(ctx, s.Err).Should(gbytes.Say(c.step))
			e.restart(ctx, c.with)
			Eventually(ctx, s).Should(gexec.Exit())
			r := document(s).Runs[0]
			switch {
			case s.ExitCode() == 0:
				Expect(r.Verdict).To(Equal(plan.VerdictPassed))
			case r.Rollback == plan.StatusPassed:
				Expect(s).To(gexec.Exit(3))
				putBack(died{}, r)
			default: // the engine was away for too long
				Expect(s.Err).To(gbytes.Say("drill rollback " + r.ID))
				e.takes(ctx, rollback(), died{down: true}, r.ID)
			}
			GinkgoWriter.Printf("%s: %s; rollback %q\n", r.Verdict, r.Reason, r.Rollback)
			Expect(runner.Dir(e.stateDir(), r.ID)).To(BeADirectory())
		}, SpecTimeout(15*time.Minute))
	}
})
