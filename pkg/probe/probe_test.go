package probe_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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
		later   int
	}{
		{"", nil, 0},
		{"....", ms(0), 0},
		{".xx.", ms(3100), 0},
		{"xx..", ms(2100), 0},
		{".x.x..", ms(4100), 0},               // it did not hold: one gap
		{".xx....x..", ms(3100), 1},           // a late answer
		{".xx....x....x..", ms(3100), 2},      // and another
		{".xxx....x.x..", ms(4100), 1},        // two, and between them all was well
		{".xx....xxxx..", ms(11100), 0},       // away again
		{".xx....xxx....x....", ms(10100), 1}, // for good only the second time
		{".xx....xxx", ms(3100), 1},           // as far as is known
		{".xx....xxxx", nil, 0},               // away again, and not back
		{".x....xx....x..", ms(8100), 1},      // the first was a late answer
		{".....x....", ms(0), 1},              // there was nothing but a late answer
		{"..x", ms(0), 1},                     // or no more is known
		{"..xx", nil, 0},
	} {
		got, later := series(t0, c.pattern).Back(t0)
		if (got == nil) != (c.want == nil) || (got != nil && *got != *c.want) || len(later) != c.later {
			t.Errorf("%q: back after %v and away later %v, want %v and %d times", c.pattern, got, later, c.want, c.later)
		}
	}
}

func TestBackIgnoresWhatEndedBefore(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if got, _ := series(t0, "xx..").Back(t0.Add(1500 * time.Millisecond)); got == nil || *got != 0 {
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

// TestLastLost: the last write before the break that the snapshot doesn't hold, whatever came later.
func TestLastLost(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := series(t0, "...x..")
	for i := range s {
		if s[i].Err == nil {
			s[i].Revision = 100 + int64(i)
		}
	}
	for name, c := range map[string]struct {
		revision int64
		before   float64
		want     float64
	}{
		"all until the break are lost":                  {99, 2.5, 2.1},
		"a failed write is none":                        {99, 4, 2.1},
		"one that was acknowledged later doesn't count": {101, 2.05, 0},
		"the snapshot holds all":                        {102, 4, 0},
		"the snapshot holds all but the last":           {102, 9, 5.1},
	} {
		want := time.Time{}
		if c.want > 0 {
			want = t0.Add(time.Duration(c.want * float64(time.Second)))
		}
		if got := s.LastLost(c.revision, t0.Add(time.Duration(c.before*float64(time.Second)))); !got.Equal(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// TestSlowAnswersCountAsNone: patience bounds a question, and the error says so in place of what the end of the context made of it.
func TestSlowAnswersCountAsNone(t *testing.T) {
	p := probe.Start(t.Context(), time.Millisecond, 5*time.Millisecond, probe.Target{Name: "thing", Try: func(ctx context.Context) (int64, error) {
		<-ctx.Done()
		return 7, ctx.Err()
	}})
	for len(p.Series("thing")) < 2 && t.Context().Err() == nil {
		runtime.Gosched()
	}
	p.Stop()
	for _, x := range p.Series("thing") {
		if x.Err == nil || x.Err.Error() != "no answer from thing within 5ms" || x.Revision != 0 {
			t.Fatalf("got %+v", x)
		}
	}
}

// TestErrorsAreShared: a long outage costs memory for its samples, not for as many texts.
func TestErrorsAreShared(t *testing.T) {
	var n atomic.Int64
	p := probe.Start(t.Context(), time.Microsecond, time.Second,
		probe.Target{Name: "thing", Try: func(context.Context) (int64, error) { return 0, fmt.Errorf("gone, %d", n.Add(1)%3) }},
		probe.Target{Name: "chatty", Try: func(context.Context) (int64, error) { return 0, fmt.Errorf("gone, %d", n.Add(1)) }})
	for len(p.Series("thing")) < 300 || len(p.Series("chatty")) < 300 {
		if t.Context().Err() != nil {
			t.Fatal("it was not asked often enough")
		}
		runtime.Gosched()
	}
	p.Stop()
	for name, most := range map[string]int{"thing": 3, "chatty": 101} {
		different := map[error]bool{}
		for _, x := range p.Series(name) {
			different[x.Err] = true
		}
		if len(different) > most {
			t.Errorf("%s: %d samples hold %d different errors, want at most %d", name, len(p.Series(name)), len(different), most)
		}
	}
}

func TestProbeSeesAnOutage(t *testing.T) {
	var up atomic.Bool
	up.Store(true)
	p := probe.Start(t.Context(), time.Millisecond, time.Second, probe.Target{Name: "thing", Try: func(context.Context) (int64, error) {
		if up.Load() {
			return 0, nil
		}
		return 0, errGone
	}})
	defer p.Stop()
	wait(t, p, time.Now())
	began := time.Now()
	up.Store(false)
	for len(failures(p.Series("thing"))) < 2 {
		if t.Context().Err() != nil {
			t.Fatal("the outage was never seen")
		}
	}
	up.Store(true)
	wait(t, p, time.Now())
	p.Stop()
	if back, _ := p.Series("thing").Back(began); back == nil || *back <= 0 {
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
	p := probe.Start(t.Context(), time.Millisecond, time.Second, probe.Target{Name: "thing", Try: func(context.Context) (int64, error) { return 0, errGone }})
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
	closed := 0
	p := probe.Start(t.Context(), time.Millisecond, time.Hour, probe.Target{Name: "thing", Try: func(ctx context.Context) (int64, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}, Close: func() { closed++ }})
	p.Stop()
	p.Stop()
	if closed != 1 {
		t.Errorf("what the target held was let go %d times, want once", closed)
	}
	if n := len(p.Series("thing")); n != 0 {
		t.Errorf("a question that the end of the probe cut off was counted %d times", n)
	}
}
