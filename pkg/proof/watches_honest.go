package proof

// Watchers are client-go informers that stay open from before the break until the end.
type Watchers struct{}
