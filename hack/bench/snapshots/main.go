// Command snapshots makes large snapshots of a busy cluster, and measures what drill does with them beside the tools that people use otherwise.
//
//	go run ./hack/bench/snapshots make [-bytes N] [-seed N] FILE
//	go run ./hack/bench/snapshots measure [-rounds N] [-only PART,PART] [-file FILE] [-bytes N] [-seed N] [-dir DIR]
//
// measure needs bin/drill, sha256sum and Go, which builds etcd and etcdutl of the version in drill itself (hack/bench/tools). The two sides take turns on the same file, one process at a time, with
// the file in the page cache: each side is run once before it counts. It prints the ratios with their least, median and most, and writes them with every time to bench.json and bench.md.
// What it misses is no error: a goal is a measurement, and not a test. Interrupted, it ends what it started and removes what it made.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "snapshots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("snapshots "+verb, flag.ContinueOnError)
	bytes := flags.Int64("bytes", 1<<30, "about how large the snapshot is to be")
	seed := flags.Uint64("seed", 1, "of what is made up: the same seed and size give the same keys and values")
	switch verb {
	case "make":
		if err := flags.Parse(args); err != nil {
			return err
		}
		if flags.NArg() != 1 {
			return errors.New("name one file to write")
		}
		return makeTold(ctx, flags.Arg(0), *seed, *bytes)
	case "measure":
		o := options{}
		flags.IntVar(&o.rounds, "rounds", 5, "how many rounds count")
		only := flags.String("only", "", "comma-separated parts; default all of: "+strings.Join(partNames(), ", "))
		flags.StringVar(&o.file, "file", "", "measure with this snapshot instead of one that is made")
		flags.StringVar(&o.dir, "dir", "reports/bench-snapshots", "where to write bench.json and bench.md; the snapshot is made beside them and takes twice its size while it is")
		if err := flags.Parse(args); err != nil {
			return err
		}
		o.seed, o.bytes = *seed, *bytes
		var err error
		if o.parts, err = partsNamed(*only); err != nil {
			return err
		}
		if o.rounds < 1 {
			return fmt.Errorf("-rounds is at least 1, not %d", o.rounds)
		}
		return measure(ctx, o)
	}
	return fmt.Errorf("the first argument is make or measure, not %q", verb)
}

// makeTold makes a snapshot and says on standard output what it is.
func makeTold(ctx context.Context, path string, seed uint64, bytes int64) error {
	began := time.Now()
	info, err := makeSnapshot(ctx, path, seed, bytes)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: made in %s\n", filepath.Base(path), time.Since(began).Round(time.Second))
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(info)
}
