package probe_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/probe"
)

var errGone = errors.New("gone")

// series makes a sample a second, beginning at t0, each answered within 100 ms; 'x' is a failure.
func series(t0 time.Time, pattern string) probe.Series {
	var s probe.Series
	for i, c := range pattern {
		x := probe.Sample{Began: t0.Add(time.Duration(i) * time.Second), Took: 100 * time.Millisecond}
		if c == 'x' {
			x.Err = errGone
		}
		s = append(s, x)
	}
	return s
}

func TestBack(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ms := func(n int) *time.Duration { d := time.Duration(n) * time.Millisecond; return &d }
	for _, c := range []struct {
		pattern string
		want    *time.Duration
	}{
		{"", nil},
		{"....", ms(0)},
		{".xx.", ms(3100)},
		{"x...", ms(1100)},
		{".x.x..", ms(4100)}, // back for good only the second time
		{"..xx", nil},
	} {
		got := series(t0, c.pattern).Back(t0)
		if (got == nil) != (c.want == nil) || (got != nil && *got != *c.want) {
			t.Errorf("%q: back after %v, want %v", c.pattern, got, c.want)
		}
	}
}

func TestBackIgnoresWhatEndedBefore(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if got := series(t0, "xx..").Back(t0.Add(1500 * time.Millisecond)); got == nil || *got != 0 {
		t.Errorf("failures before the outage began were counted: %v", got)
	}
}

func TestLastAndFirstGood(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := series(t0, "..xx.")
	if got, want := s.LastGood(t0.Add(3*time.Second)), t0.Add(1100*time.Millisecond); !got.Equal(want) {
		t.Errorf("last good %v, want %v", got, want)
	}
	if got := s.LastGood(t0); !got.IsZero() {
		t.Errorf("last good before the beginning: %v", got)
	}
	if got, want := s.FirstGood(t0.Add(2*time.Second)), t0.Add(4100*time.Millisecond); !got.Equal(want) {
		t.Errorf("first good %v, want %v", got, want)
	}
}

func TestProbeSeesAnOutage(t *testing.T) {
	var up atomic.Bool
	up.Store(true)
	p := probe.Start(t.Context(), time.Millisecond, time.Second, probe.Target{Name: "thing", Try: func(context.Context) error {
		if up.Load() {
			return nil
		}
		return errGone
	}})
	defer p.Stop()
	wait(t, p, time.Now())
	began := time.Now()
	up.Store(false)
	for len(failures(p.Series("thing"))) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("the outage was never seen")
		}
	}
	up.Store(true)
	wait(t, p, time.Now())
	p.Stop()
	if back := p.Series("thing").Back(began); back == nil || *back <= 0 {
		t.Errorf("back after %v, want something above 0", back)
	}
}

func wait(t *testing.T, p *probe.Probe, since time.Time) {
	t.Helper()
	if err := p.Wait(t.Context(), "thing", since); err != nil {
		t.Fatal(err)
	}
}

func failures(s probe.Series) (out probe.Series) {
	for _, x := range s {
		if x.Err != nil {
			out = append(out, x)
		}
	}
	return out
}

func TestWaitSaysWhatWasLastSeen(t *testing.T) {
	p := probe.Start(t.Context(), time.Millisecond, time.Second, probe.Target{Name: "thing", Try: func(context.Context) error { return errGone }})
	defer p.Stop()
	for len(p.Series("thing")) == 0 && t.Context().Err() == nil {
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errors.New("time is over"))
	defer cancel()
	err := p.Wait(ctx, "thing", time.Now())
	if err == nil || !strings.Contains(err.Error(), "gone") || !strings.Contains(err.Error(), "time is over") {
		t.Errorf("got %v", err)
	}
}

func TestStopEndsAHangingQuestion(t *testing.T) {
	p := probe.Start(t.Context(), time.Millisecond, time.Hour, probe.Target{Name: "thing", Try: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	p.Stop()
	if n := len(p.Series("thing")); n != 0 {
		t.Errorf("a question that the end of the probe cut off was counted %d times", n)
	}
}
