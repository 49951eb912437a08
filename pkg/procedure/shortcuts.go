package procedure

import "slices"

// Variation is a procedure carried out in one of the ways that it can be.
type Variation struct {
	Procedure Procedure
	// Bump says whether the restore raises the revision.
	Bump bool
	// Keep and Renew are as in Procedure.Check.
	Keep, Renew []string
}

// Shortcuts are the variations that together say what may be left out: every procedure with and without a raised revision, and each of these as it is by
// itself, with everything renewed, and with everything renewed but one component. No two are the same.
func Shortcuts(procedures []Procedure) []Variation {
	var out []Variation
	for _, p := range procedures {
		for _, bump := range []bool{true, false} {
			wanted := [][]string{p.Renews, Components()}
			for _, c := range Components() {
				wanted = append(wanted, without(Components(), c))
			}
			for i, renewed := range wanted {
				if !slices.ContainsFunc(wanted[:i], func(earlier []string) bool { return slices.Equal(earlier, renewed) }) {
					out = append(out, p.vary(bump, renewed))
				}
			}
		}
	}
	return out
}

// vary is the procedure with exactly these components renewed.
func (p Procedure) vary(bump bool, renewed []string) Variation {
	v := Variation{Procedure: p, Bump: bump}
	for _, c := range Components() {
		switch byItself := slices.Contains(p.Renews, c); {
		case byItself && !slices.Contains(renewed, c):
			v.Keep = append(v.Keep, c)
		case !byItself && slices.Contains(renewed, c):
			v.Renew = append(v.Renew, c)
		}
	}
	return v
}

func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}
