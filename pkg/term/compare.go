package term

import (
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

// Compare shows runs side by side, a line for each procedure in each variant.
func (v *View) Compare(doc report.Document) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.options.style()
	v.show(s, s.comparison(report.Compare(doc)))
}

// comparison is the table, with its notes below. What failed stands in the last column, which takes several lines where it is long.
func (s style) comparison(c report.Comparison) []string {
	const gap = "  "
	table := [][]string{c.Headings()}
	for i, h := range table[0] {
		table[0][i] = strings.ToUpper(h)
	}
	for _, row := range c.Rows {
		cells := c.Cells(row)
		for i := range cells {
			cells[i] = oneLine(cells[i])
		}
		table = append(table, cells)
	}
	last := len(table[0]) - 1
	widths := make([]int, last)
	for _, cells := range table {
		for i := range widths {
			widths[i] = max(widths[i], ansi.StringWidth(cells[i]))
		}
	}
	verdict := slices.Index(c.Headings(), "verdict")
	lines := []string{""}
	for i, cells := range table {
		var b strings.Builder
		for j, width := range widths {
			cell := pad(cells[j], width)
			if i > 0 && j == verdict {
				cell = s.judged(c.Rows[i-1], cell)
			}
			b.WriteString(cell + gap)
		}
		row := s.lastColumn(b.String(), cells[last], i == 0)
		if i == 0 {
			for k := range row {
				row[k] = s.strong(row[k])
			}
		}
		lines = append(lines, row...)
	}
	for _, note := range c.Notes() {
		lines = append(append(lines, ""), s.hang("", note)...)
	}
	return lines
}

// lastColumn is a line of the table with its last cell: below the line, and without the heading, where there is no room beside it.
func (s style) lastColumn(line, cell string, heading bool) []string {
	const leastColumns, below = 24, "    failed: "
	if room := s.width - 1 - ansi.StringWidth(line); s.plain() || room >= leastColumns {
		return s.hang(line, s.fold(cell, room))
	}
	lines := []string{s.cut(strings.TrimRight(line, " "))}
	if heading || cell == report.Nothing {
		return lines
	}
	return append(lines, s.hang(below, s.fold(cell, s.width-1-len(below)))...)
}

// fold breaks text between words: hang would break the names of checks at their hyphens, too.
func (s style) fold(text string, columns int) string {
	if s.plain() {
		return text
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case ansi.StringWidth(line)+1+ansi.StringWidth(word) <= columns:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return strings.Join(append(lines, line), "\n")
}

// judged colours what a verdict is written in.
func (s style) judged(row report.Row, text string) string {
	switch {
	case row.Passed():
		return s.good(text)
	case slices.ContainsFunc(row.Runs, func(r report.Run) bool { return r.Verdict == plan.VerdictFailed || r.Verdict == plan.VerdictBroken }):
		return s.bad(text)
	default:
		return s.warn(text)
	}
}
