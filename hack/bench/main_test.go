package main

import (
	"testing"

	"github.com/etcd-drill/drill/hack/bench/ratio"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

func runs(floor float64, reads ...float64) []Run {
	var out []Run
	for _, v := range reads {
		out = append(out, Run{Run: report.Run{Outage: plan.Outage{ReadSeconds: &v, FloorSeconds: &floor}}})
	}
	return out
}

// TestRatios: a goal is held against the median of the rounds.
func TestRatios(t *testing.T) {
	groups := [][]Run{runs(4, 4, 5, 8), runs(4, 40, 100, 40)}
	for _, test := range []struct {
		wanted wanted
		want   ratio.Ratio
	}{
		{wanted{name: "a", most: 1.3}, ratio.Ratio{Name: "a", Goal: "at most 1.3", Least: 1, Median: 1.25, Most: 2, Of: 3, Met: true}},
		{wanted{name: "a", most: 1.2}, ratio.Ratio{Name: "a", Goal: "at most 1.2", Least: 1, Median: 1.25, Most: 2, Of: 3}},
		{wanted{name: "b", over: 1, least: 10}, ratio.Ratio{Name: "b", Goal: "at least 10", Least: 5, Median: 10, Most: 20, Of: 3, Met: true}},
		{wanted{name: "b", over: 1, least: 11}, ratio.Ratio{Name: "b", Goal: "at least 11", Least: 5, Median: 10, Most: 20, Of: 3}},
	} {
		if got := test.wanted.of(groups, 3); got != test.want {
			t.Errorf("got %+v, want %+v", got, test.want)
		}
	}
	if r := (wanted{most: 2}).of(groups, 4); r.Met {
		t.Errorf("a round is missing, and %+v", r)
	}
	for _, w := range parts()[0].ratios {
		if r := w.of(make([][]Run, 3), 3); r.Met || r.Of != 0 {
			t.Errorf("nothing was measured, and %+v", r)
		}
	}
}

// TestReadsThatNeverComeBack count with the time for which that was seen, and the ratio says so.
func TestReadsThatNeverComeBack(t *testing.T) {
	began := 10.0
	lost := Run{Run: report.Run{Probe: &plan.Probe{OutageBegan: &began, Series: []plan.Series{{At: []float64{1, 90}}, {At: []float64{2, 110}}, {}}}}}
	lost.ReadsAwayAtLeastSeconds = awayAtLeast(lost.Run)
	got := wanted{over: 1, least: 15}.of([][]Run{runs(4, 4, 5), append(runs(4, 80), lost)}, 2)
	if want := (ratio.Ratio{Goal: "at least 15", Least: 20, Median: 20, Most: 20, Of: 2, AtLeast: 1, Met: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got.Verdict() != "met; in 1 at least, reads never came back" {
		t.Error(got.Verdict())
	}
	if lost.Outage.ReadSeconds != nil {
		t.Error("the run says that reads came back")
	}
	for name, r := range map[string]report.Run{"back": runs(4, 4)[0].Run, "not asked": {}, "no outage": {Probe: &plan.Probe{}}} {
		if got := awayAtLeast(r); got != nil {
			t.Errorf("%s: %v", name, *got)
		}
	}
}

func TestPartsNamed(t *testing.T) {
	if all, err := partsNamed(""); err != nil || len(all) != 3 {
		t.Errorf("%v, %v", all, err)
	}
	if one, err := partsNamed("database"); err != nil || len(one) != 1 || one[0].name != "database" {
		t.Errorf("%v, %v", one, err)
	}
	if _, err := partsNamed("databse"); err == nil {
		t.Error("a part that isn't there")
	}
}
