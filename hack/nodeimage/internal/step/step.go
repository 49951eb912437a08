// Package step tells a person what is being done and how long it took.
package step

import (
	"fmt"
	"io"
	"time"
)

// Log writes one line when a step begins and one when it ends.
type Log struct {
	w     io.Writer
	start time.Time
}

// NewLog writes to w, which is standard error in practice: standard output is for the result.
func NewLog(w io.Writer) *Log { return &Log{w: w, start: time.Now()} }

// Do runs f as the step called name.
func (l *Log) Do(name string, f func() error) error {
	began := time.Now()
	l.Printf("%s ...", name)
	if err := f(); err != nil {
		l.Printf("%s: failed after %s", name, round(time.Since(began)))
		return fmt.Errorf("%s: %w", name, err)
	}
	l.Printf("%s: done in %s", name, round(time.Since(began)))
	return nil
}

// Printf writes one line, led by the time since the start.
func (l *Log) Printf(format string, args ...any) {
	fmt.Fprintf(l.w, "[%7s] %s\n", round(time.Since(l.start)), fmt.Sprintf(format, args...))
}

// Writer is where a running program's own words may go.
func (l *Log) Writer() io.Writer { return l.w }

func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
