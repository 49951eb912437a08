package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"testing"
)

func TestWantedRoutes(t *testing.T) {
	var nodes []node
	data := `[
	 {"metadata":{"name":"self"},"spec":{"podCIDRs":["10.244.0.0/24"]},"status":{"addresses":[{"type":"InternalIP","address":"172.18.0.2"}]}},
	 {"metadata":{"name":"both"},"spec":{"podCIDRs":["10.244.1.0/24","fd00::/64"]},"status":{"addresses":[
	   {"type":"Hostname","address":"both"},{"type":"InternalIP","address":"172.18.0.3"},{"type":"InternalIP","address":"fc00::3"}]}},
	 {"metadata":{"name":"new"},"spec":{},"status":{"addresses":[{"type":"InternalIP","address":"172.18.0.4"}]}}]`
	if err := json.Unmarshal([]byte(data), &nodes); err != nil {
		t.Fatal(err)
	}
	want := map[netip.Prefix]netip.Addr{
		netip.MustParsePrefix("10.244.1.0/24"): netip.MustParseAddr("172.18.0.3"),
		netip.MustParsePrefix("fd00::/64"):     netip.MustParseAddr("fc00::3"),
	}
	if got := wantedRoutes(nodes, "self"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseRoutes(t *testing.T) {
	got, err := parseRoutes([]byte(`[{"dst":"10.244.1.0/24","gateway":"172.18.0.3","dev":"eth0"},{"dst":"10.244.2.1","gateway":"172.18.0.4"},{"dst":"default"}]`))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != "map[10.244.1.0/24:172.18.0.3 10.244.2.1/32:172.18.0.4]" {
		t.Errorf("got %v", got)
	}
	if got, err := parseRoutes(nil); err != nil || len(got) != 0 {
		t.Errorf("nothing: %v, %v", got, err)
	}
}
