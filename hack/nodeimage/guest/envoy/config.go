package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// pathSource is how the bootstrap file names another file.
type pathSource struct {
	Source struct {
		Path string `yaml:"path"`
	} `yaml:"path_config_source"`
}

// socketAddress is a host and port, wrapped the way the format wraps them.
type socketAddress struct {
	Socket struct {
		Address string `yaml:"address"`
		Port    int    `yaml:"port_value"`
	} `yaml:"socket_address"`
}

func (a socketAddress) hostPort() string {
	return net.JoinHostPort(a.Socket.Address, strconv.Itoa(a.Socket.Port))
}

// parseBootstrap finds the two files to follow.
func parseBootstrap(data []byte) (clusters, listeners string, err error) {
	var file struct {
		Dynamic struct {
			CDS pathSource `yaml:"cds_config"`
			LDS pathSource `yaml:"lds_config"`
		} `yaml:"dynamic_resources"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return "", "", fmt.Errorf("reading the bootstrap file: %w", err)
	}
	clusters, listeners = file.Dynamic.CDS.Source.Path, file.Dynamic.LDS.Source.Path
	if clusters == "" || listeners == "" {
		return "", "", errors.New("the bootstrap file names no cds_config or no lds_config path")
	}
	return clusters, listeners, nil
}

// parseClusters finds the servers and the path of the health check. No servers is a fine answer: kind starts with none.
func parseClusters(data []byte) (servers []string, check string, err error) {
	var file struct {
		Resources []struct {
			HealthChecks []struct {
				HTTP struct {
					Path string `yaml:"path"`
				} `yaml:"http_health_check"`
			} `yaml:"health_checks"`
			Load struct {
				Endpoints []struct {
					LB []struct {
						Endpoint struct {
							Address socketAddress `yaml:"address"`
						} `yaml:"endpoint"`
					} `yaml:"lb_endpoints"`
				} `yaml:"endpoints"`
			} `yaml:"load_assignment"`
		} `yaml:"resources"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, "", fmt.Errorf("reading the servers: %w", err)
	}
	check = "/healthz"
	for _, r := range file.Resources {
		for _, h := range r.HealthChecks {
			if h.HTTP.Path != "" {
				check = h.HTTP.Path
			}
		}
		for _, e := range r.Load.Endpoints {
			for _, lb := range e.LB {
				servers = append(servers, lb.Endpoint.Address.hostPort())
			}
		}
	}
	return servers, check, nil
}

// parseListener finds the address to listen on, or none.
func parseListener(data []byte) (string, error) {
	var file struct {
		Resources []struct {
			Address socketAddress `yaml:"address"`
		} `yaml:"resources"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return "", fmt.Errorf("reading the listener: %w", err)
	}
	if len(file.Resources) == 0 {
		return "", nil
	}
	return file.Resources[0].Address.hostPort(), nil
}
