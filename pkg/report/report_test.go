package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/yaml"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s\nRun go test -update if it should", path, got)
	}
}

func ptr[T any](v T) *T { return &v }

var began = time.Date(2026, 3, 1, 12, 0, 0, 500e6, time.FixedZone("KST", 9*3600))

// samplePlan has a step and a check of each kind.
func samplePlan(procedure string) plan.Plan {
	return plan.Plan{
		Scenario:  plan.Entry{Name: "deployment-loss"},
		Procedure: plan.Entry{Name: procedure},
		Variant:   plan.Variant{Own: true, BumpRevision: 1_000_000_000, Renewed: []string{"kube-apiserver", "kubelet"}, SettleSeconds: 30},
		Cluster:   plan.ClusterInfo{Provider: "kind", Name: "drill-x7k2", Nodes: 1, Kubernetes: "v1.37.2", Etcd: "3.7.0"},
		Steps: []plan.Step{
			{Name: "deploy", Phase: plan.Arrange, Title: "Deploy nginx", Commands: []plan.Command{
				{On: "n1", Argv: []string{"kubectl", "create", "deployment", "nginx"}},
			}},
			{Name: "snapshot-save", Phase: plan.Protect, Title: "Save a snapshot of etcd"},
			{Name: "stop-kubelet", Phase: plan.Recover, Title: "Stop kubelet", Outage: true},
			{Name: "wait", Phase: plan.Recover, Title: "Wait", Outage: true, Commands: []plan.Command{
				{On: "n1", Argv: []string{"crictl", "ps"}, PipeTo: []string{"grep", "<&>"}, Until: true},
			}},
		},
		Checks: []plan.Check{
			{Name: "snapshot-intact", Phase: plan.Protect},
			{Name: "reads-agree", Phase: plan.Prove},
			{Name: "watches-honest", Phase: plan.Prove},
		},
		Rollback: []plan.Step{{Name: "stop-kubelet", Phase: plan.Rollback, Title: "Stop kubelet"}},
	}
}

func feed(events ...plan.Event) report.Run {
	var b report.Builder
	for _, e := range events {
		b.Observe(e)
	}
	return b.Run()
}

func at(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }

func step(p plan.Plan, i int, from, to float64) []plan.Event {
	s := p.Steps[i]
	return []plan.Event{
		plan.StepStarted{At: at(from), Step: s, Number: i + 1, Of: len(p.Steps)},
		plan.StepFinished{At: at(to), Step: s, Status: plan.StatusPassed, Elapsed: at(to).Sub(at(from))},
	}
}

func check(p plan.Plan, i int, from, to float64, f plan.Finding) []plan.Event {
	return []plan.Event{
		plan.CheckStarted{At: at(from), Check: p.Checks[i]},
		plan.CheckFinished{At: at(to), Check: p.Checks[i], Finding: f, Elapsed: at(to).Sub(at(from))},
	}
}

func passedRun() report.Run {
	p := samplePlan("kubelet-stop")
	return feed(slices.Concat(
		[]plan.Event{plan.RunStarted{At: at(0), ID: "20260301-1", Plan: p}},
		step(p, 0, 0.1, 4.3), step(p, 1, 4.3, 4.8), check(p, 0, 4.8, 5.0, plan.Passed("512 keys at revision 812", "sha256 ok")),
		step(p, 2, 5, 5.1), step(p, 3, 5.1, 10.4321),
		check(p, 1, 10.5, 10.6, plan.Passed("all views agree")),
		check(p, 2, 10.6, 10.6, plan.Skipped("no informer was open")),
		[]plan.Event{
			plan.Measured{At: at(11), Measurement: plan.Measurement{
				Outage: plan.Outage{
					EtcdSeconds: ptr(2.9), ReadSeconds: ptr(5.4), WriteSeconds: ptr(5.5), WorkSeconds: ptr(5.6), ServiceSeconds: ptr(5.9),
				},
				EndedByThemselves: []string{"kube-scheduler"},
				Loss:              plan.Loss{Seconds: ptr(0.25), Revisions: ptr(int64(3)), Objects: []plan.Object{}},
				Snapshot: &plan.SnapshotInfo{
					Path: "/var/lib/drill/s.db", SHA256: "ab12", Bytes: 1 << 20, Revision: 812, Keys: 512, EtcdVersion: "3.7.0", TakenAt: at(4.4).UTC(),
				},
				Probe: &plan.Probe{
					IntervalSeconds: 0.1, PatienceSeconds: 1, StartedAt: at(4.2).UTC(), OutageBegan: ptr(0.8),
					Series: []plan.Series{
						{
							Name: "etcd", At: []float64{0, 0.1, 1.2}, Took: []float64{0.003, 1.1, 0.004}, Error: []int{0, 1, 0},
							Errors: []string{"", "POST /v3/kv/range: connection refused\n- 5\n7"}, Revision: []int64{812, 0, 1_000_000_813},
						},
						{Name: "service", At: []float64{0}, Took: []float64{0.001}, Error: []int{0}, Errors: []string{""}},
					},
				},
			}},
			plan.RunFinished{At: at(12), Verdict: plan.VerdictPassed, Elapsed: 12 * time.Second},
		},
	)...)
}

