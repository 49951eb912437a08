package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/proof"
)

// TestEveryCheckCanBeTakenOut: there is a mutant of each check, in which nothing but the beginning of one function differs.
func TestEveryCheckCanBeTakenOut(t *testing.T) {
	for _, c := range proof.Checks(&proof.Subject{}) {
		dir := t.TempDir()
		overlay, err := mutate(c.Name, filepath.Join("..", "..", "pkg", "proof"), dir)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		var o struct{ Replace map[string]string }
		b, err := os.ReadFile(overlay)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &o); err != nil || len(o.Replace) != 1 {
			t.Fatalf("%s: overlay %s, %v", c.Name, b, err)
		}
		for original, mutant := range o.Replace {
			before, err := os.ReadFile(original)
			if err != nil {
				t.Fatal(err)
			}
			after, err := os.ReadFile(mutant)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(after), passes) != 1 || strings.Replace(string(after), passes, "", 1) != string(before) {
				t.Errorf("%s: the mutant differs in something else", c.Name)
			}
		}
	}
}

func TestNoSuchCheck(t *testing.T) {
	if _, err := mutate("no-such-check", filepath.Join("..", "..", "pkg", "proof"), t.TempDir()); err == nil {
		t.Error("want an error")
	}
	if _, err := chosen("no-such-check"); err == nil || !strings.Contains(err.Error(), "snapshot-intact") {
		t.Errorf("%v; want an error that names the checks there are", err)
	}
}
