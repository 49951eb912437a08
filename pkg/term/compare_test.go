package term_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/term"
)

// compared has a variant that was proven, one that harmed much, and one that could not be carried out.
func compared() report.Document {
	all := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}
	cluster := report.Cluster{Name: "drill-x7k2", Nodes: 1, Kubernetes: "v1.37.2", Etcd: "3.7.0"}
	outage := []report.Step{{Name: "stop-kubelet", Phase: plan.Recover, Outage: true, Status: plan.StatusPassed}}
	var failed []report.Check
	for _, name := range []string{"objects-restored", "reads-agree", "status-backed", "no-phantoms", "service-answers", "watches-honest", "control-plane-renewed"} {
		failed = append(failed, report.Check{Name: name, Status: plan.StatusFailed})
	}
	return report.NewDocument(
		report.Run{
			Procedure: "kubelet-stop", Verdict: plan.VerdictPassed, Cluster: cluster, Steps: outage,
			Variant: plan.Variant{BumpRevision: 1000, Renewed: all, SettleSeconds: 75}, Outage: plan.Outage{ReadSeconds: ptr(5.43), ServiceSeconds: ptr(6.1)},
		},
		report.Run{
			Procedure: "kubelet-stop", Verdict: plan.VerdictFailed, Cluster: cluster, Steps: outage, Checks: failed,
			Variant: plan.Variant{KeptRunning: all[1:2], Renewed: []string{all[0], all[2], all[3]}, SettleSeconds: 75}, Outage: plan.Outage{ReadSeconds: ptr(12.0)},
		},
		report.Run{Procedure: "manifest-edit", Verdict: plan.VerdictBroken, Reason: "no container engine\x1b[31m answers", Variant: plan.Variant{KeptRunning: all}},
	)
}

func TestComparisonPlain(t *testing.T) {
	var b bytes.Buffer
	v := term.New(&b, term.Options{})
	v.Compare(compared())
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	golden(t, "compare-plain.txt", b.String())
}

// TestComparisonOnATerminal: no line is longer than the terminal is wide, and where there is room for all columns each row stands in one line or in lines
// below its last column.
func TestComparisonOnATerminal(t *testing.T) {
	for width, name := range map[int]string{80: "compare-narrow.txt", 130: "compare-wide.txt"} {
		screen := newTerminal(t, width)
		v := term.New(screen, term.Options{Interactive: true, Color: true, Width: screen.Width, Tick: make(chan time.Time)})
		v.Compare(compared())
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		got := screen.String()
		for line := range strings.Lines(got) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n >= width {
				t.Errorf("on %d columns there is a line of %d: %s", width, n, line)
			}
		}
		golden(t, name, got)
	}
}