func failedRun() report.Run {
	p := samplePlan("manifest-edit")
	undo := p.Rollback[0]
	return feed(slices.Concat(
		[]plan.Event{plan.RunStarted{At: at(100), ID: "20260301-2", Plan: p}},
		step(p, 0, 100.1, 104.3), step(p, 1, 104.3, 104.8), check(p, 0, 104.8, 105.0, plan.Passed("512 keys at revision 812")),
		step(p, 2, 105, 105.1), step(p, 3, 105.1, 110),
		check(p, 1, 110, 170, plan.Failed("GET says 2/2, LIST says nothing <]]>", "restart the API server",
			"kube-apiserver: \x1b[31mrevision 812\x1b[0m", "list:\nnone")),
		check(p, 2, 170, 170, plan.Skipped("not evaluated: check reads-agree")),
		[]plan.Event{
			plan.Warning{At: at(171), Message: "not everything could be measured"},
			plan.Measured{At: at(171), Measurement: plan.Measurement{Loss: plan.Loss{Objects: []plan.Object{{APIVersion: "v1", Kind: "ConfigMap", Namespace: "default", Name: "late"}}}}},
			plan.EvidenceKept{At: at(172), Paths: []string{"evidence/etcd.log"}},
			plan.StepStarted{At: at(173), Step: undo, Number: 1, Of: 1},
			plan.StepFinished{
				At: at(174), Step: undo, Status: plan.StatusFailed, Elapsed: time.Second, Err: errors.New("on node n1: systemctl stop kubelet\nexit status 1"),
			},
			plan.RunFinished{
				At: at(175), Verdict: plan.VerdictFailed, Reason: "check reads-agree: GET says 2/2, LIST says nothing", Elapsed: 75 * time.Second,
			},
		},
	)...)
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := report.WriteJSON(&out, report.NewDocument(passedRun(), failedRun())); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", out.Bytes())
}

// The names that schema 1 promises, and the fields whose value may be null.
func TestPromisedFields(t *testing.T) {
	promised := map[string]string{
		"":         "schemaVersion runs",
		"run":      "id scenario procedure provider verdict reason startedAt seconds cluster snapshot outage loss probe phases steps checks artifacts",
		"cluster":  "name nodes kubernetes etcd",
		"snapshot": "path sha256 bytes revision keys etcdVersion takenAt",
		"outage":   "etcdSeconds readSeconds writeSeconds workSeconds serviceSeconds floorSeconds interruptions",
		"loss":     "seconds revisions objects",
		"probe":    "intervalSeconds patienceSeconds startedAt breakBegan outageBegan series",
		"series":   "name at took error errors revision",
		"phases":   "name seconds",
		"steps":    "name phase status seconds commands error",
		"checks":   "name status detail evidence",
	}
	var doc map[string]any
	decode(t, report.NewDocument(passedRun()), &doc)
	has := func(where string, v any) map[string]any {
		object, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("%q is %T, want an object", where, v)
		}
		for _, name := range strings.Fields(promised[where]) {
			if _, ok := object[name]; !ok {
				t.Errorf("%q lacks %q", where, name)
			}
		}
		return object
	}
	run := has("run", has("", doc)["runs"].([]any)[0])
	for _, name := range []string{"cluster", "snapshot", "outage", "loss", "probe"} {
		has(name, run[name])
	}
	for _, s := range run["probe"].(map[string]any)["series"].([]any) {
		has("series", s)
	}
	for _, name := range []string{"phases", "steps", "checks"} {
		for _, element := range run[name].([]any) {
			has(name, element)
		}
	}
}

