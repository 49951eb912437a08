package lesson

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Options say how a lesson is written.
type Options struct {
	// Language of the sentences that the lesson adds to the plan's own texts; "" is English.
	Language Language
	// Enter returns the command that gives a shell on the node, for example `docker exec -it NODE bash`. Nil: the reader is
	// told to get one.
	Enter func(node string) plan.Command
	// Setup is typed once in every such shell, for example `export KUBECONFIG=/etc/kubernetes/admin.conf`.
	Setup []plan.Command
	// Needs are further things that the reader needs, each a line of Markdown.
	Needs []string
}

// width is how many columns a line of a command may have before it is broken: what fits into a code block on most pages.
const width = 100

// Markdown writes the lesson. An unknown language is an error, and nothing is written.
func Markdown(w io.Writer, p plan.Plan, o Options) error {
	say, err := phrasebook(o.Language)
	if err != nil {
		return err
	}
	l := &writer{say: say, options: o, entered: map[string]bool{}}
	l.introduction(p)
	l.steps(p.Steps)
	l.checks(p)
	// Without commands there is nothing about it that a reader could do.
	if slices.ContainsFunc(p.Rollback, func(s plan.Step) bool { return len(s.Commands) > 0 }) {
		l.steps(p.Rollback)
	}
	if _, err := w.Write(l.out.Bytes()); err != nil {
		return fmt.Errorf("write lesson: %w", err)
	}
	return nil
}

type writer struct {
	say     phrases
	options Options
	out     bytes.Buffer
	// node is where the reader is, and entered are the nodes where there is a shell already.
	node    string
	entered map[string]bool
	// number is that of the last step.
	number int
}

// block writes a block of Markdown and the empty line that sets it off from the next.
func (l *writer) block(text string) {
	if text = strings.TrimSpace(text); text != "" {
		if l.out.Len() > 0 {
			l.out.WriteByte('\n')
		}
		l.out.WriteString(text + "\n")
	}
}

func (l *writer) blockf(p phrase, args ...any) { l.block(fmt.Sprintf(l.say[p], args...)) }

func (l *writer) introduction(p plan.Plan) {
	l.block("# " + oneLine(fmt.Sprintf(l.say[title], p.Scenario.Name, p.Procedure.Name)))
	l.block("## " + l.say[whatYouDo])
	l.blockf(scenarioIs, p.Scenario.Name, sentence(p.Scenario.Summary))
	l.blockf(procedureIs, p.Procedure.Name, sentence(p.Procedure.Summary))
	l.block("## " + l.say[whatYouNeed])
	needs := []string{l.say[needCluster], l.say[needRoot]}
	l.bullets(append(needs, l.options.Needs...))
	l.block("## " + l.say[getOnNode])
	nodes := nodesOf(append(slices.Clone(p.Steps), p.Rollback...))
	if len(nodes) == 0 {
		l.block(l.say[nothingToType])
		return
	}
	l.blockf(startOn, code(nodes[0]))
	l.enter(nodes[0])
	if len(nodes) > 1 {
		l.block(l.say[moreNodes])
	}
}

// enter tells how to get a shell on node, and what to type there first. The two are blocks of their own: what is pasted
// behind a command that opens a shell isn't sure to reach that shell.
func (l *writer) enter(node string) {
	l.node = node
	l.entered[node] = true
	if l.options.Enter != nil {
		l.commands([]plan.Command{l.options.Enter(node)})
	}
	if len(l.options.Setup) > 0 {
		l.block(l.say[thereType])
		l.commands(l.options.Setup)
	}
}

func (l *writer) steps(steps []plan.Step) {
	var phase plan.Phase
	for _, s := range steps {
		if s.Phase != phase {
			phase = s.Phase
			heading, about := l.say.phase(phase)
			l.block("## " + heading)
			l.block(about)
		}
		if len(s.Commands) == 0 {
			l.blockf(drillOnly, strings.TrimSuffix(oneLine(s.Title), "."))
			continue
		}
		l.number++
		l.block(fmt.Sprintf("### %d. %s", l.number, oneLine(s.Title)))
		l.block(s.Why)
		for _, group := range byNode(s.Commands) {
			if node := group[0].On; node != l.node && node != "" {
				if l.entered[node] {
					l.blockf(backOn, code(node))
					l.node = node
				} else {
					l.blockf(switchTo, code(node))
					l.enter(node)
					l.block(l.say[thenType])
				}
			}
			l.commands(group)
		}
		if s.Expect != "" {
			l.blockf(expect, strings.TrimSpace(s.Expect))
		}
	}
}

// commands writes one block of code that works when it is pasted as a whole.
func (l *writer) commands(commands []plan.Command) {
	var lines []string
	for _, c := range commands {
		if c.Fails {
			lines = append(lines, "# "+l.say[expectedToFail])
		}
		lines = append(lines, c.Script(width))
	}
	body := strings.Join(lines, "\n")
	fence := strings.Repeat("`", max(3, longestRun(body, '`')+1))
	l.block(fence + "sh\n" + body + "\n" + fence)
}

func (l *writer) checks(p plan.Plan) {
	if len(p.Checks) == 0 {
		return
	}
	l.block("## " + l.say[howProven])
	l.block(l.say[howProvenAbout])
	for _, c := range p.Checks {
		l.block("### " + c.Name)
		l.blockf(trueWhen, sentence(oneLine(c.Summary)))
		if len(c.Commands) > 0 {
			l.commands(c.Commands)
		}
	}
}

func (l *writer) bullets(items []string) { l.block("- " + strings.Join(items, "\n- ")) }

// nodesOf returns the nodes on which something is typed, in the order in which they come.
func nodesOf(steps []plan.Step) []string {
	var nodes []string
	seen := map[string]bool{}
	for _, s := range steps {
		for _, c := range s.Commands {
			if !seen[c.On] {
				seen[c.On] = true
				nodes = append(nodes, c.On)
			}
		}
	}
	return nodes
}

// byNode splits commands wherever the next is typed on another node.
func byNode(commands []plan.Command) [][]plan.Command {
	var groups [][]plan.Command
	for i, c := range commands {
		if i == 0 || c.On != commands[i-1].On {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], c)
	}
	return groups
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// sentence ends s with a full stop if nothing ends it.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || strings.ContainsAny(s[len(s)-1:], ".!?:") {
		return s
	}
	return s + "."
}

// code is s as a code span, whatever backticks it holds.
func code(s string) string {
	ticks := strings.Repeat("`", longestRun(s, '`')+1)
	if len(ticks) > 1 {
		s = " " + s + " "
	}
	return ticks + s + ticks
}

func longestRun(s string, c byte) int {
	longest, run := 0, 0
	for i := range len(s) {
		if s[i] == c {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	return longest
}
