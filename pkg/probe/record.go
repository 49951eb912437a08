package probe

import (
	"math"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Record returns every answer so far, in the order of the targets, and the moments of a run on the same time axis.
func (p *Probe) Record(marks plan.Marks) plan.Probe {
	r := plan.Probe{
		IntervalSeconds: p.interval.Seconds(),
		PatienceSeconds: p.patience.Seconds(),
		StartedAt:       p.began.UTC(),
		BreakBegan:      p.offset(marks.BreakBegan),
		OutageBegan:     p.offset(marks.OutageBegan),
	}
	for _, name := range p.names {
		r.Series = append(r.Series, p.Series(name).columns(name, p.began))
	}
	return r
}

func (p *Probe) offset(t time.Time) *float64 {
	if t.IsZero() {
		return nil
	}
	f := round(t.Sub(p.began), time.Millisecond)
	return &f
}

func (s Series) columns(name string, began time.Time) plan.Series {
	out := plan.Series{Name: name, Errors: []string{""}}
	index := map[string]int{"": 0}
	told := false
	for _, x := range s {
		text := ""
		if x.Err != nil {
			text = x.Err.Error()
		}
		if _, ok := index[text]; !ok {
			index[text] = len(out.Errors)
			out.Errors = append(out.Errors, text)
		}
		told = told || x.Revision != 0
		out.At = append(out.At, round(x.Began.Sub(began), time.Millisecond))
		out.Took = append(out.Took, round(x.Took, 100*time.Microsecond))
		out.Error = append(out.Error, index[text])
		out.Revision = append(out.Revision, x.Revision)
	}
	if !told {
		out.Revision = nil
	}
	return out
}

// round returns seconds, rounded to the unit, which divides a second, so that they print as they are meant: 3.869 and not 3.8689999999999998.
func round(d, unit time.Duration) float64 {
	return math.Round(float64(d)/float64(unit)) / float64(time.Second/unit)
}
