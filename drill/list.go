package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/proof"
	"github.com/etcd-drill/drill/scenarios"
)

// catalogue is what can be run, and what is checked.
type catalogue struct {
	Scenarios  []scenarioEntry  `json:"scenarios"`
	Procedures []procedureEntry `json:"procedures"`
	Checks     []plan.Entry     `json:"checks"`
}

type procedureEntry struct {
	plan.Entry
	// BumpsRevision says whether it raises etcd's revision unless told otherwise.
	BumpsRevision bool `json:"bumpsRevision"`
	// Renews are the components that it begins anew besides etcd unless told otherwise.
	Renews []string `json:"renews"`
}

type scenarioEntry struct {
	plan.Entry
	Nodes int `json:"nodes"`
}

func readCatalogue() catalogue {
	var c catalogue
	for _, s := range scenarios.All() {
		c.Scenarios = append(c.Scenarios, scenarioEntry{s.Entry, s.Nodes})
	}
	for _, p := range procedure.All() {
		c.Procedures = append(c.Procedures, procedureEntry{p.Entry, p.Bump, append([]string{}, p.Renews...)})
	}
	for _, k := range proof.Checks(&proof.Subject{}) {
		c.Checks = append(c.Checks, plan.Entry{Name: k.Name, Summary: k.Summary})
	}
	return c
}

func newListCmd(a *App) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List scenarios, procedures and checks",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c := readCatalogue()
			if output != asTable {
				return output.document(a.Stdout, c)
			}
			return c.print(a)
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func (c catalogue) print(a *App) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SCENARIO\tNODES\tWHAT IS LOST")
	for _, s := range c.Scenarios {
		fmt.Fprintf(w, "%s\t%d\t%s\n", s.Name, s.Nodes, s.Summary)
	}
	fmt.Fprintln(w, "\nPROCEDURE\t\tHOW IT RESTORES")
	for _, p := range c.Procedures {
		fmt.Fprintf(w, "%s\t\t%s\n", p.Name, p.Summary)
	}
	fmt.Fprintln(w, "\nCHECK\t\tTRUE WHEN")
	for _, k := range c.Checks {
		fmt.Fprintf(w, "%s\t\t%s\n", k.Name, k.Summary)
	}
	return w.Flush()
}
