// Package step tells a person what is being done and how long it took.
package step

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Log writes one line when a step begins and one when it ends, and now and then one in between, so that a person can tell a long step from one
// that hangs.
type Log struct {
	w     io.Writer
	start time.Time
	mu    sync.Mutex
}

// sign is how often a step that goes on gives a sign of life.
const sign = 30 * time.Second

// NewLog writes to w, which is standard error in practice: standard output is for the result.
func NewLog(w io.Writer) *Log { return &Log{w: w, start: time.Now()} }

// Do runs f as the step called name.
func (l *Log) Do(name string, f func() error) error {
	began := time.Now()
	l.Printf("%s ...", name)
	stop := l.signs(name, began)
	err := f()
	stop()
	if err != nil {
		l.Printf("%s: failed after %s", name, round(time.Since(began)))
		return fmt.Errorf("%s: %w", name, err)
	}
	l.Printf("%s: done in %s", name, round(time.Since(began)))
	return nil
}

// signs says that the step goes on until the function that it returns is called.
func (l *Log) signs(name string, began time.Time) (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(sign)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				l.Printf("%s: still going on after %s", name, round(time.Since(began)))
			}
		}
	})
	return func() {
		close(done)
		ended.Wait()
	}
}

// Printf writes one line, led by the time since the start.
func (l *Log) Printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
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
