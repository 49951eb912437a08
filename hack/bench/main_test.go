package main

import (
	"testing"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

func runs(floor float64, reads ...float64) []report.Run {
	var out []report.Run
	for _, v := range reads {
		out = append(out, report.Run{Outage: plan.Outage{ReadSeconds: &v, FloorSeconds: &floor}})
	}
	return out
}

// TestRatios: a goal is held against the median of the rounds.
func TestRatios(t *testing.T) {
	groups := [][]report.Run{runs(4, 4, 5, 8), runs(4, 40, 100, 40)}
	for _, test := range []struct {
		wanted wanted
		want   Ratio
	}{
		{wanted{name: "a", most: 1.3}, Ratio{Name: "a", Goal: "at most 1.3", Least: 1, Median: 1.25, Most: 2, Of: 3, Met: true}},
		{wanted{name: "a", most: 1.2}, Ratio{Name: "a", Goal: "at most 1.2", Least: 1, Median: 1.25, Most: 2, Of: 3}},
		{wanted{name: "b", over: 1, least: 10}, Ratio{Name: "b", Goal: "at least 10", Least: 5, Median: 10, Most: 20, Of: 3, Met: true}},
		{wanted{name: "b", over: 1, least: 11}, Ratio{Name: "b", Goal: "at least 11", Least: 5, Median: 10, Most: 20, Of: 3}},
	} {
		if got := test.wanted.of(groups, 3); got != test.want {
			t.Errorf("got %+v, want %+v", got, test.want)
		}
	}
	if r := (wanted{most: 2}).of(groups, 4); r.Met {
		t.Errorf("a round is missing, and %+v", r)
	}
	for _, w := range parts()[0].ratios {
		if r := w.of(make([][]report.Run, 3), 3); r.Met || r.Of != 0 {
			t.Errorf("nothing was measured, and %+v", r)
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
