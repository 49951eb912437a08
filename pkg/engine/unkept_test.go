package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/plan"
)

// TestUndoUnkept: a control plane that another process has left down is brought back although nothing at all can be written down, and that is said once.
func TestUndoUnkept(t *testing.T) {
	b := &book{full: func(string) bool { return true }}
	r := walkWith(t, engine.Undo, func(s *script, _ func()) {
		b.script = s
		s.back(func() plan.Finding { return yes })
	}, engine.Options{Journal: b, Past: &engine.Past{Marks: plan.Marks{BreakBegan: time.Now(), OutageBegan: time.Now()}}})
	if done := strings.Join(r.done, ", "); r.Verdict != plan.VerdictPassed || !strings.HasPrefix(done, "undo-1, undo-2, back, back") {
		t.Errorf("%s: %s: %q", r.Verdict, r.Reason, done)
	}
	if n := strings.Count(r.warnings(), "no space left"); n != 1 {
		t.Errorf("warned %d times: %s", n, r.warnings())
	}
}
