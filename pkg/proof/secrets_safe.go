package proof

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/plan"
)

// SecretsSafe makes sure that the recovery has not laid open what a snapshot holds: every Secret of the cluster. Files can be read by their owner
// alone; and neither what the run has written or reported nor what the control plane has logged since it began holds a private key, a bearer token or the
// value of a Secret.
func SecretsSafe(s *Subject) plan.Check {
	return plan.Check{
		Name: "secrets-safe",
		Summary: "the snapshot, the run's folders and etcd's data can be read by their owner alone, and no key, token or Secret's value stands in what the run wrote or the control " +
			"plane logged",
		Phase:   plan.Prove,
		Timeout: time.Minute, // it reads logs
		Look:    func(ctx context.Context) (plan.Finding, error) { return secretsSafe(ctx, s) },
	}
}

func secretsSafe(ctx context.Context, s *Subject) (plan.Finding, error) {
	if s.RunDir == "" || s.NodeDir == "" || s.DataDir == "" || s.Snapshot == nil || s.Transcript == nil || len(s.Members) == 0 {
		return plan.Failed("it is not known what the run has written, and where", "a step that notes it was not carried out").ForGood(), nil
	}
	open, looked, err := modes(ctx, s)
	if err != nil {
		return plan.Finding{}, err
	}
	told, searched, err := leaks(ctx, s)
	if err != nil {
		return plan.Finding{}, err
	}
	evidence := slices.Concat(looked, searched)
	var what, remedies []string
	if len(open) > 0 {
		what = append(what, fmt.Sprintf("%d files or folders are open to others or are theirs", len(open)))
		remedies = append(remedies, "who can read a snapshot or etcd's data can read every Secret: `chmod go=` what others can read, and find out who could until now")
	}
	if len(told) > 0 {
		what = append(what, fmt.Sprintf("secrets stand in %d places", len(told)))
		remedies = append(remedies, "what was written down must be taken for known: rotate that Secret, remove the file or the log, and lower the verbosity (--v) of what logged it")
	}
	if len(what) == 0 {
		return plan.Passed("nothing is open to others, and no key, token or Secret's value was written down", evidence...), nil
	}
	bySubject(open)
	f := plan.Differs(strings.Join(what, ", and "), strings.Join(remedies, "; "), slices.Concat(told, open), evidence...)
	if len(told) > 0 {
		return f.ForGood(), nil
	}
	return f, nil
}

// others are the permissions that nobody but the owner may have.
const others fs.FileMode = 0o077

// runsDir is the folder that holds the folders of all runs.
const runsDir = "runs"

// modes looks at who can read what the run has left, here and on the nodes.
func modes(ctx context.Context, s *Subject) (open []plan.Difference, looked []string, err error) {
	paths := []string{s.Snapshot.Path}
	if above := filepath.Dir(s.RunDir); filepath.Base(above) == runsDir {
		paths = append(paths, above)
	}
	err = filepath.WalkDir(s.RunDir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != s.RunDir { // it is being written, under a name that doesn't last
			return nil
		}
		if !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("looking at the run's folder: %w", err)
	}
	for _, p := range paths {
		d, err := openHere(p)
		if err != nil {
			return nil, nil, err
		}
		open = append(open, d...)
	}
	found, err := onNodes(ctx, memberNodes(s), func(ctx context.Context, n cluster.Node) ([]plan.Difference, error) { return openThere(ctx, n, s) })
	if err != nil {
		return nil, nil, err
	}
	for _, m := range s.Members {
		open = append(open, found[m.Name]...)
	}
	summary := fmt.Sprintf("looked at the modes of %d files and folders here, and of the run's folder, data directory and snapshot on %d nodes", len(paths), len(s.Members))
	return open, []string{summary}, nil
}

func memberNodes(s *Subject) []cluster.Node {
	var out []cluster.Node
	for _, m := range s.Members {
		out = append(out, m.Node)
	}
	return out
}

