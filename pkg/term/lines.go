package term

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"github.com/etcd-drill/drill/pkg/plan"
)

// style says how lines are written. With width 0 they are plain: one thing a line, whatever its length, and no
// character that isn't text.
type style struct {
	width int
	color bool
}

func (s style) plain() bool { return s.width == 0 }

func (s style) paint(st ansi.Style, text string) string {
	if !s.color || text == "" {
		return text
	}
	return st.Styled(text)
}

func (s style) good(text string) string {
	return s.paint(ansi.NewStyle().ForegroundColor(ansi.Green), text)
}
func (s style) bad(text string) string {
	return s.paint(ansi.NewStyle().ForegroundColor(ansi.Red), text)
}
func (s style) warn(text string) string {
	return s.paint(ansi.NewStyle().ForegroundColor(ansi.Yellow), text)
}
func (s style) strong(text string) string { return s.paint(ansi.NewStyle().Bold(), text) }
func (s style) faint(text string) string  { return s.paint(ansi.NewStyle().Faint(), text) }

// mark is the sign of a status on a terminal.
func (s style) mark(status plan.Status) string {
	switch status {
	case plan.StatusPassed:
		return s.good("✓")
	case plan.StatusFailed:
		return s.bad("✗")
	default:
		return s.faint("–")
	}
}

// word is the status at the beginning of a plain line.
func word(status plan.Status) string {
	switch status {
	case plan.StatusPassed:
		return "ok"
	case plan.StatusFailed:
		return "FAIL"
	default:
		return "skip"
	}
}

// done is the line of something that ended. Name is left out on a terminal, and may be empty.
func (s style) done(status plan.Status, elapsed time.Duration, name, text string) string {
	text = oneLine(text)
	if s.plain() {
		fields := []string{word(status), fmt.Sprintf("%.1fs", elapsed.Seconds())}
		for _, f := range []string{name, text} {
			if f != "" {
				fields = append(fields, f)
			}
		}
		return strings.Join(fields, "  ")
	}
	took := duration(elapsed)
	if status == plan.StatusSkipped {
		took, text = "", s.faint(text)
	}
	return s.cut(fmt.Sprintf("  %s %9s  %s", s.mark(status), took, text))
}

// running is the line of something that is going on; aside stands behind its text if there is room.
func (s style) running(elapsed time.Duration, text, aside string) string {
	line := fmt.Sprintf("  %s %9s  %s", s.warn("▸"), duration(elapsed), oneLine(text))
	if aside != "" && ansi.StringWidth(line)+ansi.StringWidth(aside)+3 < s.width {
		line += " " + s.faint("("+oneLine(aside)+")")
	}
	return s.cut(line)
}

// cut keeps a line one column short of the width, so that no terminal breaks it.
func (s style) cut(line string) string {
	if s.plain() {
		return line
	}
	return ansi.Truncate(line, s.width-1, "…")
}

// hang writes text behind a prefix, and further lines of it below its beginning. On a terminal it is wrapped.
func (s style) hang(prefix, text string) []string {
	indent := ansi.StringWidth(prefix)
	text = clean(text)
	if !s.plain() {
		const leastColumns = 20
		text = ansi.Wrap(text, max(s.width-1-indent, leastColumns), "")
	}
	lines := strings.Split(text, "\n")
	for i := range lines {
		if i == 0 {
			lines[i] = prefix + lines[i]
		} else {
			lines[i] = strings.Repeat(" ", indent) + lines[i]
		}
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// duration is an elapsed time as a person reads it.
func duration(d time.Duration) string {
	d = max(d, 0)
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	}
	d = d.Truncate(time.Second)
	return fmt.Sprintf("%dm %02ds", int(d.Minutes()), int(d.Seconds())%60)
}

// clean takes out what would make a terminal do something else than show text: what a node printed ends up here too.
func clean(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(ansi.Strip(s), "\r\n", "\n"), "\t", "    ")
	s = strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
	return strings.Trim(s, "\n")
}

func oneLine(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

func pad(s string, columns int) string {
	return s + strings.Repeat(" ", max(columns-ansi.StringWidth(s), 0))
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
