package kind

import (
	"fmt"
	"strings"
	"sync"
	"unicode"

	"sigs.k8s.io/kind/pkg/log"
)

// logger turns what kind says into plain progress lines: one a step, when it begins, and warnings. It remembers the last
// step, which is what an error about a creation that got stuck can tell.
type logger struct {
	progress func(string)
	mu       sync.Mutex
	last     string
}

var _ log.Logger = (*logger)(nil)

func (l *logger) lastStep() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return "kind, before its first step"
	}
	return fmt.Sprintf("kind, at its step %q", l.last)
}

func (l *logger) say(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress(line)
}

func (l *logger) step(message string) {
	// Each step is announced as " • Name 📦  ...", and closed by another line, which says nothing new.
	step, ok := strings.CutPrefix(strings.TrimSpace(message), "•")
	if !ok {
		return
	}
	step = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(step), "..."))
	step = strings.TrimRightFunc(step, func(r rune) bool {
		return r > unicode.MaxLatin1 || unicode.IsSpace(r) // kind's pictures
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = step
	l.progress(step)
}

func (l *logger) Warn(message string)               { l.say("Warning: " + strings.TrimSpace(message)) }
func (l *logger) Warnf(format string, args ...any)  { l.Warn(fmt.Sprintf(format, args...)) }
func (l *logger) Error(message string)              { l.say("Error: " + strings.TrimSpace(message)) }
func (l *logger) Errorf(format string, args ...any) { l.Error(fmt.Sprintf(format, args...)) }
func (l *logger) V(level log.Level) log.InfoLogger  { return infoLogger{l, level == 0} }

// infoLogger passes on the steps and drops what is meant for debugging kind.
type infoLogger struct {
	*logger
	enabled bool
}

func (i infoLogger) Enabled() bool                    { return i.enabled }
func (i infoLogger) Infof(format string, args ...any) { i.Info(fmt.Sprintf(format, args...)) }
func (i infoLogger) Info(message string) {
	if i.enabled {
		i.step(message)
	}
}
