package rootfs

import (
	"context"
	"os/exec"
	"strings"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/run"
)

// HostMirror is the Debian mirror that this host's own apt uses, or nothing where the host is not Debian: debootstrap
// then takes its own default.
func HostMirror(ctx context.Context) string {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return ""
	}
	out, err := run.Output(ctx, run.Cmd{Argv: []string{"apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages"}})
	if err != nil {
		return "" // not a reason to fail: there is a default
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Debian" && f[1] == "Debian" {
			return f[2]
		}
	}
	return ""
}
