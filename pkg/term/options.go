package term

import (
	"os"
	"time"

	xterm "golang.org/x/term"
)

// Options say what a View writes to. The zero value is for something that is not a terminal.
type Options struct {
	// Interactive says that the current line can be redrawn: that the writer is a terminal which knows ECMA-48's controls.
	Interactive bool
	// Color says that text may be coloured. It has no effect without Interactive.
	Color bool
	// Width returns the columns of the terminal at this moment; nil, or a result of 0 or less, means 80.
	Width func() int
	// Now is the clock by which what is still going on is timed; nil is time.Now.
	Now func() time.Time
	// Tick says when to redraw; nil is ten times a second. Nothing is read from it without Interactive.
	Tick <-chan time.Time
}

const (
	defaultWidth = 80
	redrawEvery  = 100 * time.Millisecond
)

// ForFile returns the options that suit f: interactive if it is a terminal and TERM is not "dumb", coloured unless NO_COLOR
// is set to something (https://no-color.org).
func ForFile(f *os.File, getenv func(string) string) Options {
	fd := int(f.Fd())
	return Options{
		Interactive: xterm.IsTerminal(fd) && getenv("TERM") != "dumb",
		Color:       getenv("NO_COLOR") == "",
		Width: func() int {
			width, _, err := xterm.GetSize(fd)
			if err != nil {
				return 0
			}
			return width
		},
	}
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Width == nil {
		o.Width = func() int { return 0 }
	}
	o.Color = o.Color && o.Interactive
	return o
}

// style returns how lines are to be written at this moment.
func (o Options) style() style {
	width := 0
	if o.Interactive {
		if width = o.Width(); width <= 0 {
			width = defaultWidth
		}
	}
	return style{width: width, color: o.Color}
}