// TestNoArrayIsNull: but for the objects that were lost, where null says that nobody knows.
func TestNoArrayIsNull(t *testing.T) {
	lists := map[string]bool{
		"runs": true, "phases": true, "steps": true, "checks": true, "warnings": true, "artifacts": true,
		"commands": true, "argv": true, "evidence": true,
		"series": true, "at": true, "took": true, "error": true, "errors": true, "revision": true,
	}
	seen := map[string]bool{}
	var walk func(name string, v any)
	walk = func(name string, v any) {
		if lists[name] {
			seen[name] = true
			if v == nil {
				t.Errorf("%s is null", name)
			}
		}
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(k, e)
			}
		case []any:
			for _, e := range v {
				walk("", e)
			}
		}
	}
	for _, doc := range []report.Document{
		{SchemaVersion: 1},
		report.NewDocument(report.Run{Probe: &plan.Probe{}}, report.Run{Probe: &plan.Probe{Series: []plan.Series{{}}}}, report.Run{Steps: []report.Step{{Commands: []plan.Command{{}}}, {}}, Checks: []report.Check{{}}}),
	} {
		var v any
		decode(t, doc, &v)
		walk("", v)
	}
	if len(seen) != len(lists) {
		t.Errorf("only these lists were seen: %v", seen)
	}
}

func decode(t *testing.T, doc report.Document, v any) {
	t.Helper()
	var out bytes.Buffer
	if err := report.WriteJSON(&out, doc); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), v); err != nil {
		t.Fatal(err)
	}
}

func TestJSONAndYAMLRoundTrip(t *testing.T) {
	doc := report.NewDocument(passedRun(), failedRun())
	var fromJSON, fromYAML report.Document
	decode(t, doc, &fromJSON)
	if !reflect.DeepEqual(fromJSON, doc) {
		t.Errorf("JSON: got\n%+v\nwant\n%+v", fromJSON, doc)
	}
	var out bytes.Buffer
	if err := report.WriteYAML(&out, doc); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(out.Bytes(), &fromYAML); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fromYAML, doc) {
		t.Errorf("YAML: got\n%+v\nwant\n%+v", fromYAML, doc)
	}
}

func TestBuilder(t *testing.T) {
	r := failedRun()
	var phases []string
	for _, p := range r.Phases {
		phases = append(phases, string(p.Name))
	}
	if got := strings.Join(phases, " "); got != "arrange protect recover prove rollback" {
		t.Errorf("phases are %s", got)
	}
	if got := r.Phases[3].Seconds; got != 60 {
		t.Errorf("prove took %v s, want 60", got)
	}
	if passed, failed, skipped := r.Counts(); passed != 1 || failed != 1 || skipped != 1 {
		t.Errorf("counts are %d %d %d", passed, failed, skipped)
	}
	if last := r.Steps[len(r.Steps)-1]; last.Phase != plan.Rollback || last.Status != plan.StatusFailed {
		t.Errorf("the last step is %+v, want the one that puts the old state back", last)
	}
	if r.Steps[2].Status != plan.StatusPassed {
		t.Error("a step that puts the old state back was taken for the step of the same name")
	}
	if !r.OutageBegan() || !r.Steps[2].Outage || r.Steps[3].Outage {
		t.Errorf("the outage begins with the first step that is marked: %+v", r.Steps)
	}
}

func TestBuilderOfARunThatDidNotEnd(t *testing.T) {
	p := samplePlan("kubelet-stop")
	r := feed(slices.Concat(
		[]plan.Event{plan.RunStarted{At: at(0), ID: "x", Plan: p}},
		step(p, 0, 0, 2),
		[]plan.Event{plan.StepStarted{At: at(2), Step: p.Steps[1]}},
	)...)
	if r.Verdict != plan.VerdictInterrupted || r.Reason == "" || r.Seconds != 2 {
		t.Errorf("verdict %q, reason %q, %v s", r.Verdict, r.Reason, r.Seconds)
	}
	for i, s := range r.Steps {
		want := plan.StatusSkipped
		if i == 0 {
			want = plan.StatusPassed
		}
		if s.Status != want {
			t.Errorf("step %s is %s, want %s", s.Name, s.Status, want)
		}
		if (s.Error != "") != (i == 1) {
			t.Errorf("step %s has error %q", s.Name, s.Error)
		}
	}
	for _, c := range r.Checks {
		if c.Status != plan.StatusSkipped || c.Detail == "" {
			t.Errorf("check %+v, want skipped with a reason", c)
		}
	}
	if r.OutageBegan() {
		t.Error("an outage that no step began")
	}
}

