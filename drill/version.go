package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// version is what the Go toolchain recorded in the binary.
type version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Etcd is the version of the etcd in it: the newest of which it reads snapshots.
	Etcd string `json:"etcd"`
}

// String is the version on one line.
func (v version) String() string {
	return fmt.Sprintf("drill %s %s %s etcd-%s", v.Version, v.Go, v.Platform, v.Etcd)
}

func readVersion() version {
	v := version{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Etcd: etcd.OwnVersion()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		case "vcs.time":
			v.Time = s.Value
		}
	}
	return v
}

func newVersionCmd(a *App) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, as the Go toolchain recorded it, and that of the etcd in drill",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			if output != asTable {
				return output.document(a.Stdout, v)
			}
			_, err := fmt.Fprintln(a.Stdout, v)
			return err
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}