// openHere looks at a file or folder of this machine.
func openHere(path string) ([]plan.Difference, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink != 0 { // a link has no mode of its own
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	want := "mode 0600"
	if info.IsDir() {
		want = "mode 0700"
	}
	var d []plan.Difference
	if mode := info.Mode().Perm(); mode&others != 0 {
		d = append(d, plan.Difference{Subject: path, Expected: want, Seen: fmt.Sprintf("mode %04o", mode)})
	}
	if owner, mine := ownedByMe(info); !mine {
		d = append(d, plan.Difference{Subject: path, Expected: fmt.Sprintf("owned by user %d, who runs the drill", os.Geteuid()), Seen: fmt.Sprintf("owned by user %d", owner)})
	}
	return d, nil
}

// statEach prints mode, owner and name of each file that there is.
const statEach = `for path; do if [ -e "$path" ]; then stat --format="%a %u %n" -- "$path"; fi; done`

// openThere looks at what the recovery left on a node. The snapshot is there only if somebody took it there.
func openThere(ctx context.Context, n cluster.Node, s *Subject) ([]plan.Difference, error) {
	wants := []struct {
		path, mode string
		must       bool
	}{{s.NodeDir, "mode 0700", true}, {s.DataDir, "mode 0700", true}, {s.NodeSnapshot, "mode 0600", false}}
	if s.Swap != nil {
		if beside := path.Dir(s.Swap.Aside); beside != s.NodeDir { // where directories are that were renamed
			wants = append(wants, wants[0])
			wants[len(wants)-1].path = beside
		}
	}
	argv := []string{"sh", "-c", statEach, "sh"}
	for _, w := range wants {
		argv = append(argv, w.path)
	}
	out, err := cluster.Run(ctx, n, argv...)
	if err != nil {
		return nil, err
	}
	seen := map[string][2]string{}
	for line := range strings.Lines(out) {
		if f := strings.SplitN(strings.TrimSpace(line), " ", 3); len(f) == 3 {
			seen[f[2]] = [2]string{f[0], f[1]}
		}
	}
	var d []plan.Difference
	for _, w := range wants {
		subject := w.path + " on " + n.Name()
		got, there := seen[w.path]
		if !there {
			if w.must {
				d = append(d, plan.Difference{Subject: subject, Expected: w.mode, Seen: "no such folder"})
			}
			continue
		}
		mode, err := strconv.ParseUint(got[0], 8, 32)
		if err != nil {
			return nil, fmt.Errorf("node %s: stat says %q for the mode of %s", n.Name(), got[0], w.path)
		}
		if fs.FileMode(mode)&others != 0 {
			d = append(d, plan.Difference{Subject: subject, Expected: w.mode, Seen: fmt.Sprintf("mode %04o", mode)})
		}
		if got[1] != "0" {
			d = append(d, plan.Difference{Subject: subject, Expected: "owned by root", Seen: "owned by user " + got[1]})
		}
	}
	return d, nil
}

// exhibit is a text that must hold nothing secret.
type exhibit struct {
	place string
	text  []byte
	// marks, of a log, are the times of its entries by where they begin in text; nil means that lines are counted.
	marks []mark
	// cut says what part of it was read, if not all that the run has to do with.
	cut string
}

type mark struct {
	start int
	at    time.Time
}

const (
	// mostOfFile, mostOfLog and mostLines bound what is read of a file here, of a component's log, and of kubelet's journal.
	mostOfFile = 64 << 20 // bytes, from the beginning
	mostOfLog  = 4 << 20  // bytes, from the end
	mostLines  = 20000    // from the end
)

// leaks searches what the run has written and reported, and what the control plane has logged since it began.
func leaks(ctx context.Context, s *Subject) (told []plan.Difference, searched []string, err error) {
	scanner := s.Leaks // what is no longer a Secret's value was one when it was written down
	if scanner == nil {
		scanner = NewLeaks()
	}
	if err := scanner.Learn(ctx, s.Servers[0]); err != nil {
		return nil, nil, err
	}
	transcript, err := s.Transcript()
	if err != nil {
		return nil, nil, fmt.Errorf("what the run has reported so far: %w", err)
	}
	exhibits, err := written(s)
	if err != nil {
		return nil, nil, err
	}
	exhibits = append(exhibits, exhibit{place: "the report", text: transcript})
	began := beganAt(transcript)
	logged, err := onNodes(ctx, memberNodes(s), func(ctx context.Context, n cluster.Node) ([]exhibit, error) { return logsOf(ctx, n, began) })
	if err != nil {
		return nil, nil, err
	}
	for _, m := range s.Members {
		exhibits = append(exhibits, logged[m.Name]...)
	}
	searched = append(searched, fmt.Sprintf("looked for %d values of Secrets, and not for %d that are too short, too plain or names, and can't be told from other text", scanner.Searched, scanner.Short))
	for _, e := range exhibits {
		line := fmt.Sprintf("searched %s, %d bytes", e.place, len(e.text))
		if e.cut != "" {
			line += ", " + e.cut
		}
		searched = append(searched, line)
		told = append(told, e.told(scanner)...)
	}
	return told, searched, nil
}

// told names what an exhibit gives away, each once.
func (e exhibit) told(l *Leaks) []plan.Difference {
	times := map[string]int{}
	first := map[string]int{}
	var order []string
	for _, f := range l.Find(e.text) {
		if times[f.What]++; times[f.What] == 1 {
			first[f.What] = f.Start
			order = append(order, f.What)
		}
	}
	var out []plan.Difference
	for _, what := range order {
		seen := what
		if n := times[what]; n > 1 {
			seen = fmt.Sprintf("%s, %d times", what, n)
		}
		out = append(out, plan.Difference{Subject: e.at(first[what]), Expected: "nothing secret", Seen: seen})
	}
	return out
}

// at names a place in an exhibit.
func (e exhibit) at(offset int) string {
	if e.marks == nil {
		return fmt.Sprintf("%s, line %d", e.place, bytes.Count(e.text[:offset], []byte("\n"))+1)
	}
	i, _ := slices.BinarySearchFunc(e.marks, offset+1, func(m mark, offset int) int { return m.start - offset })
	if at := e.marks[i-1].at; !at.IsZero() {
		return e.place + ", entry of " + moment(at)
	}
	return e.place
}

// written reads the files of the run's folder but the snapshot, which holds every Secret.
func written(s *Subject) ([]exhibit, error) {
	var out []exhibit
	err := filepath.WalkDir(s.RunDir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != s.RunDir {
			return nil
		}
		if err != nil || !d.Type().IsRegular() || path == s.Snapshot.Path {
			return err
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, mostOfFile))
		e := exhibit{place: path, text: text}
		if len(text) == mostOfFile {
			e.cut = "which is its beginning alone: what is behind is not known to be safe"
		}
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the run's folder: %w", err)
	}
	return out, nil
}

