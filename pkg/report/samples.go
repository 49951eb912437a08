package report

import (
	"bytes"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/etcd-drill/drill/pkg/plan"
)

// A minute of the probe is some ten thousand numbers. They belong into the document, which must draw the chart without any other file, but a
// number on each line would bury everything else: so a list of numbers takes one line, in JSON as in YAML.

// numbersOnOneLine returns an indented JSON document in which each number of a list stands on the line of what is before it. Only white space
// changes: a string holds no raw line break, so a line that begins with a number is an element of a list.
func numbersOnOneLine(indented []byte) []byte {
	out := make([]byte, 0, len(indented))
	join := func(gap string, text []byte) {
		out = append(append(bytes.TrimRight(out, "\n"), gap...), text...)
	}
	after := false // after a number
	for line := range bytes.Lines(indented) {
		bare := bytes.TrimLeft(line, " ")
		number := bare[0] == '-' || bare[0] >= '0' && bare[0] <= '9'
		switch {
		case number && bytes.HasSuffix(out, []byte("[\n")), after && bare[0] == ']':
			join("", bare)
		case number && len(out) > 0:
			join(" ", bare)
		default:
			out = append(out, line...)
		}
		after = number
	}
	return out
}

// numbersInFlow returns a YAML document in which each list of numbers is written [1, 2, 3].
func numbersInFlow(block []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(block, &doc); err != nil {
		return nil, err
	}
	inFlow(&doc)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(&doc); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

func inFlow(n *yaml.Node) {
	number := func(n *yaml.Node) bool { return n.Tag == "!!int" || n.Tag == "!!float" }
	if n.Kind == yaml.SequenceNode && len(n.Content) > 0 && !slices.ContainsFunc(n.Content, func(n *yaml.Node) bool { return !number(n) }) {
		n.Style = yaml.FlowStyle
		return
	}
	for _, c := range n.Content {
		inFlow(c)
	}
}

// completeProbe returns a copy in which no list is nil.
func completeProbe(p *plan.Probe) *plan.Probe {
	if p == nil {
		return nil
	}
	c := *p
	c.Series = list(slices.Clone(c.Series))
	for i := range c.Series {
		s := &c.Series[i]
		s.At, s.Took, s.Error, s.Errors, s.Revision = list(s.At), list(s.Took), list(s.Error), list(s.Errors), list(s.Revision)
	}
	return &c
}
