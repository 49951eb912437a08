package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
	"github.com/etcd-drill/drill/pkg/report"
)

// measured is a run of a procedure that leaves something out: how long reads were away, 0 for forever, and which checks failed.
func measured(name string, bump uint64, kept []string, reads float64, failed ...string) report.Run {
	r := report.Run{
		Procedure: name, Verdict: plan.VerdictPassed, Cluster: report.Cluster{Nodes: 1, Kubernetes: "v1.37.2", Etcd: "3.7.0"},
		Variant: plan.Variant{BumpRevision: bump, KeptRunning: kept, SettleSeconds: 45,
			Renewed: slices.DeleteFunc(procedure.Components(), func(c string) bool { return slices.Contains(kept, c) })},
		Steps: []report.Step{{Name: "stop", Phase: plan.Recover, Outage: true, Status: plan.StatusPassed}},
	}
	if reads > 0 {
		r.Outage = plan.Outage{ReadSeconds: &reads, ServiceSeconds: &reads}
	}
	for _, f := range failed {
		r.Verdict = plan.VerdictFailed
		check := report.Check{Name: f, Status: plan.StatusFailed}
		if f == report.RenewalCheck {
			for _, c := range kept {
				check.Differences = append(check.Differences, plan.Difference{Subject: c + " on cp-a", Expected: "a start after 1", Seen: "0"})
			}
		}
		r.Checks = append(r.Checks, check)
	}
	return r
}

func measurement() report.Document {
	const kept = report.RenewalCheck
	restarted := measured("manifest-move", 1000, []string{"kube-apiserver"}, 500)
	restarted.Checks = []report.Check{{Name: kept, Status: plan.StatusPassed}}
	return report.NewDocument(
		measured("kubelet-stop", 1000, nil, 5),
		measured("kubelet-stop", 0, nil, 5.5, "revision-forward"),
		measured("kubelet-stop", 1000, []string{"kube-scheduler"}, 5, kept),
		measured("kubelet-stop", 1000, []string{"kube-controller-manager"}, 6, "objects-restored", kept),
		measured("kubelet-stop", 1000, []string{"kubelet"}, 40, kept),
		measured("manifest-move", 1000, nil, 50),
		restarted,
		measured("manifest-move", 1000, []string{"kubelet"}, 0, "status-backed", kept),
		measured("manifest-edit", 0, procedure.Components(), 70, "reads-agree", kept),
	)
}

func TestShortcutsText(t *testing.T) {
	text := string(shortcutsText(measurement()))
	for _, want := range []string{
		"- **May I skip raising the revision?** No: with `kubelet-stop` these failed: `revision-forward`. Clients remember",
		"- **May I skip restarting kube-apiserver?** It gains nothing: with `manifest-move` nothing failed (reads were away 10.0 times as long as with nothing left out). It serves",
		"- **May I skip restarting kube-controller-manager?** No: with `kubelet-stop` these failed: `objects-restored`. It acts",
		"- **May I skip restarting kube-scheduler?** As far as was seen, yes: with `kubelet-stop` nothing failed. It remembers",
		"- **May I skip restarting kubelet?** It depends: with `kubelet-stop` nothing failed (reads were away 8.0 times as long as with nothing left out); " +
			"with `manifest-move` these failed: `status-backed`. It remembers",
		"- **May I skip all of that, as most tutorials do?** No: with `manifest-edit` these failed: `reads-agree`. Then only",
		"| `kubelet-stop` | yes | all | passed | 1.0× | 1.0× | – |\n",
		"| `manifest-move` | yes | all but kubelet | failed | never | never | `status-backed`, `control-plane-renewed` |\n",
		"| `manifest-edit` | no | none | failed | 14.0× | 14.0× | `reads-agree`, `control-plane-renewed` |\n",
		"\nMeasured on 1 node, Kubernetes v1.37.2, etcd 3.7.0.\n",
		"\nAll checks together had 45s after the recovery",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

// TestWhatEndedByItselfAnswersNothing: a component that began anew by itself was not skipped, in all of the runs or in some.
func TestWhatEndedByItselfAnswersNothing(t *testing.T) {
	scheduler := []string{"kube-scheduler"}
	ended := func(r report.Run) report.Run {
		r.EndedByThemselves = scheduler
		return r
	}
	move := ended(measured("manifest-move", 1000, scheduler, 50))
	edit := ended(measured("manifest-edit", 0, procedure.Components(), 70))
	for want, doc := range map[string]report.Document{
		"kube-scheduler?** Not known: with `manifest-move` it ended by itself and began anew, which says nothing. It": report.NewDocument(move),
		"kube-scheduler?** As far as was seen, yes: with `kubelet-stop` nothing failed; with `manifest-move` it ended by itself": report.NewDocument(
			move, measured("kubelet-stop", 1000, scheduler, 5)),
		"kube-scheduler?** No: with `kubelet-stop` these failed: `status-backed`. It": report.NewDocument(
			ended(measured("kubelet-stop", 1000, scheduler, 5)), measured("kubelet-stop", 1000, scheduler, 5, "status-backed")),
		"tutorials do?** As far as was seen, yes: with `manifest-edit` nothing failed.": report.NewDocument(edit),
		"| passed | ? | ? | kube-scheduler ended by itself |":                           report.NewDocument(edit),
	} {
		if text := string(shortcutsText(doc)); !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

// TestShortcutsOfWhatIsThere: there is no page without a measurement; it is made of whatever rows there are, and never of something else.
func TestShortcutsOfWhatIsThere(t *testing.T) {
	docs := t.TempDir()
	if page, err := shortcuts(docs); page != nil || err == nil {
		t.Errorf("without a measurement: %q, %v", page, err)
	}
	file := filepath.Join(docs, shortcutsData)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, doc := range []report.Document{report.NewDocument(), measurement(), {Runs: measurement().Runs[1:]}} {
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		page, err := shortcuts(docs)
		if want := shortcutsText(doc); err != nil || string(page) != string(want) {
			t.Errorf("of %d runs: %v, %s", len(doc.Runs), err, page)
		}
	}
	if text := string(shortcutsText(report.NewDocument())); !strings.Contains(text, "restarting kubelet?** Not measured. It remembers") {
		t.Errorf("nothing was measured, and still there is an answer: %s", text)
	}
	if text := string(shortcutsText(report.Document{Runs: measurement().Runs[1:]})); !strings.Contains(text, "| ? |") {
		t.Errorf("there is nothing to compare with, and still a multiple of it: %s", text)
	}
	if err := os.WriteFile(file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := shortcuts(docs); err == nil {
		t.Error("half a document is taken for a measurement")
	}
}

// TestRenewalCheckIsThere: it is left out of the answers by its name.
func TestRenewalCheckIsThere(t *testing.T) {
	if !slices.ContainsFunc(proof.Checks(&proof.Subject{}), func(c plan.Check) bool { return c.Name == report.RenewalCheck }) {
		t.Errorf("there is no check %q", report.RenewalCheck)
	}
}
