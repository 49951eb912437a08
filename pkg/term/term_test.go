package term_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/term"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s\nRun go test -update if it should", path, got)
	}
}

// terminal is a terminal that knows what a View writes: text, line feed, carriage return, erase below, and colours. It
// keeps whole lines, and breaks them where its width says when it is looked at, as terminals do that break lines
// anew when they are resized.
type terminal struct {
	t *testing.T
	// wrote has a value when something was written.
	wrote chan struct{}

	mu    sync.Mutex
	width int
	lines [][]rune
	row   int
	col   int
	// colours counts escape sequences that colour.
	colours int
}

func newTerminal(t *testing.T, width int) *terminal {
	return &terminal{t: t, width: width, lines: make([][]rune, 1), wrote: make(chan struct{}, 1)}
}

func (v *terminal) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	defer func() {
		select {
		case v.wrote <- struct{}{}:
		default:
		}
	}()
	for s := string(p); s != ""; {
		switch {
		case strings.HasPrefix(s, "\x1b[J"):
			s = s[3:]
			v.lines = v.lines[:v.row+1]
			v.lines[v.row] = v.lines[v.row][:min(v.col, len(v.lines[v.row]))]
		case strings.HasPrefix(s, "\x1b["):
			end := strings.IndexAny(s, "m")
			if end < 0 || strings.Trim(s[2:end], "0123456789;") != "" {
				v.t.Fatalf("an escape sequence that the terminal doesn't know: %q", s)
			}
			v.colours++
			s = s[end+1:]
		case s[0] == '\n':
			s = s[1:]
			v.row, v.col = v.row+1, 0
			if v.row == len(v.lines) {
				v.lines = append(v.lines, nil)
			}
		case s[0] == '\r':
			s = s[1:]
			v.col -= v.col % v.width
		default:
			r, size := utf8.DecodeRuneInString(s)
			s = s[size:]
			if r < ' ' || r == 0x7f || r == utf8.RuneError {
				v.t.Fatalf("a control character: %q", r)
			}
			line := v.lines[v.row]
			if v.col < len(line) {
				line[v.col] = r
			} else {
				v.lines[v.row] = append(line, r)
			}
			v.col++
		}
	}
	return len(p), nil
}

func (v *terminal) Width() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.width
}

func (v *terminal) resize(width int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.width = width
}

func (v *terminal) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for _, l := range v.lines {
		out = append(out, string(l))
	}
	return strings.Join(out, "\n")
}

// live is the line at the cursor.
func (v *terminal) live() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return string(v.lines[v.row])
}

// clock is a clock that the test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }

func ptr[T any](v T) *T { return &v }

func samplePlan(procedure string) plan.Plan {
	return plan.Plan{
		Scenario:  plan.Entry{Name: "deployment-loss"},
		Procedure: plan.Entry{Name: procedure},
		Variant:   plan.Variant{Own: true},
		Cluster:   plan.ClusterInfo{Provider: "kind", Name: "drill-x7k2", Nodes: 1, Kubernetes: "v1.37.2", Etcd: "3.7.0"},
		Steps: []plan.Step{
			{Name: "deploy", Phase: plan.Arrange, Title: "Deploy nginx"},
			{Name: "snapshot-save", Phase: plan.Protect, Title: "Save a snapshot of etcd"},
			{Name: "delete", Phase: plan.Break, Title: "Delete the Deployment"},
			{
				Name: "stop-kubelet", Phase: plan.Recover, Outage: true,
				Title: "Stop kubelet, which would otherwise act on half a change and bring back what was just stopped: 한국어도 넓다",
			},
			{Name: "start-kubelet", Phase: plan.Recover, Title: "Start kubelet"},
		},
		Checks: []plan.Check{
			{Name: "snapshot-intact", Phase: plan.Protect},
			{Name: "reads-agree", Phase: plan.Prove},
			{Name: "watches-honest", Phase: plan.Prove},
		},
	}
}

