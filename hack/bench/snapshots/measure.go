package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/etcd-drill/drill/hack/bench/ratio"
	"github.com/etcd-drill/drill/pkg/etcd"
)

type options struct {
	rounds    int
	parts     []part
	file, dir string
	seed      uint64
	bytes     int64
}

// Bench is what was measured.
type Bench struct {
	SchemaVersion int `json:"schemaVersion"`
	// Rounds is how many runs there were of each.
	Rounds   int           `json:"rounds"`
	Snapshot Snapshot      `json:"snapshot"`
	Ratios   []ratio.Ratio `json:"ratios"`
	Sides    []Side        `json:"sides"`
}

// Snapshot is the one that all was measured with. Seed is 0 for a file that was given.
type Snapshot struct {
	Seed  uint64 `json:"seed"`
	Bytes int64  `json:"bytes"`
}

// Side is one of those that took turns.
type Side struct {
	Name string `json:"name"`
	// Seconds and PeakBytes are those of each round.
	Seconds   []float64 `json:"seconds"`
	PeakBytes []int64   `json:"peakBytes"`
}

// result is one measurement.
type result struct {
	took time.Duration
	peak int64
}

// part is two sides that take turns, or one whose memory is looked at as well.
type part struct {
	name        string
	over, under side
	most        float64
	// mostBytes is what the first side's processes may have together; 0 where that has no goal.
	mostBytes int64
}

type side struct {
	name string
	run  func(ctx context.Context, l *lab) (result, error)
}

// memoryGoal is for a file of any size.
const memoryGoal = 256 << 20

func parts() []part {
	status := side{"etcdutl snapshot status", etcdutlStatus}
	return []part{
		{name: "verify", over: side{"drill snapshot verify", drill("snapshot", "verify")}, under: side{"sha256sum + etcdutl snapshot status", sumAndStatus}, most: 1, mostBytes: memoryGoal},
		{name: "inspect", over: side{"drill snapshot inspect", drill("snapshot", "inspect")}, under: status, most: 2, mostBytes: memoryGoal},
		{name: "rehearse", over: side{"drill rehearse", drill("rehearse")}, under: side{"etcdutl snapshot restore + etcd ready", restoreAndStart()}, most: 1.3},
		{name: "rehearse-raised", over: side{"drill rehearse", drill("rehearse")}, under: side{"the same with a raised revision, as drill restores", restoreAndStart("--bump-revision", strconv.FormatUint(etcd.DefaultBump, 10), "--mark-compacted")}},
		{name: "tools", over: side{"sha256sum", sha256sum}, under: status},
	}
}

func partNames() []string { return ratio.Names(parts(), part.title) }

func (p part) title() string { return p.name }

func partsNamed(only string) ([]part, error) {
	if only == "" {
		return parts()[:3], nil // the others are looked at only when asked for
	}
	return ratio.Named(parts(), part.title, only)
}

// take lets the two sides take turns, after one run of each that doesn't count. Every second round begins with the other side.
func (p part) take(ctx context.Context, l *lab, rounds int) (sides [2]Side, err error) {
	both := [2]side{p.over, p.under}
	for i, s := range both {
		sides[i] = Side{Name: s.name, Seconds: []float64{}, PeakBytes: []int64{}}
	}
	for round := range rounds + 1 {
		for k := range both {
			i := (round + k) % len(both)
			r, err := both[i].run(ctx, l)
			if err != nil {
				return sides, fmt.Errorf("%s: %w", both[i].name, err)
			}
			fmt.Fprintf(os.Stderr, "%s: %.2f s, %d MiB\n", both[i].name, r.took.Seconds(), r.peak>>20)
			if round > 0 {
				sides[i].Seconds = append(sides[i].Seconds, r.took.Seconds())
				sides[i].PeakBytes = append(sides[i].PeakBytes, r.peak)
			}
		}
	}
	return sides, nil
}

// ratios holds what was measured against the goals.
func (p part) ratios(sides [2]Side, rounds int) []ratio.Ratio {
	r := ratio.Of(sides[0].Name+" / "+sides[1].Name, sides[0].Seconds, sides[1].Seconds)
	if p.most == 0 {
		r.Goal, r.Met = "none", r.Of == rounds
		return []ratio.Ratio{r}
	}
	out := []ratio.Ratio{ratio.Goal{Most: p.most}.Judge(r, rounds)}
	if p.mostBytes > 0 {
		var used, may []float64
		for _, b := range sides[0].PeakBytes {
			used, may = append(used, float64(b)), append(may, float64(p.mostBytes))
		}
		out = append(out, ratio.Goal{Most: 1}.Judge(ratio.Of(fmt.Sprintf("%s: peak memory / %d MiB", sides[0].Name, p.mostBytes>>20), used, may), rounds))
	}
	return out
}

