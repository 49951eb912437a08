package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/doctor"
)

func newDoctorCmd(a *App) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host lacks for a drill, and the command that mends it",
		Long: `Say what this host lacks for a drill on a cluster of kind, and the command that mends it.
Nothing is changed. Exit status: 0 when a drill can run, 1 when not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return doctorRun(cmd.Context(), a, output) },
	}
	addOutputFlag(cmd, &output)
	return cmd
}

// examination is what doctor prints as a document.
type examination struct {
	Ready    bool             `json:"ready"`
	Findings []doctor.Finding `json:"findings"`
}

func doctorRun(ctx context.Context, a *App, output outputFlag) error {
	findings := doctor.Examine(ctx, doctor.Options{StateDir: a.StateDir})
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("examining this host: %w", err)
	}
	e := examination{Ready: doctor.Ready(findings), Findings: findings}
	print := e.print
	if output != asTable {
		print = func(a *App) error { return output.document(a.Stdout, e) }
	}
	if err := print(a); err != nil {
		return err
	}
	if !e.Ready {
		return exitError{exitBroken}
	}
	return nil
}

func (e examination) print(a *App) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "STATUS\tWHAT\tDETAIL")
	for _, f := range e.Findings {
		detail := strings.Join(strings.Fields(f.Detail), " ")
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Status, f.Name, detail)
		if f.Mend != "" {
			fmt.Fprintf(w, "\t\t→ %s\n", f.Mend)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	answer := "A drill can run."
	if !e.Ready {
		answer = "No drill can run until what is missing is mended."
	}
	_, err := fmt.Fprintln(a.Stdout, "\n"+answer)
	return err
}