// walk makes the events of a run, a second a step. Each call of then comes after an event.
type walk struct {
	p    plan.Plan
	out  func(plan.Event)
	time float64
}

func (w *walk) steps(from, to int) {
	for i := from; i < to; i++ {
		w.out(plan.StepStarted{At: at(w.time), Step: w.p.Steps[i], Number: i + 1, Of: len(w.p.Steps)})
		w.time += 1.25
		w.out(plan.StepFinished{At: at(w.time), Step: w.p.Steps[i], Status: plan.StatusPassed, Elapsed: 1250 * time.Millisecond})
	}
}

func (w *walk) check(i int, f plan.Finding) {
	w.out(plan.CheckStarted{At: at(w.time), Check: w.p.Checks[i]})
	w.time += 0.5
	w.out(plan.CheckFinished{At: at(w.time), Check: w.p.Checks[i], Finding: f, Elapsed: 500 * time.Millisecond})
}

func passedRun(out func(plan.Event)) {
	w := &walk{p: samplePlan("kubelet-stop"), out: out}
	out(plan.RunStarted{At: at(0), ID: "20260301-1", Plan: w.p})
	w.steps(0, 2)
	w.check(0, plan.Passed("512 keys at revision 812"))
	w.steps(2, 5)
	w.check(1, plan.Passed("GET, LIST and WATCH agree"))
	w.check(2, plan.Passed("no event was missed"))
	out(plan.Measured{At: at(w.time), Measurement: plan.Measurement{
		Outage: plan.Outage{
			EtcdSeconds: ptr(2.9), ReadSeconds: ptr(5.43), WriteSeconds: ptr(5.5), WorkSeconds: ptr(5.6), ServiceSeconds: ptr(5.9), FloorSeconds: ptr(3.3),
			Interruptions: []plan.Interruption{
				{Kind: "list", AfterSeconds: 9.5, Seconds: ptr(1.1)}, {Kind: "get", AfterSeconds: 12.0}, {Kind: "write", AfterSeconds: 13.0, Seconds: ptr(0.4)},
			},
		},
		Loss: plan.Loss{Seconds: ptr(0.0), Revisions: ptr(int64(0)), Objects: []plan.Object{}},
	}})
	out(plan.RunFinished{At: at(9), Verdict: plan.VerdictPassed, Elapsed: 9 * time.Second})
}

func failedRun(out func(plan.Event)) {
	w := &walk{p: samplePlan("manifest-edit"), out: out}
	out(plan.RunStarted{At: at(0), ID: "20260301-2", Plan: w.p})
	w.steps(0, 2)
	w.check(0, plan.Passed("512 keys at revision 812"))
	w.steps(2, 5)
	var evidence []string
	for i := range 20 {
		evidence = append(evidence, "revision "+strconv.Itoa(800+i)+" \x1b[31mred\x1b[0m\x07\r")
	}
	w.check(1, plan.Failed("GET says nginx 2/2, LIST with resourceVersion=0 says that there is no Deployment at all in this namespace",
		"The API server serves lists from a cache that is older than the restore; restart it.", evidence...))
	w.check(2, plan.Skipped("not evaluated: check reads-agree"))
	out(plan.Warning{At: at(w.time), Message: "not everything could be measured: timeout"})
	out(plan.Measured{At: at(w.time), Measurement: plan.Measurement{
		Outage: plan.Outage{EtcdSeconds: ptr(74.3)},
		Loss:   plan.Loss{Revisions: ptr(int64(1)), Objects: []plan.Object{{APIVersion: "v1", Kind: "ConfigMap", Namespace: "default", Name: "late"}}},
	}})
	out(plan.EvidenceKept{At: at(w.time), Paths: []string{"evidence/etcd.log", "evidence/kubelet.log"}})
	undo := plan.Step{Name: "undo", Phase: plan.Rollback, Title: "Put the old manifest back"}
	out(plan.StepStarted{At: at(w.time), Step: undo, Number: 1, Of: 1})
	out(plan.StepFinished{
		At: at(w.time + 61), Step: undo, Status: plan.StatusFailed, Elapsed: 61 * time.Second,
		Err: errors.New("on node n1: mv /root/etcd.yaml /etc/kubernetes/manifests/: exit status 1:\nmv: cannot stat '/root/etcd.yaml': No such file or directory"),
	})
	out(plan.RunFinished{At: at(90), Verdict: plan.VerdictFailed, Reason: "check reads-agree: GET says nginx 2/2, LIST says none", Elapsed: 90 * time.Second})
}

