package report_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

// varied is a later run of the same procedure in another way.
func varied(r report.Run, verdict plan.Verdict) report.Run {
	r.Variant.Own, r.Variant.KeptRunning, r.Variant.Renewed = false, []string{"kubelet"}, []string{"kube-apiserver"}
	r.StartedAt, r.Verdict = r.StartedAt.Add(time.Hour), verdict
	return r
}

// TestMetricsAreOfTheProcedureItself: what was done in another way neither proves the procedure nor speaks against it.
func TestMetricsAreOfTheProcedureItself(t *testing.T) {
	passed, failed := passedRun(), failedRun()
	want := metrics(t, report.NewDocument(passed, failed), "")
	doc := report.NewDocument(passed, failed, varied(passed, plan.VerdictFailed), varied(failed, plan.VerdictPassed))
	if got := metrics(t, doc, ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestMetricsAreLeftAlone: a command that only ran a procedure in another way makes no metrics, and does away with none.
func TestMetricsAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	other := report.NewDocument(varied(passedRun(), plan.VerdictFailed))
	path := filepath.Join(dir, "metrics.prom")
	paths, err := report.WriteDir(dir, other)
	if _, missing := os.Stat(path); err != nil || len(paths) != 2 || !os.IsNotExist(missing) {
		t.Errorf("wrote %v, %v", paths, err)
	}
	if _, err := report.WriteDir(dir, report.NewDocument(passedRun())); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if paths, err = report.WriteDir(dir, other); err != nil || len(paths) != 2 {
		t.Errorf("wrote %v, %v", paths, err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the metrics are now %s, %v", got, err)
	}
}

// TestJUnitNamesTheWay: what is done in another way is another test.
func TestJUnitNamesTheWay(t *testing.T) {
	var out bytes.Buffer
	if err := report.WriteJUnit(&out, report.NewDocument(varied(passedRun(), plan.VerdictPassed))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`name="deployment-loss with kubelet-stop (revision raised by 1000000000, begins anew besides etcd: kube-apiserver)"`,
		`classname="drill.deployment-loss.kubelet-stop.revision-raised-by-1000000000-begins-anew-besides-etcd-kube-apiserver.checks"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %s in\n%s", want, out.String())
		}
	}
}
