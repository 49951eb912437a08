package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/etcd-drill/drill/pkg/etcd"
)

// A binary that verifies snapshots starts itself again with a hidden command, whose whole work is to call WorkerMain. Here
// an environment variable takes the place of that command.
func ExampleVerify() {
	self, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return
	}
	w := etcd.Worker{Command: []string{"env", workerEnv + "=work", self}}

	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "snapshot.db")
	if err := os.WriteFile(file, []byte("this is no snapshot"), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	_, err = etcd.Verify(context.Background(), w, file)
	fmt.Println(errors.Is(err, etcd.ErrNotSnapshot))
	// Output: true
}

// What a snapshot says of itself, and how many keys it holds. Examine reads in this process, in pieces, and never maps the file: a damaged one is an error.
func ExampleExamine() {
	ctx := context.Background()
	info, facts, err := etcd.Examine(ctx, "../../testdata/kubeadm-v1.37-etcd-3.6.db", etcd.ExamineOptions{})
	if err != nil {
		condition, _ := etcd.ConditionOf(err)
		fmt.Println(condition, err)
		return
	}
	fmt.Println("revision", info.Revision, "with", info.Keys, "keys, of etcd", info.EtcdVersion)
	fmt.Println(facts.Records, "records, compacted up to", facts.CompactRevision)
	// Output:
	// revision 388 with 387 keys, of etcd 3.6.0
	// 387 records, compacted up to 195
}

// The keys of a snapshot, in whatever order is quickest.
func ExampleOpenFile() {
	ctx := context.Background()
	f, err := etcd.OpenFile(ctx, "../../testdata/kubeadm-v1.37-etcd-3.4.db", false)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = f.Close() }()
	leased := 0
	revision, err := f.Live(ctx, func(kv etcd.KeyValue) error {
		if kv.Lease != 0 {
			leased++
		}
		return nil
	})
	fmt.Println("revision", revision, "has", leased, "keys with a lease;", err)
	// Output: revision 388 has 56 keys with a lease; <nil>
}

// In which condition a file is, in one word.
func ExampleConditionOf() {
	_, _, err := etcd.Examine(context.Background(), "example_test.go", etcd.ExamineOptions{})
	condition, known := etcd.ConditionOf(err)
	fmt.Println(condition, known)
	// Output: not-a-snapshot true
}
