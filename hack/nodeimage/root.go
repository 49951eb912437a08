package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/cache"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/engine"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/recipe"
	"github.com/etcd-drill/drill/hack/nodeimage/internal/step"
)

// defaultKubernetes is the version that is built when none is asked for.
const defaultKubernetes = "v1.37.2"

// options are the flags that all commands share.
type options struct {
	kubernetes string
	source     string
	cacheDir   string
	mirror     string
}

func newRootCmd() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:           "nodeimage",
		Short:         "Provide the node image for the drill's kind clusters",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&o.kubernetes, "kubernetes", defaultKubernetes, "version of Kubernetes")
	flags.StringVar(&o.source, "source", "", "folder of this program's source (default: found from the working directory)")
	flags.StringVar(&o.cacheDir, "cache-dir", "", "where finished steps are kept (default: drill/nodeimage in the user's cache folder)")
	flags.StringVar(&o.mirror, "debian-mirror", "", "where Debian packages come from (default: this host's own mirror)")
	cmd.AddCommand(newEnsureCmd(&o), newBuildCmd(&o), newStatusCmd(&o), newCleanCmd(&o), newPinCmd(&o), newProgramCmd(&o))
	return cmd
}

// newImageRecipe is newRecipe with the engine in which the image is made.
func (o *options) newImageRecipe(ctx context.Context, progress io.Writer) (*recipe.Recipe, error) {
	e, err := engine.Find(ctx)
	if err != nil {
		return nil, err
	}
	return o.newRecipe(ctx, progress, e)
}

// newRecipe brings together what the commands work with; the engine is nil for those that need none.
func (o *options) newRecipe(ctx context.Context, progress io.Writer, e *engine.Engine) (*recipe.Recipe, error) {
	source, err := o.sourceDir()
	if err != nil {
		return nil, err
	}
	dir := o.cacheDir
	if dir == "" {
		if dir, err = cache.DefaultDir(); err != nil {
			return nil, err
		}
	}
	store, err := cache.Open(dir)
	if err != nil {
		return nil, err
	}
	r := &recipe.Recipe{
		Kubernetes: o.kubernetes, Source: source, Mirror: o.mirror,
		Engine: e, Cache: store, Log: step.NewLog(progress),
	}
	return r, r.Prepare(ctx)
}

// sourceDir finds the folder with the pins. The pins are go.mod files, and such can't be embedded in a program.
func (o *options) sourceDir() (string, error) {
	if o.source != "" {
		return filepath.Abs(o.source)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the source folder: %w", err)
	}
	for {
		for _, candidate := range []string{dir, filepath.Join(dir, "hack", "nodeimage")} {
			if _, err := os.Stat(filepath.Join(candidate, "pins", "kubernetes")); err == nil {
				return candidate, nil
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the drill's source: run this from there, or name hack/nodeimage with --source")
		}
		dir = parent
	}
}
