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