func TestJUnit(t *testing.T) {
	interrupted := passedRun()
	interrupted.Verdict, interrupted.Reason = plan.VerdictInterrupted, "interrupted in step wait"
	var out bytes.Buffer
	if err := report.WriteJUnit(&out, report.NewDocument(passedRun(), failedRun(), interrupted)); err != nil {
		t.Fatal(err)
	}
	golden(t, "junit.xml", out.Bytes())

	var suites junit.Testsuites
	dec := xml.NewDecoder(&out)
	dec.Strict = true
	if err := dec.Decode(&suites); err != nil {
		t.Fatal(err)
	}
	if suites.Tests != 7+8+8 || suites.Failures != 2 || suites.Errors != 1 {
		t.Errorf("totals: %d tests, %d failures, %d errors", suites.Tests, suites.Failures, suites.Errors)
	}
	for _, s := range suites.Suites {
		if s.Skipped != 1 {
			t.Errorf("suite %s: %d skipped", s.Name, s.Skipped)
		}
	}
	for _, c := range suites.Suites[1].Testcases {
		if c.Name == "reads-agree" {
			for _, want := range []string{"<]]>", "remedy: restart the API server", "\uFFFD[31mrevision 812", "\n  none"} {
				if !strings.Contains(c.Failure.Data, want) {
					t.Errorf("the failure lacks %q: %s", want, c.Failure.Data)
				}
			}
		}
	}
}

func TestJUnitTellsWhoIsToBlame(t *testing.T) {
	r := report.Run{Verdict: plan.VerdictBroken, Steps: []report.Step{
		{Name: "deploy", Phase: plan.Arrange, Status: plan.StatusFailed, Error: "no image"},
	}}
	if suites := junitOf(t, r); suites.Errors != 1 || suites.Failures != 0 || suites.Tests != 1 {
		t.Errorf("want one error and nothing else: %+v", suites)
	}
}

func metrics(t *testing.T, doc report.Document, earlier string) string {
	t.Helper()
	var out bytes.Buffer
	if err := report.WriteMetrics(&out, doc, strings.NewReader(earlier)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func parse(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func TestMetrics(t *testing.T) {
	text := metrics(t, report.NewDocument(passedRun(), failedRun()), "")
	golden(t, "metrics.prom", []byte(text))
	for name, f := range parse(t, text) {
		if f.GetType() != dto.MetricType_GAUGE || f.GetHelp() == "" {
			t.Errorf("%s: type %s, help %q", name, f.GetType(), f.GetHelp())
		}
	}
}

// proven returns the last proven recovery of each cluster, by procedure and cluster.
func proven(t *testing.T, text string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, m := range parse(t, text)["drill_last_proven_recovery_timestamp_seconds"].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		out[labels["procedure"]+" "+labels["cluster"]] = m.GetGauge().GetValue()
	}
	return out
}

func TestLastProvenRecoveryIsKept(t *testing.T) {
	passed := passedRun()
	first := metrics(t, report.NewDocument(passed), "")
	want := map[string]float64{"kubelet-stop drill-x7k2": float64(passed.StartedAt.Add(12*time.Second).UnixMilli()) / 1000}
	if got := proven(t, first); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}

	// A failed run, on another cluster, doesn't make it forgotten.
	failed := passed
	failed.Verdict, failed.StartedAt, failed.Cluster.Name = plan.VerdictFailed, passed.StartedAt.Add(time.Hour), "drill-b"
	second := metrics(t, report.NewDocument(failed), first)
	if got := proven(t, second); !reflect.DeepEqual(got, want) {
		t.Errorf("after a failed run: got %v, want %v", got, want)
	}

	// Nor does a run of something else, which was never proven.
	third := metrics(t, report.NewDocument(failedRun()), second)
	want["manifest-edit drill-x7k2"] = 0
	if got := proven(t, third); !reflect.DeepEqual(got, want) {
		t.Errorf("after a run of something else: got %v, want %v", got, want)
	}

	// Only a later proof takes its place.
	later := passed
	later.StartedAt, later.Cluster.Name = passed.StartedAt.Add(2*time.Hour), "drill-c"
	fourth := metrics(t, report.NewDocument(later), third)
	delete(want, "kubelet-stop drill-x7k2")
	want["kubelet-stop drill-c"] = float64(later.StartedAt.Add(12*time.Second).UnixMilli()) / 1000
	if got := proven(t, fourth); !reflect.DeepEqual(got, want) {
		t.Errorf("after a later proof: got %v, want %v", got, want)
	}
	if got := proven(t, metrics(t, report.NewDocument(passed), fourth)); !reflect.DeepEqual(got, want) {
		t.Errorf("after an earlier proof: got %v, want %v", got, want)
	}
}

func TestMetricsOfSeveralRunsAreThoseOfTheLatest(t *testing.T) {
	older, newer := passedRun(), passedRun()
	newer.StartedAt, newer.Verdict = older.StartedAt.Add(time.Minute), plan.VerdictBroken
	text := metrics(t, report.NewDocument(newer, older), "")
	if !strings.Contains(text, `verdict="broken"} 1`) || strings.Contains(text, `verdict="passed"} 1`) {
		t.Error(text)
	}
}

func TestWriteDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := report.CheckDir(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("CheckDir left something behind: %v", err)
	}
	for range 2 {
		paths, err := report.WriteDir(dir, report.NewDocument(passedRun()))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{filepath.Join(dir, "report.json"), filepath.Join(dir, "junit.xml"), filepath.Join(dir, "metrics.prom")}
		if !slices.Equal(paths, want) {
			t.Errorf("wrote %v, want %v", paths, want)
		}
		if err := report.CheckDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]fs.FileMode{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		modes[e.Name()] = info.Mode()
	}
	if want := (map[string]fs.FileMode{"report.json": 0o600, "junit.xml": 0o600, "metrics.prom": 0o644}); !reflect.DeepEqual(modes, want) {
		t.Errorf("there is %v, want %v", modes, want)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v, want 0700", info.Mode(), err)
	}
}

func TestCheckDirRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	occupied := filepath.Join(dir, "occupied")
	if err := os.MkdirAll(filepath.Join(occupied, "junit.xml"), 0o700); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "damaged")
	if err := os.MkdirAll(damaged, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(damaged, "metrics.prom"), []byte("{{{"), 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{file, filepath.Join(file, "below"), occupied, damaged, dangling, "/proc/drill"} {
		if err := report.CheckDir(bad); !errors.Is(err, report.ErrDir) {
			t.Errorf("%s: %v, want %v", bad, err, report.ErrDir)
		}
	}
	// A report whose metrics can't be written is still written; the earlier metrics stay as they are.
	paths, err := report.WriteDir(damaged, report.NewDocument(passedRun()))
	if err == nil || len(paths) != 2 {
		t.Errorf("wrote %v with error %v, want two files and an error", paths, err)
	}
	if kept, err := os.ReadFile(filepath.Join(damaged, "metrics.prom")); err != nil || string(kept) != "{{{" {
		t.Errorf("earlier metrics are %q, %v", kept, err)
	}
}

// docs/metrics.md names every metric that there is, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		if name, ok := strings.CutPrefix(line, "| `drill_"); ok {
			name, _, _ = strings.Cut(name, "`")
			documented["drill_"+name] = true
		}
	}
	families := parse(t, metrics(t, report.NewDocument(passedRun()), ""))
	for name := range families {
		if !documented[name] {
			t.Errorf("docs/metrics.md lacks %s", name)
		}
	}
	for name := range documented {
		if families[name] == nil {
			t.Errorf("docs/metrics.md has %s, which is not there", name)
		}
	}
}

// TestChecksOfTheRollback have the names of those of the proof, and are kept apart from them.
func TestChecksOfTheRollback(t *testing.T) {
	var b report.Builder
	of := func(phase plan.Phase) plan.Check { return plan.Check{Name: "ledger-exact", Phase: phase} }
	for _, e := range []plan.Event{
		plan.RunStarted{ID: "r", Plan: plan.Plan{Checks: []plan.Check{of(plan.Prove)}}, Resumed: 2},
		plan.CheckFinished{Check: of(plan.Prove), Finding: plan.Failed("something is missing", "")},
		plan.CheckFinished{Check: of(plan.Rollback), Finding: plan.Passed("all is there")},
		plan.RunFinished{Verdict: plan.VerdictFailed, Rollback: plan.StatusPassed},
	} {
		b.Observe(e)
	}
	r := b.Run()
	if len(r.Checks) != 1 || r.Checks[0].Status != plan.StatusFailed || len(r.RollbackChecks) != 1 || r.RollbackChecks[0].Detail != "all is there" || r.Resumed != 2 {
		t.Errorf("%+v and %+v, resumed %d times", r.Checks, r.RollbackChecks, r.Resumed)
	}
	var classes []string
	for _, c := range junitOf(t, r).Suites[0].Testcases {
		if c.Name == "ledger-exact" {
			classes = append(classes, c.Classname)
		}
	}
	if len(classes) != 2 || !strings.HasSuffix(classes[0], ".checks") || !strings.HasSuffix(classes[1], ".rollback-checks") {
		t.Errorf("in JUnit %q", classes)
	}
}
