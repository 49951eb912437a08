// Package rootfs makes small Debian file systems.
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/run"
)

// Suite is the Debian release. Its systemd is the last that boots on cgroup v1 hosts without a switch.
const Suite = "bookworm"

// recipe is part of every key; raise it when the way of making changes.
const recipe = "rootfs 1"

// Spec is a file system to make.
type Spec struct {
	Packages []string
	// Prepare changes the unpacked file system. It may be nil.
	Prepare func(ctx context.Context, root string) error
}

// Parts are what a key of the result has to hold; what Prepare does is for the caller to add.
func (s Spec) Parts() []string { return append([]string{recipe, Suite}, s.Packages...) }

// Archive is the name of the result in the folder that Make fills.
const Archive = "rootfs.tar"

// PackageList is the name of the list of packages in the folder that Make fills, one "name version" a line.
const PackageList = "packages.txt"

// Make fills dir with the archive and the list of packages. mirror may be empty for debootstrap's own choice.
func Make(ctx context.Context, s Spec, dir, mirror string, progress io.Writer) error {
	if err := needTools(ctx, progress); err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	if err := bootstrap(ctx, s, root, mirror); err != nil {
		return err
	}
	if s.Prepare != nil {
		if err := s.Prepare(ctx, root); err != nil {
			return err
		}
	}
	if err := listPackages(ctx, root, filepath.Join(dir, PackageList)); err != nil {
		return err
	}
	if err := trim(root); err != nil {
		return err
	}
	if err := archive(ctx, root, filepath.Join(dir, Archive)); err != nil {
		return err
	}
	return os.RemoveAll(root)
}

// Chroot runs argv inside root.
func Chroot(ctx context.Context, root string, argv ...string) error {
	return run.Run(ctx, run.Cmd{Argv: append([]string{"chroot", root}, argv...)})
}

// Version reads a package's upstream version from the list in dir: without epoch, Debian revision and repack mark.
func Version(dir, pkg string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, PackageList))
	if err != nil {
		return "", fmt.Errorf("reading the version of %s: %w", pkg, err)
	}
	for line := range strings.Lines(string(data)) {
		if name, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == pkg {
			return upstream(version), nil
		}
	}
	return "", fmt.Errorf("the Debian file system has no package %s", pkg)
}

func upstream(version string) string {
	if _, after, ok := strings.Cut(version, ":"); ok {
		version = after
	}
	version, _, _ = strings.Cut(version, "+")
	if dash := strings.LastIndex(version, "-"); dash > 0 {
		version = version[:dash]
	}
	return version
}

// needTools makes sure that the programs are there, and installs debootstrap where that is a matter of one command.
func needTools(ctx context.Context, progress io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("building a Debian file system needs root (device nodes, chroot); run this as root, or name a ready image with --image")
	}
	for _, tool := range []string{"debootstrap", "tar", "chroot", "unshare"} {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if _, err := exec.LookPath("apt-get"); tool != "debootstrap" || err != nil {
			return fmt.Errorf("the program %s is missing; install it and run this again", tool)
		}
		fmt.Fprintln(progress, "installing debootstrap")
		install := run.Cmd{
			Argv: []string{"apt-get", "-q", "install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=180", "debootstrap"},
			Env:  []string{"DEBIAN_FRONTEND=noninteractive"},
		}
		if err := run.Run(ctx, install); err != nil {
			return fmt.Errorf("installing debootstrap: %w", err)
		}
	}
	return nil
}

func bootstrap(ctx context.Context, s Spec, root, mirror string) error {
	// A mount namespace of its own: debootstrap mounts /proc in the new root, and if it is interrupted that mount has to
	// go before the folder can.
	argv := []string{"unshare", "--mount", "debootstrap", "--variant=minbase", "--include=" + strings.Join(s.Packages, ","), Suite, root}
	if mirror != "" {
		argv = append(argv, mirror)
	}
	if err := run.Run(ctx, run.Cmd{Argv: argv}); err != nil {
		return fmt.Errorf("making a Debian %s file system: %w", Suite, err)
	}
	return nil
}

func listPackages(ctx context.Context, root, file string) error {
	out, err := run.Output(ctx, run.Cmd{Argv: []string{"chroot", root, "dpkg-query", "--show", "--showformat", "${Package} ${Version}\n"}})
	if err != nil {
		return fmt.Errorf("listing the packages: %w", err)
	}
	return os.WriteFile(file, []byte(out+"\n"), 0o644)
}

// trim removes what nobody reads in a container, and what tells about the host. Copyright files stay.
func trim(root string) error {
	globs := []string{
		"var/cache/apt/*", "var/cache/debconf/*", "var/lib/apt/lists/*", "var/log/*.log", "var/log/apt", "var/log/bootstrap.log",
		"usr/share/man/*", "usr/share/locale/*", "usr/share/info/*", "usr/share/lintian", "usr/share/bash-completion", "usr/share/i18n",
		"usr/share/bug", "usr/share/doc-base", "tmp/*", "var/tmp/*", "run/*", "dev/*", "etc/hostname", "etc/resolv.conf", "etc/machine-id", "var/lib/dbus/machine-id",
	}
	for _, glob := range globs {
		found, err := filepath.Glob(filepath.Join(root, glob))
		if err != nil {
			return fmt.Errorf("trimming: %w", err)
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("trimming: %w", err)
			}
		}
	}
	return trimDocs(filepath.Join(root, "usr/share/doc"))
}

func trimDocs(dir string) error {
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		return fmt.Errorf("trimming: %w", err)
	}
	for _, path := range found {
		if filepath.Base(path) == "copyright" {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("trimming: %w", err)
		}
	}
	return nil
}

func archive(ctx context.Context, root, file string) error {
	argv := []string{"tar", "--create", "--file", file, "--sort=name", "--mtime=@0", "--numeric-owner", "--one-file-system", "-C", root, "."}
	if err := run.Run(ctx, run.Cmd{Argv: argv}); err != nil {
		return fmt.Errorf("packing the Debian file system: %w", err)
	}
	return nil
}
