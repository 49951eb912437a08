package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Comparison puts the runs of a document side by side.
type Comparison struct {
	// Rows are in the order in which the document has the first run of each.
	Rows []Row
}

// Row is one procedure in one variant, and the runs of it.
type Row struct {
	Procedure string
	Variant   plan.Variant
	Runs      []Run
}

// Compare groups the runs of a document by procedure and variant.
func Compare(doc Document) Comparison {
	var c Comparison
	for _, r := range doc.Runs {
		i := slices.IndexFunc(c.Rows, func(row Row) bool { return row.holds(r) })
		if i < 0 {
			i = len(c.Rows)
			c.Rows = append(c.Rows, Row{Procedure: r.Procedure, Variant: r.Variant})
		}
		c.Rows[i].Runs = append(c.Rows[i].Runs, r)
	}
	return c
}

// holds says whether a run is of the row. By how much the revision was raised doesn't matter: a snapshot that was given may need more each time.
func (w Row) holds(r Run) bool {
	return w.Procedure == r.Procedure && swaps(w.Variant) == swaps(r.Variant) && (w.Variant.BumpRevision > 0) == (r.Variant.BumpRevision > 0) && slices.Equal(w.Variant.Renewed, r.Variant.Renewed)
}

// swaps says whether data directories were renamed, and no manifest changed.
func swaps(v plan.Variant) bool { return v.DataDirMode == swapMode }

// swapMode is the value of plan.Variant.DataDirMode that a reader is told of; of the other, which is the default, nothing is said.
const swapMode = "swap"

// Bumped is the answer in a table to whether the revision was raised.
func (w Row) Bumped() string {
	if w.Variant.BumpRevision > 0 {
		return "yes"
	}
	return "no"
}

// Way says in few words in which way the procedure was carried out where that was not its own way, or no manifest was changed; else it is empty.
func (r Run) Way() string {
	var said []string
	if swaps(r.Variant) {
		said = append(said, "data directories swapped")
	}
	if !r.Variant.Own {
		raised := "revision not raised"
		if r.Variant.BumpRevision > 0 {
			raised = fmt.Sprintf("revision raised by %d", r.Variant.BumpRevision)
		}
		said = append(said, raised, "begins anew besides etcd: "+Row{Variant: r.Variant}.Renewed())
	}
	return strings.Join(said, ", ")
}

// What names the procedure and, where there is something to say of it, the way in which it was carried out.
func (r Run) What() string {
	if way := r.Way(); way != "" {
		return r.Procedure + " (" + way + ")"
	}
	return r.Procedure
}

// Renewed says in few words which components began anew besides etcd.
func (w Row) Renewed() string {
	kept, renewed := w.Variant.KeptRunning, w.Variant.Renewed
	switch {
	case len(kept) == 0:
		return "all"
	case len(renewed) == 0:
		return "none"
	case len(kept) < len(renewed):
		return "all but " + strings.Join(kept, ", ")
	default:
		return strings.Join(renewed, ", ")
	}
}

// Verdict is the verdict that most of the runs have, the worse one in doubt, and how many have it where not all do.
func (w Row) Verdict() string {
	times := map[plan.Verdict]int{}
	for _, r := range w.Runs {
		times[r.Verdict]++
	}
	most := plan.VerdictInterrupted
	for _, v := range []plan.Verdict{plan.VerdictBroken, plan.VerdictFailed, plan.VerdictSkipped, plan.VerdictPassed} {
		if times[v] > times[most] {
			most = v
		}
	}
	if n := len(w.Runs); times[most] < n {
		return fmt.Sprintf("%s %d of %d", most, times[most], n)
	}
	return string(most)
}

// Passed reports whether every run of the row has verdict passed.
func (w Row) Passed() bool {
	return !slices.ContainsFunc(w.Runs, func(r Run) bool { return r.Verdict != plan.VerdictPassed })
}

// RenewalCheck is the check that says which components began anew. Where some were to live on it is false, and that alone is no harm.
const RenewalCheck = "control-plane-renewed"

