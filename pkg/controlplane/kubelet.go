package controlplane

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// StopKubelet stops the node's kubelet. Containers go on without it. It returns when systemd says that it is stopped.
func StopKubelet(ctx context.Context, n cluster.Node) error {
	if _, err := cluster.Run(ctx, n, "systemctl", "stop", "kubelet"); err != nil {
		return fmt.Errorf("stop the kubelet of node %s: %w", n.Name(), err)
	}
	return nil
}

// StartKubelet starts the node's kubelet. It returns when systemd has started the process, which then begins to work.
func StartKubelet(ctx context.Context, n cluster.Node) error {
	if _, err := cluster.Run(ctx, n, "systemctl", "start", "kubelet"); err != nil {
		return fmt.Errorf("start the kubelet of node %s: %w; see `journalctl -u kubelet` there", n.Name(), err)
	}
	return nil
}

// stamp is how systemd prints times with --timestamp=us+utc, which it knows since version 248; seconds since 1970
// (--timestamp=unix) came later and have no fractions.
const stamp = "Mon 2006-01-02 15:04:05.000000 MST"

// KubeletStartedAt says since when the node's kubelet is running, by the node's clock. A kubelet that isn't running is an
// error that says in which state it is.
func KubeletStartedAt(ctx context.Context, n cluster.Node) (time.Time, error) {
	out, err := cluster.Run(ctx, n, "systemctl", "show", "kubelet", "--timestamp=us+utc",
		"--property=ActiveState,SubState,ActiveEnterTimestamp")
	if err != nil {
		return time.Time{}, fmt.Errorf("ask systemd about the kubelet of node %s: %w", n.Name(), err)
	}
	at, err := parseKubelet(out)
	if err != nil {
		return time.Time{}, fmt.Errorf("kubelet of node %s: %w", n.Name(), err)
	}
	return at, nil
}

// KubeletUnit is what systemd says of the unit kubelet, in systemd's words (org.freedesktop.systemd1(5), "Properties" of units).
type KubeletUnit struct {
	// Load says whether there is such a unit: "loaded", or for example "not-found" or "masked".
	Load string
	// Active and Sub say whether it runs: "active" and "running", or for example "inactive" and "dead".
	Active, Sub string
}

// KubeletUnitOf asks systemd about the node's kubelet. Where the node isn't run by systemd, it returns the error of the command, a
// *cluster.ExitError.
func KubeletUnitOf(ctx context.Context, n cluster.Node) (KubeletUnit, error) {
	out, err := cluster.Run(ctx, n, "systemctl", "show", "kubelet", "--property=LoadState,ActiveState,SubState")
	if err != nil {
		return KubeletUnit{}, fmt.Errorf("ask systemd about the kubelet of node %s: %w", n.Name(), err)
	}
	props := properties(out)
	return KubeletUnit{Load: props["LoadState"], Active: props["ActiveState"], Sub: props["SubState"]}, nil
}

// properties reads what `systemctl show` prints: a line NAME=VALUE each.
func properties(out string) map[string]string {
	props := map[string]string{}
	for line := range strings.Lines(out) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			props[k] = v
		}
	}
	return props
}

func parseKubelet(out string) (time.Time, error) {
	props := properties(out)
	if state := props["ActiveState"]; state != "active" {
		return time.Time{}, fmt.Errorf("it is not running: systemd says %s (%s)", state, props["SubState"])
	}
	at, err := time.Parse(stamp, props["ActiveEnterTimestamp"])
	if err != nil {
		return time.Time{}, fmt.Errorf("when it started can't be read: %w", err)
	}
	return at, nil
}
