package etcd_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/etcd-drill/drill/pkg/etcd"
)

func TestConditionOf(t *testing.T) {
	for condition, err := range map[etcd.Condition]error{
		etcd.ConditionSound: nil, etcd.ConditionEmpty: etcd.ErrEmpty, etcd.ConditionNotSnapshot: etcd.ErrNotSnapshot, etcd.ConditionCompressed: etcd.ErrCompressed,
		etcd.ConditionTruncated: etcd.ErrTruncated, etcd.ConditionNoTrailer: etcd.ErrNoTrailer, etcd.ConditionDamaged: etcd.ErrTrailerMismatch, etcd.ConditionNewer: etcd.ErrNewer,
		etcd.ConditionChanged: etcd.ErrChanged, etcd.ConditionMismatch: etcd.ErrSidecar,
	} {
		if err != nil {
			err = fmt.Errorf("verify: %w", err)
		}
		if got, known := etcd.ConditionOf(err); got != condition || !known || !slices.Contains(etcd.Conditions(), got) {
			t.Errorf("%v is %q, %t, want %q", err, got, known, condition)
		}
	}
	for _, err := range []error{errors.New("input/output error"), fmt.Errorf("%w: it ended (%w)", etcd.ErrWorker, etcd.ErrDamaged)} {
		if got, known := etcd.ConditionOf(err); known {
			t.Errorf("%v is %q", err, got)
		}
	}
}