// asked says of a check that it is RenewalCheck and found nothing else than that components which were to live on did: one that is on other data or doesn't run
// at all, any other component, and an answer without differences is something else.
func (w Row) asked(c Check) bool {
	return c.Name == RenewalCheck && len(c.Differences) > 0 && !slices.ContainsFunc(c.Differences, func(d plan.Difference) bool {
		component, _, _ := strings.Cut(d.Subject, " on ")
		return !slices.Contains(w.Variant.KeptRunning, component) || !strings.HasPrefix(d.Expected, "a start after ")
	})
}

// Harm is what went wrong apart from RenewalCheck where that only says what was asked for.
func (w Row) Harm() []string {
	return w.tally(func(r Run) []string { return r.failures(w.asked) })
}

// Ended says which components that were to live on ended by themselves, and began anew. Where it happened in some of the runs only, it says in how many.
func (w Row) Ended() []string {
	return w.tally(func(r Run) []string {
		var out []string
		for _, c := range r.EndedByThemselves {
			out = append(out, c+" ended by itself")
		}
		return out
	})
}

// Failures names what went wrong in the runs, in the order of the runs' steps and checks: each check that failed, each step that failed before there was
// anything to check, and runs that could not be carried out. Where it happened in some of the runs only, it says in how many.
func (w Row) Failures() []string {
	return w.tally(func(r Run) []string { return r.failures(func(Check) bool { return false }) })
}

// tally names what is true of the runs, in the order in which it comes up and, where it is true of some only, with how many they are.
func (w Row) tally(of func(Run) []string) []string {
	var order []string
	times := map[string]int{}
	for _, r := range w.Runs {
		for _, f := range of(r) {
			if times[f] == 0 {
				order = append(order, f)
			}
			times[f]++
		}
	}
	for i, f := range order {
		if n := len(w.Runs); times[f] < n {
			order[i] = fmt.Sprintf("%s (%d of %d)", f, times[f], n)
		}
	}
	return order
}

// failures leaves out the checks that are excused.
func (r Run) failures(excused func(Check) bool) []string {
	var out []string
	silent := false
	for _, s := range r.Steps {
		if s.Status == plan.StatusFailed && s.Phase != plan.Rollback {
			out = append(out, "step "+s.Name)
		}
	}
	for _, c := range r.Checks {
		switch {
		case c.Status != plan.StatusFailed:
		case excused(c):
			silent = true
		default:
			out = append(out, c.Name)
		}
	}
	if r.Rollback == plan.StatusFailed {
		out = append(out, "the rollback")
	}
	if len(out) == 0 && !silent && r.Verdict != plan.VerdictPassed {
		out = append(out, r.Reason)
	}
	return out
}

// Reads is how long reads were away: until a quorum LIST showed what was restored.
func (w Row) Reads() Span { return w.span(func(o plan.Outage) *float64 { return o.ReadSeconds }) }

// Service is how long the workload did not answer over its Service.
func (w Row) Service() Span {
	asked := w
	asked.Runs = slices.DeleteFunc(slices.Clone(w.Runs), func(r Run) bool { return slices.Contains(r.Outage.NotAsked, "service") })
	return asked.span(func(o plan.Outage) *float64 { return o.ServiceSeconds })
}

// OverFloor is how many times as long as the floor reads were away, in the runs that measured both: how much longer than what etcd and the API server need to start.
func (w Row) OverFloor() Span {
	var times []float64
	for _, r := range w.Runs {
		times = append(times, ratio(r.Outage.ReadSeconds, r.Outage.FloorSeconds)...)
	}
	return w.times(times)
}

// Against is how many times as long as in the other row reads were away. Runs of the same round are held against each other: they were taken side by side, and what else the machine did meanwhile
// slowed both down.
func (w Row) Against(other Row) Span {
	var times []float64
	for i := range min(len(w.Runs), len(other.Runs)) {
		times = append(times, ratio(w.Runs[i].Outage.ReadSeconds, other.Runs[i].Outage.ReadSeconds)...)
	}
	return w.times(times)
}

