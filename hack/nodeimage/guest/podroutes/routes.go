package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// protocol marks the routes as ours (see rt_protos), so that none but ours is ever removed.
const protocol = "177"

// confinement marks the routes that keep the pod network inside the cluster. They are never taken away while a node lives.
const confinement = "178"

// chain holds the masquerading rules.
const chain = "DRILL-MASQ"

// wantedRoutes maps each other node's pod networks to that node's address of the same family.
func wantedRoutes(nodes []node, self string) map[netip.Prefix]netip.Addr {
	routes := map[netip.Prefix]netip.Addr{}
	for _, n := range nodes {
		if n.Metadata.Name == self {
			continue
		}
		for _, cidr := range n.Spec.PodCIDRs {
			prefix, err := netip.ParsePrefix(cidr)
			if err != nil {
				continue
			}
			for _, a := range n.Status.Addresses {
				addr, err := netip.ParseAddr(a.Address)
				if err == nil && a.Type == "InternalIP" && addr.Is4() == prefix.Addr().Is4() {
					routes[prefix] = addr
					break
				}
			}
		}
	}
	return routes
}

// syncRoutes makes the kernel's routes of our protocol equal to wanted.
func syncRoutes(ctx context.Context, wanted map[netip.Prefix]netip.Addr) error {
	var failures error
	for _, family := range []string{"-4", "-6"} {
		present, err := ourRoutes(ctx, family)
		if err != nil {
			return err
		}
		for prefix := range present {
			if _, ok := wanted[prefix]; !ok {
				failures = errors.Join(failures, command(ctx, "", "ip", family, "route", "del", prefix.String(), "proto", protocol))
			}
		}
		for prefix, via := range wanted {
			if prefix.Addr().Is4() == (family == "-4") && present[prefix] != via {
				failures = errors.Join(failures, command(ctx, "", "ip", family, "route", "replace", prefix.String(), "via", via.String(), "proto", protocol))
			}
		}
	}
	return failures
}

// ourRoutes reads the routes that carry our protocol.
func ourRoutes(ctx context.Context, family string) (map[netip.Prefix]netip.Addr, error) {
	out, err := exec.CommandContext(ctx, "ip", family, "-json", "route", "show", "proto", protocol).Output()
	if err != nil {
		return nil, fmt.Errorf("reading the routes: %w", err)
	}
	return parseRoutes(out)
}

func parseRoutes(out []byte) (map[netip.Prefix]netip.Addr, error) {
	var list []struct{ Dst, Gateway string }
	if len(out) > 0 {
		if err := json.Unmarshal(out, &list); err != nil {
			return nil, fmt.Errorf("reading the routes: %w", err)
		}
	}
	routes := map[netip.Prefix]netip.Addr{}
	for _, r := range list {
		prefix, err := netip.ParsePrefix(r.Dst)
		if err != nil {
			addr, err := netip.ParseAddr(r.Dst) // a single host is shown without its length
			if err != nil {
				continue
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		via, _ := netip.ParseAddr(r.Gateway)
		routes[prefix] = via
	}
	return routes, nil
}

// confine makes addresses of the pod network that no pod has unreachable, as they are on a network of one's own. Without this they would follow
// the default route out of the cluster, and whatever answers there could be taken for a pod. Routes to pods and nodes are more specific.
func confine(ctx context.Context, subnets string) error {
	for subnet := range strings.SplitSeq(subnets, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(subnet))
		if err != nil {
			continue
		}
		family := "-4"
		if prefix.Addr().Is6() {
			family = "-6"
		}
		if err := command(ctx, "", "ip", family, "route", "replace", "unreachable", prefix.Masked().String(), "proto", confinement); err != nil {
			return err
		}
	}
	return nil
}

// masquerade gives what pods send to the outside the node's own address, for which answers find their way back. Traffic
// inside the pod network keeps the pod's address.
func masquerade(ctx context.Context, subnets string) error {
	for subnet := range strings.SplitSeq(subnets, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(subnet))
		if err != nil {
			continue
		}
		tool, multicast := "iptables", "224.0.0.0/4"
		if prefix.Addr().Is6() {
			tool, multicast = "ip6tables", "ff00::/8"
		}
		rules := fmt.Sprintf("*nat\n:%[1]s - [0:0]\n-A %[1]s -d %[2]s -j RETURN\n-A %[1]s -d %[3]s -j RETURN\n-A %[1]s -j MASQUERADE\nCOMMIT\n",
			chain, prefix, multicast)
		if err := command(ctx, rules, tool+"-restore", "--wait", "5", "--noflush"); err != nil {
			return err
		}
		jump := []string{"POSTROUTING", "-s", prefix.String(), "-j", chain}
		check := append([]string{tool, "--wait", "5", "-t", "nat", "-C"}, jump...)
		if command(ctx, "", check...) == nil {
			continue
		}
		check[5] = "-A"
		if err := command(ctx, "", check...); err != nil {
			return err
		}
	}
	return nil
}

// command runs argv; its error holds what the program said.
func command(ctx context.Context, stdin string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
