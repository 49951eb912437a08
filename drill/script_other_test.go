//go:build !linux

package main

import (
	"fmt"

	"github.com/rogpeppe/go-internal/testscript"
)

func condition(name string) (bool, error) {
	if name == "mount" || name == "obeying" {
		return false, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

func fifo(ts *testscript.TestScript, _ bool, _ []string)    { ts.Fatalf("only on Linux") }
func disk(ts *testscript.TestScript, _ bool, _ []string)    { ts.Fatalf("only on Linux") }
func obeying(ts *testscript.TestScript, _ bool, _ []string) { ts.Fatalf("only on Linux") }
