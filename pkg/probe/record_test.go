package probe_test

import (
	"context"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/probe"
)

// TestRecord: the columns say what the samples say, one row each, and the moments of the run are on the same axis.
func TestRecord(t *testing.T) {
	answers := []struct {
		revision int64
		err      error
	}{{5, nil}, {0, errGone}, {0, errGone}, {6, nil}}
	asked := 0
	p := probe.Start(t.Context(), time.Millisecond, time.Second,
		probe.Target{Name: "etcd", Try: func(ctx context.Context) (int64, error) {
			if asked == len(answers) {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			asked++
			return answers[asked-1].revision, answers[asked-1].err
		}},
		probe.Target{Name: "service", Try: func(context.Context) (int64, error) { return 0, nil }})
	for (len(p.Series("etcd")) < len(answers) || len(p.Series("service")) == 0) && t.Context().Err() == nil {
		runtime.Gosched()
	}
	p.Stop()
	samples := p.Series("etcd")
	r := p.Record(plan.Marks{OutageBegan: samples[1].Began})
	if r.IntervalSeconds != 0.001 || r.PatienceSeconds != 1 || r.StartedAt.IsZero() || r.StartedAt.After(samples[0].Began) || r.BreakBegan != nil {
		t.Errorf("got %+v", r)
	}
	if len(r.Series) != 2 || r.Series[0].Name != "etcd" || r.Series[1].Name != "service" {
		t.Fatalf("got the series %+v, want those of etcd and service", r.Series)
	}
	etcd, service := r.Series[0], r.Series[1]
	if !slices.Equal(etcd.Error, []int{0, 1, 1, 0}) || !slices.Equal(etcd.Errors, []string{"", "gone"}) || !slices.Equal(etcd.Revision, []int64{5, 0, 0, 6}) {
		t.Errorf("got %+v", etcd)
	}
	if r.OutageBegan == nil || *r.OutageBegan != etcd.At[1] {
		t.Errorf("the outage began at %v, want when the second question was asked, %v", r.OutageBegan, etcd.At)
	}
	for i, at := range etcd.At {
		if want := samples[i].Began.Sub(samples[0].Began).Seconds(); math.Abs(at-etcd.At[0]-want) > 0.002 {
			t.Errorf("sample %d is %v s after the first, want %v", i, at-etcd.At[0], want)
		}
	}
	if len(service.At) != len(service.Took) || len(service.At) != len(service.Error) || !slices.Equal(service.Errors, []string{""}) || service.Revision != nil {
		t.Errorf("got %+v", service)
	}
}
