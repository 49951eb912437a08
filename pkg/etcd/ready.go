package etcd

import (
	"context"
	"errors"
	"os"
)

// Ready says whether a child process can be started and answers: it is asked about an empty file, and must say that it is one.
func Ready(ctx context.Context, w Worker) error {
	_, err := Verify(ctx, w, os.DevNull)
	if errors.Is(err, ErrWorker) || ctx.Err() != nil {
		return err
	}
	return nil
}
