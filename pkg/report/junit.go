package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"github.com/etcd-drill/drill/pkg/plan"
)

// WriteJUnit writes the document as JUnit XML: a test suite a run, a test case a step and a check. What a procedure is to
// blame for is a failure; a step that failed before the procedure had its turn is an error. A run that neither passed
// nor was skipped, and in which no step or check failed, gets one more test case "verdict", so that no reader takes
// it for a success.
//
// The document is valid against junit-10.xsd of Jenkins' xunit plugin; GitLab reads the same elements. Times are in UTC.
func WriteJUnit(w io.Writer, doc Document) error {
	suites := junit.Testsuites{Name: "drill"}
	total := 0.0
	for i, r := range doc.Runs {
		suite := suiteOf(r)
		suite.ID = i
		suites.AddSuite(suite)
		total += r.Seconds
	}
	suites.Time = junitSeconds(total)
	// The schema knows it on a suite only, and it is left out when 0.
	suites.Skipped = 0
	_, err := io.WriteString(w, xml.Header)
	if err == nil {
		err = suites.WriteXML(w)
	}
	if err != nil {
		return fmt.Errorf("write report as JUnit XML: %w", err)
	}
	return nil
}

func suiteOf(r Run) junit.Testsuite {
	class := "drill." + r.Scenario + "." + r.Procedure
	if way := r.Way(); way != "" {
		// Readers follow a test over time by its class: what is done in another way is another test.
		class += "." + strings.Join(strings.FieldsFunc(way, func(c rune) bool { return strings.ContainsRune(" ,:.", c) }), "-")
	}
	suite := junit.Testsuite{
		Name: r.Scenario + " with " + r.What(),
		Time: junitSeconds(r.Seconds),
		// Without a zone: the oldest of the schemas in use allows none.
		Timestamp: r.StartedAt.UTC().Format("2006-01-02T15:04:05"),
	}
	for _, p := range [][2]string{
		{"id", r.ID}, {"verdict", string(r.Verdict)}, {"reason", r.Reason}, {"provider", r.Provider},
		{"cluster", r.Cluster.Name}, {"kubernetes", r.Cluster.Kubernetes}, {"etcd", r.Cluster.Etcd},
	} {
		if p[1] != "" {
			suite.AddProperty(p[0], p[1])
		}
	}
	for _, s := range r.Steps {
		c := junit.Testcase{Name: s.Name, Classname: class + ".steps", Time: junitSeconds(s.Seconds)}
		if s.Phase == plan.Rollback {
			// What puts the old state back may do the same as a step before it, and have its name.
			c.Classname = class + ".rollback"
		}
		switch s.Status {
		case plan.StatusFailed:
			result := &junit.Result{Message: firstLine(s.Error), Type: string(s.Phase), Data: printable(s.Error)}
			if s.Phase.Blames() == plan.VerdictFailed {
				c.Failure = result
			} else {
				c.Error = result
			}
		case plan.StatusSkipped:
			message := "not reached"
			if s.Error != "" {
				message = firstLine(s.Error)
			}
			c.Skipped = &junit.Result{Message: message}
		}
		suite.AddTestcase(c)
	}
	checks := func(all []Check, class string) {
		for _, k := range all {
			suite.AddTestcase(caseOf(k, class, r.Verdict))
		}
	}
	checks(r.Checks, class+".checks")
	checks(r.RollbackChecks, class+".rollback-checks")
	red := suite.Failures+suite.Errors > 0
	if !red && r.Verdict != plan.VerdictPassed && r.Verdict != plan.VerdictSkipped {
		reason := r.Reason
		if reason == "" {
			reason = "the verdict is " + string(r.Verdict)
		}
		suite.AddTestcase(junit.Testcase{
			Name: "verdict", Classname: class, Time: junitSeconds(0),
			Error: &junit.Result{Message: firstLine(reason), Type: string(r.Verdict), Data: printable(reason)},
		})
	}
	return suite
}

// caseOf is the test case of a check.
func caseOf(k Check, class string, verdict plan.Verdict) junit.Testcase {
	c := junit.Testcase{Name: k.Name, Classname: class, Time: junitSeconds(k.Seconds)}
	switch k.Status {
	case plan.StatusFailed:
		c.Failure = &junit.Result{Message: firstLine(k.Detail), Type: "check", Data: printable(failureText(k))}
		if verdict == plan.VerdictBroken { // it could not be evaluated, which is the drill's fault
			c.Failure, c.Error = nil, c.Failure
		}
	case plan.StatusSkipped:
		c.Skipped = &junit.Result{Message: firstLine(k.Detail)}
	default:
		if text := strings.Join(append([]string{k.Detail}, k.Evidence...), "\n"); text != "" {
			c.SystemOut = &junit.Output{Data: printable(text)}
		}
	}
	return c
}

// failureText is what a person reads who opens a failed check: what was seen, what differs, the facts, and what to do.
func failureText(c Check) string {
	lines := []string{c.Detail}
	if len(c.Differences) > 0 {
		lines = append(lines, "", differenceTable(c.Differences))
	}
	if len(c.Evidence) > 0 {
		lines = append(lines, "", "evidence:")
		for _, e := range c.Evidence {
			lines = append(lines, "  "+strings.ReplaceAll(e, "\n", "\n  "))
		}
	}
	if c.Remedy != "" {
		lines = append(lines, "", "likely cause and remedy: "+c.Remedy)
	}
	return strings.Join(lines, "\n")
}

// differenceTable is a line for each difference, in columns.
func differenceTable(d []plan.Difference) string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0) // a Builder takes everything, so nothing is to be checked
	row := func(cells ...string) {
		for i := range cells {
			cells[i] = strings.Join(strings.Fields(cells[i]), " ")
		}
		fmt.Fprintln(table, strings.Join(cells, "\t| "))
	}
	row("object", "expected", "seen")
	for _, x := range d {
		row(x.Subject, x.Expected, x.Seen)
	}
	_ = table.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

func junitSeconds(s float64) string { return fmt.Sprintf("%.3f", s) }

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// printable replaces what XML can't hold (https://www.w3.org/TR/xml/#charsets): encoding/xml does so in attributes, but
// writes a CDATA section as it is.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r == '\r',
			r >= 0x20 && r <= 0xD7FF, r >= 0xE000 && r <= 0xFFFD, r >= 0x10000 && r <= 0x10FFFF:
			return r
		default:
			return '\uFFFD'
		}
	}, s)
}
