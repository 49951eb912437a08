package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/etcd-drill/drill/pkg/cluster"
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
	mode      string
	language  string
	cluster   string
	// required says that the cluster was asked for, so that it must be there.
	required bool
}

func newTeachCmd(a *App) *cobra.Command {
	o := teachOptions{app: a}
	cmd := &cobra.Command{
		Use:   "teach SCENARIO",
		Short: "Print a scenario as a lesson: each step with its why, the commands to type, and what to expect",
		Long: `Print a scenario as a lesson in Markdown. The commands are those that "drill run --literal" types, for a
cluster with one control plane; they work when pasted. Where the cluster is there, addresses and image names
are read from it; else they are those of a textbook.`,
		Example: `  drill cluster create lab
  drill teach deployment-loss --cluster lab > lesson.md`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeScenarios(),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.scenario, o.required = args[0], cmd.Flags().Changed("cluster")
			return teach(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.procedure, "procedure", defaultProcedure(), "how to restore; see drill list")
	addDataDirFlag(cmd, &o.mode)
	f.StringVar(&o.language, "lang", string(lesson.English), "language of the lesson")
	f.StringVar(&o.cluster, "cluster", defaultCluster, "the kind cluster that the commands are for")
	_ = cmd.RegisterFlagCompletionFunc("procedure", completeProcedures())
	return cmd
}

// defaultProcedure is the first that is listed.
func defaultProcedure() string { return procedure.All()[0].Name }

func teach(ctx context.Context, o teachOptions) error {
	sc, err := scenarioNamed(o.scenario)
	if err != nil {
		return err
	}
	proc, err := procedureIn(o.procedure, o.mode)
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
	if problems := validation.IsDNS1123Subdomain(o.cluster); len(problems) > 0 {
		return usagef("cluster name %q: %s", o.cluster, problems[0])
	}
	s, engine, err := o.stage(ctx, proc)
	if err != nil {
		return err
	}
	return lesson.Markdown(o.app.Stdout, scenarios.Plan(sc, proc, s), lesson.Options{
		Language: lesson.Language(o.language),
		Enter: func(node string) plan.Command {
			return plan.Command{Argv: []string{engine, "exec", "-it", node, "bash"}}
		},
		Setup: []plan.Command{{Argv: []string{"export", "KUBECONFIG=/etc/kubernetes/admin.conf"}}},
		Needs: []string{"`drill cluster create " + o.cluster + "` makes such a cluster with kind."},
	})
}

// stage is that of the cluster where it is there, and a textbook's otherwise, unless the cluster was asked for. It comes with the
// command of the container engine.
func (o teachOptions) stage(ctx context.Context, proc procedure.Procedure) (*stage.Stage, string, error) {
	node := o.cluster + "-control-plane" // as kind names it in a cluster with one control plane
	provider, err := o.app.provider(ctx, nil)
	if err != nil {
		if o.required {
			return nil, "", err
		}
		return stage.Textbook(node, proc, ""), "docker", nil
	}
	engine := provider.Engine().Name
	c, err := provider.Attach(ctx, o.cluster)
	if errors.Is(err, cluster.ErrNotFound) && !o.required {
		return stage.Textbook(node, proc, o.workloadImage(ctx, provider)), engine, nil
	}
	if err != nil {
		return nil, "", err
	}
	s, err := stage.Lesson(ctx, c, proc)
	return s, engine, err
}

// workloadImage is what a cluster made here would hold; "" when that is not known.
func (o teachOptions) workloadImage(ctx context.Context, provider *kind.Provider) string {
	image, err := provider.ResolveImage(ctx, o.app.Getenv(kind.ImageVariable))
	if err != nil {
		return ""
	}
	images, err := provider.WorkloadImages(ctx, image)
	if err != nil {
		return ""
	}
	return stage.WorkloadImage(images)
}
