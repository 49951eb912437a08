package kind

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// serve is what a session runs on a node: it carries out one command after the other. Each comes as the number of its arguments, the size in bytes of what it is to read and the arguments, all ended by
// a zero byte, which is the one byte that no argument can hold, followed by what it is to read. When all of that is there the shell says that it has heard it, and starts it at another zero byte: so a
// command whose session turns out to have ended was surely not run, and may be given to another one. The answer is a line with the command's status and the sizes in bytes of what it printed on its two
// outputs, followed by both.
//
// What is read is bytes and not text: in a locale of several bytes a character, bash would take the zero byte after half of one for a part of it. env starts the command, so that it is a program
// and never one of the shell's own words. Each process that is started takes a processor for a while, so that none is where there is nothing to read or to print. What is read and printed goes through files in memory, new ones for each command: something
// that a command leaves running must not write into the answer to a later one. So a command that opens /dev/stdout once more finds a file, and truncates it as one. The handler for PIPE has no effect but that the shell lives on for long enough to remove its folder, and that,
// unlike with an ignored signal, its commands don't ignore it too.
const serve = `dir=$(mktemp -d "${XDG_RUNTIME_DIR:-/run}/drill-session.XXXXXX") || exit
trap : PIPE
trap 'rm -rf -- "$dir"' EXIT
echo ready
while LC_ALL=C IFS= read -r -d '' left && LC_ALL=C IFS= read -r -d '' size; do
  argv=()
  for ((; left > 0; left--)); do
    LC_ALL=C IFS= read -r -d '' arg || exit
    argv+=("$arg")
  done
  : >"$dir/out" && : >"$dir/err" || exit
  in=/dev/null
  if ((size > 0)); then
    in=$dir/in
    head -c "$size" >"$in" || exit
    [ "$(stat -c %s -- "$in")" = "$size" ] || exit
  fi
  echo heard
  IFS= read -r -d '' go || exit
  env -- "${argv[@]}" <"$in" >"$dir/out" 2>"$dir/err"
  code=$?
  sizes=($(stat -c %s -- "$dir/out" "$dir/err"))
  echo "$code ${sizes[*]}"
  ((sizes[0] == 0)) || head -c "${sizes[0]}" -- "$dir/out"
  ((sizes[1] == 0)) || head -c "${sizes[1]}" -- "$dir/err"
  rm -f -- "$dir/in" "$dir/out" "$dir/err"
done
`

// idleLimit is for how long a session is kept for the next command.
const idleLimit = 30 * time.Second

// errNoSession says that a command was not run, because no session could be had.
var errNoSession = errors.New("no session")

// sessions are those of one node, each for one command at a time. Starting a command by way of the engine costs several times what most commands take, and it costs the machine's
// processors, which is where a control plane that is just starting wants to be.
type sessions struct {
	mu   sync.Mutex
	idle []*session
	// refused counts how often in a row the node ran a command and no session: one that is just starting may do so once.
	refused int
}

// session is a shell on a node that runs commands as they are sent.
type session struct {
	in, out *os.File // what the shell reads from, and what it prints to
	answers *bufio.Reader
	kill    context.CancelFunc
	expires *time.Timer
}

// answer is what a command did.
type answer struct {
	code           int
	stdout, stderr []byte
}

// fits says whether a session can run the command: it reads what is held in memory and little, its output is to be held, too, and env would take its name for nothing else.
func (s *sessions) fits(cmd cluster.Cmd) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, small := held(cmd.Stdin)
	return s.refused < mostRefusals && small && cmd.Stdout == nil && cmd.Argv[0] != "-" && !strings.Contains(cmd.Argv[0], "=") &&
		!slices.ContainsFunc(slices.Concat(cmd.Env, cmd.Argv), func(arg string) bool { return strings.ContainsRune(arg, 0) })
}

// mostInput is how much a command in a session may read, in bytes. It goes to the node before the command is begun.
const mostInput = 256 << 10

// held is the size of what a reader holds in memory, if it does and that is little. No other reader can be read before the command is begun: it may block, or never end.
func held(r io.Reader) (size int, small bool) {
	switch in := r.(type) {
	case nil:
		return 0, true
	case *bytes.Reader:
		size = in.Len()
	case *bytes.Buffer:
		size = in.Len()
	case *strings.Reader:
		size = in.Len()
	default:
		return 0, false
	}
	return size, size <= mostInput
}

// heldInput is what a command is to read that fits.
func heldInput(cmd cluster.Cmd) ([]byte, error) {
	if cmd.Stdin == nil {
		return nil, nil
	}
	return io.ReadAll(cmd.Stdin)
}

// mostRefusals is how often in a row a session is tried for.
const mostRefusals = 3

// refuse says that the node has run a command, and no session.
func (s *sessions) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused++
}