// beganAt is when the run began, by this machine's clock, as its report says; the zero time where it doesn't.
func beganAt(transcript []byte) time.Time {
	var doc struct {
		Runs []struct {
			StartedAt time.Time `json:"startedAt"`
		} `json:"runs"`
	}
	if json.Unmarshal(transcript, &doc) != nil || len(doc.Runs) == 0 {
		return time.Time{}
	}
	return doc.Runs[0].StartedAt
}

// logsOf reads what kubelet and the four components on a node have logged since the run began, or all there is where that isn't known; but no more than the
// last part of it.
func logsOf(ctx context.Context, n cluster.Node, began time.Time) ([]exhibit, error) {
	now, err := clockOf(ctx, n)
	if err != nil {
		return nil, err
	}
	var since time.Time // by the node's clock
	journal := []string{"journalctl", "--unit", "kubelet", "--no-pager", "--output", "short-iso-precise", "--lines", strconv.Itoa(mostLines)}
	if !began.IsZero() {
		age := max(time.Since(began), 0)
		since = now.Add(-age)
		journal = append(journal, fmt.Sprintf("--since=-%.0fs", math.Ceil(age.Seconds())))
	}
	all, err := controlplane.Containers(ctx, n, true)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(c controlplane.Container) bool {
		return c.PodNamespace != "kube-system" || !slices.Contains(controlplane.Components(), c.Name) || c.LogPath == "" ||
			!c.FinishedAt.IsZero() && c.FinishedAt.Before(since)
	})
	for _, component := range controlplane.Components() {
		if !slices.ContainsFunc(all, func(c controlplane.Container) bool { return c.Name == component }) {
			return nil, fmt.Errorf("no container of %s on %s has a log; see `crictl ps --all` there", component, n.Name())
		}
	}
	out := make([]exhibit, len(all)+1)
	reading, ctx := errgroup.WithContext(ctx)
	reading.Go(func() error {
		raw, err := output(ctx, n, journal...)
		if err != nil {
			return fmt.Errorf("journal of kubelet: %w", err)
		}
		e := entries("journal of kubelet on "+n.Name(), raw, since, journalEntry)
		if !slices.ContainsFunc(e.marks, func(m mark) bool { return !m.at.IsZero() }) { // journalctl says "-- No entries --"
			return fmt.Errorf("the journal of kubelet on node %s has no entry since the run began, though kubelet was restarted: what it logged can't be searched; "+
				"see `journalctl --unit kubelet` there, and whether the journal is kept", n.Name())
		}
		if bytes.Count(raw, []byte("\n")) >= mostLines {
			e.cut = fmt.Sprintf("of its last %d lines alone: what is before is not known to be safe", mostLines)
		}
		out[len(all)] = e
		return nil
	})
	for i, c := range all {
		reading.Go(func() error {
			raw, err := output(ctx, n, "tail", "-c", strconv.Itoa(mostOfLog), "--", c.LogPath)
			var exit *cluster.ExitError
			if errors.As(err, &exit) && c.State != controlplane.ContainerRunning {
				return nil // kubelet removes logs of containers that have ended
			}
			if err != nil {
				return fmt.Errorf("log of %s: %w", c.Name, err)
			}
			e := entries(fmt.Sprintf("log of %s on %s, %s", c.Name, n.Name(), c.LogPath), raw, since, criEntry)
			if len(raw) >= mostOfLog && !older(raw, since, criEntry) {
				e.cut = fmt.Sprintf("of the last %d bytes of the file alone: what is before is not known to be safe", mostOfLog)
			}
			out[i] = e
			return nil
		})
	}
	if err := reading.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out, func(e exhibit) bool { return e.place == "" }), nil
}

