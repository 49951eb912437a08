package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/cluster/kind"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/term"
)

// Exit statuses. They are listed in the help, and scripts rely on them.
const (
	exitPassed      = 0
	exitBroken      = 1
	exitUsage       = 2
	exitFailed      = 3
	exitSkipped     = 4
	exitInterrupted = 130
)

// App is what commands need of the world.
type App struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal describes Stdout, and ErrTerminal Stderr, for progress.
	Terminal, ErrTerminal term.Options
	Getenv                func(string) string
	// StateDir is where runs, records of clusters and kubeconfigs are kept.
	StateDir string
	// Worker reaches the hidden command that runs etcd's own code.
	Worker etcd.Worker
}

// System is the App of a real process.
func System() *App {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return &App{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Terminal: term.ForFile(os.Stdout, os.Getenv), ErrTerminal: term.ForFile(os.Stderr, os.Getenv),
		Getenv:   os.Getenv,
		StateDir: stateDir(os.Getenv),
		Worker:   etcd.Worker{Command: []string{self, workerCommand}},
	}
}

// stateDir is $XDG_STATE_HOME/drill, or ~/.local/state/drill, as the XDG base directory specification says.
func stateDir(getenv func(string) string) string {
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "drill")
	}
	home := getenv("HOME")
	if home == "" {
		home = os.TempDir()
	}
	return filepath.Join(home, ".local", "state", "drill")
}

// provider reaches the container engine.
func (a *App) provider(ctx context.Context, progress func(string)) (*kind.Provider, error) {
	return kind.New(ctx, kind.Options{StateDir: a.StateDir, Progress: progress})
}

// usageError is the user's: nothing was touched, and the exit status is 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitError ends the process with a status after everything was said already.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// Main runs the command line and returns the exit status.
func Main(ctx context.Context, args []string, a *App) int {
	root := newRootCmd(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var exit exitError
	switch {
	case err == nil:
		return exitPassed
	case errors.As(err, &exit):
		return exit.code
	}
	fmt.Fprintln(a.Stderr, "drill: "+err.Error())
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case isUsage(err):
		return exitUsage
	default:
		return exitBroken
	}
}

// isUsage says whether an error is about what the user asked for, found before anything was touched.
func isUsage(err error) bool {
	var usage usageError
	if errors.As(err, &usage) {
		return true
	}
	for _, target := range []error{cluster.ErrNoEngine, cluster.ErrNotFound, cluster.ErrExists, cluster.ErrNotOurs, cluster.ErrBadName, cluster.ErrNoImage, cluster.ErrNotKubeadm} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func newRootCmd(a *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Prove that your cluster comes back from its etcd backup",
		Long: `drill restores an etcd snapshot on a real Kubernetes control plane and proves what came back,
how long it took, and what was lost. It believes no single view: what the API says is held
against the node's container runtime, etcd, and the network.

Exit status: 0 passed, 1 broken (the drill could not be carried out), 2 usage,
3 failed (the recovery is not proven), 4 skipped, 130 interrupted.`,
		Example: `  drill run deployment-loss
  drill run deployment-loss --procedure manifest-edit -o json
  drill teach deployment-loss`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetIn(a.Stdin)
	cmd.SetOut(a.Stdout)
	cmd.SetErr(a.Stderr)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.AddCommand(
		newListCmd(a),
		newRunCmd(a),
		newTeachCmd(a),
		newClusterCmd(a),
		newDoctorCmd(a),
		newVersionCmd(a),
		newWorkerCmd(a),
	)
	wrapArgErrors(cmd)
	return cmd
}

// wrapArgErrors makes wrong arguments of every command a usage error, as wrong flags are.
func wrapArgErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usagef("%w; see %q", err, c.CommandPath()+" --help")
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapArgErrors(sub)
	}
}
