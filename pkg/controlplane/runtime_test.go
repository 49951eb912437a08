package controlplane_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcd-drill/drill/pkg/controlplane"
)

// TestWaitRuntime: a node that was started a moment ago, or whose engine is away, is asked again until its runtime answers, and not for ever.
func TestWaitRuntime(t *testing.T) {
	for name, code := range map[string]int{"it starts": 1, "it can't be reached": -1} {
		for _, silent := range []int{0, 5, 1 << 20} {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				n := newScripted(t, func(string) (string, int) {
					if asked++; asked <= silent {
						return "no such socket", code
					}
					return "", 0
				})
				err := controlplane.WaitRuntime(t.Context(), n, time.Second)
				if silent < 1<<20 && (err != nil || asked != silent+1) {
					t.Errorf("%s: asked %d times: %v", name, asked, err)
				}
				if silent == 1<<20 && (!errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "cp-a") || asked < 100) {
					t.Errorf("%s: asked %d times: %v", name, asked, err)
				}
			})
		}
	}
}
