package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// CrictlTimeout is the flag by which crictl waits longer for the runtime than 2 s, its default: on a busy node that isn't enough to end a container, which ends all the same, a moment after crictl has given up.
const CrictlTimeout = "--timeout=30s"

// States of a container and of a sandbox, as CRI names them.
const (
	ContainerCreated = "CONTAINER_CREATED"
	ContainerRunning = "CONTAINER_RUNNING"
	ContainerExited  = "CONTAINER_EXITED"
	ContainerUnknown = "CONTAINER_UNKNOWN"

	SandboxReady    = "SANDBOX_READY"
	SandboxNotReady = "SANDBOX_NOTREADY"
)

// Labels by which the kubelet marks containers and sandboxes with the pod that they belong to.
const (
	labelPodName      = "io.kubernetes.pod.name"
	labelPodNamespace = "io.kubernetes.pod.namespace"
	labelPodUID       = "io.kubernetes.pod.uid"
)

// Container is a container as the node's runtime knows it.
type Container struct {
	ID, SandboxID string
	// Name is its name within the pod.
	Name                          string
	PodName, PodNamespace, PodUID string
	State                         string
	CreatedAt                     time.Time
	StartedAt, FinishedAt         time.Time // zero when that didn't happen
	ExitCode                      int       // of a container that exited
	Reason                        string    // of its state, for example OOMKilled
	Attempt                       int       // how often it was restarted in its sandbox
	Image                         string
	Mounts                        []Mount
	// LogPath is the file on the node that holds what the container prints; the runtime writes it in CRI's log format, a line beginning with
	// its time. It may be gone when the container has ended.
	LogPath string
}

// Mount is a folder or file of the node inside a container.
type Mount struct {
	HostPath      string `json:"hostPath"`
	ContainerPath string `json:"containerPath"`
	ReadOnly      bool   `json:"readonly"`
}

// Sandbox is a pod's sandbox as the node's runtime knows it.
type Sandbox struct {
	ID                            string
	PodName, PodNamespace, PodUID string
	State                         string
	CreatedAt                     time.Time
	Attempt                       int
	// Labels are the pod's labels, and the kubelet's own.
	Labels map[string]string
}

// criMetadata is part of every CRI object.
type criMetadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
	Attempt   int    `json:"attempt"`
}

// nanos is a time as crictl's lists give it: nanoseconds since 1970, in a string, because JSON can't hold them.
type nanos time.Time

func (n *nanos) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(string(bytes.Trim(b, `"`)), 10, 64)
	if err != nil {
		return fmt.Errorf("time %s: %w", b, err)
	}
	*n = nanos(time.Unix(0, v))
	return nil
}

// listTries is how often the containers are listed again because one went away before it could be inspected.
const listTries = 3

// Containers returns the node's containers: the running ones or, with all, those too that were created or have ended.
// It takes two commands, since when a container was started and what it mounts is told by `crictl inspect` alone;
// when a container goes away between the two, both are run again.
func Containers(ctx context.Context, n cluster.Node, all bool) ([]Container, error) {
	ps := []string{"crictl", "ps", "--output", "json"}
	if all {
		ps = append(ps, "--all")
	}
	var gone error
	for range listTries {
		out, err := n.Exec(ctx, cluster.Cmd{Argv: ps})
		if err != nil {
			return nil, fmt.Errorf("list the containers of node %s: %w", n.Name(), err)
		}
		list, err := parseContainers(out.Stdout)
		if err != nil {
			return nil, fmt.Errorf("list the containers of node %s: %w", n.Name(), err)
		}
		if len(list) == 0 {
			return nil, nil
		}
		inspect := []string{"crictl", "inspect", "--quiet", "--output", "json"}
		for _, c := range list {
			inspect = append(inspect, c.ID)
		}
		out, err = n.Exec(ctx, cluster.Cmd{Argv: inspect})
		var exit *cluster.ExitError
		if errors.As(err, &exit) {
			gone = err
			continue
		}
		if err == nil {
			err = addStatus(list, out.Stdout)
		}
		if err != nil {
			return nil, fmt.Errorf("inspect the containers of node %s: %w", n.Name(), err)
		}
		return list, nil
	}
	return nil, fmt.Errorf("inspect the containers of node %s, tried %d times: %w", n.Name(), listTries, gone)
}

// parseContainers reads what `crictl ps -o json` prints.
func parseContainers(out []byte) ([]Container, error) {
	var doc struct {
		Containers []struct {
			ID           string            `json:"id"`
			PodSandboxID string            `json:"podSandboxId"`
			Metadata     criMetadata       `json:"metadata"`
			State        string            `json:"state"`
			CreatedAt    nanos             `json:"createdAt"`
			Labels       map[string]string `json:"labels"`
		} `json:"containers"`
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return nil, fmt.Errorf("crictl printed something else than a list of containers: %w", err)
	}
	var list []Container
	for _, c := range doc.Containers {
		list = append(list, Container{
			ID: c.ID, SandboxID: c.PodSandboxID, Name: c.Metadata.Name, Attempt: c.Metadata.Attempt,
			PodName: c.Labels[labelPodName], PodNamespace: c.Labels[labelPodNamespace], PodUID: c.Labels[labelPodUID],
			State: c.State, CreatedAt: time.Time(c.CreatedAt),
		})
	}
	return list, nil
}

