package report_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

// compared is a run of a comparison on the usual cluster: its procedure, what was kept, its verdict, when reads and the Service were back, and which checks failed.
func compared(procedure string, bump uint64, kept []string, verdict plan.Verdict, reads, service *float64, failed ...string) report.Run {
	all := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}
	r := report.Run{
		Scenario: "deployment-loss", Procedure: procedure, Verdict: verdict,
		Variant: plan.Variant{
			BumpRevision: bump, KeptRunning: kept, SettleSeconds: 45,
			Renewed: slices.DeleteFunc(all, func(c string) bool { return slices.Contains(kept, c) }),
		},
		Cluster: report.Cluster{Name: "drill-x7k2", Nodes: 1, Kubernetes: "v1.37.2", Etcd: "3.7.0"},
		Steps: []report.Step{
			{Name: "note-last", Phase: plan.Recover, Status: plan.StatusPassed, Seconds: 0.3},
			{Name: "stop-kubelet", Phase: plan.Recover, Outage: true, Status: plan.StatusPassed, Seconds: 0.2},
			{Name: "wait-kube-apiserver", Phase: plan.Recover, Status: plan.StatusPassed, Seconds: 4.4},
			{Name: "rollback-swap", Phase: plan.Rollback, Status: plan.StatusPassed, Seconds: 9},
		},
		Outage: plan.Outage{ReadSeconds: reads, ServiceSeconds: service, FloorSeconds: ptr(2.5)},
	}
	for _, name := range []string{"reads-agree", "status-backed", "control-plane-renewed"} {
		status := plan.StatusPassed
		if slices.Contains(failed, name) {
			status = plan.StatusFailed
		}
		c := report.Check{Name: name, Status: status}
		if name == report.RenewalCheck && status == plan.StatusFailed {
			c.Differences = old(kept)
		}
		r.Checks = append(r.Checks, c)
	}
	return r
}

// old is what RenewalCheck says of components that live on.
func old(components []string) []plan.Difference {
	var out []plan.Difference
	for _, c := range components {
		out = append(out, plan.Difference{Subject: c + " on cp-a", Expected: "a start after 2026-11-23 06:07:08.000", Seen: "2026-11-23 06:00:00.000"})
	}
	return out
}

// compareDocument has two rounds of four variants, and one that could not be carried out.
func compareDocument() report.Document {
	everything := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}
	stuck := compared("manifest-move", 1000, nil, plan.VerdictFailed, nil, nil)
	stuck.Steps = append(stuck.Steps, report.Step{Name: "wait-etcd", Phase: plan.Recover, Status: plan.StatusFailed})
	stuck.Rollback = plan.StatusFailed
	return report.NewDocument(
		compared("kubelet-stop", 1000, nil, plan.VerdictPassed, ptr(5.2), ptr(6.0)),
		compared("kubelet-stop", 1000, []string{"kubelet"}, plan.VerdictFailed, ptr(38.0), ptr(40.0), "control-plane-renewed"),
		compared("manifest-edit", 0, everything, plan.VerdictFailed, ptr(74.0), nil, "reads-agree", "status-backed", "control-plane-renewed"),
		stuck,
		compared("kubelet-stop", 1000, nil, plan.VerdictPassed, ptr(5.6), ptr(6.4)),
		compared("kubelet-stop", 1000, []string{"kubelet"}, plan.VerdictFailed, ptr(36.0), nil, "status-backed", "control-plane-renewed"),
		compared("manifest-edit", 0, everything, plan.VerdictFailed, ptr(76.0), nil, "reads-agree", "control-plane-renewed"),
		report.Run{Procedure: "kubelet-stop", Verdict: plan.VerdictBroken, Reason: "no | node image", Variant: plan.Variant{Renewed: everything}},
	)
}

func TestComparison(t *testing.T) {
	var b bytes.Buffer
	if err := report.WriteComparison(&b, compareDocument()); err != nil {
		t.Fatal(err)
	}
	golden(t, "comparison.md", b.Bytes())
}

