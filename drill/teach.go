package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/cluster/kind"
	"github.com/etcd-drill/drill/pkg/lesson"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

type teachOptions struct {
	app       *App
	scenario  string
	procedure string
	language  string
	cluster   string
	image     string
}

func newTeachCmd(a *App) *cobra.Command {
	o := teachOptions{app: a}
	cmd := &cobra.Command{
		Use:   "teach SCENARIO",
		Short: "Print a scenario as a lesson: each step with its why, the commands to type, and what to expect",
		Long: `Print a scenario as a lesson in Markdown. The commands are those that "drill run --literal" types, for a
cluster with one control plane; they work when pasted.`,
		Example: `  drill cluster create lab
  drill teach deployment-loss --cluster lab > lesson.md`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeScenarios(),
		RunE: func(_ *cobra.Command, args []string) error {
			o.scenario = args[0]
			return teach(o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.procedure, "procedure", defaultProcedure(), "how to restore; see drill list")
	f.StringVar(&o.language, "lang", string(lesson.English), "language of the lesson")
	f.StringVar(&o.cluster, "cluster", "drill", "name of the kind cluster that the commands are for")
	f.StringVar(&o.image, "image", "", "image of the workload (default: the nginx that drill's node image holds)")
	_ = cmd.RegisterFlagCompletionFunc("procedure", completeProcedures())
	return cmd
}

// defaultProcedure is the first that is listed.
func defaultProcedure() string { return procedure.All()[0].Name }

func teach(o teachOptions) error {
	sc, err := scenarioNamed(o.scenario)
	if err != nil {
		return err
	}
	proc, err := procedureNamed(o.procedure)
	if err != nil {
		return err
	}
	if !slices.Contains(lesson.Languages(), lesson.Language(o.language)) {
		var names []string
		for _, l := range lesson.Languages() {
			names = append(names, string(l))
		}
		return usagef("there is no lesson in language %q; there are: %s", o.language, strings.Join(names, ", "))
	}
	if err := kind.ValidateName(o.cluster); err != nil {
		return err
	}
	node := o.cluster + "-control-plane" // as kind names the node of a cluster with one control plane
	s := stage.Textbook(node, proc, o.image)
	return lesson.Markdown(o.app.Stdout, scenarios.Plan(sc, proc, s), lesson.Options{
		Language: lesson.Language(o.language),
		Enter: func(node string) plan.Command {
			return plan.Command{Argv: []string{"docker", "exec", "-it", node, "bash"}}
		},
		Setup: []plan.Command{{Argv: []string{"export", "KUBECONFIG=/etc/kubernetes/admin.conf"}}},
		Needs: []string{"A cluster made by kubeadm with one control plane, and root on it. `drill cluster create " + o.cluster + "` makes one with kind."},
	})
}
