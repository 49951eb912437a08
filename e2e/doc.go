// Package e2e runs the scenarios on real kind clusters, through the same engine as the command line, and the command line itself. Its tests
// need a container engine and the build tag e2e; `make e2e` brings up what is missing.
package e2e
