package controlplane

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// Directory tells a directory from every other one that its node has at the same time, whatever their paths are. A rename changes neither of the two numbers; a restart of the node
// leaves the inode as it is, and may change the device.
type Directory struct{ Device, Inode uint64 }

// Directories returns the directories that these paths of a node lead to.
func Directories(ctx context.Context, n cluster.Node, paths ...string) ([]Directory, error) {
	out, err := cluster.Run(ctx, n, append([]string{"stat", "--dereference", "--format=%d %i", "--"}, paths...)...)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(out, "\n")
	dirs := make([]Directory, len(lines))
	for i, line := range lines {
		device, inode, _ := strings.Cut(line, " ")
		var errDevice, errInode error
		dirs[i].Device, errDevice = strconv.ParseUint(device, 10, 64)
		dirs[i].Inode, errInode = strconv.ParseUint(inode, 10, 64)
		if errDevice != nil || errInode != nil || len(lines) != len(paths) {
			return nil, fmt.Errorf("node %s: stat says %q for the device and inode of %s", n.Name(), out, strings.Join(paths, ", "))
		}
	}
	return dirs, nil
}

// Mounted returns the directory that a running container has at a path of its own, and the one that a path of the node leads to. The first is seen through the container's process
// (proc_pid_root(5)): a mount goes on with the directory that it was made of, whatever the path of that is now.
func Mounted(ctx context.Context, n cluster.Node, container, inside, onNode string) (has, there Directory, err error) {
	pid, err := PID(ctx, n, container)
	if err != nil {
		return has, there, err
	}
	both, err := Directories(ctx, n, fmt.Sprintf("/proc/%d/root%s", pid, inside), onNode)
	if err != nil {
		return has, there, err
	}
	return both[0], both[1], nil
}
