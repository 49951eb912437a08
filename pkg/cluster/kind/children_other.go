//go:build !linux

package kind

// inFlight can't be told here; the clean-up then relies on seeing no container for a while.
func inFlight(string) int { return 0 }
