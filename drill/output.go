package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// outputFlag is -o.
type outputFlag string

// Formats.
const (
	asTable outputFlag = "table"
	asJSON  outputFlag = "json"
	asYAML  outputFlag = "yaml"
)

func formats() []string { return []string{string(asTable), string(asJSON), string(asYAML)} }

// addOutputFlag gives a command the flag -o.
func addOutputFlag(cmd *cobra.Command, o *outputFlag) {
	*o = asTable
	cmd.Flags().VarP(o, "output", "o", "how to print the result: "+strings.Join(formats(), ", "))
	// The flag was defined in the line above, so this can't fail.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp))
}

// String is part of pflag.Value.
func (o *outputFlag) String() string { return string(*o) }

// Type is part of pflag.Value.
func (o *outputFlag) Type() string { return "format" }

// Set is part of pflag.Value.
func (o *outputFlag) Set(s string) error {
	if !slices.Contains(formats(), s) {
		return fmt.Errorf("it is one of %s", strings.Join(formats(), ", "))
	}
	*o = outputFlag(s)
	return nil
}

// document prints a value as JSON or YAML.
func (o outputFlag) document(w io.Writer, v any) error {
	if o == asYAML {
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
