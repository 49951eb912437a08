package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"

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
	// Self is the command by which drill was called, for hints that can be pasted.
	Self string
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
		Self:     os.Args[0],
		StateDir: stateDir(os.Getenv),
		Worker:   etcd.Worker{Command: []string{self, workerCommand}},
	}
}

// stateDir is $XDG_STATE_HOME/drill, or ~/.local/state/drill, as the XDG base directory specification says; "" when it isn't known where
// that is. Snapshots are kept there, so no folder that others can write to will do.
func stateDir(getenv func(string) string) string {
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "drill")
	}
	home := getenv("HOME")
	if u, err := user.Current(); home == "" && err == nil { // a service of systemd has no HOME unless its unit gives it one
		home = u.HomeDir
	}
	if !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, ".local", "state", "drill")
}

// needsState says whether it is known where runs are kept.
func (a *App) needsState() error {
	if a.StateDir == "" {
		return usagef("it is not known where to keep state: set XDG_STATE_HOME to a folder of your own")
	}
	return nil
}

// provider reaches the container engine.
func (a *App) provider(ctx context.Context, progress func(string)) (*kind.Provider, error) {
	if err := a.needsState(); err != nil {
		return nil, err
	}
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
	if ctx.Err() != nil {
		fmt.Fprintln(a.Stderr, "drill: "+strings.ReplaceAll(err.Error(), context.Canceled.Error(), "interrupted"))
		return exitInterrupted
	}
	fmt.Fprintln(a.Stderr, "drill: "+err.Error())
	switch {
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
		Version:       readVersion().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.SetIn(a.Stdin)
	cmd.SetOut(a.Stdout)
	cmd.SetErr(a.Stderr)
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usagef("%w; see %q", err, c.CommandPath()+" --help") })
	cmd.AddCommand(
		newListCmd(a),
		newRunCmd(a),
		newCompareCmd(a),
		newRunsCmd(a),
		newResumeCmd(a),
		newRollbackCmd(a),
		newCleanCmd(a),
		newSnapshotCmd(a),
		newRehearseCmd(a),
		newTeachCmd(a),
		newClusterCmd(a),
		newDoctorCmd(a),
		newVersionCmd(a),
		newWorkerCmd(a),
	)
	// cobra adds these when it is run, which is too late for what follows.
	cmd.InitDefaultHelpCmd()
	cmd.InitDefaultCompletionCmd()
	strictArgs(cmd)
	return cmd
}

// strictArgs makes wrong arguments of every command a usage error, as wrong flags are. A command that only has others below it prints
// its help.
func strictArgs(cmd *cobra.Command) {
	check := cmd.Args
	switch {
	case cmd.HasSubCommands():
		check = noSuchCommand
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	case cmd.Name() == "help":
		check = knownTopic
	case check == nil:
		check = cobra.NoArgs
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usagef("%w; see %q", err, c.CommandPath()+" --help")
		}
		return nil
	}
	for _, sub := range cmd.Commands() {
		strictArgs(sub)
	}
}

// noSuchCommand is for commands that only have others below them: an argument is the name of one that isn't there.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return fmt.Errorf("there is no command %q; %s", cmd.CommandPath()+" "+args[0], didYouMean(args[0], names))
}

func knownTopic(cmd *cobra.Command, args []string) error {
	_, rest, err := cmd.Root().Find(args)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("there is no help on %q", strings.Join(args, " "))
	}
	return err
}
