// Package calendar says which of the tests that take turns by the day it is the turn of.
package calendar

import "time"

const day = 24 * 60 * 60

// Turn says whether it is the turn, at a moment, of the i-th test of those of which one in so many has it. Days are counted since 1970, in UTC: none is left out for longer than that many days.
func Turn(i, of int, at time.Time) bool { return int64(i%of) == at.Unix()/day%int64(of) }
