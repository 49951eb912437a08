package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/etcd-drill/drill/pkg/plan"
)

// chartColumns is the width of a chart's longest bar, in characters.
const chartColumns = 48

// bar is a part of an outage, in seconds from its beginning.
type bar struct {
	name         string
	begin, since float64
}

// Chart shows for each row that has an outage where its time went, a line for each step.
func (c Comparison) Chart() []string {
	var lines []string
	for _, w := range c.Rows {
		bars := w.bars()
		if len(bars) == 0 {
			continue
		}
		if len(lines) > 0 {
			lines = append(lines, "")
		}
		way := Run{Procedure: w.Procedure, Variant: w.Variant}
		lines = append(append(lines, way.What()), draw(bars)...)
	}
	return lines
}

// bars are the medians of the steps that the runs of the row took, one after the other, from the one on with which the outage began, and of how long reads and the service were away.
func (w Row) bars() []bar {
	var order []string
	seconds := map[string][]float64{}
	for _, r := range w.Runs {
		first := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Outage && s.Status != plan.StatusSkipped })
		if first < 0 {
			continue
		}
		for _, s := range r.Steps[first:] {
			if s.Phase != plan.Recover || s.Status == plan.StatusSkipped {
				continue
			}
			if len(seconds[s.Name]) == 0 {
				order = append(order, s.Name)
			}
			seconds[s.Name] = append(seconds[s.Name], s.Seconds)
		}
	}
	var bars []bar
	at := 0.0
	for _, name := range order {
		median := SpanOf(seconds[name]).Median
		bars = append(bars, bar{name: name, begin: at, since: median})
		at += median
	}
	for _, away := range []struct {
		name string
		span Span
	}{{"reads away", w.Reads()}, {"service away", w.Service()}} {
		if away.span.Back > 0 && len(bars) > 0 {
			bars = append(bars, bar{name: away.name, since: away.span.Median})
		}
	}
	return bars
}

// draw draws bars on one scale.
func draw(bars []bar) []string {
	longest, widest := 0.0, 0
	for _, b := range bars {
		longest, widest = max(longest, b.begin+b.since), max(widest, utf8.RuneCountInString(b.name))
	}
	column := func(seconds float64) int {
		if longest == 0 {
			return 0
		}
		return int(math.Round(seconds / longest * chartColumns))
	}
	var lines []string
	for _, b := range bars {
		begin := min(column(b.begin), chartColumns-1)
		length := max(1, column(b.begin+b.since)-begin)
		lines = append(lines, fmt.Sprintf("  %-*s  %s%s%s  %.1f s", widest, b.name, strings.Repeat(" ", begin), strings.Repeat("█", length),
			strings.Repeat(" ", chartColumns-begin-length), b.since))
	}
	return lines
}
