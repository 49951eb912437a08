package term

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/etcd-drill/drill/pkg/plan"
)

const (
	// At most this many differences of a failed check are shown: the report has all.
	maxDifferences = 12
	// A column is never narrower than leastColumns: where three of them don't fit side by side, what they hold stands one below the other.
	leastColumns = 14
	// mostCellLines is how many lines a cell may have on a terminal.
	mostCellLines = 5
	// mostPadding is how wide a column of plain lines is made; what is longer moves the rest of its line.
	mostPadding = 60
	separator   = " | "
)

// differences is a table of what was looked at, what was expected and what was seen.
func (s style) differences(d []plan.Difference, indent string) []string {
	rows := [][]string{{"object", "expected", "seen"}}
	for _, x := range d[:min(len(d), maxDifferences)] {
		rows = append(rows, []string{oneLine(x.Subject), oneLine(x.Expected), oneLine(x.Seen)})
	}
	var lines []string
	switch widths, narrow := s.columns(rows, indent); {
	case s.plain():
		for _, r := range rows {
			lines = append(lines, strings.TrimRight(indent+pad(r[0], widths[0])+separator+pad(r[1], widths[1])+separator+r[2], " "))
		}
	case narrow:
		for _, r := range rows[1:] {
			lines = append(lines, s.hang(indent, r[0])...)
			lines = append(lines, s.hang(indent+"  expected: ", r[1])...)
			lines = append(lines, s.hang(indent+"  seen: ", r[2])...)
		}
	default:
		for i, r := range rows {
			row := sideBySide(r, widths, indent)
			for j := range row {
				if i == 0 {
					row[j] = s.faint(row[j])
				}
			}
			lines = append(lines, row...)
		}
	}
	if more := len(d) - maxDifferences; more > 0 {
		lines = append(lines, fmt.Sprintf("%s… and %d more; the report has all", indent, more))
	}
	return lines
}

// columns returns how wide the columns are: as wide as what they hold, as long as there is room; what is missing is taken from the widest. It says whether
// one became too narrow by that.
func (s style) columns(rows [][]string, indent string) (widths []int, narrow bool) {
	widths = make([]int, len(rows[0]))
	for _, r := range rows {
		for i, cell := range r {
			widths[i] = max(widths[i], ansi.StringWidth(cell))
		}
	}
	if s.plain() {
		for i := range widths {
			widths[i] = min(widths[i], mostPadding)
		}
		return widths, false
	}
	room := s.width - 1 - ansi.StringWidth(indent) - (len(widths)-1)*len(separator)
	byWidth := slices.SortedFunc(slices.Values([]int{0, 1, 2}), func(a, b int) int { return widths[a] - widths[b] })
	for done, i := range byWidth {
		if share := room / (len(widths) - done); widths[i] > share {
			widths[i] = share
			narrow = narrow || share < leastColumns
		}
		room -= widths[i]
	}
	return widths, narrow
}

// sideBySide writes a row, whose cells take several lines where they are too long.
func sideBySide(row []string, widths []int, indent string) []string {
	cells := make([][]string, len(row))
	height := 0
	for i, text := range row {
		// Paths are broken where they have a joint.
		cells[i] = strings.Split(ansi.Wrap(text, widths[i], "/"), "\n")
		if len(cells[i]) > mostCellLines {
			cells[i] = cells[i][:mostCellLines]
			cells[i][mostCellLines-1] = ansi.Truncate(cells[i][mostCellLines-1], widths[i]-1, "") + "…"
		}
		height = max(height, len(cells[i]))
	}
	lines := make([]string, height)
	for l := range lines {
		var parts []string
		for i, cell := range cells {
			part := ""
			if l < len(cell) {
				part = strings.TrimSpace(cell[l])
			}
			parts = append(parts, pad(part, widths[i]))
		}
		lines[l] = strings.TrimRight(indent+strings.Join(parts, separator), " ")
	}
	return lines
}

// withoutFirst is the detail of a failed check without its first difference, where that stands in the table below.
func withoutFirst(detail string, d []plan.Difference) string {
	if len(d) == 0 {
		return detail
	}
	return strings.TrimSuffix(detail, ": "+d[0].String())
}

// adding returns the evidence that says more than what is shown already.
func adding(evidence []string, detail string, d []plan.Difference) []string {
	return slices.DeleteFunc(slices.Clone(evidence), func(e string) bool {
		return e == detail || slices.ContainsFunc(d, func(x plan.Difference) bool { return x.String() == e })
	})
}
