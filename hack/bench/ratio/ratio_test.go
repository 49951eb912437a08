package ratio

import (
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	got := Goal{Most: 2}.Judge(Of("a", []float64{4, 2, 6}, []float64{2, 2, 2}), 3)
	if want := (Ratio{Name: "a", Goal: "at most 2", Least: 1, Median: 2, Most: 3, Of: 3, Met: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if r := (Goal{Most: 1.9}).Judge(got, 3); r.Met {
		t.Errorf("a median above the goal, and %+v", r)
	}
	if r := (Goal{Least: 2.1}).Judge(got, 3); r.Met {
		t.Errorf("a median below the goal, and %+v", r)
	}
	if r := (Goal{Most: 2}).Judge(Of("a", []float64{1, 1}, []float64{1}), 2); r.Met || r.Of != 1 {
		t.Errorf("a round is missing, and %+v", r)
	}
	if r := (Goal{Most: 2}).Judge(Of("a", nil, nil), 1); r.Met || r.Of != 0 {
		t.Errorf("nothing was measured, and %+v", r)
	}
	if m := Median([]float64{3, 1, 2, 10}); m != 2.5 {
		t.Errorf("median %g", m)
	}
	var out strings.Builder
	if err := Print(&out, []Ratio{got}); err != nil || !strings.Contains(out.String(), "at most 2") || !strings.HasSuffix(out.String(), "met\n") {
		t.Errorf("%v, %s", err, out.String())
	}
}

func TestNamed(t *testing.T) {
	name := func(s string) string { return s }
	all := []string{"a", "b", "c"}
	if got, err := Named(all, name, "c,a"); err != nil || strings.Join(got, "") != "ca" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Named(all, name, "a,d"); err == nil || !strings.Contains(err.Error(), `no part "d"; there are: a, b, c`) {
		t.Error(err)
	}
}
