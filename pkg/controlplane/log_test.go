package controlplane

import (
	"fmt"
	"strings"
	"testing"
)

// TestTellLog: what is wrong may stand before all of a component's help, and must be told.
func TestTellLog(t *testing.T) {
	var help []string
	for i := range 100 {
		help = append(help, fmt.Sprintf("  --flag-%d", i))
	}
	short := "one\nerror: two"
	if got := tellLog(short + "\n"); got != "its log ends with:\n"+short {
		t.Errorf("%q", got)
	}
	long := "etcd starts\nflag provided but not defined: -no-such-flag\n" + strings.Join(help, "\n")
	want := "its log complains first of:\nflag provided but not defined: -no-such-flag\nits log ends with:\n" + strings.Join(help[len(help)-logLines:], "\n")
	if got := tellLog(long); got != want {
		t.Errorf("%q, want\n%q", got, want)
	}
	if got := tellLog(""); got != "its log is empty" {
		t.Errorf("%q", got)
	}
	many := strings.Repeat("E1123 12:00:00 it failed\n", 50)
	if got := tellLog(many); strings.Count(got, "E1123") != logLines+logComplaints {
		t.Errorf("%q", got)
	}
}
