// Package probe times an outage from outside: it asks the same few questions over and over, each on its own schedule, from
// before the break until the proof ends, and remembers every answer.
//
// It believes nothing but its own samples: no component is asked how long it was away.
package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Target is one question.
type Target struct {
	// Name is the kind of service that the question is about, for example "etcd".
	Name string
	// Try asks once. A nil error means that the service was there. The revision is etcd's as far as the answer tells, 0 where it doesn't: of a
	// write, the revision that it became. It must return when ctx ends, and is never called twice at once.
	Try func(ctx context.Context) (revision int64, err error)
	// Close, where set, lets go of what the target holds open. It is called once, after the last Try.
	Close func()
}

// Sample is one answer.
type Sample struct {
	// Began is when the question was asked.
	Began time.Time
	// Took is how long the answer took.
	Took time.Duration
	// Revision is etcd's as far as the answer told; 0 where it didn't, and where there was none.
	Revision int64
	// Err says why there was none; nil means that the service was there. Samples of a target share errors of the same text.
	Err error
}

// Ended is when the answer came.
func (s Sample) Ended() time.Time { return s.Began.Add(s.Took) }

// Series is every answer to one question, oldest first.
type Series []Sample

// Brief is how long a service that is back must hold for it to be back for good, and how long it may then go unanswered without the outage counting
// as going on: the patience of some questions. On a busy machine an answer comes too late now and then.
const Brief = 3 * time.Second

// Gap is a time during which questions went unanswered. Those with less than Brief between them are one gap.
type Gap struct {
	// Began is when the first of them was asked.
	Began time.Time
	// Ended is when the next answer came; the zero time if none did.
	Ended time.Time
	// Unanswered is how many went so, and Away for how long, without the time between.
	Unanswered int
	Away       time.Duration
}

// Back says how long after since the service was there for good: from since to the answer that ended the outage. That is the last gap in which the service was away for longer
// than Brief or, where there is none, the longest in which more than one question went unanswered. It is 0 when there is neither, and nil when the outage did not end, or when
// nothing was asked. Later are the gaps after the outage, all of them if there was none.
func (s Series) Back(since time.Time) (back *time.Duration, later []Gap) {
	gaps, asked := s.gaps(since)
	if !asked {
		return nil, nil
	}
	outage := -1
	for i, g := range gaps {
		switch {
		case g.Away > Brief:
			outage = i
		case g.Unanswered > 1 && (outage < 0 || gaps[outage].Away <= Brief && g.Away > gaps[outage].Away):
			outage = i
		}
	}
	if outage < 0 {
		return new(time.Duration), gaps
	}
	if end := gaps[outage].Ended; !end.IsZero() {
		d := end.Sub(since)
		back = &d
	}
	return back, gaps[outage+1:]
}

// gaps are those after since; asked says whether anything was.
func (s Series) gaps(since time.Time) (gaps []Gap, asked bool) {
	var open *Gap
	var from time.Time // of what is open
	for _, x := range s {
		if x.Ended().Before(since) {
			continue
		}
		asked = true
		if x.Err == nil {
			if open != nil {
				open.Ended, open.Away = x.Ended(), open.Away+x.Ended().Sub(from)
			}
			open = nil
			continue
		}
		if open == nil {
			from = x.Began
			if n := len(gaps); n == 0 || from.Sub(gaps[n-1].Ended) >= Brief {
				gaps = append(gaps, Gap{Began: from})
			}
			open = &gaps[len(gaps)-1]
			open.Ended = time.Time{}
		}
		open.Unanswered++
	}
	if open != nil {
		open.Away += s[len(s)-1].Ended().Sub(from)
	}
	return gaps, asked
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

// LastLost returns when the last write before the moment given was acknowledged that a snapshot of that revision doesn't hold; the zero
// time when there was none.
func (s Series) LastLost(revision int64, before time.Time) time.Time {
	var last time.Time
	for _, x := range s {
		if x.Err == nil && x.Revision > revision && x.Ended().Before(before) {
			last = x.Ended()
		}
	}
	return last
}

// Probe asks its questions in the background until it is stopped.
type Probe struct {
	cancel             context.CancelFunc
	wg                 sync.WaitGroup
	began              time.Time
	interval, patience time.Duration
	names              []string

	mu     sync.Mutex
	series map[string]Series
}

// Start asks each target every interval; one try may take as long as patience, and a target is never asked twice at once.
// The probe ends with ctx or with Stop, whichever comes first.
func Start(ctx context.Context, interval, patience time.Duration, targets ...Target) *Probe {
	ctx, cancel := context.WithCancel(ctx)
	p := &Probe{cancel: cancel, began: time.Now(), interval: interval, patience: patience, series: map[string]Series{}}
	for _, t := range targets {
		p.names = append(p.names, t.Name)
		p.wg.Go(func() { p.ask(ctx, t) })
	}
	return p
}

func (p *Probe) ask(ctx context.Context, t Target) {
	if t.Close != nil {
		defer t.Close()
	}
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	late, known := fmt.Errorf("no answer from %s within %s", t.Name, p.patience), texts{}
	for {
		s := try(ctx, p.patience, t, late)
		if ctx.Err() != nil {
			return // a question cut off by the end of the probe says nothing
		}
		s.Err = known.share(s.Err)
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

// try asks once. An error that only says that time was over becomes late.
func try(ctx context.Context, patience time.Duration, t Target, late error) (s Sample) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.Began = time.Now()
	s.Revision, s.Err = t.Try(ctx)
	s.Took = time.Since(s.Began)
	if s.Err != nil {
		s.Revision = 0
		if ctx.Err() != nil {
			s.Err = late
		}
	}
	return s
}

// texts are the errors of one target by what they say. An outage yields thousands of errors and few texts.
type texts map[string]error

// maxTexts is how many different errors of one target are kept. More come only from a service that never says the same twice.
const maxTexts = 100

// errUnlike stands for every error beyond maxTexts.
var errUnlike = errors.New("another error, unlike all before it")

// share returns the first error that said the same.
func (t texts) share(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if known, ok := t[text]; ok {
		return known
	}
	if len(t) == maxTexts {
		return errUnlike
	}
	t[text] = err
	return err
}

// Series returns what has been answered so far about the target of that name. It must not be changed.
func (p *Probe) Series(name string) Series {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clip(p.series[name]) // samples are only ever added
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
