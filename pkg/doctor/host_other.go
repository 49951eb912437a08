//go:build !linux && !darwin

package doctor

import "errors"

// writable can't be told here without writing.
func writable(string) error { return nil }

// freeBytes can't be told here.
func freeBytes(string) (int64, error) { return 0, errors.ErrUnsupported }
