package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"
)

// WriteJSON writes the document as JSON, indented but for lists of numbers, which take a line each, with a line break at its end.
func WriteJSON(w io.Writer, doc Document) error {
	var indented bytes.Buffer
	enc := json.NewEncoder(&indented)
	enc.SetIndent("", "  ")
	// Commands hold <, > and &, and nobody puts this document into a page of HTML unescaped.
	enc.SetEscapeHTML(false)
	err := enc.Encode(doc.complete())
	if err == nil {
		_, err = w.Write(numbersOnOneLine(indented.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("write report as JSON: %w", err)
	}
	return nil
}

// WriteYAML writes the same document as WriteJSON, as YAML.
func WriteYAML(w io.Writer, doc Document) error {
	out, err := yaml.Marshal(doc.complete())
	if err == nil {
		out, err = numbersInFlow(out)
	}
	if err == nil {
		_, err = w.Write(out)
	}
	if err != nil {
		return fmt.Errorf("write report as YAML: %w", err)
	}
	return nil
}
