//go:build !unix

package apiserver

import "os/exec"

// killWithGroup does nothing where there are no process groups: the command alone is killed.
func killWithGroup(*exec.Cmd) {}