func around(v *term.View, c *clock, run func(func(plan.Event))) {
	c.set(at(-33))
	a := v.Activity("Create cluster drill-x7k2")
	a.Update("joining")
	c.set(at(0))
	a.Done(nil)
	a.Done(errors.New("a second Done has no effect"))
	run(v.Observe)
	v.Report("out/report.json")
	c.set(at(100))
	a = v.Activity("Delete cluster drill-x7k2")
	c.set(at(102))
	a.Done(errors.New("docker: no such container"))
	v.Say("bye")
}

func TestPlain(t *testing.T) {
	for name, run := range map[string]func(func(plan.Event)){"plain-passed.txt": passedRun, "plain-failed.txt": failedRun} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			c := &clock{}
			v := term.New(&out, term.Options{Now: c.Now, Color: true})
			around(v, c, run)
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(out.String(), "\r\x1b\x07") {
				t.Errorf("a control character in %q", out.String())
			}
			golden(t, name, out.String())
		})
	}
}

// What remains on a terminal is the same however often it was redrawn, and whatever its width was in between.
func TestInteractive(t *testing.T) {
	for name, run := range map[string]func(func(plan.Event)){"terminal-passed.txt": passedRun, "terminal-failed.txt": failedRun} {
		t.Run(name, func(t *testing.T) {
			v, screen, c, tick := interactive(t, 80)
			around(v, c, func(out func(plan.Event)) {
				run(func(e plan.Event) {
					out(e)
					screen.resize(30)
					tick()
					tick()
					screen.resize(80)
					tick()
				})
			})
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			for _, line := range strings.Split(screen.String(), "\n") {
				if ansi.StringWidth(line) > 79 {
					t.Errorf("wider than the terminal: %s", line)
				}
			}
			golden(t, name, screen.String())
		})
	}
}

// differentRun is a run with one check that failed because of differences, and one that says nothing of what differs.
func differentRun(out func(plan.Event), differences []plan.Difference, evidence ...string) {
	p := samplePlan("manifest-edit")
	p.Steps, p.Checks = nil, []plan.Check{{Name: "status-backed", Phase: plan.Prove}}
	w := &walk{p: p, out: out}
	out(plan.RunStarted{At: at(0), ID: "20260301-3", Plan: p})
	w.check(0, plan.Differs(fmt.Sprintf("%d statements are not true", len(differences)), "kubelet acts on what it remembers: restart it.", differences, evidence...))
	out(plan.RunFinished{At: at(1), Verdict: plan.VerdictFailed, Reason: "check status-backed", Elapsed: time.Second})
}

