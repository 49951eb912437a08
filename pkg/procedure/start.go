package procedure

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// only is the target with these members alone.
func (t Target) only(members []controlplane.Member) Target {
	t.Members = members
	return t
}

// turns bounds how long starts wait for each other, all of them together: the waits are there to save time, and what doesn't serve in the end is for the wait for etcd to find.
const turns = 30 * time.Second

// inTurn calls start for each member, and begins with the next one only when the etcd of the one before serves its peers. A member that can't be started doesn't keep the others from it.
//
// kubeadm has every member compare its data with the others' before it serves anybody (feature gate InitialCorruptCheck; etcd's server/embed/etcd.go and server/etcdserver/corrupt.go). Members that start
// at once find each other's port open and nobody who answers yet, and each waits until its request times out: 7 s with kubeadm's settings, for one peer after the other. A port that is still closed is
// an answer at once.
func inTurn(ctx context.Context, members []controlplane.Member, start func(context.Context, controlplane.Member) error) error {
	waiting, cancel := context.WithTimeout(ctx, turns)
	defer cancel()
	var problems []error
	for i, m := range members {
		err := start(ctx, m)
		problems = append(problems, err)
		if err == nil && i < len(members)-1 {
			awaitAlive(waiting, m)
		}
	}
	return errors.Join(problems...)
}

// awaitAlive returns when the member's etcd serves its peers, or ctx ends.
func awaitAlive(ctx context.Context, m controlplane.Member) {
	_ = controlplane.WaitAlive(ctx, m.Node, controlplane.Etcd, readyPoll)
}

// aliveCommand is awaitAlive, typed. curl is content with whatever is answered, also that there is no leader.
func aliveCommand(m controlplane.Member) plan.Command {
	return plan.Command{On: m.Name, Argv: []string{"curl", "-sS", "-o", "/dev/null", m.Etcd.MetricsURL + "/livez"}, Until: true}
}

// inTurnCommands are inTurn, typed.
func inTurnCommands(members []controlplane.Member, start func(controlplane.Member) []plan.Command) []plan.Command {
	var out []plan.Command
	for i, m := range members {
		if i > 0 {
			out = append(out, aliveCommand(members[i-1]))
		}
		out = append(out, start(m)...)
	}
	return out
}

// whyInTurn tells a learner, where there are several members.
func whyInTurn(members []controlplane.Member) string {
	if len(members) == 1 {
		return ""
	}
	return " One after the other: with the settings of kubeadm each etcd compares its data with the others' before it serves anybody. Those that start at once would wait for each other, " +
		"7 seconds for each, while a port that is still closed is an answer. So the next one begins when the one before answers anything at all, ready or not."
}

// staggered is how several control planes come back so that the first API server answers almost as soon as one alone would: until it does, what it doesn't need doesn't start. Where control planes
// share processors or disks, what starts at the same time is in its way; where they don't, little is lost by it.
//
// A majority of the members is needed, since without a leader etcd serves nobody. Of the first one everything starts. Of the others of the majority it is etcd alone, in turn (see inTurn): their manifests
// are held back while nothing runs, so that kubelet, which takes a second until it acts, is up there by the time that it is given something to start. The members that are left are spared altogether.
type staggered struct {
	target Target
	scope  scope
	// first, needed and spared are all members, in order.
	first, needed, spared []controlplane.Member
}

// staggered of a target with more than one member.
func (t Target) staggered(sc scope) staggered {
	majority := len(t.Members)/2 + 1
	return staggered{target: t, scope: sc, first: t.Members[:1], needed: t.Members[1:majority], spared: t.Members[majority:]}
}

// takenAway is where holdStep leaves each etcd manifest; see Recovery. Where the directories are exchanged it comes back as it was.
func (o staggered) takenAway() map[string]string {
	if o.target.swaps() {
		return nil
	}
	out := map[string]string{}
	for _, m := range o.needed {
		out[m.Name] = files(o.target.moved(), []string{controlplane.Etcd})[0]
	}
	return out
}

