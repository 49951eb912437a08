package term

import (
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// screen writes lines that stay, and below them at most one line that doesn't.
//
// The cursor always rests on the first column of that last line. So when the terminal becomes narrower and breaks the line
// in two, everything from the cursor on is what has to be erased, whether or not that terminal breaks lines anew.
type screen struct {
	w    io.Writer
	live bool
	// err is the first error of a write.
	err error
}

// show writes the lines that stay, and live, if not empty, below them in place of the line that was there.
func (s *screen) show(stay []string, live string) {
	var b strings.Builder
	if s.live && (len(stay) > 0 || live == "") {
		b.WriteString(ansi.EraseScreenBelow)
	}
	for _, line := range stay {
		b.WriteString(line + "\n")
	}
	if live != "" {
		b.WriteString(live + ansi.EraseScreenBelow + "\r")
	}
	s.live = live != ""
	if b.Len() == 0 {
		return
	}
	if _, err := io.WriteString(s.w, b.String()); err != nil && s.err == nil {
		s.err = err
	}
}
