package controlplane

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// findUsers prints a line for each process that uses a folder: that has it, or something below it, mounted or open. Arguments: the folder's name, which no other folder has, and the folder.
//
// A path by itself tells little: what is /var/lib/etcd to a process in a container is any folder of the node. Of a mount that lies in the folder, the fourth field of mountinfo has the
// folder's name (proc_pid_mountinfo(5)). A file that is reached through a mount of what lies above the folder has it in its own path. So one of the two tells, however it is reached. The shell
// has the folder open itself, and says first which process it is: that this is found shows that all the others would be. Processes may end meanwhile, which is no error.
const findUsers = `set -e
command -v grep >/dev/null
command -v find >/dev/null
test -r /proc/self/mountinfo
exec 3<"$2"
echo "$$"
set +e
grep -sHF -e "/$1/" -e "/$1 " /proc/[0-9]*/mountinfo 3<&-
find /proc/[0-9]*/fd /proc/[0-9]*/cwd -maxdepth 1 \( -lname "*/$1" -o -lname "*/$1/*" \) -printf '%p %l\n' 2>/dev/null 3<&-
exit 0
`

// Users says what on the node uses a folder, or anything below it, now or when it is started next; nothing where nobody does. Each is a line for a person: a manifest that names it, or by which
// etcd's data directory lies there; a container that has it mounted; a process that has it mounted or open. The folder must be there, and its name, its last element, must be one that no other folder
// has but namesake: that one may lie on the machine that drill runs on, which may be the node.
//
// An error means that it can't be told. So it is where etcd's manifest isn't in place: nobody can say then which directory etcd is to run on.
func Users(ctx context.Context, n cluster.Node, dir, namesake string) ([]string, error) {
	var users []string
	processes := func(ctx context.Context, n cluster.Node, dir string) ([]string, error) {
		return processesIn(ctx, n, dir, namesake)
	}
	for _, ask := range []func(context.Context, cluster.Node, string) ([]string, error){manifestsNaming, etcdIn, containersOn, processes} {
		found, err := ask(ctx, n, dir)
		if err != nil {
			return nil, fmt.Errorf("looking what uses %s: %w", dir, err)
		}
		users = append(users, found...)
	}
	return users, nil
}

// manifestsNaming finds the name in the text of the manifests: whether it is that of a volume, of a part of one or stands in an argument makes no difference.
func manifestsNaming(ctx context.Context, n cluster.Node, dir string) ([]string, error) {
	out, err := cluster.Run(ctx, n, "find", ManifestDir, "-mindepth", "1", "-maxdepth", "1", "-not", "-name", ".*", "-not", "-type", "d",
		"-exec", "grep", "-qF", "-e", path.Base(dir), "{}", ";", "-print")
	if err != nil {
		return nil, err
	}
	var users []string
	for _, file := range strings.Fields(out) {
		users = append(users, "the manifest "+file+" names it")
	}
	return users, nil
}

// etcdIn says whether etcd's data directory lies there, by way of links, too.
func etcdIn(ctx context.Context, n cluster.Node, dir string) ([]string, error) {
	cfg, err := ReadEtcdConfig(ctx, n)
	if err != nil {
		return nil, err
	}
	var real [2]string
	for i, p := range []string{dir, cfg.HostDataDir} {
		if real[i], err = cluster.Run(ctx, n, "readlink", "-m", "--", p); err != nil {
			return nil, err
		}
	}
	if within(real[0], real[1]) {
		return []string{"etcd's data directory " + cfg.HostDataDir + " lies there, says its manifest"}, nil
	}
	return nil, nil
}

// within says whether a path is the folder or lies below it.
func within(dir, p string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func containersOn(ctx context.Context, n cluster.Node, dir string) ([]string, error) {
	found, err := Containers(ctx, n, true)
	if err != nil {
		return nil, err
	}
	var users []string
	for _, c := range found {
		if c.State == ContainerExited {
			continue
		}
		for _, m := range c.Mounts {
			if within(dir, path.Clean(m.HostPath)) {
				users = append(users, fmt.Sprintf("container %s of pod %s/%s has %s mounted", c.Name, c.PodNamespace, c.PodName, m.HostPath))
			}
		}
	}
	return users, nil
}

func processesIn(ctx context.Context, n cluster.Node, dir, namesake string) ([]string, error) {
	out, err := cluster.Run(ctx, n, "sh", "-c", findUsers, "users", path.Base(dir), dir)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(out, "\n")
	self, seen := "/proc/"+lines[0]+"/", false
	var users []string
	for _, line := range lines[1:] {
		if strings.HasPrefix(line, self) {
			seen = true
			continue
		}
		file, rest, _ := strings.Cut(line, " ")
		if within(namesake, rest) {
			continue
		}
		process, what := strings.Split(file+"///", "/")[2], "has open "+rest
		if info, mount, ok := strings.Cut(line, "/mountinfo:"); ok {
			// Fields 4 and 5: what of the file system is mounted, and where in the process' view (proc_pid_mountinfo(5)).
			fields := append(strings.Fields(mount), "", "", "", "", "")
			process, what = path.Base(info), fmt.Sprintf("has %s mounted at %s", fields[3], fields[4])
		}
		users = append(users, "process "+process+" "+what)
	}
	if !seen {
		return nil, errors.New("the processes' open files can't be seen there: the one that looked for them was not among them")
	}
	slices.Sort(users)
	return users, nil
}
