package kind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// streams joins a command's standard streams to readers and writers of this process.
//
// os/exec can do that, too, but its Wait either waits for these goroutines for as long as they like or, with
// WaitDelay, cuts them off that long after the command's end, which would truncate what a slow writer is still taking.
// Here the end of the context alone cuts them off. And the command's end doesn't wait for a reader that still blocks.
type streams struct {
	stdin  io.Reader
	feed   io.WriteCloser // nil without stdin
	drains []*drain
	fed    chan error
}

// drain copies one output stream.
type drain struct {
	from, end *os.File // end is the command's; this process must let go of it to see the stream's end
	to        io.Writer
	done      chan error
}

func openStreams(cmd *exec.Cmd, stdin io.Reader, stdout, stderr io.Writer) (*streams, error) {
	s := &streams{stdin: stdin, fed: make(chan error, 1)}
	for _, to := range []io.Writer{stdout, stderr} {
		from, end, err := os.Pipe()
		if err != nil {
			s.begin(false)
			return nil, err
		}
		s.drains = append(s.drains, &drain{from: from, end: end, to: to, done: make(chan error, 1)})
	}
	cmd.Stdout, cmd.Stderr = s.drains[0].end, s.drains[1].end
	if stdin == nil {
		return s, nil
	}
	var err error
	if s.feed, err = cmd.StdinPipe(); err != nil {
		s.begin(false)
		return nil, err
	}
	return s, nil
}

// begin starts copying, or closes everything when the command did not start.
func (s *streams) begin(started bool) {
	for _, d := range s.drains {
		_ = d.end.Close()
		if !started {
			_ = d.from.Close()
			continue
		}
		go func() {
			_, err := io.Copy(d.to, d.from)
			d.done <- err
			_ = d.from.Close() // after a failed write: the command learns that nobody listens
		}()
	}
	if s.feed == nil || !started {
		return
	}
	go func() {
		source := &keepError{r: s.stdin}
		_, _ = io.Copy(s.feed, source) // a failed write means that the command reads no more, which is its right
		s.fed <- source.err            // it is there before the command can see the end of its input
		_ = s.feed.Close()
	}()
}

// finish waits, after the command's end, until all that it printed is passed on. Its error is one of this side: of
// the context, or of a reader or writer.
func (s *streams) finish(ctx context.Context) error {
	var failed error
	for _, d := range s.drains {
		select {
		case err := <-d.done:
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("passing on what it printed: %w", err))
			}
		case <-ctx.Done():
			for _, d := range s.drains {
				_ = d.from.Close()
			}
			return ctx.Err()
		}
	}
	select {
	case err := <-s.fed:
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("reading what to feed it: %w", err))
		}
	default:
	}
	return failed
}

// keepError keeps the error of a reader apart from that of the writer in a copy.
type keepError struct {
	r   io.Reader
	err error
}

func (k *keepError) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		k.err = err
	}
	return n, err
}
