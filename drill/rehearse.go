package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/etcd-drill/drill/pkg/apiserver"
	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/rehearsal"
	"github.com/etcd-drill/drill/pkg/term"
)

type rehearseOptions struct {
	app        *App
	path       string
	raw        bool
	scratchDir string
	expect     *rehearsal.Expectations
	apiServer  *rehearsal.APIServerOptions
	output     outputFlag
}

func newRehearseCmd(a *App) *cobra.Command {
	o := rehearseOptions{app: a}
	var expect, binary, encryption string
	cmd := &cobra.Command{
		Use:   "rehearse SNAPSHOT",
		Short: "Restore a backup next to nothing else, start etcd on it, and read everything back",
		Long: `Restore a backup where it does no harm: no cluster, no container engine and no root are needed. The snapshot is verified as "drill snapshot verify"
does, restored into a scratch folder with its revision raised and the past marked as compacted, and a real etcd server, which is built into drill, is
started on it. Every key is read back from that and compared with the file, and the server is tried out. How long each part took is measured.

The server listens on a free port of the loopback address, lets in nobody but this rehearsal, and is gone afterwards, with all that was written,
also when drill is interrupted or killed. Snapshots of etcd 3.4 and later can be rehearsed, up to the etcd in this drill ("drill version").

With --expect the rehearsal is a gate. FILE is YAML; all of it may be left out, and what isn't known is an error:

  maxAge: 26h                 # how old it may be: by SNAPSHOT.json, or else by the newest Lease in it, or else by the file's time
  minRevision: 100000
  minKeys: 500
  objects:                    # must be there, with these fields
  - apiVersion: apps/v1
    kind: Deployment
    namespace: shop
    name: nginx
    fields:
      spec.replicas: 2
      spec.template.spec.containers[name=nginx].image: nginx:1.22.1
      spec.paused: null       # there must be no such field
  absent:                     # must not be there
  - {apiVersion: v1, kind: Namespace, name: scratch}
  atLeast:                    # so many of a kind, in a namespace or in all
  - {apiVersion: v1, kind: Pod, namespace: kube-system, count: 5}

An object is found whichever version of its group is written; fields are those of the version in which it is stored ("drill snapshot inspect --object").

With --apiserver a real kube-apiserver is started on that etcd as well, and lists every object of every resource: that they can be read, converted and, with
--encryption-config, decrypted. It has no controller manager and no kubelets around it, reaches nothing but that etcd and the plugin of a KMS that the configuration
names, and serves nobody but this rehearsal. The program should be of the version of the cluster. It is the one in $KUBEBUILDER_ASSETS or $PATH, unless PATH says which.

Whether a control plane comes back on the backup, and how long that takes, is shown by "drill run --snapshot".

Exit status: 0 passed, 1 broken (it could not be carried out), 2 usage, 3 failed (the backup is no good, or not what is expected), 130 interrupted.`,
		Example: `  drill rehearse /backup/etcd-last-night.db
  drill rehearse /backup/etcd-last-night.db --apiserver --encryption-config /etc/kubernetes/enc.yaml
  drill rehearse /backup/etcd-last-night.db --expect expected.yaml -o json | jq '.expectations[] | select(.status=="failed")'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 && binary == anyAPIServer {
				return fmt.Errorf("one snapshot is rehearsed; to name a kube-apiserver, write --apiserver=%s", args[1])
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.path = args[0]
			for _, name := range []string{"expect", "scratch-dir", "apiserver", "encryption-config"} {
				if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" { // a variable that isn't set, most likely
					return usagef("--%s is given and empty", name)
				}
			}
			if expect != "" {
				o.expect, err = readExpectations(cmd.Context(), expect)
				if ended := cmd.Context().Err(); ended != nil {
					return fmt.Errorf("--expect %s: %w", expect, ended)
				}
				if err != nil {
					return usagef("--expect %s: %w", expect, err)
				}
			}
			if o.apiServer, err = apiServerOf(cmd, binary, encryption, a.Getenv); err != nil {
				return err
			}
			if o.scratchDir != "" {
				if st, err := os.Stat(o.scratchDir); err != nil || !st.IsDir() {
					return usagef("--scratch-dir %s is no folder", o.scratchDir)
				}
			}
			if err := checkFile(o.path); err != nil {
				return usageError{err}
			}
			return rehearse(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.raw, "raw", false, rawHelp)
	f.StringVar(&expect, "expect", "", "YAML file that says what the backup must hold")
	f.StringVar(&o.scratchDir, "scratch-dir", "", "where to restore it; there must be room for the snapshot and 200 MB (default: the folder for temporary files)")
	f.StringVar(&binary, "apiserver", "", "start this kube-apiserver on it, too, and list everything; without PATH the one in $KUBEBUILDER_ASSETS or $PATH")
	f.Lookup("apiserver").NoOptDefVal = anyAPIServer
	f.StringVar(&encryption, "encryption-config", "", "EncryptionConfiguration that kube-apiserver opens encrypted objects with (YAML)")
	_ = cmd.MarkFlagFilename("encryption-config", "yaml", "yml")
	_ = cmd.MarkFlagFilename("expect", "yaml", "yml")
	_ = cmd.MarkFlagDirname("scratch-dir")
	addOutputFlag(cmd, &o.output)
	return cmd
}

// anyAPIServer stands for whatever kube-apiserver there is.
const anyAPIServer = "found"

// apiServerOf returns what the flags say of an API server; nil if none is asked for.
func apiServerOf(cmd *cobra.Command, binary, encryption string, getenv func(string) string) (*rehearsal.APIServerOptions, error) {
	if !cmd.Flags().Changed("apiserver") {
		if encryption != "" {
			return nil, usagef("--encryption-config is what kube-apiserver opens objects with, and none is asked for; give --apiserver as well")
		}
		return nil, nil
	}
	var err error
	var version string
	if binary == anyAPIServer {
		binary, err = apiserver.Find(getenv)
	}
	if err == nil {
		version, err = apiserver.Check(cmd.Context(), binary)
	}
	if err != nil {
		return nil, usagef("--apiserver: %w", err)
	}
	if encryption != "" {
		// It is read here, and again by kube-apiserver.
		if err := checkFile(encryption); err != nil {
			return nil, usagef("--encryption-config: %w", err)
		}
		content, err := os.ReadFile(encryption)
		if err != nil {
			return nil, usagef("--encryption-config: %w", err)
		}
		var o struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal(content, &o); err != nil {
			return nil, usagef("--encryption-config %s: %w", encryption, errors.New(strings.Join(strings.Fields(err.Error()), " ")))
		}
		if o.Kind != "EncryptionConfiguration" {
			return nil, usagef("--encryption-config %s: it is of kind %q, and not an EncryptionConfiguration", encryption, o.Kind)
		}
	}
	return &rehearsal.APIServerOptions{Binary: binary, Version: version, EncryptionConfig: encryption}, nil
}

// readExpectations reads them from a file, or a pipe, which nobody may ever write to.
func readExpectations(ctx context.Context, path string) (*rehearsal.Expectations, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return nil, errors.New("it is a directory; name a file in it")
	}
	type answer struct {
		expectations *rehearsal.Expectations
		err          error
	}
	read := make(chan answer, 1)
	go func() {
		f, err := os.Open(path)
		if err != nil {
			read <- answer{err: err}
			return
		}
		defer func() { _ = f.Close() }()
		e, err := rehearsal.ReadExpectations(f)
		read <- answer{e, err}
	}()
	select {
	case a := <-read:
		return a.expectations, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func rehearse(ctx context.Context, o rehearseOptions) error {
	out, options := o.app.Stdout, o.app.Terminal
	if o.output != asTable {
		out, options = o.app.Stderr, o.app.ErrTerminal
	}
	job := rehearsal.Options{Path: o.path, Raw: o.raw, ScratchDir: o.scratchDir, Worker: o.app.Worker, Expect: o.expect, APIServer: o.apiServer}
	s, noted := etcd.ReadSidecar(o.path)
	switch {
	case noted == nil:
		job.TakenAt = s.TakenAt
	case !errors.Is(noted, etcd.ErrSidecar) && !errors.Is(noted, fs.ErrNotExist): // it may be about this file, or not
		return noted
	}
	view := term.New(out, options)
	job.Observe = func(part string) func(error) { return view.Activity(partTitle(part)).Done }
	r := rehearsal.Run(ctx, job)
	if noted == nil {
		noted = s.Matches(r.Snapshot)
	}
	if judged := r.Verdict == plan.VerdictPassed || r.Verdict == plan.VerdictFailed; judged && r.Condition == string(etcd.ConditionSound) && !errors.Is(noted, fs.ErrNotExist) && noted != nil {
		r.Verdict, r.Reason, r.Condition = plan.VerdictFailed, noted.Error(), string(etcd.ConditionMismatch)
	}
	err := view.Close()
	if o.output != asTable {
		err = errors.Join(o.output.document(o.app.Stdout, r), err)
	} else {
		err = errors.Join(printRehearsal(o.app.Stdout, r, takenAt(r.Snapshot.TakenAt, !job.TakenAt.IsZero())), err)
	}
	if err != nil {
		return err
	}
	return exitOf(r.Verdict)
}

// partTitle says what is done in a part.
func partTitle(part string) string {
	return map[string]string{
		rehearsal.PartVerify: "verify the snapshot", rehearsal.PartRestore: "restore it into a scratch folder",
		rehearsal.PartStart: "start etcd on it", rehearsal.PartRead: "read everything back, and compare", rehearsal.PartTry: "write, watch and delete",
		rehearsal.PartAPIServer: "start kube-apiserver on it", rehearsal.PartList: "list every object of every resource",
	}[part]
}

// exitOf is the exit status for one verdict.
func exitOf(v plan.Verdict) error {
	switch v {
	case plan.VerdictPassed:
		return nil
	case plan.VerdictFailed:
		return exitError{exitFailed}
	case plan.VerdictInterrupted:
		return exitError{exitInterrupted}
	default:
		return exitError{exitBroken}
	}
}

func mark(s plan.Status) string {
	return map[plan.Status]string{plan.StatusPassed: "ok", plan.StatusFailed: "FAIL", plan.StatusSkipped: "skip"}[s]
}

func printRehearsal(w io.Writer, r rehearsal.Result, taken string) error {
	fmt.Fprintln(w)
	for _, c := range append(r.Checks, r.Expectations...) {
		fmt.Fprintf(w, "%-4s  %s  %s\n", mark(c.Status), c.Name, c.Detail)
	}
	if r.APIServer != nil {
		for _, l := range r.APIServer.Resources {
			if l.Status != plan.StatusPassed {
				fmt.Fprintf(w, "  %-4s  %s  %s\n", mark(l.Status), dotted(l.Resource, l.Group), l.Detail)
			}
		}
		for _, gv := range r.APIServer.Elsewhere {
			fmt.Fprintf(w, "  skip  %s  it is served from inside the cluster\n", gv)
		}
	}
	for _, d := range r.Differences {
		fmt.Fprintf(w, "  %-7s  %s\n", d.How, d.Key)
	}
	if r.Condition == string(etcd.ConditionSound) {
		s := r.Snapshot
		fmt.Fprintf(w, "\n%s at revision %d, %s, %s\n", keys(s.Keys), s.Revision, megabytes(s.Bytes), taken)
	}
	if r.Reason != "" {
		fmt.Fprintf(w, "\n%s%s\n", r.Reason, rawHint(etcd.Condition(r.Condition)))
	}
	_, err := fmt.Fprintf(w, "verdict %s; %.1f s in all\n", r.Verdict, r.Seconds)
	return err
}