// TestComparisonOfASnapshotThatWasGiven: each run may have to raise the revision further than the one before, and a Service that nobody asked for did not stay away.
func TestComparisonOfASnapshotThatWasGiven(t *testing.T) {
	first, second := compared("kubelet-stop", 1000, nil, plan.VerdictPassed, ptr(5.2), nil), compared("kubelet-stop", 2000, nil, plan.VerdictFailed, ptr(5.6), nil, "reads-agree")
	first.Outage.NotAsked, second.Outage.NotAsked = []string{"work", "service"}, []string{"work", "service"}
	c := report.Compare(report.NewDocument(first, second))
	if len(c.Rows) != 1 || len(c.Rows[0].Runs) != 2 {
		t.Fatalf("%+v", c)
	}
	if got := c.Rows[0].Service().String(); got != report.Nothing {
		t.Errorf("the Service: %s", got)
	}
}

// TestHarm: what fails because it was asked for is no harm, and nothing else is left out.
func TestHarm(t *testing.T) {
	var got []string
	for _, row := range report.Compare(compareDocument()).Rows {
		got = append(got, strings.Join(row.Harm(), ", "))
	}
	want := []string{"", "status-backed (1 of 2)", "reads-agree, status-backed (1 of 2)", "step wait-etcd, the rollback", "no | node image"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	renewed := compared("kubelet-stop", 1000, nil, plan.VerdictFailed, nil, nil, "control-plane-renewed")
	if harm := report.Compare(report.NewDocument(renewed)).Rows[0].Harm(); len(harm) != 1 {
		t.Errorf("nothing was to be kept, and it was: %q", harm)
	}
}

// TestRenewalIsHarmUnlessAskedFor: that the check is false because of what was kept hides nothing else that it found.
func TestRenewalIsHarmUnlessAskedFor(t *testing.T) {
	kept := []string{"kube-scheduler", "kubelet"}
	for name, c := range map[string]struct {
		found []plan.Difference
		harm  bool
	}{
		"what was kept":             {old(kept), false},
		"a part of it":              {old(kept[1:]), false},
		"another one too":           {append(old(kept), old([]string{"kube-apiserver"})...), true},
		"etcd itself":               {old([]string{"etcd"}), true},
		"etcd on other data":        {append(old(kept), plan.Difference{Subject: "etcd on cp-a", Expected: "to run on /new", Seen: "/old"}), true},
		"a kept one that is gone":   {[]plan.Difference{{Subject: "kube-scheduler on cp-a", Expected: "1 running container", Seen: "0"}}, true},
		"it could not be evaluated": {nil, true},
	} {
		r := compared("kubelet-stop", 1000, kept, plan.VerdictFailed, nil, nil, report.RenewalCheck)
		r.Checks[len(r.Checks)-1].Differences = c.found
		if harm := report.Compare(report.NewDocument(r)).Rows[0].Harm(); (len(harm) > 0) != c.harm {
			t.Errorf("%s: %q", name, harm)
		}
	}
}

// TestAgainst: the runs of one round are held against each other, and what was not measured is left out.
func TestAgainst(t *testing.T) {
	row := func(reads ...*float64) report.Row {
		var w report.Row
		for _, v := range reads {
			w.Runs = append(w.Runs, compared("p", 0, nil, plan.VerdictPassed, v, nil))
		}
		return w
	}
	first := row(ptr(4.0), ptr(8.0), nil, ptr(0.0))
	slow := row(ptr(40.0), ptr(40.0), ptr(40.0), ptr(40.0), ptr(40.0))
	if got := slow.Against(first); got != (report.Span{Median: 7.5, Least: 5, Most: 10, Back: 2}) {
		t.Errorf("%+v", got)
	}
	if got := first.OverFloor().Times(); got != "1.6× (0.0–3.2)" {
		t.Errorf("%q", got)
	}
	if got := row(nil).Against(first).Times(); got != report.Nothing {
		t.Errorf("%q", got)
	}
}

func TestSpan(t *testing.T) {
	run := func(v *float64) report.Run { return compared("p", 0, nil, plan.VerdictFailed, v, v) }
	for want, runs := range map[string][]report.Run{
		"–":                                {{Verdict: plan.VerdictFailed}}, // the control plane was never taken away
		"5.0 s":                            {run(ptr(5.0))},
		"never":                            {run(nil), run(nil)},
		"6.0 s (5.0–9.0)":                  {run(ptr(9.0)), run(ptr(5.0)), run(ptr(6.0))},
		"5.5 s (5.0–6.0)":                  {run(ptr(6.0)), run(ptr(5.0))},
		"6.0 s, never in 1 of 2":           {run(nil), run(ptr(6.0))},
		"5.5 s (5.0–6.0), never in 2 of 4": {run(nil), run(ptr(6.0)), run(nil), run(ptr(5.0))},
	} {
		row := report.Row{Runs: runs}
		if got := row.Reads().String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := row.Service().String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	proven := compared("p", 0, nil, plan.VerdictPassed, nil, nil)
	if got := (report.Row{Runs: []report.Run{proven}}).Reads().String(); got != "–" {
		t.Errorf("a proven recovery, not measured: %q", got)
	}
}

// TestVerdictOfSeveralRuns: what most of them have and, in doubt, the worse one.
func TestVerdictOfSeveralRuns(t *testing.T) {
	const p, f, b, i = plan.VerdictPassed, plan.VerdictFailed, plan.VerdictBroken, plan.VerdictInterrupted
	for want, verdicts := range map[string][]plan.Verdict{
		"passed":             {p, p},
		"passed 2 of 3":      {p, f, p},
		"failed 1 of 2":      {p, f},
		"broken 1 of 3":      {p, f, b},
		"interrupted":        {i},
		"interrupted 1 of 2": {i, p},
	} {
		var row report.Row
		for _, v := range verdicts {
			row.Runs = append(row.Runs, report.Run{Verdict: v})
		}
		if got := row.Verdict(); got != want {
			t.Errorf("%v: %q, want %q", verdicts, got, want)
		}
		if row.Passed() != (want == "passed") {
			t.Errorf("%v: passed is %v", verdicts, row.Passed())
		}
	}
}

func TestRenewedInFewWords(t *testing.T) {
	all := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}
	for want, n := range map[string]int{
		"all": 0, "all but kube-apiserver": 1, "kube-scheduler, kubelet": 2, "kubelet": 3, "none": 4,
	} {
		row := report.Row{Variant: plan.Variant{KeptRunning: all[:n], Renewed: all[n:]}}
		if got := row.Renewed(); got != want {
			t.Errorf("%d kept: %q, want %q", n, got, want)
		}
	}
}

func TestWriteComparisonDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	paths, err := report.WriteComparisonDir(dir, compareDocument())
	if err != nil || len(paths) != 2 {
		t.Fatalf("%q, %v", paths, err)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("there are %v, %v", entries, err)
	}
	if _, err := report.WriteComparisonDir(paths[0], compareDocument()); err == nil {
		t.Error("a file in the way was no error")
	}
}

// TestEndedByItself: a row doesn't claim that something lived on which began anew.
func TestEndedByItself(t *testing.T) {
	kept := []string{"kube-scheduler"}
	one, other := compared("kubelet-stop", 1000, kept, plan.VerdictPassed, ptr(5.0), ptr(5.0)), compared("kubelet-stop", 1000, kept, plan.VerdictPassed, ptr(5.0), ptr(5.0))
	one.EndedByThemselves, other.EndedByThemselves = kept, []string{}
	for want, runs := range map[string][]report.Run{
		"kube-scheduler ended by itself":          {one, one},
		"kube-scheduler ended by itself (1 of 2)": {one, other},
		"–": {other, other},
	} {
		c := report.Compare(report.NewDocument(runs...))
		cells := c.Cells(c.Rows[0])
		if got := cells[len(cells)-1]; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if noted := strings.Contains(strings.Join(c.Notes(), "\n"), "ended by itself"); noted != (want != "–") {
			t.Errorf("%s: the notes say so: %v", want, noted)
		}
	}
}
