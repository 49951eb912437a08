package report_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

// manySamples is a run with a minute of seven questions, some of which were answered with texts that look like numbers.
func manySamples() report.Document {
	p := plan.Probe{IntervalSeconds: 0.1, PatienceSeconds: 1}
	for _, name := range []string{"etcd", "apiserver", "get", "list", "write", "service", "other"} {
		s := plan.Series{Name: name, Errors: []string{"", "5", "- 6\n- 7,\n8\n]\n[\n9"}}
		for i := range 600 {
			s.At, s.Took = append(s.At, float64(i)/10), append(s.Took, 0.000001+float64(i)/1e6)
			s.Error, s.Revision = append(s.Error, i%3), append(s.Revision, int64(i)*1e9)
		}
		p.Series = append(p.Series, s)
	}
	r := passedRun()
	r.Probe = &p
	return report.NewDocument(r, report.Run{ID: "none"})
}

// TestNumbersTakeOneLine: a minute of samples leaves the document readable, in either format, and means the same.
func TestNumbersTakeOneLine(t *testing.T) {
	doc := manySamples()
	for name, c := range map[string]struct {
		write func(*bytes.Buffer) error
		lines []string
	}{
		"JSON": {func(b *bytes.Buffer) error { return report.WriteJSON(b, doc) }, []string{`"at": [0, 0.1, 0.2, 0.3,`, `"revision": [0, 1000000000, 2000000000,`}},
		"YAML": {func(b *bytes.Buffer) error { return report.WriteYAML(b, doc) }, []string{`at: [0, 0.1, 0.2, 0.3,`, `revision: [0, 1000000000,`}},
	} {
		var out bytes.Buffer
		if err := c.write(&out); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n > 400 {
			t.Errorf("%s: the document has %d lines", name, n)
		}
		for _, want := range c.lines {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
		var got report.Document
		if err := yaml.UnmarshalStrict(out.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got.Runs[0].Probe, doc.Runs[0].Probe) {
			t.Errorf("%s: the samples came back changed", name)
		}
		if got.Runs[1].Probe != nil {
			t.Errorf("%s: a run that nobody asked about got samples: %+v", name, got.Runs[1].Probe)
		}
		t.Logf("%s: %d bytes", name, out.Len())
	}
}
