// Package probe times an outage from outside: it asks the same few questions over and over, each on its own schedule, from
// before the break until the proof ends, and remembers every answer.
//
// It believes nothing but its own samples: no component is asked how long it was away.
package probe

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Target is one question.
type Target struct {
	// Name is the kind of service that the question is about, for example "etcd".
	Name string
	// Try asks once. nil means that the service was there. It must return when ctx ends.
	Try func(ctx context.Context) error
}

// Sample is one answer.
type Sample struct {
	// Began is when the question was asked.
	Began time.Time
	// Took is how long the answer took.
	Took time.Duration
	// Err says why there was none; nil means that the service was there.
	Err error
}

// Ended is when the answer came.
func (s Sample) Ended() time.Time { return s.Began.Add(s.Took) }

// Series is every answer to one question, oldest first.
type Series []Sample

// Back says how long after since the service was there for good: from since to the answer that began the unbroken run of
// answers which lasts to the end of the series. It is 0 when no question asked after since went unanswered, and nil when
// the last one did, or when none was asked.
func (s Series) Back(since time.Time) *time.Duration {
	var back *time.Duration
	zero := time.Duration(0)
	asked := false
	for _, x := range s {
		if x.Ended().Before(since) {
			continue
		}
		switch {
		case x.Err != nil:
			back = nil
		case !asked:
			back = &zero
		case back == nil:
			d := x.Ended().Sub(since)
			back = &d
		}
		asked = true
	}
	return back
}

// LastGood returns when the last question before the moment given was answered; the zero time when none was.
func (s Series) LastGood(before time.Time) time.Time {
	var last time.Time
	for _, x := range s {
		if x.Err == nil && x.Ended().Before(before) {
			last = x.Ended()
		}
	}
	return last
}

// FirstGood returns when the first question that was asked at or after the moment given and found an answer got it;
// the zero time when none did.
func (s Series) FirstGood(from time.Time) time.Time {
	for _, x := range s {
		if x.Err == nil && !x.Began.Before(from) {
			return x.Ended()
		}
	}
	return time.Time{}
}

// Probe asks its questions in the background until it is stopped.
type Probe struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	series map[string]Series
}

// Start asks each target every interval; one try may take as long as patience, and a target is never asked twice at once.
// The probe ends with ctx or with Stop, whichever comes first.
func Start(ctx context.Context, interval, patience time.Duration, targets ...Target) *Probe {
	ctx, cancel := context.WithCancel(ctx)
	p := &Probe{cancel: cancel, series: map[string]Series{}}
	for _, t := range targets {
		p.wg.Go(func() { p.ask(ctx, interval, patience, t) })
	}
	return p
}

func (p *Probe) ask(ctx context.Context, interval, patience time.Duration, t Target) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s := try(ctx, patience, t)
		if ctx.Err() != nil {
			return // a question cut off by the end of the probe says nothing
		}
		p.mu.Lock()
		p.series[t.Name] = append(p.series[t.Name], s)
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func try(ctx context.Context, patience time.Duration, t Target) (s Sample) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer from %s within %s", t.Name, patience))
	defer cancel()
	s.Began = time.Now()
	s.Err = t.Try(ctx)
	s.Took = time.Since(s.Began)
	return s
}

// Series returns a copy of what has been answered so far about the target of that name.
func (p *Probe) Series(name string) Series {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(Series(nil), p.series[name]...)
}

// Wait returns once the target of that name has answered well since the moment given, or when ctx ends, with the last answer seen.
func (p *Probe) Wait(ctx context.Context, name string, since time.Time) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s := p.Series(name)
		if !s.FirstGood(since).IsZero() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to answer: %w; %s", name, context.Cause(ctx), s.last())
		case <-tick.C:
		}
	}
}

func (s Series) last() string {
	if len(s) == 0 {
		return "it was never asked"
	}
	return fmt.Sprintf("last answer: %v", s[len(s)-1].Err)
}

// Stop ends the probe and returns when the last question has been let go. It may be called more than once.
func (p *Probe) Stop() {
	p.cancel()
	p.wg.Wait()
}
