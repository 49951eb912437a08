// Package ratio holds measurements that took turns on one machine against goals: a ratio of two says something where seconds depend on the machine.
package ratio

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Ratio is how many times as long one took as the other, over all rounds.
type Ratio struct {
	Name string `json:"name"`
	Goal string `json:"goal"`
	// Least, Median and Most are those of the rounds; Of is how many rounds there are.
	Least  float64 `json:"least"`
	Median float64 `json:"median"`
	Most   float64 `json:"most"`
	Of     int     `json:"of"`
	// AtLeast is in how many rounds it is more than what is counted: reads never came back while somebody asked.
	AtLeast int `json:"atLeast"`
	// Met says whether the median is what the goal says.
	Met bool `json:"met"`
}

// Verdict says in words whether the goal was met.
func (r Ratio) Verdict() string {
	verdict := "missed"
	if r.Met {
		verdict = "met"
	}
	if r.AtLeast > 0 {
		verdict += fmt.Sprintf("; in %d at least, reads never came back", r.AtLeast)
	}
	return verdict
}

// Goal is what a median is to be: one of the two is set.
type Goal struct{ Least, Most float64 }

// Judge returns r with the goal and whether it was met: only by as many rounds as were asked for.
func (g Goal) Judge(r Ratio, rounds int) Ratio {
	if g.Most > 0 {
		r.Goal, r.Met = fmt.Sprintf("at most %g", g.Most), r.Of == rounds && r.Median <= g.Most
	} else {
		r.Goal, r.Met = fmt.Sprintf("at least %g", g.Least), r.Of == rounds && r.Median >= g.Least
	}
	return r
}

// Of divides what was measured in each round, as far as there are both values.
func Of(name string, over, under []float64) Ratio {
	var all []float64
	for i := range min(len(over), len(under)) {
		all = append(all, over[i]/under[i])
	}
	r := Ratio{Name: name, Of: len(all)}
	if len(all) > 0 {
		r.Least, r.Median, r.Most = slices.Min(all), Median(all), slices.Max(all)
	}
	return r
}

// Median is the middle one of at least one value, and between the two where there is none.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// Print writes the table.
func Print(w io.Writer, ratios []Ratio) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RATIO\tGOAL\tMIN\tMEDIAN\tMAX\tROUNDS\tRESULT")
	for _, r := range ratios {
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%.2f\t%.2f\t%d\t%s\n", r.Name, r.Goal, r.Least, r.Median, r.Most, r.Of, r.Verdict())
	}
	return t.Flush()
}

// Names are those of the parts of a benchmark.
func Names[T any](parts []T, name func(T) string) []string {
	var out []string
	for _, p := range parts {
		out = append(out, name(p))
	}
	return out
}

// Named returns the parts whose names stand in a list with commas, in its order.
func Named[T any](parts []T, name func(T) string, list string) ([]T, error) {
	var out []T
	for wanted := range strings.SplitSeq(list, ",") {
		i := slices.Index(Names(parts, name), wanted)
		if i < 0 {
			return nil, fmt.Errorf("there is no part %q; there are: %s", wanted, strings.Join(Names(parts, name), ", "))
		}
		out = append(out, parts[i])
	}
	return out, nil
}