func measure(ctx context.Context, o options) (err error) {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(l.scratch)) }()
	st, err := os.Stat(l.snapshot)
	if err != nil {
		return err
	}
	b := Bench{SchemaVersion: 1, Rounds: o.rounds, Snapshot: Snapshot{Bytes: st.Size()}, Ratios: []ratio.Ratio{}, Sides: []Side{}}
	if o.file == "" {
		b.Snapshot.Seed = o.seed
	}
	var problems []error
	for _, p := range o.parts {
		sides, err := p.take(ctx, l, o.rounds)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", p.name, err)) // the other parts may do
		}
		b.Sides = append(b.Sides, sides[:]...)
		b.Ratios = append(b.Ratios, p.ratios(sides, o.rounds)...)
		problems = append(problems, b.write(o.dir))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(problems, ratio.Print(os.Stdout, b.Ratios))...)
}

func (b Bench) write(dir string) error {
	content, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprint(&text, "```\n")
	if err := ratio.Print(&text, b.Ratios); err != nil {
		return err
	}
	fmt.Fprintf(&text, "```\n\nA snapshot of %d bytes; seconds and peak memory of each round:\n\n", b.Snapshot.Bytes)
	for _, s := range b.Sides {
		fmt.Fprintf(&text, "- %s:", s.Name)
		for i, seconds := range s.Seconds {
			fmt.Fprintf(&text, " %.2f s (%d MiB)", seconds, s.PeakBytes[i]>>20)
		}
		fmt.Fprintln(&text)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "bench.json"), append(content, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "bench.md"), text.Bytes(), 0o644),
	)
}

// lab has the snapshot and the tools.
type lab struct {
	scratch, snapshot    string
	drill, etcd, etcdutl string
}

// newLab makes what is missing below a new folder in the report's, which is on the same disk.
func newLab(ctx context.Context, o options) (l *lab, err error) {
	l = &lab{}
	if l.drill, err = filepath.Abs(filepath.Join("bin", "drill")); err != nil {
		return nil, err
	}
	if _, err := os.Stat(l.drill); err != nil {
		return nil, fmt.Errorf("%w; hint: `make build` makes it", err)
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return nil, err
	}
	if l.scratch, err = os.MkdirTemp(dir, ".scratch-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(l.scratch)
		}
	}()
	l.etcd, l.etcdutl = filepath.Join(l.scratch, "etcd"), filepath.Join(l.scratch, "etcdutl")
	for path, module := range map[string]string{l.etcd: "server", l.etcdutl: "etcdutl"} {
		if _, err := l.call(ctx, "go", "-C", filepath.Join("hack", "bench", "tools"), "build", "-o", path, "go.etcd.io/etcd/"+module+"/v3"); err != nil {
			return nil, err
		}
	}
	if o.file != "" {
		l.snapshot, err = filepath.Abs(o.file)
		return l, err
	}
	l.snapshot = filepath.Join(l.scratch, "busy.db")
	// Linux counts to the peak memory of a process what the one had that started it, until the program is exchanged (exec_mmap in fs/exec.c): what fills the database must not be done here.
	self, err := os.Executable()
	if err != nil {
		return l, err
	}
	_, err = l.call(ctx, self, "make", "-seed", strconv.FormatUint(o.seed, 10), "-bytes", strconv.FormatInt(o.bytes, 10), l.snapshot)
	return l, err
}

// endLimit is how long a process has to end when it is asked to.
const endLimit = 10 * time.Second

// command is one that ends with ctx, has its scratch files in the lab's, and keeps nothing of its state.
func (l *lab) command(ctx context.Context, name string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endLimit
	cmd.Env = append(os.Environ(), "TMPDIR="+l.scratch, "XDG_STATE_HOME="+l.scratch)
	if filepath.Base(name) == "go" {
		cmd.Env = os.Environ()
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	return cmd, &said
}

// call runs a command to its end and measures it.
func (l *lab) call(ctx context.Context, name string, args ...string) (result, error) {
	cmd, said := l.command(ctx, name, args...)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	m := memory{}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		m.watch(watching, cmd.Process.Pid)
	}()
	err := cmd.Wait()
	r := result{took: time.Since(began)}
	stop()
	<-watched
	if err != nil {
		return r, l.failed(cmd, said, err)
	}
	r.peak = m.peak()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.peak = max(r.peak, usage.Maxrss<<10) // of the largest of them, also of its last moments
	}
	return r, nil
}

