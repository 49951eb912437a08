package main

import "testing"

func TestPublishedFits(t *testing.T) {
	const published = "kindest/node:v1.37.0@sha256:a1ed"
	for version, want := range map[string]bool{defaultKubernetes: true, "v1.37.0": true, "v1.36.3": false, "v1.37": false} {
		if got := publishedFits(version, published); got != want {
			t.Errorf("%s: %v, want %v", version, got, want)
		}
	}
}
