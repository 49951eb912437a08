package main

import (
	"context"
	"errors"

	"github.com/etcd-drill/drill/hack/bench/busycluster"
	"github.com/etcd-drill/drill/pkg/etcd/dbwriter"
)

// makeSnapshot writes a busy cluster's snapshot of about size bytes to the new file path. It takes as much room again beside it while it does.
func makeSnapshot(ctx context.Context, path string, seed uint64, size int64) (info dbwriter.Info, err error) {
	w, err := dbwriter.New(path + ".making")
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := busycluster.Fill(ctx, w, seed, size); err != nil {
		return info, err
	}
	return w.Save(ctx, path)
}