func (l *lab) failed(cmd *exec.Cmd, said *bytes.Buffer, err error) error {
	tail := said.String()
	return fmt.Errorf("%s %s: %w: %s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err, strings.TrimSpace(tail[max(0, len(tail)-2<<10):]))
}

// then is one after the other.
func (r result) then(s result) result {
	return result{took: r.took + s.took, peak: max(r.peak, s.peak)}
}

// drill is a command of it about the snapshot.
func drill(args ...string) func(context.Context, *lab) (result, error) {
	return func(ctx context.Context, l *lab) (result, error) {
		return l.call(ctx, l.drill, append(slices.Clone(args), l.snapshot)...)
	}
}

func sha256sum(ctx context.Context, l *lab) (result, error) {
	return l.call(ctx, "sha256sum", l.snapshot)
}

func etcdutlStatus(ctx context.Context, l *lab) (result, error) {
	return l.call(ctx, l.etcdutl, "snapshot", "status", l.snapshot)
}

func sumAndStatus(ctx context.Context, l *lab) (result, error) {
	sum, err := sha256sum(ctx, l)
	if err != nil {
		return sum, err
	}
	status, err := etcdutlStatus(ctx, l)
	return sum.then(status), err
}

// readyLimit is how long etcd may take until it answers, and readyEach how often it is asked.
const (
	readyLimit = 5 * time.Minute
	readyEach  = 10 * time.Millisecond
)

// restoreAndStart is a restore, with flags of etcdutl, and a start.
func restoreAndStart(flags ...string) func(context.Context, *lab) (result, error) {
	return func(ctx context.Context, l *lab) (result, error) { return l.restoreAndStart(ctx, flags) }
}

// restoreAndStart takes from the beginning of the restore until etcd has answered a read that needed its quorum. That etcd is stopped and its data removed doesn't count.
func (l *lab) restoreAndStart(ctx context.Context, flags []string) (_ result, err error) {
	data := filepath.Join(l.scratch, "restored")
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	ports, err := freePorts(2)
	if err != nil {
		return result{}, err
	}
	client, peer := "http://"+ports[0], "http://"+ports[1]
	member := []string{"--data-dir", data, "--name", "bench", "--initial-cluster", "bench=" + peer}
	restored, err := l.call(ctx, l.etcdutl, slices.Concat([]string{"snapshot", "restore", l.snapshot, "--initial-advertise-peer-urls", peer}, member, flags)...)
	if err != nil {
		return restored, err
	}
	began := time.Now()
	cmd, said := l.command(ctx, l.etcd, append([]string{"--initial-advertise-peer-urls", peer, "--listen-peer-urls", peer, "--listen-client-urls", client, "--advertise-client-urls", client}, member...)...)
	if err := cmd.Start(); err != nil {
		return restored, err
	}
	ended, end := make(chan struct{}), error(nil)
	go func() {
		defer close(ended)
		end = cmd.Wait()
	}()
	up, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(readyEach)
	defer tick.Stop()
	for last := error(nil); ; {
		if last = etcd.Health(up, etcd.Endpoint{URL: client}); last == nil {
			break
		}
		select {
		case <-ended:
			return restored, l.failed(cmd, said, errors.Join(errors.New("ended before it answered"), end))
		case <-up.Done():
			_ = cmd.Process.Kill()
			<-ended
			return restored, fmt.Errorf("etcd didn't answer: %w", errors.Join(up.Err(), last))
		case <-tick.C:
		}
	}
	started := result{took: time.Since(began)}
	m := memory{}
	m.look(cmd.Process.Pid)
	started.peak = m.peak()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return restored, err
	}
	select {
	case <-ended: // with the signal, which is what it was asked for
	case <-time.After(endLimit):
		_ = cmd.Process.Kill()
		<-ended
		return restored, fmt.Errorf("etcd did not end within %s of being asked to", endLimit)
	}
	return restored.then(started), nil
}

// freePorts names ports on the loopback address that nobody listens on.
func freePorts(n int) ([]string, error) {
	held := map[string]net.Listener{}
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		held[l.Addr().String()] = l
	}
	return slices.Collect(maps.Keys(held)), nil
}