// times is the span of ratios: where reads never came back, there is none, and that is told.
func (w Row) times(ratios []float64) Span {
	s := SpanOf(ratios)
	s.Never = w.Reads().Never
	return s
}

// ratio is how many times b goes into a, where both are known.
func ratio(a, b *float64) []float64 {
	if a == nil || b == nil || *b <= 0 {
		return nil
	}
	return []float64{*a / *b}
}

// Span is what several runs measured of the same.
type Span struct {
	// Median, Least and Most are those of the runs in which it came back, in seconds or as a ratio; 0 where it did in none. The median of an even number is the mean of
	// the two in the middle.
	Median, Least, Most float64
	// Back and Never are in how many runs it came back and in how many it did not. Runs without an outage, and proven ones in which it was not measured, are in neither.
	Back, Never int
}

// SpanOf is the span of what was measured.
func SpanOf(measured []float64) Span {
	s := Span{Back: len(measured)}
	if s.Back == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(measured))
	s.Least, s.Most = sorted[0], sorted[s.Back-1]
	s.Median = (sorted[(s.Back-1)/2] + sorted[s.Back/2]) / 2
	return s
}

func (w Row) span(of func(plan.Outage) *float64) Span {
	never := 0
	var back []float64
	for _, r := range w.Runs {
		v := of(r.Outage)
		switch {
		case v != nil:
			back = append(back, *v)
		case r.OutageBegan() && r.Verdict == plan.VerdictFailed && r.Resumed == 0:
			never++
		}
	}
	s := SpanOf(back)
	s.Never = never
	return s
}

// String is the span in seconds.
func (s Span) String() string {
	return s.Text(func(seconds float64) string { return fmt.Sprintf("%.1f", seconds) }, " s")
}

// Times is the span of a ratio.
func (s Span) Times() string {
	return s.Text(func(times float64) string { return fmt.Sprintf("%.1f", times) }, "×")
}

// Text writes the span with the numbers as format has them, and the unit behind each or the last of several.
func (s Span) Text(format func(seconds float64) string, unit string) string {
	never := ""
	switch {
	case s.Back == 0 && s.Never == 0:
		return Nothing
	case s.Back == 0:
		return "never"
	case s.Never > 0:
		never = fmt.Sprintf(", never in %d of %d", s.Never, s.Back+s.Never)
	}
	text := format(s.Median) + unit
	if s.Back > 1 {
		text += fmt.Sprintf(" (%s–%s)", format(s.Least), format(s.Most))
	}
	return text + never
}

