package main

import (
	"context"

	"github.com/etcd-drill/drill/hack/bench/ratio"
	"github.com/etcd-drill/drill/pkg/report"
)

// The procedures that are measured.
const (
	kubeletStop  = "kubelet-stop"
	manifestMove = "manifest-move"
	manifestEdit = "manifest-edit"
)

// part is a group of measurements that take turns.
type part struct {
	name string
	// groups name the kinds of runs.
	groups []string
	ratios []wanted
	// measure returns the runs of each kind, those of one round at the same index.
	measure func(ctx context.Context, l *lab, rounds int) ([][]Run, error)
}

// wanted is a ratio with its goal. over and under are indexes of kinds of runs; where they are the same, the ratio is that of reads to the floor.
type wanted struct {
	name        string
	over, under int
	least, most float64 // a goal is one of the two
}

func parts() []part {
	return []part{
		{
			name:   "procedures",
			groups: []string{kubeletStop, manifestMove, manifestEdit},
			ratios: []wanted{
				{name: "kubelet-stop: reads away / floor", most: 1.3},
				{name: "manifest-move / kubelet-stop", over: 1, least: 10},
				{name: "manifest-edit / kubelet-stop", over: 2, least: 15},
			},
			measure: procedures,
		},
		{
			name:    "database",
			groups:  []string{"as it is", "1 GB"},
			ratios:  []wanted{{name: "database of 1 GB / as it is", over: 1, most: 2}},
			measure: database,
		},
		{
			name:    "control-planes",
			groups:  []string{"one", "three"},
			ratios:  []wanted{{name: "three control planes / one", over: 1, most: 2}},
			measure: controlPlanes,
		},
	}
}

func partNames() []string { return ratio.Names(parts(), part.title) }

func (p part) title() string { return p.name }

func partsNamed(only string) ([]part, error) {
	if only == "" {
		return parts(), nil
	}
	return ratio.Named(parts(), part.title, only)
}

// turn is a run that takes turns with others.
type turn struct{ cluster, procedure string }

// take lets turns be taken, and returns the runs of each. Every round begins with another one, so that none always follows the same: a drill leaves a cluster busy for a while.
func take(ctx context.Context, l *lab, rounds int, turns ...turn) ([][]Run, error) {
	runs := make([][]Run, len(turns))
	for round := range rounds {
		for k := range turns {
			i := (round + k) % len(turns)
			r, err := l.play(ctx, turns[i].cluster, turns[i].procedure)
			if err != nil {
				return runs, err
			}
			runs[i] = append(runs[i], r)
		}
	}
	return runs, nil
}

// procedures take turns on one cluster.
func procedures(ctx context.Context, l *lab, rounds int) ([][]Run, error) {
	name, err := l.cluster(ctx, 1)
	if err != nil {
		return make([][]Run, 3), err
	}
	defer func() { _ = l.remove(ctx, name) }()
	return take(ctx, l, rounds, turn{name, kubeletStop}, turn{name, manifestMove}, turn{name, manifestEdit})
}

// database has a small one and a large one take turns.
func database(ctx context.Context, l *lab, rounds int) ([][]Run, error) {
	return pair(ctx, l, rounds, 1, func(name string) error { return fill(ctx, l.kubeconfig(name)) })
}

// controlPlanes has one and three of them take turns.
func controlPlanes(ctx context.Context, l *lab, rounds int) ([][]Run, error) {
	return pair(ctx, l, rounds, 3, func(string) error { return nil })
}

// pair has a cluster of one control plane take turns with another one, which is made ready first.
func pair(ctx context.Context, l *lab, rounds, nodes int, ready func(name string) error) ([][]Run, error) {
	var turns []turn
	for _, n := range []int{1, nodes} {
		name, err := l.cluster(ctx, n)
		if err != nil {
			return make([][]Run, 2), err
		}
		defer func() { _ = l.remove(ctx, name) }()
		turns = append(turns, turn{name, kubeletStop})
	}
	if err := ready(turns[1].cluster); err != nil {
		return make([][]Run, 2), err
	}
	return take(ctx, l, rounds, turns...)
}

// of computes the ratio from the runs of each kind. A goal is met only by as many rounds as were asked for.
func (w wanted) of(groups [][]Run, rounds int) ratio.Ratio {
	over := report.Row{Runs: bounded(groups[w.over])}
	span := over.OverFloor()
	if w.over != w.under {
		span = over.Against(report.Row{Runs: bounded(groups[w.under])})
	}
	r := ratio.Ratio{Name: w.name, Least: span.Least, Median: span.Median, Most: span.Most, Of: span.Back}
	for _, run := range groups[w.over] {
		if run.Outage.ReadSeconds == nil {
			r.AtLeast++
		}
	}
	return ratio.Goal{Least: w.least, Most: w.most}.Judge(r, rounds)
}
