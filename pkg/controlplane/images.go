package controlplane

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// Images returns the tags of every image that the node's container runtime holds, as name:tag with the registry in front.
func Images(ctx context.Context, n cluster.Node) ([]string, error) {
	res, err := n.Exec(ctx, cluster.Cmd{Argv: []string{"crictl", "images", "-o", "json"}})
	if err != nil {
		return nil, fmt.Errorf("list the images of node %s: %w", n.Name(), err)
	}
	var out struct {
		Images []struct {
			RepoTags []string `json:"repoTags"`
		} `json:"images"`
	}
	if err := json.Unmarshal(res.Stdout, &out); err != nil {
		return nil, fmt.Errorf("list the images of node %s: crictl's answer is not what was expected: %w", n.Name(), err)
	}
	var tags []string
	for _, i := range out.Images {
		tags = append(tags, i.RepoTags...)
	}
	return tags, nil
}
