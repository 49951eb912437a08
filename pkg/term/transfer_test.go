package term_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/term"
)

// transfer tells of a transfer of 2 GB that takes 20 s.
func transfer(t *testing.T, w interface{ Write([]byte) (int, error) }, o term.Options) {
	t.Helper()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	o.Now = func() time.Time { return now }
	bar := term.NewTransfer(w, o, "snapshot of https://etcd-1.example.com:2379")
	for i := int64(1); i < 20; i++ {
		now = now.Add(time.Second)
		bar.Tell(i*100e6, 2e9)
	}
	if o.Interactive {
		return // as it is in the midst
	}
	if err := bar.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTransferOnATerminal: there is one line, whatever its width, and it tells how much of how much, how fast and how long.
func TestTransferOnATerminal(t *testing.T) {
	for width, want := range map[int]string{
		130: `^snapshot of https://etcd-1\.example\.com:2379  \[#{28}--\]  1900\.0 of 2000\.0 MB, 100\.0 MB/s, 1 s left$`,
		98:  `^snapshot of https://etcd-1\.example\.com:2379  1900\.0 of 2000\.0 MB, 100\.0 MB/s, 1 s left$`,
		104: `^snapshot of https://etcd-1\.example\.com:2379  \[#{12}-\]  1900\.0 of 2000\.0 MB, 100\.0 MB/s, 1 s left$`,
		60:  `^snapshot of https://etcd-1\.example\.com:2379  1900\.0 of 200…$`,
	} {
		screen := newTerminal(t, width)
		transfer(t, screen, term.Options{Interactive: true, Width: screen.Width})
		if got := strings.TrimSpace(screen.String()); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("on %d columns: %q", width, got)
		}
	}
}

// TestTransferPlain: elsewhere there is a line every few seconds, and none about the end.
func TestTransferPlain(t *testing.T) {
	var b bytes.Buffer
	transfer(t, &b, term.Options{})
	if got := b.String(); strings.Count(got, "\n") != 3 || strings.ContainsAny(got, "\r\x1b") || !strings.Contains(got, "500.0 of 2000.0 MB, 100.0 MB/s, 15 s left\n") {
		t.Errorf("%q", got)
	}
}
