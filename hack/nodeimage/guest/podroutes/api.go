package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// accountDir is where Kubernetes puts a pod's credentials.
const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// node is the part of a Node that routes depend on.
type node struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		PodCIDRs []string `json:"podCIDRs"`
	} `json:"spec"`
	Status struct {
		Addresses []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
	} `json:"status"`
}

// api reads from the Kubernetes API server.
type api struct {
	client *http.Client
	hosts  []string
}

// newAPI knows two ways to the API server. The control plane's own address works before kube-proxy does; the Service
// works when that name can't be resolved.
func newAPI() (*api, error) {
	ca, err := os.ReadFile(accountDir + "/ca.crt")
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s/ca.crt holds no certificate", accountDir)
	}
	a := &api{client: &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
	}}
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		a.hosts = append(a.hosts, endpoint)
	}
	if host := os.Getenv("KUBERNETES_SERVICE_HOST"); host != "" {
		a.hosts = append(a.hosts, net.JoinHostPort(host, os.Getenv("KUBERNETES_SERVICE_PORT")))
	}
	if len(a.hosts) == 0 {
		return nil, errors.New("neither CONTROL_PLANE_ENDPOINT nor KUBERNETES_SERVICE_HOST is set: this runs as a pod only")
	}
	return a, nil
}

// nodes lists the cluster's nodes, by whichever way answers first in order.
func (a *api) nodes(ctx context.Context) ([]node, error) {
	var failures error
	for _, host := range a.hosts {
		nodes, err := a.nodesFrom(ctx, host)
		if err == nil {
			return nodes, nil
		}
		failures = errors.Join(failures, err)
	}
	return nil, failures
}

func (a *api) nodesFrom(ctx context.Context, host string) ([]node, error) {
	token, err := os.ReadFile(accountDir + "/token") // read anew each time: it is rotated
	if err != nil {
		return nil, fmt.Errorf("reading the pod's token: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/api/v1/nodes", nil)
	if err != nil {
		return nil, fmt.Errorf("asking %s for the nodes: %w", host, err)
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking for the nodes: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return nil, fmt.Errorf("asking %s for the nodes: %s: %s", host, resp.Status, body)
	}
	var list struct {
		Items []node `json:"items"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return nil, fmt.Errorf("reading the nodes from %s: %w", host, err)
	}
	return list.Items, nil
}
