package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fake takes as many seconds as it is told to, one run after the other, and remembers when it ran.
func fake(name string, order *[]string, seconds ...float64) side {
	return side{name, func(context.Context, *lab) (result, error) {
		*order = append(*order, name)
		if len(seconds) == 0 {
			return result{}, errors.New("no more")
		}
		took := seconds[0]
		seconds = seconds[1:]
		return result{time.Duration(took * float64(time.Second)), 300 << 20}, nil
	}}
}

// The sides take turns, the first run of each doesn't count, and a goal is held against the median.
func TestTurns(t *testing.T) {
	var order []string
	p := part{over: fake("a", &order, 99, 2, 4), under: fake("b", &order, 99, 2, 2), most: 1.4, mostBytes: memoryGoal}
	sides, err := p.take(t.Context(), nil, 2)
	if err != nil || strings.Join(order, "") != "abbaab" {
		t.Fatalf("%v, in the order %v", err, order)
	}
	got := p.ratios(sides, 2)
	if len(got) != 2 || got[0].Median != 1.5 || got[0].Met || got[1].Met || got[1].Median <= 1 {
		t.Errorf("%+v", got)
	}
	p.most = 1.5
	if got := p.ratios(sides, 2); !got[0].Met {
		t.Errorf("%+v", got)
	}
	sides, err = part{over: fake("a", &order, 1, 1), under: fake("b", &order, 1)}.take(t.Context(), nil, 1)
	if err == nil || !strings.Contains(err.Error(), "b: no more") {
		t.Error(err)
	}
	if got := p.ratios(sides, 1); got[0].Met {
		t.Errorf("a side failed, and %+v", got)
	}
}

// The memory of a process that has ended is known, with that of those below it; a command that fails is an error with what it said.
func TestCall(t *testing.T) {
	l := &lab{scratch: t.TempDir()}
	r, err := l.call(t.Context(), "sh", "-c", "sleep 0.2; true")
	if err != nil || r.peak < 1<<20 || r.took <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := l.call(t.Context(), "sh", "-c", "echo oh no; exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3: oh no") {
		t.Error(err)
	}
	cmd := exec.Command("sh", "-c", "cat & cat; wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := memory{}
	for deadline := time.Now().Add(10 * time.Second); len(m) < 2 && time.Now().Before(deadline); {
		m.look(cmd.Process.Pid)
	}
	if len(m) < 2 || m.peak() <= m[cmd.Process.Pid] {
		t.Errorf("a process and one below it: %v", m)
	}
	_ = in.Close()
	_ = cmd.Wait()
	if _, ok := highWater("State:\tZ (zombie)\n"); ok {
		t.Error("one that has ended has a peak")
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{{}, {"do"}, {"make"}, {"make", "a", "b"}, {"measure", "-rounds", "0"}, {"measure", "-only", "verification"}} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}

// The tools are of the version that drill is built with.
func TestToolsVersion(t *testing.T) {
	version := func(path, module string) string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == module {
				return f[1]
			}
		}
		return ""
	}
	for _, module := range []string{"go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdutl/v3"} {
		ours, tools := version(filepath.Join("..", "..", "..", "go.mod"), module), version(filepath.Join("..", "tools", "go.mod"), module)
		if ours == "" || ours != tools {
			t.Errorf("%s is %s in drill and %s in its rivals", module, ours, tools)
		}
	}
}
