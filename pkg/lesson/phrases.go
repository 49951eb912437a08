package lesson

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Language is the language of a lesson's own sentences, as a BCP 47 tag.
type Language string

// The languages.
const (
	English Language = "en"
)

// Languages lists every language that a lesson can be written in.
func Languages() []Language { return []Language{English} }

type phrase int

const (
	title phrase = iota
	whatYouDo
	scenarioIs
	procedureIs
	whatYouNeed
	needCluster
	needRoot
	getOnNode
	startOn
	thereType
	moreNodes
	nothingToType
	switchTo
	backOn
	thenType
	drillOnly
	expectedToFail
	expect
	howProven
	howProvenAbout
	trueWhen
	arrangeHeading
	arrangeAbout
	protectHeading
	protectAbout
	breakHeading
	breakAbout
	recoverHeading
	recoverAbout
	proveHeading
	proveAbout
	rollbackHeading
	rollbackAbout
	phraseCount
)

// phrases holds every phrase in one language.
type phrases map[phrase]string

// phrasebook returns the phrases of a language; "" is English.
func phrasebook(lang Language) (phrases, error) {
	if lang == "" {
		lang = English
	}
	column := slices.Index(Languages(), lang)
	if column < 0 {
		var known []string
		for _, l := range Languages() {
			known = append(known, string(l))
		}
		return nil, fmt.Errorf("no lesson in language %q; there is: %s", lang, strings.Join(known, ", "))
	}
	out := phrases{}
	for p, texts := range table() {
		out[p] = texts[column]
	}
	return out, nil
}

// table holds every sentence that a lesson adds of its own: a row a phrase, a column a language, in the order of Languages.
func table() map[phrase][1]string {
	return map[phrase][1]string{
		title:     {"%s with %s: do it by hand"},
		whatYouDo: {"What you will do"},
		scenarioIs: {"The scenario is **%s**: %s You take a snapshot of etcd, destroy something, bring it back from the snapshot, and " +
			"look closely at whether it really is back."},
		procedureIs: {"You bring it back with the procedure **%s**: %s"},
		whatYouNeed: {"What you need"},
		needCluster: {"A Kubernetes cluster that kubeadm made, as kind does, and that nobody depends on: its control plane will be gone for " +
			"a while."},
		needRoot:      {"A root shell on its control plane, with `kubectl`, `crictl`, `etcdctl`, `etcdutl`, `curl` and `jq`."},
		getOnNode:     {"Get onto the node"},
		startOn:       {"Unless it says otherwise, everything is typed as root on %s, in one and the same `bash`."},
		thereType:     {"There, type this first:"},
		moreNodes:     {"Some steps are typed on other nodes; each says so. Keep a shell open on every node."},
		nothingToType: {"There is nothing to type in this lesson."},
		switchTo:      {"The next is typed on the node %s. Get a shell there too, in a terminal of its own:"},
		backOn:        {"Go back to the node %s, in the shell that you have there:"},
		thenType:      {"Then:"},
		drillOnly:     {"(When drill runs this by itself, it also does this here: *%s*. There is nothing to type for it.)"},
		expectedToFail: {
			"This one is expected to fail: that it does is the point.",
		},
		expect:          {"**What you should see:** %s"},
		howProven:       {"How drill proves it"},
		howProvenAbout:  {"The recovery counts as proven only when each of these is true. drill holds several views against each other; with the commands you see the most telling ones."},
		trueWhen:        {"True when %s"},
		arrangeHeading:  {"Arrange"},
		arrangeAbout:    {"First there must be something that can be lost."},
		protectHeading:  {"Protect"},
		protectAbout:    {"Now take the snapshot, and make sure that it is sound before you rely on it."},
		breakHeading:    {"Break"},
		breakAbout:      {"Now lose it."},
		recoverHeading:  {"Recover"},
		recoverAbout:    {"Now bring it back."},
		proveHeading:    {"Prove"},
		proveAbout:      {"An API server that answers proves little. Look for yourself:"},
		rollbackHeading: {"If it doesn't come back"},
		rollbackAbout: {"The old data directory and the old manifest were kept for this case. Put them back like this; " +
			"after a recovery that is proven there is no need to."},
	}
}

// phase returns the heading of a phase and the sentence below it.
func (p phrases) phase(ph plan.Phase) (heading, about string) {
	switch ph {
	case plan.Arrange:
		return p[arrangeHeading], p[arrangeAbout]
	case plan.Protect:
		return p[protectHeading], p[protectAbout]
	case plan.Break:
		return p[breakHeading], p[breakAbout]
	case plan.Recover:
		return p[recoverHeading], p[recoverAbout]
	case plan.Prove:
		return p[proveHeading], p[proveAbout]
	case plan.Rollback:
		return p[rollbackHeading], p[rollbackAbout]
	default:
		return string(ph), ""
	}
}