// Differences stand side by side, in as many lines as the width asks for, and below each other where that is too narrow.
func TestDifferences(t *testing.T) {
	differences := []plan.Difference{
		{
			Subject:  "pod default/nginx-86c65779c9-lqkcg container nginx",
			Expected: "771cf57a37cd running on node drill-x7k2-control-plane",
			Seen:     "no such running container",
		},
		{Subject: "/var/lib/drill/20260301-3-verylongname/etcd on drill-x7k2-control-plane", Expected: "mode 0700", Seen: "mode 0755 \x1b[31mred\x1b[0m\x07\r"},
		{Subject: "한국어도 넓다", Expected: strings.Repeat("0123456789abcdef", 20), Seen: "several\nlines\tof it"},
	}
	for _, width := range []int{0, 40, 80, 160} {
		t.Run(strconv.Itoa(width), func(t *testing.T) {
			var out bytes.Buffer
			v := term.New(&out, term.Options{Interactive: width > 0, Width: func() int { return width }})
			differentRun(v.Observe, differences, "nginx-2: runs as said", differences[0].String())
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			text := out.String()
			if width > 0 {
				text = text[strings.LastIndex(text, ansi.EraseScreenBelow)+len(ansi.EraseScreenBelow):]
			}
			for _, line := range strings.Split(text, "\n") {
				if width > 0 && strings.HasPrefix(line, "      ") && ansi.StringWidth(line) > width-1 {
					t.Errorf("wider than the terminal: %s", line)
				}
			}
			golden(t, fmt.Sprintf("differences-%d.txt", width), text)
		})
	}
}

func TestManyDifferences(t *testing.T) {
	var many []plan.Difference
	var evidence []string
	for i := range 14 {
		many = append(many, plan.Difference{Subject: "object " + strconv.Itoa(i), Expected: "1", Seen: "2"})
		evidence = append(evidence, "right: "+strconv.Itoa(i))
	}
	for _, interactive := range []bool{false, true} {
		var out bytes.Buffer
		v := term.New(&out, term.Options{Interactive: interactive, Width: func() int { return 80 }})
		differentRun(v.Observe, many, evidence...)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		for want, times := range map[string]int{
			"object 0 ": 1, "object 11 ": 1, "object 12": 0, "… and 2 more; the report has all": 1, "right: 3\n": 1, "right: 4\n": 0, "… and 10 more; the report has all": 1,
			"14 statements are not true\n": 1,
		} {
			if got := strings.Count(text, want); got != times {
				t.Errorf("%q stands there %d times, want %d:\n%s", want, got, times, text)
			}
		}
	}
}

// interactive returns a View on a terminal, and what makes it redraw: each call returns when it has.
func interactive(t *testing.T, width int) (*term.View, *terminal, *clock, func()) {
	t.Helper()
	screen := newTerminal(t, width)
	c := &clock{now: began}
	ticks := make(chan time.Time)
	v := term.New(screen, term.Options{Interactive: true, Color: true, Width: screen.Width, Now: c.Now, Tick: ticks})
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v, screen, c, func() {
		if screen.live() == "" {
			return // there is nothing to redraw
		}
		select {
		case <-screen.wrote:
		default:
		}
		ticks <- time.Time{}
		<-screen.wrote
	}
}

