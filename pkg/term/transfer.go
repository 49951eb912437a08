package term

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
)

// Transfer shows how far a transfer is: on a terminal a bar that is redrawn, elsewhere a plain line every few seconds. It is used by one goroutine.
type Transfer struct {
	options Options
	screen  screen
	what    string
	began   time.Time
	shown   time.Time
}

const (
	// plainEvery is how often a line is written where it can't be redrawn.
	plainEvery = 5 * time.Second
	// A bar is as wide as there is room for; one that would be too small is left out.
	maxBar, minBar = 30, 8
)

// NewTransfer shows the transfer of what, on w.
func NewTransfer(w io.Writer, o Options, what string) *Transfer {
	t := &Transfer{options: o.withDefaults(), screen: screen{w: w}, what: what}
	t.began = t.options.Now()
	t.shown = t.began
	return t
}

// Tell says how many bytes of about how many have come.
func (t *Transfer) Tell(done, total int64) {
	now := t.options.Now()
	every := plainEvery
	if t.options.Interactive {
		every = redrawEvery
	}
	if now.Sub(t.shown) < every && done < total {
		return
	}
	t.shown = now
	if t.options.Interactive {
		t.screen.show(nil, t.line(now, done, total))
	} else if done < total { // the end is told by who began it
		t.screen.show([]string{t.line(now, done, total)}, "")
	}
}

// line is, for example, "snapshot of https://10.0.0.1:2379  [#####-----]  512.0 of 1024.0 MB, 100.0 MB/s, 5 s left".
func (t *Transfer) line(now time.Time, done, total int64) string {
	s := t.options.style()
	rate := float64(done) / max(now.Sub(t.began).Seconds(), 1e-3)
	left := time.Duration(float64(total-done) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	numbers := fmt.Sprintf("%.1f of %.1f MB, %.1f MB/s, %d s left", float64(done)/1e6, float64(total)/1e6, rate/1e6, int(left.Seconds()))
	width := maxBar
	if !s.plain() {
		width = min(maxBar, s.width-1-len("  []  ")-ansi.StringWidth(t.what)-len(numbers))
	}
	if width < minBar {
		return s.cut(t.what + "  " + numbers)
	}
	full := int(int64(width) * min(done, total) / max(total, 1)) // how much there will be is what etcd estimates
	return t.what + "  [" + strings.Repeat("#", full) + strings.Repeat("-", width-full) + "]  " + numbers
}

// Close takes the bar away, and returns the first error that writing met.
func (t *Transfer) Close() error {
	t.screen.show(nil, "")
	if t.screen.err != nil {
		return fmt.Errorf("show progress: %w", t.screen.err)
	}
	return nil
}
