package rehearsal

import (
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Result is what came of a rehearsal; its JSON is what `drill rehearse -o json` prints.
type Result struct {
	// SchemaVersion is 1.
	SchemaVersion int `json:"schemaVersion"`
	// Verdict is passed; failed where the backup is to blame, or doesn't hold what is expected; broken where the rehearsal could not be carried out; or interrupted.
	Verdict plan.Verdict `json:"verdict"`
	// Reason says why it isn't passed.
	Reason string `json:"reason"`
	// Condition is that of the file, in one word; empty where it isn't known.
	Condition string            `json:"condition"`
	Snapshot  plan.SnapshotInfo `json:"snapshot"`
	Etcd      Etcd              `json:"etcd"`
	// StartedAt is when it began, and Seconds how long it took in all.
	StartedAt time.Time `json:"startedAt"`
	Seconds   float64   `json:"seconds"`
	// Parts are what it consisted of. The file is verified beside the others: their times add up to more than Seconds.
	Parts  []Part  `json:"parts"`
	Checks []Check `json:"checks"`
	// KeysCompared is how many keys were read back and compared, and Differences names some of those that differ.
	KeysCompared int64        `json:"keysCompared"`
	Differences  []Difference `json:"differences"`
	Expectations []Check      `json:"expectations"`
	// APIServer is what a kube-apiserver made of it; null if none was asked for, or it didn't start.
	APIServer *APIServer `json:"apiServer"`
}

// Etcd is the server that was started.
type Etcd struct {
	Version string `json:"version"`
	// ClusterID and MemberID are in hexadecimal, as etcdctl prints them.
	ClusterID string `json:"clusterID"`
	MemberID  string `json:"memberID"`
	// Revision is the one that it began with.
	Revision int64 `json:"revision"`
	// DatabaseBytes is the size of its database file.
	DatabaseBytes int64 `json:"databaseBytes"`
}

// Part is one of the things that were done.
type Part struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Names of parts.
const (
	PartVerify  = "verify"
	PartRestore = "restore"
	PartStart   = "start"
	PartRead    = "read-back"
	PartTry     = "try-out"
)

// Check is one thing that must be true, or that somebody expects.
type Check struct {
	Name   string      `json:"name"`
	Status plan.Status `json:"status"`
	Detail string      `json:"detail"`
}

// Names of checks.
const (
	// CheckSound: the file is sound, as `drill snapshot verify` says.
	CheckSound = "snapshot-sound"
	// CheckServes: an etcd server starts on what was restored, reads, writes and watches.
	CheckServes = "etcd-serves"
	// CheckRaised: the revision is raised by as much as was asked for, and what was before is compacted.
	CheckRaised = "revision-raised"
	// CheckEqual: the server has each key of the file, with the same value and revisions, and no other.
	CheckEqual = "content-equal"
)

// Difference is a key that the server has otherwise than the file.
type Difference struct {
	Key string `json:"key"`
	// How is missing, added or changed.
	How string `json:"how"`
}

// The ways in which a key differs.
const (
	Missing = "missing"
	Added   = "added"
	Changed = "changed"
)
