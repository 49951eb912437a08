package procedure

import (
	"context"
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

// turn bounds how long the start of one member waits for the one before it to serve its peers: the wait is there to save time, and what doesn't serve in the end is for the wait for etcd to find.
const turn = 30 * time.Second

// inTurn calls start for each member, and begins with the next one only when the etcd of the one before serves its peers.
//
// kubeadm has every member compare its data with the others' before it serves anybody (feature gate InitialCorruptCheck; etcd's server/embed/etcd.go and server/etcdserver/corrupt.go). Members that start
// at once find each other's port open and nobody who answers yet, and each waits until its request times out: 7 s with kubeadm's settings, for one peer after the other. A port that is still closed is
// an answer at once.
func inTurn(ctx context.Context, members []controlplane.Member, start func(context.Context, controlplane.Member) error) error {
	for i, m := range members {
		if i > 0 {
			awaitAlive(ctx, members[i-1])
		}
		if err := start(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// awaitAlive returns when the member's etcd serves its peers, or its turn is over.
func awaitAlive(ctx context.Context, m controlplane.Member) {
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
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

// outOfTheWay is how several control planes come back so that the first API server answers as soon as one alone would. On all but the first the manifests are moved away while nothing runs, so that
// kubelet, which takes a second until it acts, is up there already and starts nothing: etcd where it is needed for a leader, one after the other (see inTurn), and everything else only when the first API
// server is ready. Where control planes share processors or disks, what starts at the same time is in its way; where they don't, nothing is lost by it.
type outOfTheWay struct {
	target Target
	scope  scope
	// first starts at once; needed are those with which etcd has a leader, and spare the others.
	first, needed, spare []controlplane.Member
}

// outOfTheWay of a target with more than one member.
func (t Target) outOfTheWay(sc scope) outOfTheWay {
	majority := len(t.Members)/2 + 1
	return outOfTheWay{target: t, scope: sc, first: t.Members[:1], needed: t.Members[1:majority], spare: t.Members[majority:]}
}

func (o outOfTheWay) others() []controlplane.Member { return o.target.Members[1:] }

// takenAway is where holdStep leaves each etcd manifest; see Recovery. Where the directories are exchanged it comes back as it was.
func (o outOfTheWay) takenAway() map[string]string {
	if o.target.swaps() {
		return nil
	}
	out := map[string]string{}
	for _, m := range o.others() {
		out[m.Name] = files(o.target.moved(), []string{controlplane.Etcd})[0]
	}
	return out
}

// holdStep moves the manifests away.
func (o outOfTheWay) holdStep() plan.Step {
	s := moveSteps(o.target.only(o.others()), append([]string{controlplane.Etcd}, o.scope.pods()...))[0]
	s.Name = "hold-others-back"
	s.Title = "Move the manifests away on all control planes but the first"
	s.Why = "kubelet will be there on every control plane, and start only what is needed next. One API server that answers is what everybody waits for; others that start at the same time would slow it where " +
		"they share processors or a disk with it. A manifest is moved and not deleted: it is needed again."
	s.Expect = "`ls " + controlplane.ManifestDir + "` lists none of them."
	return s
}

// steps bring the control plane back, from a stop in which nothing runs on any member.
func (o outOfTheWay) steps() []plan.Step {
	t, sc := o.target, o.scope
	waits, exchange := waitSteps(t, sc), exchangeStep(t.only(o.first))
	if t.swaps() {
		exchange = exchangeStep(t)
	}
	majority := t.only(t.Members[:len(o.first)+len(o.needed)])
	for i := range waits[:2] {
		waits[i].Name += "-everywhere"
		waits[i].Title += " on every control plane"
	}
	start := startKubeletStep(t.only(o.first), sc)
	start.Why += " On the other control planes it finds nothing to start yet."
	start.Commands = t.on(func(controlplane.Member) plan.Command { return plan.Command{Argv: startKubeletArgv()} })
	start.Do = func(ctx context.Context) error { return controlplane.Each(ctx, t.Members, startKubelet) }
	join := o.joinStep("join-second", o.first[0], o.needed)
	join.Why = "Two of three members, or three of five, are enough for etcd to have a leader, and without one it serves nobody." + join.Why
	joinSpare := o.joinStep("join-others", o.needed[len(o.needed)-1], o.spare)
	joinSpare.Why = "The API server has been served without them, and a member more that may fail is what they are for." + joinSpare.Why
	back := returnSteps(t.only(o.others()), sc.pods())
	for i := range back {
		back[i].Why = "They are as they were, and kubelet starts their pods. The first API server answers, so they are in nobody's way any more. mv overwrites nothing, and doesn't say so: each that is no " +
			"longer where it was moved to is back."
	}
	return slices.Concat(
		[]plan.Step{o.holdStep(), exchange, start, join},
		waitSteps(majority, sc)[:1],
		waitSteps(t.only(o.first), sc)[1:2],
		releaseStep(t, sc),
		[]plan.Step{renewNetworkStep(t), joinSpare},
		back,
		waits,
	)
}

// joinStep lets kubelet start the etcd of these members in turn, the first of them after the one given: by the new manifest, or by the old one where the directory has been exchanged.
func (o outOfTheWay) joinStep(name string, after controlplane.Member, members []controlplane.Member) plan.Step {
	t := o.target
	start := func(ctx context.Context, m controlplane.Member) error {
		return t.only([]controlplane.Member{m}).swap(ctx)
	}
	commands := func(m controlplane.Member) []plan.Command { return t.only([]controlplane.Member{m}).swapCommands() }
	if t.swaps() {
		back := func(m controlplane.Member) plan.Step {
			return returnSteps(t.only([]controlplane.Member{m}), []string{controlplane.Etcd})[0]
		}
		start = func(ctx context.Context, m controlplane.Member) error { return back(m).Do(ctx) }
		commands = func(m controlplane.Member) []plan.Command { return back(m).Commands }
	}
	return plan.Step{
		Name:     name,
		Phase:    plan.Recover,
		Title:    "Let etcd start on " + enumerate(names(members)),
		Why:      whyInTurn(t.Members),
		Commands: append([]plan.Command{aliveCommand(after)}, inTurnCommands(members, commands)...),
		Expect:   "`ls " + controlplane.ManifestDir + "` lists `" + etcdManifest + "` there, and within a few seconds `crictl ps` lists etcd.",
		Do: func(ctx context.Context) error {
			awaitAlive(ctx, after)
			return inTurn(ctx, members, start)
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
