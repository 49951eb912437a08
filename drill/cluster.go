package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
)

// defaultCluster is what a cluster is called when nobody says otherwise.
const defaultCluster = "drill"

func newClusterCmd(a *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Make, list and delete clusters to drill on",
		Long: `Make, list and delete clusters to drill on, with kind.

drill deletes only clusters that it made. Your own kubeconfig is neither read nor written:
each cluster has one of its own, which create and list name.`,
	}
	cmd.AddCommand(newClusterCreateCmd(a), newClusterListCmd(a), newClusterDeleteCmd(a))
	return cmd
}

type clusterCreateOptions struct {
	app    *App
	output outputFlag
	create kind.CreateOptions
}

func newClusterCreateCmd(a *App) *cobra.Command {
	o := clusterCreateOptions{app: a}
	cmd := &cobra.Command{
		Use:   "create [NAME]",
		Short: "Make a cluster and wait until a workload can run on it",
		Long: `Make a cluster and wait until a workload can run on it.

The node image is the one that --image or $` + kind.ImageVariable + ` names; else kind's own, if it is here already; else the newest
that "make node-image" built here; else kind's own, if it can be pulled.`,
		Example: `  drill cluster create
  drill cluster create three --nodes 3 --workers 1`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.create.Name = defaultCluster
			if len(args) > 0 {
				o.create.Name = args[0]
			}
			return clusterCreateRun(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.create.ControlPlanes, "nodes", 1, "how many control planes: 1 or 3")
	flags.IntVar(&o.create.Workers, "workers", 0, "how many workers besides; without any, workloads run on the control planes")
	flags.StringVar(&o.create.Image, "image", "", "node image")
	flags.DurationVar(&o.create.Wait, "wait", kind.DefaultWait, "how long to wait until a workload can run")
	flags.BoolVar(&o.create.Retain, "retain", false, "keep what was made when it fails, to look at")
	addOutputFlag(cmd, &o.output)
	return cmd
}

func clusterCreateRun(ctx context.Context, o clusterCreateOptions) error {
	if err := o.create.Validate(); err != nil {
		return usageError{err}
	}
	provider, err := o.app.provider(ctx, func(line string) { fmt.Fprintln(o.app.Stderr, line) })
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := provider.Create(ctx, o.create); err != nil {
		return err
	}
	infos, err := provider.List(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(infos, func(i kind.Info) bool { return i.Name == o.create.Name })
	if i < 0 {
		return fmt.Errorf("cluster %s was made and is gone again", o.create.Name)
	}
	if o.output != asTable {
		return o.output.document(o.app.Stdout, infos[i])
	}
	_, err = fmt.Fprintf(o.app.Stdout, "Cluster %s is ready after %s. Its kubeconfig: %s\n",
		o.create.Name, time.Since(began).Round(time.Second), infos[i].Kubeconfig)
	return err
}

func newClusterListCmd(a *App) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the clusters that kind made, by drill or by others",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return clusterListRun(cmd.Context(), a, output) },
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func clusterListRun(ctx context.Context, a *App, output outputFlag) error {
	provider, err := a.provider(ctx, nil)
	if err != nil {
		return err
	}
	infos, err := provider.List(ctx)
	if err != nil {
		return err
	}
	if output != asTable {
		return output.document(a.Stdout, map[string][]kind.Info{"clusters": infos})
	}
	if len(infos) == 0 {
		_, err := fmt.Fprintln(a.Stderr, "There is no cluster.")
		return err
	}
	w := tabwriter.NewWriter(a.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tMADE BY\tCONTROL PLANES\tWORKERS\tAGE\tIMAGE\tKUBECONFIG")
	for _, i := range infos {
		by := "others"
		if i.Ours {
			by = "drill"
		}
		if i.Unfinished {
			by += " (unfinished)"
		}
		image, _, _ := strings.Cut(i.Image, "@") // a digest says nothing to a person
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", i.Name, by, i.ControlPlanes, i.Workers,
			age(time.Since(i.Created)), image, i.Kubeconfig)
	}
	return w.Flush()
}

// age is a duration as people say it, in its largest unit.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

func newClusterDeleteCmd(a *App) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete clusters that drill made",
		Example: `  drill cluster delete drill
  drill cluster delete --all`,
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("say which clusters to delete, or --all and no name")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return clusterDeleteRun(cmd.Context(), a, args, all) },
	}
	cmd.Flags().BoolVar(&all, "all", false, "delete every cluster that drill made")
	return cmd
}

func clusterDeleteRun(ctx context.Context, a *App, names []string, all bool) error {
	provider, err := a.provider(ctx, nil)
	if err != nil {
		return err
	}
	if all {
		infos, err := provider.List(ctx)
		if err != nil {
			return err
		}
		for _, i := range infos {
			if i.Ours {
				names = append(names, i.Name)
			}
		}
		if len(names) == 0 {
			_, err := fmt.Fprintln(a.Stderr, "There is no cluster that drill made.")
			return err
		}
	}
	var failed error
	for _, name := range names {
		err := provider.Delete(ctx, name)
		if all && errors.Is(err, cluster.ErrNotFound) {
			err = nil // somebody else was quicker
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		fmt.Fprintf(a.Stdout, "Cluster %s is deleted.\n", name)
	}
	return failed
}
