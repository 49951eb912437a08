package kind

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"sigs.k8s.io/kind/pkg/cluster/constants"
)

// The labels that kind puts on each container it makes.
const (
	clusterLabel = "io.x-k8s.kind.cluster"
	roleLabel    = "io.x-k8s.kind.role"
)

// container is one container that kind made.
type container struct {
	ID      string
	Name    string
	Cluster string
	Role    string
	Image   string
	Created time.Time
	Running bool
	// Status is the engine's word for its state, such as running or exited.
	Status  string
	Address string
}

// isNode tells a Kubernetes node from a load balancer.
func (c container) isNode() bool {
	return c.Role == constants.ControlPlaneNodeRoleValue || c.Role == constants.WorkerNodeRoleValue
}

// containers lists what kind made for the named cluster, running or not, ordered by name; an empty name means all clusters.
func (e *engine) containers(ctx context.Context, name string) ([]container, error) {
	filter := "label=" + clusterLabel
	if name != "" {
		filter += "=" + name
	}
	ids, err := e.containerIDs(ctx, filter)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	out, err := e.output(ctx, askTimeout, append([]string{"container", "inspect"}, ids...)...)
	if err != nil {
		// A container that went between the two questions fails the second one for all of them. One more look decides.
		if ids, err = e.containerIDs(ctx, filter); err != nil || len(ids) == 0 {
			return nil, err
		}
		if out, err = e.output(ctx, askTimeout, append([]string{"container", "inspect"}, ids...)...); err != nil {
			return nil, fmt.Errorf("looking at the nodes of kind's clusters: %w", err)
		}
	}
	return parseContainers(out)
}

func (e *engine) containerIDs(ctx context.Context, filter string) ([]string, error) {
	out, err := e.output(ctx, askTimeout, "ps", "-a", "--no-trunc", "--filter", filter, "--format", "{{.ID}}")
	if err != nil {
		return nil, fmt.Errorf("listing kind's clusters: %w", err)
	}
	return lines(out), nil
}

// parseContainers reads what `container inspect` prints. Docker, nerdctl and Podman agree on the fields that are used.
func parseContainers(out []byte) ([]container, error) {
	var raw []struct {
		ID      string `json:"Id"`
		Name    string
		Created time.Time
		State   struct {
			Running bool
			Status  string
		}
		Image     string
		ImageName string // Podman
		Config    struct {
			Image  string
			Labels map[string]string
		}
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress, GlobalIPv6Address string }
		}
	}
	if err := json.Unmarshal(out, &raw); err != nil {
		return nil, fmt.Errorf("reading what the container engine says of kind's nodes: %w", err)
	}
	var all []container
	for _, r := range raw {
		c := container{
			ID: r.ID, Name: strings.TrimPrefix(r.Name, "/"), Cluster: r.Config.Labels[clusterLabel], Role: r.Config.Labels[roleLabel],
			Created: r.Created, Running: r.State.Running, Status: r.State.Status,
		}
		for _, image := range []string{r.Config.Image, r.ImageName, r.Image} {
			if image != "" {
				c.Image = image
				break
			}
		}
		networks := make([]string, 0, len(r.NetworkSettings.Networks))
		for network := range r.NetworkSettings.Networks {
			networks = append(networks, network)
		}
		sort.Strings(networks)
		// kind's own network comes first: its address is the one that kubelet registers as InternalIP.
		if i := slices.Index(networks, kindNetwork()); i > 0 {
			networks = append([]string{networks[i]}, slices.Delete(networks, i, i+1)...)
		}
		for _, network := range networks {
			n := r.NetworkSettings.Networks[network]
			if c.Address = n.IPAddress; c.Address == "" {
				c.Address = n.GlobalIPv6Address
			}
			if c.Address != "" {
				break
			}
		}
		all = append(all, c)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

// kindNetwork is the network that kind connects nodes to; the variable is kind's.
func kindNetwork() string {
	if network := os.Getenv("KIND_EXPERIMENTAL_DOCKER_NETWORK"); network != "" {
		return network
	}
	return "kind"
}

// removeContainers removes containers with what they store, running or not.
func (e *engine) removeContainers(ctx context.Context, all []container) error {
	if len(all) == 0 {
		return nil
	}
	args := []string{"rm", "-f", "-v"}
	for _, c := range all {
		if c.Running {
			_, _ = e.output(ctx, thawTimeout, "exec", c.ID, "sh", "-c", thawAll) // a node that can't be asked may well be removable
		}
		args = append(args, c.ID)
	}
	_, err := e.output(ctx, removeTimeout, args...)
	return err
}

// thawAll is typed on a node that is to be removed. With control groups of version 1 a process that is frozen can't be killed, and with it neither can the node: the engine thaws the node's own group
// only. One below it stays frozen where the runc that was just changing its settings was killed (https://github.com/opencontainers/runc/issues/2105). So whoever would start another runc is halted first, with those
// that run; once the engine has begun to kill, nothing can be typed on the node any more.
const thawAll = `[ -d /sys/fs/cgroup/freezer ] || exit 0
timeout 5 systemctl kill --signal=STOP kubelet containerd
find /sys/fs/cgroup/freezer -name freezer.state -exec grep -q FROZEN {} \; -exec sh -c 'echo THAWED >"$1"' thaw {} \;`

// thawTimeout bounds that.
const thawTimeout = 10 * time.Second

// names of containers.
func names(all []container) []string {
	var out []string
	for _, c := range all {
		out = append(out, c.Name)
	}
	return out
}
