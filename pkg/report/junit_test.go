package report_test

import (
	"bytes"
	"encoding/xml"
	"testing"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

// junitOf writes runs as JUnit and reads that again.
func junitOf(t *testing.T, runs ...report.Run) (suites junit.Testsuites) {
	t.Helper()
	var out bytes.Buffer
	if err := report.WriteJUnit(&out, report.NewDocument(runs...)); err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(out.Bytes(), &suites); err != nil {
		t.Fatal(err)
	}
	return suites
}

func TestJUnitShowsDifferencesSideBySide(t *testing.T) {
	r := report.Run{Verdict: plan.VerdictFailed, Checks: []report.Check{{
		Name: "status-backed", Status: plan.StatusFailed, Detail: "2 statements are not true: pod a: expected 1, seen 2", Remedy: "restart kubelet",
		Differences: []plan.Difference{
			{Subject: "pod a", Expected: "1", Seen: "2"},
			{Subject: "a longer one", Expected: "running on node cp-a", Seen: "several\nlines,\ta tab and a \x1b"},
		},
		Evidence: []string{"pod b: runs"},
	}}}
	suites := junitOf(t, r)
	const want = `2 statements are not true: pod a: expected 1, seen 2

object       | expected             | seen
pod a        | 1                    | 2
a longer one | running on node cp-a | several lines, a tab and a ` + "\uFFFD" + `

evidence:
  pod b: runs

likely cause and remedy: restart kubelet`
	if got := suites.Suites[0].Testcases[0].Failure.Data; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestJUnitBlamesTheDrill: what could not be evaluated before anything was broken is an error, and no failure.
func TestJUnitBlamesTheDrill(t *testing.T) {
	r := report.Run{Verdict: plan.VerdictBroken, Checks: []report.Check{{
		Name: "snapshot-intact", Status: plan.StatusFailed, Detail: "could not be evaluated: no worker",
	}}}
	suites := junitOf(t, r)
	if c := suites.Suites[0].Testcases[0]; suites.Failures != 0 || suites.Errors != 1 || c.Failure != nil || c.Error == nil || c.Error.Message != "could not be evaluated: no worker" {
		t.Errorf("got %+v", suites)
	}
}