// holdStep moves the manifests of the needed members away.
func (o staggered) holdStep() plan.Step {
	s := moveSteps(o.target.only(o.needed), append([]string{controlplane.Etcd}, o.scope.pods()...))[0]
	s.Name = "hold-back"
	s.Title = "Move the manifests of " + enumerate(names(o.needed)) + " away"
	s.Why = "One API server that answers is what everybody waits for, and of this control plane it needs nothing but etcd. kubelet, which takes a second until it acts, can be there already, and gets " +
		"the manifest of etcd when it is its turn, and the others when the first API server answers. A manifest is moved and not deleted: it is needed again."
	s.Expect = "`ls " + controlplane.ManifestDir + "` no longer lists them there."
	return s
}

// steps bring the control plane back, from a stop in which nothing runs on any member.
func (o staggered) steps() []plan.Step {
	t, sc := o.target, o.scope
	first, needed, spared, majority := t.only(o.first), t.only(o.needed), t.only(o.spared), t.only(slices.Concat(o.first, o.needed))
	exchange := t // renames of directories start nothing
	if !t.swaps() {
		exchange = t.only(slices.Concat(o.first, o.spared))
	}

	start := startKubeletStep(first, sc)
	start.Why += " On " + enumerate(names(o.needed)) + " it finds none of their manifests yet."
	start.Commands = majority.on(func(controlplane.Member) plan.Command { return plan.Command{Argv: startKubeletArgv()} })
	start.Do = func(ctx context.Context) error { return controlplane.Each(ctx, majority.Members, startKubelet) }

	var later []plan.Step
	if len(o.spared) > 0 { // as there are none of two
		later = []plan.Step{startKubeletStep(spared, sc)}
		later[0].Name += "-elsewhere"
		later[0].Title += " on the control planes that are left"
		later[0].Why += " The first API server has been served without them; a member more is there for the day on which another fails."
	}

	back := returnSteps(needed, sc.pods())
	for i := range back {
		back[i].Why = "They are as they were, and kubelet starts their pods: the first API server answers, so they are in nobody's way any more. mv overwrites nothing, and doesn't say so: each that is no " +
			"longer where it was moved to is back."
	}
	waits := waitSteps(t, sc) // etcd, API server, controller manager, scheduler
	for i := range waits[:2] {
		waits[i].Name += "-everywhere"
		waits[i].Title += " on every control plane"
	}
	return slices.Concat(
		[]plan.Step{o.holdStep(), exchangeStep(exchange), start, o.joinStep()},
		waitSteps(majority, sc)[:1],
		waitSteps(first, sc)[1:2],
		releaseStep(t, sc),
		later,
		[]plan.Step{renewNetworkStep(t)}, // where no kubelet runs, nobody would start them again
		back,
		waits,
	)
}

// joinStep lets kubelet start the etcd of the needed members: by the new manifest, or by the old one where the directory has been exchanged.
func (o staggered) joinStep() plan.Step {
	t, after := o.target, o.first[0]
	one := func(m controlplane.Member) Target { return t.only([]controlplane.Member{m}) }
	start := func(ctx context.Context, m controlplane.Member) error { return one(m).swap(ctx) }
	commands := func(m controlplane.Member) []plan.Command { return one(m).swapCommands() }
	if t.swaps() {
		back := func(m controlplane.Member) plan.Step { return returnSteps(one(m), []string{controlplane.Etcd})[0] }
		start = func(ctx context.Context, m controlplane.Member) error { return back(m).Do(ctx) }
		commands = func(m controlplane.Member) []plan.Command { return back(m).Commands }
	}
	return plan.Step{
		Name:     "join-etcd",
		Phase:    plan.Recover,
		Title:    "Let etcd start on " + enumerate(names(o.needed)),
		Why:      "A majority of the members, two of three, elects a leader, and without one etcd serves nobody." + whyInTurn(t.Members),
		Commands: append([]plan.Command{aliveCommand(after)}, inTurnCommands(o.needed, commands)...),
		Expect:   "`ls " + controlplane.ManifestDir + "` lists `" + etcdManifest + "` there, and within a few seconds `crictl ps` lists etcd.",
		Do: func(ctx context.Context) error {
			waiting, cancel := context.WithTimeout(ctx, turns)
			awaitAlive(waiting, after)
			cancel()
			return inTurn(ctx, o.needed, start)
		},
	}
}

func names(members []controlplane.Member) []string {
	var out []string
	for _, m := range members {
		out = append(out, m.Name)
	}
	return out
}
