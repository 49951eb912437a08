package runner

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/report"
)

func held(t *testing.T, n *local) *Claim {
	t.Helper()
	c, err := holder(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// runOn is a run of that name on the node's cluster, with nothing else in its state directory.
func runOn(t *testing.T, n *local, id string) Job {
	t.Helper()
	return Job{ID: id, Cluster: lab{n}, StateDir: t.TempDir()}
}

func TestClaim(t *testing.T) {
	n := newLocal(t, "cp")
	if err := runOn(t, n, "first").claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := held(t, n); c == nil || c.Run != "first" || c.Owner != journal.Self() || time.Since(c.Since) > time.Minute {
		t.Errorf("%+v", c)
	}
	if info, err := os.Stat(n.path(cluster.LockFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	before := names(t, n)
	err := runOn(t, n, "second").claim(t.Context())
	var claimed *ClaimedError
	if !errors.Is(err, ErrClaimed) || !errors.As(err, &claimed) || claimed.Claim.Run != "first" || claimed.Claim.PID != os.Getpid() || claimed.Cluster != "lab" {
		t.Errorf("%v", err)
	}
	if after := names(t, n); !slices.Equal(before, after) {
		t.Errorf("being refused left %q, after %q", after, before)
	}
	// The run that has it may take it over from a process that is gone.
	if err := runOn(t, n, "first").claim(t.Context()); err != nil {
		t.Error(err)
	}
	if err := runOn(t, n, "second").release(t.Context()); err != nil || held(t, n) == nil {
		t.Errorf("somebody else gave it back: %v", err)
	}
	if err := runOn(t, n, "first").release(t.Context()); err != nil || held(t, n) != nil {
		t.Error(err)
	}
	if err := runOn(t, n, "first").release(t.Context()); err != nil {
		t.Errorf("giving back what nobody has: %v", err)
	}
	if err := runOn(t, n, "second").claim(t.Context()); err != nil {
		t.Error(err)
	}
}

// names are those of all files on the node.
func names(t *testing.T, n *local) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(n.root, func(path string, _ fs.DirEntry, err error) error {
		out = append(out, strings.TrimPrefix(path, n.root))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestClaimOfARunThatHasEnded: a run that was killed after it had come to its end, and before it gave the cluster back, keeps nobody from it.
func TestClaimOfARunThatHasEnded(t *testing.T) {
	for name, c := range map[string]struct {
		entries []journal.Entry
		taken   bool
	}{
		"passed":        {[]journal.Entry{{Kind: journal.Ended, Verdict: plan.VerdictPassed}}, true},
		"not ended":     {nil, false},
		"not put back":  {[]journal.Entry{{Kind: journal.StepBegins, Step: "s", Outage: true}, {Kind: journal.Ended, Verdict: plan.VerdictFailed, Rollback: plan.StatusFailed}}, false},
		"kept as it is": {[]journal.Entry{{Kind: journal.StepBegins, Step: "s", Outage: true}, {Kind: journal.Ended, Verdict: plan.VerdictFailed}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			first := left(t, Job{}, c.entries...)
			if err := first.claim(t.Context()); err != nil {
				t.Fatal(err)
			}
			second := first
			second.ID = "second"
			err := second.claim(t.Context())
			if c.taken != (err == nil) || err != nil && !errors.Is(err, ErrClaimed) {
				t.Error(err)
			}
			if c.taken {
				return
			}
			if held(t, first.Cluster.(lab)[0]).Run != first.ID {
				t.Error("it was taken all the same")
			}
		})
	}
}

// TestClaimsAtOnce: of many that want it in the same moment one gets it, and the others leave nothing.
func TestClaimsAtOnce(t *testing.T) {
	n := newLocal(t, "cp")
	ids := strings.Fields("a b c d e f g h")
	errs := make([]error, len(ids))
	var claiming sync.WaitGroup
	for i, id := range ids {
		claiming.Go(func() { errs[i] = runOn(t, n, id).claim(t.Context()) })
	}
	claiming.Wait()
	var won []string
	for i, err := range errs {
		switch {
		case err == nil:
			won = append(won, ids[i])
		case !errors.Is(err, ErrClaimed):
			t.Errorf("%s: %v", ids[i], err)
		}
	}
	if len(won) != 1 || held(t, n).Run != won[0] {
		t.Fatalf("%q got it, and %+v has it", won, held(t, n))
	}
	if got, want := names(t, n), []string{"", "/var", "/var/lib", "/var/lib/drill", "/var/lib/drill/" + won[0], "/var/lib/drill/" + won[0] + "/owner.json", "/var/lib/drill/lock"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}

// TestTakingOverAtOnce: of many that would take over what a run left that has come to its end, one gets it.
func TestTakingOverAtOnce(t *testing.T) {
	first := left(t, Job{}, journal.Entry{Kind: journal.Ended, Verdict: plan.VerdictPassed})
	if err := first.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := first.Cluster.(lab)[0]
	errs := map[string]error{}
	var mu sync.Mutex
	var claiming sync.WaitGroup
	for _, id := range strings.Fields("a b c d e f g h") {
		over, err := first.vacant(t.Context()) // all have seen the same
		if err != nil || over == "" {
			t.Fatalf("%q, %v", over, err)
		}
		claiming.Go(func() {
			err := claimOnce(t.Context(), n, Claim{Run: id, Owner: journal.Self(), Since: time.Now().UTC()}, over)
			mu.Lock()
			defer mu.Unlock()
			errs[id] = err
		})
	}
	claiming.Wait()
	var won []string
	for id, err := range errs {
		var exit *cluster.ExitError
		switch {
		case err == nil:
			won = append(won, id)
		case !errors.As(err, &exit):
			t.Errorf("%s: %v", id, err)
		}
	}
	if len(won) != 1 || held(t, n).Run != won[0] {
		t.Errorf("%q got it, and %+v has it", won, held(t, n))
	}
}

func TestClaimOfADamagedLock(t *testing.T) {
	n := newLocal(t, "cp")
	if err := errors.Join(os.MkdirAll(n.path("/var/lib/drill"), 0o700), os.WriteFile(n.path(cluster.LockFile), []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := runOn(t, n, "first").claim(t.Context()); err == nil || errors.Is(err, ErrClaimed) || !strings.Contains(err.Error(), cluster.LockFile+" is damaged") {
		t.Error(err)
	}
}

// TestClaimedByWhom: who is refused is told what to do about it.
func TestClaimedByWhom(t *testing.T) {
	state := t.TempDir()
	job := Job{StateDir: state}
	err := &ClaimedError{Cluster: "lab", Claim: Claim{Run: "first", Owner: journal.Owner{Host: "here", PID: 7}}}
	tell := func(want string) {
		t.Helper()
		got := job.explained(err)
		if !errors.Is(got, ErrClaimed) || !strings.Contains(got.Error(), want) || !strings.Contains(got.Error(), "run first: process 7 on here") {
			t.Errorf("%v, want %q", got, want)
		}
	}
	tell("`drill rollback first --cluster lab` here")
	dir := Dir(state, "first")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	j, createErr := journal.Create(t.Context(), dir, journal.Run{ID: "first"}, time.Now())
	if createErr != nil {
		t.Fatal(createErr)
	}
	tell("it is at work")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	tell("`drill rollback first` ends the run and changes nothing, `drill resume first` carries it on, and what was written since")
	add := func(e journal.Entry) {
		t.Helper()
		j, _, err := journal.Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(j.Append(e), j.Close()); err != nil {
			t.Fatal(err)
		}
	}
	add(journal.Entry{Kind: journal.StepBegins, At: time.Now(), Step: "stop-kubelet", Outage: true})
	tell("`drill resume first` carries the run on, `drill rollback first` puts the old state back")
	add(journal.Entry{Kind: journal.Ended, Verdict: plan.VerdictFailed}) // with --keep
	tell("that run has ended (failed), and its old state was not put back: `drill rollback first` does that")
	if other := errors.New("no such file"); job.explained(other) != other {
		t.Error("another error was changed")
	}
}

// TestSettled: a cluster is left to others when its control plane was not touched, came back or is as it was, whichever process touched it.
func TestSettled(t *testing.T) {
	down := report.Run{Steps: []report.Step{{Name: "stop-kubelet", Outage: true, Status: plan.StatusFailed}}}
	skipped := report.Run{Steps: []report.Step{{Name: "stop-kubelet", Outage: true, Status: plan.StatusSkipped}}}
	earlier, before := &engine.Past{Marks: plan.Marks{OutageBegan: time.Now()}}, &engine.Past{}
	ended := func(r report.Run, v plan.Verdict, rollback plan.Status) report.Run {
		r.Verdict, r.Rollback = v, rollback
		return r
	}
	for name, c := range map[string]struct {
		run  report.Run
		past *engine.Past
		want bool
	}{
		"not touched":               {ended(skipped, plan.VerdictBroken, ""), nil, true},
		"not touched, and taken up": {ended(skipped, plan.VerdictInterrupted, ""), before, true},
		"passed":                    {ended(down, plan.VerdictPassed, ""), nil, true},
		"failed and kept":           {ended(down, plan.VerdictFailed, ""), nil, false},
		"undone":                    {ended(down, plan.VerdictFailed, plan.StatusPassed), nil, true},
		"not undone":                {ended(down, plan.VerdictFailed, plan.StatusFailed), nil, false},
		"an earlier process was cut off in the step":            {ended(skipped, plan.VerdictFailed, plan.StatusFailed), earlier, false},
		"an earlier process was cut off in the step, undone":    {ended(skipped, plan.VerdictFailed, plan.StatusPassed), earlier, true},
		"taken up and given up again before the step was begun": {ended(report.Run{}, plan.VerdictInterrupted, ""), earlier, false},
	} {
		if got := settled(c.run, c.past); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestTakenOver: a process whose run another one has taken over learns of it before it takes the control plane down, and leaves the other one's lock alone.
func TestTakenOver(t *testing.T) {
	for name, c := range map[string]struct {
		lock string // empty for none
		want string
	}{
		"by another process": {`{"run":"a-run","host":"elsewhere","pid":7,"since":"2026-11-24T06:00:00Z"}`, "run a-run was taken over while this process was at work on it: by process 7 on elsewhere, at 2026-11-24T06:00:00Z"},
		"by another run":     {`{"run":"b-run","host":"elsewhere","pid":7}`, "cluster lab was taken from run a-run while that was at work: cluster lab is being drilled by run b-run"},
		"by hand":            {"", "nobody has it now"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newLocal(t, "cp")
			job := runOn(t, n, "a-run")
			if err := job.claim(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := job.stillOwns(t.Context()); err != nil {
				t.Fatal(err)
			}
			lock := n.path(cluster.LockFile)
			if err := os.Remove(lock); err != nil {
				t.Fatal(err)
			}
			if c.lock != "" {
				if err := os.WriteFile(lock, []byte(c.lock), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			theirs := func(context.Context) error {
				t.Error("what is kept for the run was put away, and somebody else is at work on it")
				return nil
			}
			for _, err := range []error{job.stillOwns(t.Context()), job.giveBack(t.Context(), theirs)} {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			}
			if b, err := os.ReadFile(lock); string(b) != c.lock || (err == nil) != (c.lock != "") {
				t.Errorf("the lock says %q, %v", b, err)
			}
		})
	}
	n := newLocal(t, "cp")
	job := runOn(t, n, "a-run")
	if err := job.claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	full := errors.New("it can't be put away")
	ours := func(ctx context.Context) error {
		if _, limited := ctx.Deadline(); !limited || held(t, n) == nil {
			t.Errorf("put away without a limit, or after somebody else could have begun: %v", held(t, n))
		}
		return full
	}
	if err := job.giveBack(t.Context(), ours); !errors.Is(err, full) || held(t, n) != nil {
		t.Errorf("%v; held by %+v", err, held(t, n))
	}
}