// Notes say what has to be known to read the table.
func (c Comparison) Notes() []string {
	var notes []string
	several, kept, ended, swapped := false, false, false, false
	var on, settle []string
	add := func(list *[]string, s string) {
		if !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	for _, w := range c.Rows {
		several = several || len(w.Runs) > 1
		kept = kept || len(w.Variant.KeptRunning) > 0
		swapped = swapped || swaps(w.Variant)
		for _, r := range w.Runs {
			ended = ended || len(r.EndedByThemselves) > 0
			if r.Cluster.Kubernetes != "" {
				add(&on, r.Cluster.describe())
			}
			if s := r.Variant.SettleSeconds; s > 0 {
				add(&settle, (time.Duration(s * float64(time.Second))).String())
			}
		}
	}
	if len(on) > 0 {
		notes = append(notes, "Measured on "+strings.Join(on, "; ")+".")
	}
	text := "Reads and service: seconds from the first destructive recovery action until a quorum LIST showed the restored Deployment, and until it answered over its Service, for good."
	if several {
		text += " Medians, with the least and the most in brackets."
	}
	text += " Over floor: how many times as long as the longer one of etcd's and the API server's own start. Against first: how many times as long as in the first row, round by round."
	notes = append(notes, text)
	if len(settle) > 0 {
		notes = append(notes, "All checks together had "+strings.Join(settle, " or ")+" after the recovery to become true; what would have become true later counts as failed.")
	}
	if swapped {
		notes = append(notes, "With ("+swapMode+") the old and the restored data directory were renamed, and etcd's manifest was not changed; without, the manifest names the restored directory.")
	}
	if kept {
		notes = append(notes, "Where a component was kept running, "+RenewalCheck+" is false because of that: what matters is what fails besides it.")
	}
	if ended {
		notes = append(notes, "A component that was left running and ended by itself began anew, without its memory: such a run says nothing about what comes of its living on.")
	}
	return notes
}

func (c Cluster) describe() string {
	nodes := "1 node"
	if c.Nodes != 1 {
		nodes = fmt.Sprintf("%d nodes", c.Nodes)
	}
	return fmt.Sprintf("%s, Kubernetes %s, etcd %s", nodes, c.Kubernetes, c.Etcd)
}

// Name is the procedure, and whether data directories were renamed for it.
func (w Row) Name() string {
	if swaps(w.Variant) {
		return w.Procedure + " (" + swapMode + ")"
	}
	return w.Procedure
}

// Headings are those of the table's columns.
func (Comparison) Headings() []string {
	return []string{"procedure", "bump", "begins anew besides etcd", "verdict", "reads", "over floor", "against first", "service", "failed"}
}

// Nothing is what stands in a cell where there is nothing to tell.
const Nothing = "–"

// Cells are those of a row of the comparison, in the order of Headings.
func (c Comparison) Cells(w Row) []string {
	failed := Nothing
	if f := append(w.Failures(), w.Ended()...); len(f) > 0 {
		failed = strings.Join(f, ", ")
	}
	return []string{
		w.Name(), w.Bumped(), w.Renewed(), w.Verdict(), w.Reads().String(), w.OverFloor().Times(), w.Against(c.Rows[0]).Times(), w.Service().String(), failed,
	}
}

// WriteComparison writes the runs of a document side by side, as a table in Markdown with notes and a chart below.
func WriteComparison(w io.Writer, doc Document) error {
	c := Compare(doc)
	var b strings.Builder
	line := func(cells []string) {
		b.WriteString("|")
		for _, cell := range cells {
			b.WriteString(" " + strings.ReplaceAll(strings.Join(strings.Fields(cell), " "), "|", `\|`) + " |")
		}
		b.WriteString("\n")
	}
	line(c.Headings())
	b.WriteString(strings.Repeat("|---", len(c.Headings())) + "|\n")
	for _, row := range c.Rows {
		line(c.Cells(row))
	}
	for _, note := range c.Notes() {
		b.WriteString("\n" + note + "\n")
	}
	if chart := c.Chart(); len(chart) > 0 {
		b.WriteString("\nWhere the time went: the steps from the one on that took the control plane away, and how long reads and the service were away. Medians; each chart has a scale of its own.\n\n```\n" +
			strings.Join(chart, "\n") + "\n```\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write comparison: %w", err)
	}
	return nil
}

// ComparisonFile is the name under which WriteComparisonDir writes the table.
const ComparisonFile = "comparison.md"

// WriteComparisonDir writes report.json and comparison.md into dir, as WriteDir writes its files. There are no metrics: they speak of a procedure, and not of
// what was left out of it.
func WriteComparisonDir(dir string, doc Document) ([]string, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("make report directory: %w", err)
	}
	var written []string
	for _, f := range []struct {
		name  string
		write func(io.Writer, Document) error
	}{{JSONFile, WriteJSON}, {ComparisonFile, WriteComparison}} {
		path := filepath.Join(dir, f.name)
		var b bytes.Buffer
		err := f.write(&b, doc)
		if err == nil {
			err = renameio.WriteFile(path, b.Bytes(), fileMode, renameio.WithTempDir(dir), renameio.WithStaticPermissions(fileMode))
		}
		if err != nil {
			return written, fmt.Errorf("write report file %s: %w", path, err)
		}
		written = append(written, path)
	}
	return written, nil
}