// addStatus completes containers by what `crictl inspect -o json` prints. Depending on crictl's version and on how many
// there are, that is one object, an array of objects, or one object after the other.
func addStatus(list []Container, out []byte) error {
	type inspected struct {
		Status struct {
			ID         string    `json:"id"`
			State      string    `json:"state"`
			CreatedAt  time.Time `json:"createdAt"`
			StartedAt  time.Time `json:"startedAt"`
			FinishedAt time.Time `json:"finishedAt"`
			ExitCode   int       `json:"exitCode"`
			Reason     string    `json:"reason"`
			Mounts     []Mount   `json:"mounts"`
			LogPath    string    `json:"logPath"`
			Image      struct {
				Image string `json:"image"`
			} `json:"image"`
		} `json:"status"`
	}
	byID := map[string]inspected{}
	for docs := json.NewDecoder(bytes.NewReader(out)); ; {
		var raw json.RawMessage
		err := docs.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		var several []inspected
		if err == nil && bytes.HasPrefix(raw, []byte("[")) {
			err = json.Unmarshal(raw, &several)
		} else if err == nil {
			several = make([]inspected, 1)
			err = json.Unmarshal(raw, &several[0])
		}
		if err != nil {
			return fmt.Errorf("crictl printed something else than the status of containers: %w", err)
		}
		for _, s := range several {
			byID[s.Status.ID] = s
		}
	}
	for i := range list {
		s, ok := byID[list[i].ID]
		if !ok {
			return fmt.Errorf("crictl said nothing about container %s (%s of pod %s/%s)", list[i].ID, list[i].Name, list[i].PodNamespace, list[i].PodName)
		}
		c := &list[i]
		// The state belongs with the times: the list is older.
		c.State, c.StartedAt, c.FinishedAt = s.Status.State, s.Status.StartedAt, s.Status.FinishedAt
		c.ExitCode, c.Reason, c.Image, c.Mounts = s.Status.ExitCode, s.Status.Reason, s.Status.Image.Image, s.Status.Mounts
		c.LogPath = s.Status.LogPath
		for k, m := range c.Mounts { // as the manifest writes them, perhaps with a slash at the end
			c.Mounts[k].HostPath, c.Mounts[k].ContainerPath = path.Clean(m.HostPath), path.Clean(m.ContainerPath)
		}
	}
	return nil
}

// PID returns the process ID, as the node counts them, of a running container's first process. CRI doesn't have it; containerd and CRI-O
// put it into what they tell besides.
func PID(ctx context.Context, n cluster.Node, container string) (int, error) {
	out, err := cluster.Run(ctx, n, "crictl", "inspect", "--output", "go-template", "--template", "{{.info.pid}}", container)
	if err != nil {
		return 0, fmt.Errorf("process of container %s on node %s: %w", container, n.Name(), err)
	}
	pid, err := strconv.Atoi(out)
	if err != nil || pid <= 0 { // a container that has ended has process 0
		return 0, fmt.Errorf("process of container %s on node %s: the container runtime names none (%q); does it run?", container, n.Name(), out)
	}
	return pid, nil
}

// Sandboxes returns all pod sandboxes of the node, ready or not.
func Sandboxes(ctx context.Context, n cluster.Node) ([]Sandbox, error) {
	out, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"crictl", "pods", "--output", "json"}})
	if err != nil {
		return nil, fmt.Errorf("list the pod sandboxes of node %s: %w", n.Name(), err)
	}
	list, err := parseSandboxes(out.Stdout)
	if err != nil {
		return nil, fmt.Errorf("list the pod sandboxes of node %s: %w", n.Name(), err)
	}
	return list, nil
}

// parseSandboxes reads what `crictl pods -o json` prints.
func parseSandboxes(out []byte) ([]Sandbox, error) {
	var doc struct {
		Items []struct {
			ID        string            `json:"id"`
			Metadata  criMetadata       `json:"metadata"`
			State     string            `json:"state"`
			CreatedAt nanos             `json:"createdAt"`
			Labels    map[string]string `json:"labels"`
		} `json:"items"`
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return nil, fmt.Errorf("crictl printed something else than a list of pods: %w", err)
	}
	var list []Sandbox
	for _, s := range doc.Items {
		list = append(list, Sandbox{
			ID: s.ID, PodName: s.Metadata.Name, PodNamespace: s.Metadata.Namespace, PodUID: s.Metadata.UID,
			State: s.State, CreatedAt: time.Time(s.CreatedAt), Attempt: s.Metadata.Attempt, Labels: s.Labels,
		})
	}
	return list, nil
}
