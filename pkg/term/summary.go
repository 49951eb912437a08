package term

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

const (
	// Of each failed check at most this many lines of evidence are shown, fewer where differences say what is wrong, and of each loss this many
	// objects: the report has all.
	maxEvidence = 12
	fewEvidence = 4
	maxObjects  = 12
	// nameColumns is the length of the longest name of a phase or a kind of outage.
	nameColumns = len(plan.Rollback)
)

// runHeading says what is run on what.
func (s style) runHeading(r report.Run) []string {
	about := []string{r.Provider, count(r.Cluster.Nodes, "node")}
	if r.Cluster.Kubernetes != "" {
		about = append(about, "Kubernetes "+r.Cluster.Kubernetes)
	}
	if r.Cluster.Etcd != "" {
		about = append(about, "etcd "+r.Cluster.Etcd)
	}
	where := fmt.Sprintf(" on cluster %s (%s)", r.Cluster.Name, strings.Join(about, ", "))
	if r.Cluster.Name == "" { // it was refused before there was one
		where = ""
	}
	text := fmt.Sprintf("%s with %s%s, run %s", r.Scenario, r.What(), where, r.ID)
	lines := s.hang("", text)
	for i := range lines {
		lines[i] = s.strong(lines[i])
	}
	return lines
}

// checksTable is a row a check, with what is wrong, remedy and evidence below a failed one.
func (s style) checksTable(r report.Run) []string {
	if len(r.Checks) == 0 {
		return nil
	}
	name := 0
	for _, c := range r.Checks {
		name = max(name, ansi.StringWidth(c.Name))
	}
	lines := []string{s.strong("checks")}
	for _, c := range r.Checks {
		mark := s.mark(c.Status)
		if s.plain() {
			mark = pad(word(c.Status), len("FAIL"))
		}
		took := duration(asDuration(c.Seconds))
		if c.Status == plan.StatusSkipped {
			took = ""
		}
		lines = append(lines, s.hang(fmt.Sprintf("  %s %s %9s  ", mark, pad(c.Name, name), took), oneLine(withoutFirst(c.Detail, c.Differences)))...)
		lines = append(lines, s.failedCheck(c, "      ")...)
	}
	return append(lines, "")
}

// failedCheck is what stands below the line of a failed check; nothing for another. It ends with what to do.
func (s style) failedCheck(c report.Check, indent string) []string {
	if c.Status != plan.StatusFailed {
		return nil
	}
	var lines []string
	most := maxEvidence
	if len(c.Differences) > 0 {
		lines = s.differences(c.Differences, indent)
		most = fewEvidence
	}
	if evidence := adding(c.Evidence, c.Detail, c.Differences); len(evidence) > 0 {
		lines = append(lines, indent+"evidence:")
		for _, e := range evidence[:min(len(evidence), most)] {
			lines = append(lines, s.hang(indent+"  ", e)...)
		}
		if more := len(evidence) - most; more > 0 {
			lines = append(lines, fmt.Sprintf("%s  … and %d more; the report has all", indent, more))
		}
	}
	if c.Remedy != "" {
		lines = append(append(lines, indent+"likely cause and remedy:"), s.hang(indent+"  ", c.Remedy)...)
	}
	return lines
}

// summary is what stands below the checks. It ends with the verdict.
func (s style) summary(r report.Run) []string {
	var lines []string
	if table := s.outageTable(r); len(table) > 0 {
		lines = append(append(lines, table...), "")
	}
	if len(r.Phases) > 0 {
		lines = append(lines, s.strong("phases"))
		for _, p := range r.Phases {
			lines = append(lines, s.row(string(p.Name), seconds(p.Seconds), ""))
		}
		lines = append(lines, "")
	}
	if r.LossMeasured() {
		lines = append(lines, s.strong("loss"))
		lines = append(lines, s.hang("  ", lossText(r.Loss, r.Snapshot))...)
		for i, o := range r.Loss.Objects {
			if i == maxObjects && len(r.Loss.Objects) > maxObjects {
				lines = append(lines, fmt.Sprintf("    … and %d more; the report has all", len(r.Loss.Objects)-maxObjects))
				break
			}
			lines = append(lines, s.hang("    ", o.String())...)
		}
		lines = append(lines, "")
	}
	if len(r.Artifacts) > 0 {
		lines = append(lines, s.strong("evidence kept"))
		for _, a := range r.Artifacts {
			// Never wrapped: a path is there to be copied.
			lines = append(lines, "  "+oneLine(a))
		}
		lines = append(lines, "")
	}
	lines = append(lines, s.headline(r)...)
	return append(lines, verdictLine(r))
}

func (s style) row(name, value, note string) string {
	line := fmt.Sprintf("  %s %9s", pad(name, nameColumns), value)
	if note != "" {
		line += "  " + s.faint(note)
	}
	return line
}

