package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/report"
	"github.com/etcd-drill/drill/pkg/runner"
)

// stageHand is a host that notes what is asked of it.
type stageHand struct {
	did []string
	// verdicts are those of the runs, in order; a rollback of those that failed is said to have ended so.
	verdicts []plan.Verdict
	rollback plan.Status
	// warning is one of the first run.
	warning string
	// clusters are how many could be had; trouble is why not more, and stuck why none can be given back.
	clusters int
	trouble  error
	stuck    error
	nodes    controlPlanes
	// during is called in each run.
	during func()
}

type hosted struct {
	*stageHand
	options runOptions
}

func (h hosted) job() runner.Job {
	return runner.Job{Procedure: h.options.procedure, BumpRevision: h.options.bump, KeepRunning: h.options.keepRunning, Renew: h.options.renew}
}

func (h hosted) take(context.Context) (cluster.Cluster, plan.ClusterInfo, error) {
	if h.clusters == 0 {
		h.did = append(h.did, "no cluster")
		return nil, plan.ClusterInfo{}, h.trouble
	}
	h.clusters--
	h.did = append(h.did, "take")
	return h.nodes, plan.ClusterInfo{}, nil
}

func (h hosted) play(_ context.Context, job runner.Job, _ cluster.Cluster) report.Run {
	h.did = append(h.did, job.Procedure.Name)
	if h.during != nil {
		h.during()
	}
	r := report.Run{Procedure: job.Procedure.Name, Verdict: h.verdicts[0]}
	h.verdicts = h.verdicts[1:]
	if h.warning != "" {
		r.Warnings, h.warning = append(r.Warnings, h.warning), ""
	}
	if r.Verdict == plan.VerdictFailed {
		r.Rollback = h.rollback
	}
	return r
}

func (h hosted) giveBack(context.Context, cluster.Cluster) error {
	h.did = append(h.did, "give back")
	return h.stuck
}

func (hosted) observe(plan.Event) {}

