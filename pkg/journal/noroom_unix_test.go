//go:build unix

package journal_test

import (
	"errors"
	"os/signal"
	"syscall"
	"testing"

	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
)

// TestNoRoom: what can't be written is told to whoever keeps copies, and is written as soon as there is room again.
func TestNoRoom(t *testing.T) {
	dir, j := create(t)
	var told []byte
	j.Watch(func(content []byte) { told = content })
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	full := limit
	full.Cur = uint64(len(told) + 10) // a part of the next line has room
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	all := entries()
	err := j.Append(all[0])
	second := j.Append(all[1])
	if back := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); back != nil {
		t.Fatal(back)
	}
	if !errors.Is(err, syscall.EFBIG) || !errors.Is(second, syscall.EFBIG) {
		t.Fatal(err, second)
	}
	before, err := journal.Read(dir)
	copied, copyErr := journal.Parse(told)
	if err != nil || copyErr != nil || len(before.Steps) != 0 || len(copied.Steps) != 1 || copied.Steps[0].Status != plan.StatusPassed {
		t.Errorf("%+v, %v; copied: %+v, %v", before.Steps, err, copied.Steps, copyErr)
	}
	if err := j.Append(all[2]); err != nil {
		t.Fatal(err)
	}
	if s, err := journal.Read(dir); err != nil || len(s.Steps) != 2 || s.Steps[0].Status != plan.StatusPassed {
		t.Errorf("%+v, %v", s.Steps, err)
	}
}