// outageTable is a row a kind; nothing where the control plane was never taken away.
func (s style) outageTable(r report.Run) []string {
	if !r.OutageBegan() || r.Verdict == plan.VerdictBroken || r.Verdict == plan.VerdictInterrupted {
		return nil
	}
	// Where the recovery was proven, everything did come back: what has no number was not measured. Nor was it where the probe ended with another process.
	missing := "never came back"
	if r.Verdict == plan.VerdictPassed || r.Resumed > 0 && r.Probe == nil {
		missing = "not measured"
	}
	lines := []string{s.strong("outage") + s.faint(", from the first destructive recovery action until back for good")}
	again := func(back *float64, kinds ...string) string { return awayAgain(r.Outage.Interruptions, back, kinds) }
	for _, k := range []struct {
		name, missing, note string
		value               *float64
	}{
		{"etcd", missing, again(r.Outage.EtcdSeconds, "etcd"), r.Outage.EtcdSeconds},
		{"reads", missing, again(r.Outage.ReadSeconds, "get", "list"), r.Outage.ReadSeconds},
		{"writes", missing, again(r.Outage.WriteSeconds, "write"), r.Outage.WriteSeconds},
		{"work", missing, "", r.Outage.WorkSeconds},
		{"service", missing, again(r.Outage.ServiceSeconds, "service"), r.Outage.ServiceSeconds},
		{"floor", "not measured", "the larger of etcd's and the API server's own start", r.Outage.FloorSeconds},
	} {
		if k.value == nil && slices.Contains(r.Outage.NotAsked, k.name) {
			lines = append(lines, fmt.Sprintf("  %s   %s", pad(k.name, nameColumns), s.faint("not asked: the snapshot doesn't hold the workload")))
			continue
		}
		if k.value == nil {
			lines = append(lines, fmt.Sprintf("  %s   %s", pad(k.name, nameColumns), s.bad(k.missing)))
			continue
		}
		lines = append(lines, s.cut(s.row(k.name, seconds(*k.value), k.note)))
	}
	return lines
}

// awayAgain tells of interruptions of these kinds after all of them were back, of which none was long enough to count as the outage.
func awayAgain(all []plan.Interruption, back *float64, kinds []string) string {
	var parts []string
	for _, i := range all {
		if !slices.Contains(kinds, i.Kind) || back == nil || i.AfterSeconds < *back {
			continue
		}
		long := "until the end"
		if i.Seconds != nil {
			long = "for " + seconds(*i.Seconds)
		}
		parts = append(parts, fmt.Sprintf("%s after %s", long, seconds(i.AfterSeconds)))
	}
	if len(parts) == 0 {
		return ""
	}
	return "no answer once more " + strings.Join(parts, ", ")
}

// headline is the verdict with what matters most.
func (s style) headline(r report.Run) []string {
	verdict := strings.ToUpper(string(r.Verdict))
	text := fmt.Sprintf("%s with %s: ", r.Scenario, r.What())
	switch r.Verdict {
	case plan.VerdictPassed:
		verdict = s.good(verdict)
		text += backAfter(r.Outage) + "; " + lost(r)
	case plan.VerdictFailed, plan.VerdictBroken:
		verdict = s.bad(verdict)
		text += r.Reason
	default:
		verdict = s.warn(verdict)
		text += r.Reason
	}
	return s.hang(verdict+"  ", strings.TrimSuffix(text, ": "))
}

func backAfter(o plan.Outage) string {
	var parts []string
	if o.ReadSeconds != nil {
		parts = append(parts, "reads back after "+seconds(*o.ReadSeconds))
	}
	if o.ServiceSeconds != nil {
		parts = append(parts, "service after "+seconds(*o.ServiceSeconds))
	}
	if len(parts) == 0 {
		return "outage not measured"
	}
	return strings.Join(parts, ", ")
}

// lost doesn't say that nothing was lost where revisions were: an object can have lost its last change.
func lost(r report.Run) string {
	switch {
	case !r.LossMeasured():
		return "loss not measured"
	case r.Loss.Objects == nil:
		return "not known which objects were lost"
	case len(r.Loss.Objects) > 0:
		return count(len(r.Loss.Objects), "object") + " lost"
	case r.Loss.Revisions != nil && *r.Loss.Revisions > 0:
		return "no object lost"
	default:
		return "nothing lost"
	}
}

func lossText(l plan.Loss, from *plan.SnapshotInfo) string {
	var parts []string
	switch {
	case l.Seconds == nil:
	case *l.Seconds > 0 && from != nil && from.Source != "":
		age := asDuration(*l.Seconds).Round(time.Second).String()
		parts = append(parts, age+" of acknowledged writes, by the time of the file that was given ("+from.TakenAt.UTC().Format(time.RFC3339)+")")
	case *l.Seconds > 0:
		parts = append(parts, seconds(*l.Seconds)+" of acknowledged writes")
	default:
		parts = append(parts, "no acknowledged write")
	}
	if l.Revisions != nil {
		parts = append(parts, count(int(*l.Revisions), "revision"))
	}
	switch {
	case l.Objects == nil:
		parts = append(parts, "and it is not known which objects")
	case len(l.Objects) == 0:
		parts = append(parts, "no object")
	default:
		parts = append(parts, count(len(l.Objects), "object")+":")
	}
	return strings.Join(parts, ", ")
}

// verdictLine is the last line of a run, the same on a terminal and elsewhere.
func verdictLine(r report.Run) string {
	passed, failed, skipped := r.Counts()
	text := fmt.Sprintf("verdict %s; %d of %d checks passed", r.Verdict, passed, len(r.Checks))
	if failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	if skipped > 0 {
		text += fmt.Sprintf(", %d skipped", skipped)
	}
	switch r.Rollback {
	case plan.StatusPassed:
		text += "; the state from before the outage was put back"
		shown := slices.DeleteFunc(slices.Clone(r.RollbackChecks), func(c report.Check) bool { return c.Status != plan.StatusPassed })
		if n := len(shown); n > 0 {
			text += ", as shown by " + count(n, "check")
		}
	case plan.StatusFailed:
		what := "COULD NOT be put back"
		if len(r.RollbackChecks) > 0 {
			what = "is NOT PROVEN to be back"
		}
		text += "; the state from before the outage " + what + ", see the warnings"
	}
	return text + "; " + duration(asDuration(r.Seconds)) + " in all"
}

// seconds is a measured number: never in minutes, so that two of them can be compared at a glance.
func seconds(s float64) string { return fmt.Sprintf("%.1f s", s) }

func asDuration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