// run runs a command in an idle session or else in a new one, which begin starts. errNoSession says that the command was not run; any other error that it may have been.
func (s *sessions) run(ctx context.Context, cmd cluster.Cmd, input []byte, begin func(context.Context) (*session, error)) (answer, error) {
	for {
		one := s.take()
		if one == nil {
			var err error
			if one, err = begin(ctx); err != nil {
				return answer{}, err
			}
		}
		a, whole, err := one.run(ctx, cmd, input)
		if err == nil && whole {
			s.keep(one)
		} else {
			one.end()
		}
		if err == nil {
			return a, nil
		}
		if ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		if !errors.Is(err, errNoSession) {
			return answer{}, err
		}
		// It ended while it was idle, as when its node was started anew.
	}
}

// take returns an idle session, the one used last first; nil when there is none.
func (s *sessions) take() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		last := len(s.idle) - 1
		one := s.idle[last]
		s.idle = s.idle[:last]
		if one.expires.Stop() {
			return one
		}
	}
	return nil
}

// keep lets a session wait for another command.
func (s *sessions) keep(one *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.expires = time.AfterFunc(idleLimit, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.idle = slices.DeleteFunc(s.idle, func(o *session) bool { return o == one })
		one.end()
	})
	s.idle = append(s.idle, one)
	s.refused = 0
}

// openSession starts a session on the node. It outlives ctx, which bounds only how long it may take to be there.
func (n *node) openSession(ctx context.Context) (*session, error) {
	shellIn, in, errIn := os.Pipe()
	out, shellOut, errOut := os.Pipe()
	own, kill := context.WithCancel(context.WithoutCancel(ctx))
	s := &session{in: in, out: out, answers: bufio.NewReader(out), kill: kill}
	if errors.Join(errIn, errOut) != nil {
		for _, f := range []*os.File{shellIn, in, out, shellOut} {
			_ = f.Close() // those that are there
		}
		kill()
		return nil, errNoSession
	}
	process := n.engine.command(own, "exec", "--privileged", "-i", n.id, "bash", "-c", serve)
	process.Stdin, process.Stdout = shellIn, shellOut
	err := process.Start()
	_, _ = shellIn.Close(), shellOut.Close()
	if err != nil {
		s.end()
		return nil, errNoSession
	}
	go func() { _ = process.Wait() }()
	release := s.until(ctx)
	line, err := s.answers.ReadString('\n')
	if whole := release(); err != nil || line != "ready\n" || !whole {
		s.end()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errNoSession
	}
	return s, nil
}

// until cuts off what the session reads and writes when ctx ends, until the function is called that it returns. That says whether the session is as it was: what has begun to cut it off may do so at any
// later moment.
func (s *session) until(ctx context.Context) (release func() (whole bool)) {
	return context.AfterFunc(ctx, func() {
		_, _ = s.in.SetWriteDeadline(time.Now()), s.out.SetReadDeadline(time.Now())
		s.kill() // where pipes have no deadlines
	})
}

// end lets go of the session. The shell ends when there is nothing more to read, even if the engine's command line is killed before it can say so.
func (s *session) end() {
	_, _ = s.in.Close(), s.out.Close()
	s.kill()
}

// run runs a command. errNoSession says that it was not begun, and whole that the session is fit for another one.
func (s *session) run(ctx context.Context, cmd cluster.Cmd, input []byte) (a answer, whole bool, err error) {
	if !s.heard(ctx, slices.Concat(cmd.Env, cmd.Argv), input) {
		return answer{}, false, errNoSession
	}
	release := s.until(ctx)
	a, err = s.start()
	whole = release()
	if err != nil {
		return answer{}, false, fmt.Errorf("the shell there that was to run it ended (%w), so whether it ran to its end is not known", err)
	}
	return a, whole, nil
}

// heardLimit is how long a shell may take to say that it has heard a command: one that runs does so at once.
const heardLimit = 3 * time.Second

// heard gives the shell a command and says whether it has heard it. On a node that is frozen it never does, where the engine would say at once that it is.
func (s *session) heard(ctx context.Context, args []string, input []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, heardLimit)
	defer cancel()
	release := s.until(ctx)
	var request bytes.Buffer
	fmt.Fprintf(&request, "%d\x00%d\x00", len(args), len(input))
	for _, arg := range args {
		request.WriteString(arg + "\x00")
	}
	request.Write(input)
	_, err := s.in.Write(request.Bytes())
	line := ""
	if err == nil {
		line, err = s.answers.ReadString('\n')
	}
	return release() && err == nil && line == "heard\n"
}

// start has the command started that the shell has heard, and returns what it did.
func (s *session) start() (a answer, err error) {
	if _, err := s.in.Write([]byte{0}); err != nil {
		return a, err
	}
	line, err := s.answers.ReadString('\n')
	if err != nil {
		return a, err
	}
	var sizes [2]int64
	if _, err := fmt.Sscanf(line, "%d %d %d\n", &a.code, &sizes[0], &sizes[1]); err != nil {
		return a, fmt.Errorf("it printed %q: %w", line, err)
	}
	a.stdout, a.stderr = make([]byte, sizes[0]), make([]byte, sizes[1])
	if _, err := io.ReadFull(s.answers, a.stdout); err != nil {
		return a, err
	}
	_, err = io.ReadFull(s.answers, a.stderr)
	return a, err
}
