package main

import (
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/runner"
	"github.com/etcd-drill/drill/scenarios"
)

// scenarioNamed returns the scenario of that name; the error names the nearest one.
func scenarioNamed(name string) (scenarios.Scenario, error) {
	return choose("scenario", name, scenarios.All(), func(s scenarios.Scenario) plan.Entry { return s.Entry })
}

// procedureNamed returns the procedure of that name; the error names the nearest one.
func procedureNamed(name string) (procedure.Procedure, error) {
	return choose("procedure", name, procedure.All(), func(p procedure.Procedure) plan.Entry { return p.Entry })
}

// procedureIn returns the procedure of that name, carried out in that mode.
func procedureIn(name, mode string) (procedure.Procedure, error) {
	p, err := procedureNamed(name)
	if err != nil {
		return p, err
	}
	if mode == "" { // a variable that isn't set, most likely
		return p, usagef("--data-dir-mode is given and empty")
	}
	if p, err = p.In(procedure.DataDirMode(mode)); err != nil {
		return p, usagef("--data-dir-mode: %w", err)
	}
	return p, nil
}

// proceduresFor names the procedures that can be carried out in that mode; all of them where there is no such mode, which is told elsewhere.
func proceduresFor(mode string) []string {
	var names []string
	for _, p := range procedure.All() {
		if _, err := p.In(procedure.DataDirMode(mode)); err == nil {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return procedureNames()
	}
	return names
}

func dataDirModes() []string {
	var names []string
	for _, m := range procedure.DataDirModes() {
		names = append(names, string(m))
	}
	return names
}

// addDataDirFlag adds --data-dir-mode.
func addDataDirFlag(cmd *cobra.Command, mode *string) {
	cmd.Flags().StringVar(mode, "data-dir-mode", string(procedure.DataDirManifest),
		"how etcd gets to run on the restored directory: manifest (its manifest is changed to name it) or swap (it gets the path of the old one, which is renamed and kept; no manifest changes)")
	_ = cmd.RegisterFlagCompletionFunc("data-dir-mode", cobra.FixedCompletions(dataDirModes(), cobra.ShellCompDirectiveNoFileComp))
}

func choose[T any](what, name string, all []T, entry func(T) plan.Entry) (T, error) {
	var names []string
	for _, x := range all {
		if entry(x).Name == name {
			return x, nil
		}
		names = append(names, entry(x).Name)
	}
	var none T
	return none, usagef("there is no %s %q; %s", what, name, didYouMean(name, names))
}

// didYouMean suggests the nearest name if it is near, and lists all of them otherwise.
func didYouMean(name string, names []string) string {
	distance := func(n string) int { return levenshtein.Distance(strings.ToLower(name), n, nil) }
	nearest := slices.MinFunc(names, func(a, b string) int { return distance(a) - distance(b) })
	if distance(nearest) <= max(2, len(name)/2) {
		return "did you mean " + nearest + "?"
	}
	return "there are: " + strings.Join(names, ", ")
}

// completeEntries makes shell completions of entries, for an argument or a flag's value.
func completeEntries[T any](all []T, entry func(T) plan.Entry) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var out []string
		for _, x := range all {
			out = append(out, cobra.CompletionWithDesc(entry(x).Name, entry(x).Summary))
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

func completeScenarios() cobra.CompletionFunc {
	return completeEntries(scenarios.All(), func(s scenarios.Scenario) plan.Entry { return s.Entry })
}

func completeProcedures() cobra.CompletionFunc {
	return completeEntries(procedure.All(), func(p procedure.Procedure) plan.Entry { return p.Entry })
}

// completeRuns completes the names of runs that are kept, for a command that takes at most so many of them, each once.
func completeRuns(a *App, most int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		runs, err := runner.List(a.StateDir)
		if err != nil || len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []cobra.Completion
		for _, r := range runs {
			if slices.Contains(args, r.Run.ID) {
				continue
			}
			out = append(out, cobra.CompletionWithDesc(r.Run.ID, listedRunOf(r).State))
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

func completeComponents() cobra.CompletionFunc {
	return cobra.FixedCompletions(procedure.Components(), cobra.ShellCompDirectiveNoFileComp)
}

// proceduresNamed returns the procedures of these names, in their order; none is named twice.
func proceduresNamed(names []string) ([]procedure.Procedure, error) {
	var out []procedure.Procedure
	for i, name := range names {
		p, err := procedureNamed(name)
		switch {
		case err != nil:
			return nil, err
		case slices.Contains(names[:i], name):
			return nil, usagef("procedure %s is named twice", name)
		}
		out = append(out, p)
	}
	return out, nil
}
