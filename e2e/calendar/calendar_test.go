package calendar_test

import (
	"testing"
	"time"

	"github.com/etcd-drill/drill/e2e/calendar"
)

// TestEachHasItsTurn once in so many days, also where a year ends.
func TestEachHasItsTurn(t *testing.T) {
	for of := 1; of <= 7; of++ {
		for i := range 2 * of {
			had := 0
			for day := range of {
				if calendar.Turn(i, of, time.Date(2026, 12, 29, 12, 0, 0, 0, time.UTC).AddDate(0, 0, day)) {
					had++
				}
			}
			if had != 1 {
				t.Errorf("number %d has %d turns in %d days", i, had, of)
			}
		}
	}
}