// TestComparisonKeepsItsClusterFit: procedures take turns on one cluster, which is exchanged only when a run left it in disorder.
func TestComparisonKeepsItsClusterFit(t *testing.T) {
	const p, f, b = plan.VerdictPassed, plan.VerdictFailed, plan.VerdictBroken
	trouble := errors.New("no space left")
	for name, c := range map[string]struct {
		hand  stageHand
		named bool
		want  string
		runs  int
		whole bool
		err   string
	}{
		"all goes well": {
			stageHand{verdicts: []plan.Verdict{p, f, p, f}, rollback: plan.StatusPassed, clusters: 1}, false,
			"take kubelet-stop manifest-edit kubelet-stop manifest-edit give back", 4, true, "",
		},
		"a rollback fails": {
			stageHand{verdicts: []plan.Verdict{p, f, p, f}, rollback: plan.StatusFailed, clusters: 3}, false,
			"take kubelet-stop manifest-edit give back take kubelet-stop manifest-edit give back", 4, true, "",
		},
		"what a run made is still there": {
			stageHand{verdicts: []plan.Verdict{p, p, p, p}, clusters: 2, warning: plan.CleanUpFailed + ": no answer"}, false,
			"take kubelet-stop give back take manifest-edit kubelet-stop manifest-edit give back", 4, true, "",
		},
		"what a run made is still there on a named cluster": {
			stageHand{verdicts: []plan.Verdict{p, p, p, p}, clusters: 2, warning: plan.CleanUpFailed + ": no answer"}, true,
			"take kubelet-stop give back", 1, false, "",
		},
		"another warning": {
			stageHand{verdicts: []plan.Verdict{p, p, p, p}, clusters: 2, warning: "not everything could be measured: no answer"}, false,
			"take kubelet-stop manifest-edit kubelet-stop manifest-edit give back", 4, true, "",
		},
		"a run is broken": {
			stageHand{verdicts: []plan.Verdict{b, p, p, p}, clusters: 2}, false,
			"take kubelet-stop give back take manifest-edit kubelet-stop manifest-edit give back", 4, false, "",
		},
		"no other cluster can be had": {
			stageHand{verdicts: []plan.Verdict{b}, clusters: 1, trouble: trouble}, false,
			"take kubelet-stop give back no cluster", 2, false, "",
		},
		"none at all": {stageHand{trouble: trouble}, false, "no cluster", 1, false, ""},
		"the wish is senseless": {
			stageHand{trouble: fmt.Errorf("looking: %w", cluster.ErrNotFound)}, true, "no cluster", 0, false, "no such cluster",
		},
		"a named cluster is never exchanged": {
			stageHand{verdicts: []plan.Verdict{p, f}, rollback: plan.StatusFailed, clusters: 2}, true,
			"take kubelet-stop manifest-edit give back", 2, false, "",
		},
		"the cluster can't be deleted": {
			stageHand{verdicts: []plan.Verdict{p, p, p, p}, clusters: 1, stuck: trouble}, false,
			"take kubelet-stop manifest-edit kubelet-stop manifest-edit give back", 4, false, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.hand.nodes == 0 {
				c.hand.nodes = 1
			}
			o := runOptions{}
			if c.named {
				o.cluster = "lab"
			}
			runs, whole, err := compareWith(t.Context(), &c.hand, o)
			if got := strings.Join(c.hand.did, " "); got != c.want {
				t.Errorf("did: %s\nwant: %s", got, c.want)
			}
			if len(runs) != c.runs || whole != c.whole {
				t.Errorf("%d runs, want %d; whole: %v, want %v", len(runs), c.runs, whole, c.whole)
			}
			if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || !isUsage(err)) {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}

// compareWith compares two procedures, two runs of each.
func compareWith(ctx context.Context, hand *stageHand, o runOptions) ([]report.Run, bool, error) {
	var variations []runOptions
	for _, p := range []procedure.Procedure{procedure.KubeletStop(), procedure.ManifestEdit()} {
		o.procedure = p
		variations = append(variations, o)
	}
	c := comparison{variations: variations, say: func(string) {}, on: func(o runOptions) host { return hosted{hand, o} }}
	return c.all(ctx, 2)
}

// TestComparisonIsInterrupted: nothing more is begun, the cluster is given back, and what was measured is told.
func TestComparisonIsInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	hand := &stageHand{verdicts: []plan.Verdict{plan.VerdictPassed, plan.VerdictInterrupted}, clusters: 2, nodes: 1}
	hand.during = func() {
		if len(hand.verdicts) == 1 {
			interrupt()
		}
	}
	runs, whole, err := compareWith(ctx, hand, runOptions{})
	if got, want := strings.Join(hand.did, " "), "take kubelet-stop manifest-edit give back"; got != want {
		t.Errorf("did: %s\nwant: %s", got, want)
	}
	if len(runs) != 2 || whole || err != nil {
		t.Errorf("%d runs, whole: %v, %v", len(runs), whole, err)
	}
}

// TestVariations: each procedure as it is by itself or, with shortcuts, in every way.
func TestVariations(t *testing.T) {
	o := compareOptions{procedures: procedure.All()}
	var names []string
	for _, v := range o.variations() {
		names = append(names, v.procedure.Name)
		if v.bump != nil || v.keepRunning != nil || v.renew != nil {
			t.Errorf("%s is varied: %+v", v.procedure.Name, v)
		}
	}
	if !slices.Equal(names, procedureNames()) {
		t.Errorf("got %q", names)
	}
	o.shortcuts = true
	all := o.variations()
	if len(all) != len(procedure.Shortcuts(procedure.All())) {
		t.Errorf("%d of them", len(all))
	}
	bumps := map[uint64]int{}
	for _, v := range all {
		bumps[*v.bump]++
	}
	if len(bumps) != 2 || bumps[0]*2 != len(all) {
		t.Errorf("revisions are raised by %v", bumps)
	}
}

// TestExitStatusOfAComparison: a procedure that fails is not hidden; a shortcut that does is the result.
func TestExitStatusOfAComparison(t *testing.T) {
	const p, f, b = plan.VerdictPassed, plan.VerdictFailed, plan.VerdictBroken
	for name, c := range map[string]struct {
		verdicts           []plan.Verdict
		shortcuts          bool
		whole, interrupted bool
		want               int
	}{
		"all proven":                      {[]plan.Verdict{p, p}, false, true, false, exitPassed},
		"one is not":                      {[]plan.Verdict{p, f, p}, false, true, false, exitFailed},
		"one is not, and one is broken":   {[]plan.Verdict{f, b}, false, false, false, exitBroken},
		"one is not, and then no more":    {[]plan.Verdict{f}, false, false, true, exitInterrupted},
		"all proven, and then no more":    {[]plan.Verdict{p}, false, true, true, exitInterrupted},
		"a shortcut is not":               {[]plan.Verdict{p, f}, true, true, false, exitPassed},
		"a shortcut is broken":            {[]plan.Verdict{p, b}, true, false, false, exitBroken},
		"the cluster can't be given back": {[]plan.Verdict{p}, false, false, false, exitBroken},
	} {
		var runs []report.Run
		for _, v := range c.verdicts {
			runs = append(runs, report.Run{Verdict: v})
		}
		if got := (compareOptions{shortcuts: c.shortcuts}).exitStatus(runs, c.whole, c.interrupted); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
