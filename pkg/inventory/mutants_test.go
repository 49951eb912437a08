package inventory_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/inventory"
)

// realSnapshot is of a real cluster.
const realSnapshot = "../../testdata/kubeadm-v1.37-etcd-3.6.db"

// examined says in which condition a file is of which this process itself reads all.
func examined(ctx context.Context, path string) (etcd.Condition, error) {
	_, err := inventory.VerifyHere(ctx, path, false)
	condition, known := etcd.ConditionOf(err)
	if !known {
		return "", fmt.Errorf("nothing is said about the file: %w", err)
	}
	return condition, nil
}

// Of 10,000 files that differ from a snapshot of a real cluster in one thing, none is taken for a sound one, and none does any harm to the process that reads it. What was said of how many is logged, and so it is of the same
// changes with a trailer made anew: of these only what makes no sense can be known.
func TestTenThousandMutants(t *testing.T) {
	mutants := uint64(10_000)
	if testing.Short() {
		mutants /= 10
	}
	content, err := os.ReadFile(realSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	for name, sealed := range map[string]bool{"as they are": false, "with a trailer made anew": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var lock sync.Mutex
			counts := map[string]map[etcd.Condition]int{}
			group, ctx := errgroup.WithContext(t.Context())
			group.SetLimit(runtime.GOMAXPROCS(0))
			for seed := range mutants {
				group.Go(func() error {
					mutant, how := etcdtest.Mutate(seed, content)
					if sealed {
						mutant = etcdtest.Seal(mutant)
					}
					path := filepath.Join(dir, fmt.Sprint(seed))
					if err := os.WriteFile(path, mutant, 0o600); err != nil {
						return err
					}
					condition, err := examined(ctx, path)
					if err := errors.Join(err, os.Remove(path)); err != nil {
						return fmt.Errorf("seed %d, %s: %w", seed, how, err)
					}
					if condition == etcd.ConditionSound && !sealed {
						t.Errorf("seed %d: %s, and it is called sound", seed, how)
					}
					lock.Lock()
					defer lock.Unlock()
					if counts[how] == nil {
						counts[how] = map[etcd.Condition]int{}
					}
					counts[how][condition]++
					return nil
				})
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			total := map[etcd.Condition]int{}
			for _, how := range slices.Sorted(maps.Keys(counts)) {
				t.Logf("%-30s %v", how, counts[how])
				for condition, n := range counts[how] {
					total[condition] += n
				}
			}
			t.Logf("%d mutants: %v", mutants, total)
		})
	}
}
