package report

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/etcd-drill/drill/pkg/plan"
)

const lastProvenName = "drill_last_proven_recovery_timestamp_seconds"

// WriteMetrics writes the document in the text format of Prometheus (version 0.0.4), as gauges, for the textfile collector
// of node_exporter. docs/metrics.md describes each.
//
// Only what was done in the procedure's own way counts: what comes of another way, or of a fault that was put in, says nothing about the procedure.
//
// A scenario with a procedure in one mode of the data directory has one set of series: where the document holds several runs of these, those of the run that
// started last. earlier, if not nil, is what an earlier WriteMetrics wrote to the same place: the times of the last
// proven recovery in it are carried on where this document has no later one, so that neither a failed run
// nor a run of another scenario makes them forgotten. An earlier text that can't be read is an error, and nothing is written.
func WriteMetrics(w io.Writer, doc Document, earlier io.Reader) error {
	proven := map[subject]proof{}
	if earlier != nil {
		var err error
		if proven, err = readProven(earlier); err != nil {
			return err
		}
	}
	latest := map[subject]Run{}
	for _, r := range doc.Runs {
		if !counts(r) {
			continue
		}
		p := subject{r.Scenario, r.Procedure, dataDirMode(r.Variant.DataDirMode)}
		if seen, ok := latest[p]; !ok || !r.StartedAt.Before(seen.StartedAt) {
			latest[p] = r
		}
		at, known := unixSeconds(r.finishedAt()), proven[p]
		switch {
		case r.Verdict == plan.VerdictPassed && at >= known.at:
			proven[p] = proof{cluster: r.Cluster.Name, at: at}
		case known == proof{}:
			proven[p] = proof{cluster: r.Cluster.Name}
		}
	}

	g := newGauges()
	for p, r := range latest {
		g.add(p, r)
	}
	for p, at := range proven {
		g.proven.WithLabelValues(p.scenario, p.procedure, at.cluster, p.mode).Set(at.at)
	}
	families, err := g.registry.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	enc := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return fmt.Errorf("write metric %s: %w", f.GetName(), err)
		}
	}
	return nil
}

// counts says whether a run says something about its procedure as it is by itself.
func counts(r Run) bool { return r.Variant.Own }

// subject is what a recovery is proven of.
type subject struct{ scenario, procedure, mode string }

// dataDirMode is the mode of the data directory. Reports and metrics from before there was another don't name it.
func dataDirMode(named string) string { return cmp.Or(named, "manifest") }

// proof is where and when, in seconds since the epoch, a recovery was last proven; at is 0 where it never was.
type proof struct {
	cluster string
	at      float64
}

func readProven(r io.Reader) (map[subject]proof, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return nil, fmt.Errorf("read the last proven recovery of earlier metrics: %w", err)
	}
	proven := map[subject]proof{}
	for _, m := range families[lastProvenName].GetMetric() {
		p := subject{label(m, "scenario"), label(m, "procedure"), dataDirMode(label(m, "data_dir_mode"))}
		// A file that drill wrote holds a gauge; the parser knows an untyped one as well.
		at := m.GetGauge().GetValue() + m.GetUntyped().GetValue()
		if known, ok := proven[p]; !ok || at > known.at {
			proven[p] = proof{cluster: label(m, "cluster"), at: at}
		}
	}
	return proven, nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

type gauges struct {
	registry                                                 *prometheus.Registry
	verdict, outage, lossSeconds, lossRevisions, lossObjects *prometheus.GaugeVec
	check, phase, run, lastRun, proven                       *prometheus.GaugeVec
}

func newGauges() *gauges {
	g := &gauges{registry: prometheus.NewRegistry()}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help},
			append([]string{"scenario", "procedure", "cluster", "data_dir_mode"}, labels...))
		g.registry.MustRegister(v)
		return v
	}
	g.verdict = gauge("drill_run_verdict",
		"Whether the last run ended with this verdict: 1 for the one that it did end with, 0 for the others.", "verdict")
	g.outage = gauge("drill_outage_seconds",
		"Seconds from the first destructive recovery action until this kind of service was back for good; kind floor is the larger "+
			"of etcd's and the API server's own start. Absent where it never came back or was not measured.", "kind")
	g.lossSeconds = gauge("drill_loss_seconds",
		"Seconds from the snapshot to the last acknowledged write before the break that did not survive. Absent where not measured.")
	g.lossRevisions = gauge("drill_loss_revisions",
		"Number of etcd revisions beyond the snapshot's that the restore gave up. Absent where not measured.")
	g.lossObjects = gauge("drill_loss_objects",
		"Number of objects that were made after the snapshot and are gone after the recovery. Absent where no loss was measured.")
	g.check = gauge("drill_check_passed",
		"Whether the check was true in the last run: 1 if so, 0 if not. Absent where it was skipped.", "check")
	g.phase = gauge("drill_phase_seconds", "Seconds that the phase of the last run took.", "phase")
	g.run = gauge("drill_run_seconds", "Seconds that the last run took as a whole.")
	g.lastRun = gauge("drill_last_run_timestamp_seconds",
		"When the last run ended, whatever its verdict, in seconds since 1970-01-01 UTC.")
	g.proven = gauge(lastProvenName,
		"When a run last ended with verdict passed, in seconds since 1970-01-01 UTC; 0 if none did yet. Kept when later runs fail; "+
			"cluster is the one of that run.")
	return g
}

func (g *gauges) add(p subject, r Run) {
	with := func(v *prometheus.GaugeVec, value float64, labels ...string) {
		v.WithLabelValues(append([]string{p.scenario, p.procedure, r.Cluster.Name, p.mode}, labels...)...).Set(value)
	}
	for _, v := range []plan.Verdict{
		plan.VerdictPassed, plan.VerdictFailed, plan.VerdictBroken, plan.VerdictSkipped, plan.VerdictInterrupted,
	} {
		value := 0.0
		if v == r.Verdict {
			value = 1
		}
		with(g.verdict, value, string(v))
	}
	for _, o := range []struct {
		kind  string
		value *float64
	}{
		{"etcd", r.Outage.EtcdSeconds}, {"read", r.Outage.ReadSeconds}, {"write", r.Outage.WriteSeconds},
		{"work", r.Outage.WorkSeconds}, {"service", r.Outage.ServiceSeconds}, {"floor", r.Outage.FloorSeconds},
	} {
		if o.value != nil {
			with(g.outage, *o.value, o.kind)
		}
	}
	if r.Loss.Seconds != nil {
		with(g.lossSeconds, *r.Loss.Seconds)
	}
	if r.Loss.Revisions != nil {
		with(g.lossRevisions, float64(*r.Loss.Revisions))
	}
	if r.Loss.Objects != nil {
		with(g.lossObjects, float64(len(r.Loss.Objects)))
	}
	for _, c := range r.Checks {
		switch c.Status {
		case plan.StatusPassed:
			with(g.check, 1, c.Name)
		case plan.StatusFailed:
			with(g.check, 0, c.Name)
		}
	}
	for _, ph := range r.Phases {
		with(g.phase, ph.Seconds, string(ph.Name))
	}
	with(g.run, r.Seconds)
	with(g.lastRun, unixSeconds(r.finishedAt()))
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