func TestTheLineOfAStepIsRedrawnInPlace(t *testing.T) {
	v, screen, c, tick := interactive(t, 80)
	p := samplePlan("kubelet-stop")
	v.Observe(plan.RunStarted{At: at(0), ID: "r", Plan: p})
	v.Observe(plan.StepStarted{At: at(0), Step: p.Steps[0], Number: 1, Of: 5})
	if got, want := screen.live(), "  ▸     0.0 s  Deploy nginx (1 of 5)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	before := strings.Count(screen.String(), "\n")
	for _, step := range []struct {
		seconds float64
		want    string
	}{{2.34, "  ▸     2.3 s  Deploy nginx (1 of 5)"}, {59.99, "  ▸    59.9 s  Deploy nginx (1 of 5)"}, {754, "  ▸   12m 34s  Deploy nginx (1 of 5)"}} {
		c.set(at(step.seconds))
		tick()
		if got := screen.live(); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
	if got := strings.Count(screen.String(), "\n"); got != before {
		t.Errorf("%d lines became %d", before, got)
	}

	v.Say("something else")
	if !strings.Contains(screen.String(), "\nsomething else\n") || !strings.Contains(screen.live(), "Deploy nginx") {
		t.Errorf("what is said must stand above the line that is redrawn:\n%s", screen)
	}

	// The latest activity is shown, and the step again when it is over.
	a := v.Activity("Pull an image")
	a.Update("layer 3")
	if got := screen.live(); !strings.Contains(got, "Pull an image: layer 3") {
		t.Errorf("got %q", got)
	}
	a.Done(nil)
	if got := screen.live(); !strings.Contains(got, "Deploy nginx") {
		t.Errorf("got %q", got)
	}

	// Too narrow for all of it.
	screen.resize(24)
	tick()
	if got, want := screen.live(), "  ▸   12m 34s  Deploy …"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if screen.live() != "" {
		t.Errorf("Close left %q", screen.live())
	}
	v.Say("too late")
	if strings.Contains(screen.String(), "too late") {
		t.Error("something was written after Close")
	}
}

func TestNoColor(t *testing.T) {
	for _, color := range []bool{false, true} {
		screen := newTerminal(t, 80)
		v := term.New(screen, term.Options{Interactive: true, Color: color, Width: func() int { return 80 }})
		passedRun(v.Observe)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if (screen.colours > 0) != color {
			t.Errorf("with Color %v there are %d escape sequences that colour", color, screen.colours)
		}
	}
}

func TestForFile(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := term.ForFile(f, func(string) string { return "" })
	if o.Interactive || !o.Color {
		t.Errorf("a file: %+v", o)
	}
	if got := o.Width(); got > 0 {
		t.Errorf("a file has a width of %d", got)
	}
	if o := term.ForFile(f, func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }); o.Color {
		t.Error("NO_COLOR is not honoured")
	}
}

// TestASnapshotThatWasGiven: what nobody asked for did not stay away, and how old the file is, is what its time says.
func TestASnapshotThatWasGiven(t *testing.T) {
	step := plan.Step{Name: "x", Phase: plan.Recover, Title: "X", Outage: true}
	check := plan.Check{Name: "c", Phase: plan.Prove}
	lost, reads := 93784.2, 5.0
	for verdict, missing := range map[plan.Verdict]int{plan.VerdictPassed: 0, plan.VerdictFailed: 2} { // of etcd and of writes nothing is known here
		var out bytes.Buffer
		v := term.New(&out, term.Options{})
		for _, e := range []plan.Event{
			plan.RunStarted{Plan: plan.Plan{
				Scenario: plan.Entry{Name: "s"}, Procedure: plan.Entry{Name: "p"}, Variant: plan.Variant{Own: true}, Steps: []plan.Step{step}, Checks: []plan.Check{check},
			}},
			plan.Warning{Message: "the file has no checksum"},
			plan.StepStarted{Step: step, Number: 1, Of: 1},
			plan.StepFinished{Step: step, Status: plan.StatusPassed},
			plan.CheckFinished{Check: check, Finding: plan.Passed("true")},
			plan.Measured{Measurement: plan.Measurement{
				Outage:   plan.Outage{ReadSeconds: &reads, NotAsked: []string{"work", "service"}},
				Loss:     plan.Loss{Seconds: &lost},
				Snapshot: &plan.SnapshotInfo{Source: "/backup.db", TakenAt: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)},
			}},
			plan.RunFinished{Verdict: verdict},
		} {
			v.Observe(e)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		for _, want := range []string{
			"work       not asked: the snapshot doesn't hold the workload", "service    not asked: the snapshot doesn't hold the workload", "warning: the file has no checksum",
			"26h3m4s of acknowledged writes, by the time of the file that was given (2026-11-22T03:00:00Z)",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: want %q in\n%s", verdict, want, text)
			}
		}
		if n := strings.Count(text, "never came back"); n != missing {
			t.Errorf("%s: %d never came back, want %d:\n%s", verdict, n, missing, text)
		}
	}
}