// output runs a command that prints a log. An error holds nothing of what was printed: that is not known to be safe.
func output(ctx context.Context, n cluster.Node, argv ...string) ([]byte, error) {
	var out bytes.Buffer
	_, err := n.Exec(ctx, cluster.Cmd{Argv: argv, Stdout: &out})
	return out.Bytes(), err
}

// clockOf reads a node's clock.
func clockOf(ctx context.Context, n cluster.Node) (time.Time, error) {
	out, err := cluster.Run(ctx, n, "date", "--utc", "+%Y-%m-%dT%H:%M:%S.%NZ")
	if err != nil {
		return time.Time{}, fmt.Errorf("clock of node %s: %w", n.Name(), err)
	}
	now, err := time.Parse(time.RFC3339Nano, out)
	if err != nil {
		return time.Time{}, fmt.Errorf("clock of node %s: %w", n.Name(), err)
	}
	return now, nil
}

// entries takes from a log what is from since on, without what stands before each line: a value that has several lines, or one that is longer than the runtime
// writes at once, is whole again.
func entries(place string, raw []byte, since time.Time, entry func(line []byte) (at time.Time, text []byte, ok bool)) exhibit {
	e := exhibit{place: place, text: []byte{}, marks: []mark{}}
	var last time.Time
	for line := range bytes.Lines(raw) {
		at, text, ok := entry(line)
		if ok {
			last = at
		}
		if last.Before(since) { // what has no time, the rest of a line at the beginning for one, belongs to what stands before
			continue
		}
		e.marks = append(e.marks, mark{len(e.text), last})
		e.text = append(e.text, text...)
	}
	return e
}

// older says whether the first entry of a log is from before since, so that all from then on is there.
func older(raw []byte, since time.Time, entry func(line []byte) (at time.Time, text []byte, ok bool)) bool {
	for line := range bytes.Lines(raw) {
		if at, _, ok := entry(line); ok {
			return at.Before(since)
		}
	}
	return false
}

// criEntry reads a line as container runtimes write it, TIME STREAM TAG TEXT, where tag P says that the line goes on with the next
// (https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md).
func criEntry(line []byte) (time.Time, []byte, bool) {
	f := bytes.SplitN(line, []byte(" "), 4)
	if len(f) < 4 {
		return time.Time{}, line, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(f[0]))
	if err != nil {
		return time.Time{}, line, false
	}
	if bytes.HasPrefix(f[2], []byte("P")) {
		return at, bytes.TrimSuffix(f[3], []byte("\n")), true
	}
	return at, f[3], true
}

// journalEntry reads a line of `journalctl --output short-iso-precise`: TIME HOST NAME[PID]: TEXT.
func journalEntry(line []byte) (time.Time, []byte, bool) {
	f := bytes.SplitN(line, []byte(" "), 4)
	if len(f) < 4 {
		return time.Time{}, line, false
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999-0700", time.RFC3339Nano} { // systemd writes the zone with a colon since version 255
		if at, err := time.Parse(layout, string(f[0])); err == nil {
			return at, f[3], true
		}
	}
	return time.Time{}, line, false
}
