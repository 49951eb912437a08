package run_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/run"
)

func TestErrorCanBePastedAndEndsWithTheOutput(t *testing.T) {
	err := run.Run(t.Context(), run.Cmd{Argv: []string{"sh", "-c", "echo first; echo the end >&2; exit 3"}, Dir: "/tmp", Env: []string{"A=b c"}})
	if !run.Exited(err) {
		t.Fatalf("err = %v, want a program that ended", err)
	}
	for _, want := range []string{"exit status 3", `(cd /tmp && A='b c' sh -c 'echo first; echo the end >&2; exit 3')`, "the end"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

func TestMissingProgramIsNotAFailure(t *testing.T) {
	if err := run.Run(t.Context(), run.Cmd{Argv: []string{"no-such-program-here"}}); err == nil || run.Exited(err) {
		t.Errorf("err = %v", err)
	}
}

// The children of a program must go down with it, or an interrupted build would go on in the background.
func TestStoppingTakesTheChildrenAlong(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := run.Run(ctx, run.Cmd{Argv: []string{"sh", "-c", "sleep 30 & wait"}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want deadline exceeded", err)
	}
	// A child that lived on would keep the output open and so hold up the return.
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestOutputKeepsErrorsApart(t *testing.T) {
	out, err := run.Output(t.Context(), run.Cmd{Argv: []string{"sh", "-c", "echo warning >&2; echo result"}})
	if err != nil || out != "result" {
		t.Errorf("%q, %v", out, err)
	}
}