func TestVerdictsOfRunsThatDidNotProve(t *testing.T) {
	for _, verdict := range []plan.Verdict{plan.VerdictBroken, plan.VerdictSkipped, plan.VerdictInterrupted} {
		step := plan.Step{Name: "x", Phase: plan.Recover, Title: "X", Outage: true}
		check := plan.Check{Name: "c", Phase: plan.Prove}
		var out bytes.Buffer
		v := term.New(&out, term.Options{})
		for _, e := range []plan.Event{
			plan.RunStarted{Plan: plan.Plan{
				Scenario: plan.Entry{Name: "s"}, Procedure: plan.Entry{Name: "p"}, Variant: plan.Variant{Own: true}, Steps: []plan.Step{step}, Checks: []plan.Check{check},
			}},
			plan.StepStarted{Step: step, Number: 1, Of: 1},
			plan.StepFinished{Step: step, Status: plan.StatusPassed},
			plan.CheckFinished{Check: check, Finding: plan.Skipped("not evaluated")},
			plan.RunFinished{Verdict: verdict, Reason: "for a reason"},
		} {
			v.Observe(e)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if !strings.HasSuffix(text, "\n"+strings.ToUpper(string(verdict))+"  s with p: for a reason\n"+
			"verdict "+string(verdict)+"; 0 of 1 checks passed, 1 skipped; 0.0 s in all\n") {
			t.Errorf("%s ends otherwise:\n%s", verdict, text)
		}
		if strings.Contains(text, "never came back") && verdict != plan.VerdictSkipped {
			t.Errorf("%s says that something never came back, which nobody waited for:\n%s", verdict, text)
		}
	}
}

func TestWriteErrorsComeOut(t *testing.T) {
	r, w := io.Pipe()
	want := errors.New("the reader is gone")
	if err := r.CloseWithError(want); err != nil {
		t.Fatal(err)
	}
	v := term.New(w, term.Options{})
	v.Say("hello")
	if err := v.Close(); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// For the race detector: the engine emits, activities come and go, and the ticker redraws.
func TestConcurrentUse(t *testing.T) {
	screen := newTerminal(t, 80)
	ticks := make(chan time.Time)
	v := term.New(screen, term.Options{Interactive: true, Color: true, Width: func() int { return 80 }, Tick: ticks})
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		for range 20 {
			passedRun(v.Observe)
		}
		close(done)
	})
	for range 3 {
		all.Go(func() {
			for range 50 {
				a := v.Activity("x")
				a.Update("y")
				a.Done(nil)
				v.Say("z")
			}
		})
	}
	ticked := make(chan struct{})
	go func() {
		defer close(ticked)
		for {
			select {
			case ticks <- time.Time{}:
			case <-done:
				return
			}
		}
	}()
	all.Wait()
	<-ticked
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(screen.String(), "verdict passed; 3 of 3 checks passed"); got != 20 {
		t.Errorf("%d verdicts, want 20", got)
	}
}

// TestAnotherWayIsNamed: what was not done in the procedure's own way says so where the run begins and in its verdict.
func TestAnotherWayIsNamed(t *testing.T) {
	var out bytes.Buffer
	v := term.New(&out, term.Options{})
	v.Observe(plan.RunStarted{Plan: plan.Plan{
		Scenario: plan.Entry{Name: "s"}, Procedure: plan.Entry{Name: "p"}, Variant: plan.Variant{BumpRevision: 7, KeptRunning: []string{"kubelet"}, Renewed: []string{"kube-scheduler"}},
		Cluster: plan.ClusterInfo{Name: "lab"},
	}})
	v.Observe(plan.RunFinished{Verdict: plan.VerdictFailed, Reason: "for a reason"})
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	const what = "s with p (revision raised by 7, begins anew besides etcd: kube-scheduler)"
	if text := out.String(); !strings.HasPrefix(text, what+" on cluster") || !strings.Contains(text, "\nFAILED  "+what+": for a reason\n") {
		t.Errorf("got\n%s", text)
	}
}
