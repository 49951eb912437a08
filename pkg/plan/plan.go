package plan

import (
	"context"
	"strings"
	"time"
)

// Phase is a stretch of a run. It decides whose fault an error is: see Phase.Blames.
type Phase string

// The phases of a run, in the order in which they come.
const (
	// Arrange deploys the workload and makes sure that the cluster is what the scenario needs.
	Arrange Phase = "arrange"
	// Protect takes the snapshot and shows that it is sound.
	Protect Phase = "protect"
	// Break destroys what the scenario is about.
	Break Phase = "break"
	// Recover is the procedure under test.
	Recover Phase = "recover"
	// Prove runs the checks.
	Prove Phase = "prove"
	// Rollback puts the old state back after a recovery that was not proven. Most runs don't have it.
	Rollback Phase = "rollback"
)

// Blames says which verdict an error in this phase leads to: before Recover it is the drill's own fault and nothing
// was learnt about the procedure (Broken); in Recover and Prove it is the procedure's (Failed).
func (p Phase) Blames() Verdict {
	switch p {
	case Recover, Prove, Rollback:
		return VerdictFailed
	default:
		return VerdictBroken
	}
}

// Verdict is the answer of a run.
type Verdict string

// The verdicts.
const (
	// VerdictPassed: every step was done and every check that ran is true, and at least one ran.
	VerdictPassed Verdict = "passed"
	// VerdictFailed: the procedure did not bring the cluster back.
	VerdictFailed Verdict = "failed"
	// VerdictBroken: the drill could not be carried out; nothing is known about the procedure.
	VerdictBroken Verdict = "broken"
	// VerdictSkipped: nothing was tried, for a reason that the run states.
	VerdictSkipped Verdict = "skipped"
	// VerdictInterrupted: a person or a supervisor stopped the run before it could reach a verdict.
	VerdictInterrupted Verdict = "interrupted"
)

// Status is the result of one step or one check.
type Status string

// The statuses.
const (
	StatusPassed  Status = "passed"
	StatusFailed  Status = "failed"
	StatusSkipped Status = "skipped"
)

// Command is something that a person types: the second face of a step. It is an argument vector and not a shell line,
// so that no value is ever interpreted by a shell when drill executes it.
type Command struct {
	// On is the name of the node on which it is typed.
	On string `json:"on"`
	// Argv is the program and its arguments.
	Argv []string `json:"argv"`
	// PipeTo, when set, reads what Argv prints, as after a "|" in a shell.
	PipeTo []string `json:"pipeTo,omitempty"`
	// Until says that the command is repeated, a second apart, until it succeeds.
	Until bool `json:"until,omitempty"`
	// Fails says that the command is there to show that something no longer works: it is expected to fail.
	Fails bool `json:"fails,omitempty"`
}

// Step is one thing to do. It has two faces that must have the same effect: Do is what drill does, Commands is
// what a person would type instead.
type Step struct {
	// Name identifies the step in a report: lower case words joined by "-", unique in its plan.
	Name string
	// Phase is the phase that the step belongs to.
	Phase Phase
	// Title says in a short imperative sentence what the step does.
	Title string
	// Why says, to somebody who is learning, why the step is there.
	Why string
	// Commands are what a person types to the same effect, in order. A step without commands does
	// something that only drill needs.
	Commands []Command
	// Expect says what the person should see after typing them.
	Expect string
	// Timeout bounds the step; 0 means the engine's default.
	Timeout time.Duration
	// Do carries the step out. It must return when ctx ends, with an error that says what was last seen. It may be called again by another process after one was
	// killed anywhere in it, and must then do what is left to do.
	Do func(ctx context.Context) error
	// Learn, where set, reads back what later steps and checks need to know about what this step made. It is called
	// after Do, and after Commands when those were executed in its place.
	Learn func(ctx context.Context) error
	// Always says, of a step of Rollback, that it is tried even though an earlier one failed: a control plane that runs on
	// something is better than none.
	Always bool
	// Fallback says, of a step of Rollback, that those after it do without it when it fails. Whether they have put the old state back is proven as ever.
	Fallback bool
	// Live says that what the step makes lives in drill's own process, to see the outage. When another process carries the run on it is carried out again, as long as
	// the outage has not begun.
	Live bool
	// Outage marks the first step that takes the control plane away: the clock of the outage starts with it.
	Outage bool
	// Until, where set, names a later step of the plan that relies on what this one has achieved, and ends it. When another process carries the run on, and that one was not begun
	// yet, this one is carried out again: a machine that was started anew in between runs what was stopped on it.
	Until string
}

// Check is one thing that must be true for a recovery to be proven.
type Check struct {
	// Name is the check's name in reports; names are listed by `drill list`.
	Name string
	// Summary says in one line when the check is true.
	Summary string
	// Phase is when it is evaluated: Protect for what must hold before anything is touched, Prove for what must hold in the end, Rollback for what must hold when
	// the old state was put back.
	Phase Phase
	// Commands are how a person looks at the same. They need not be complete.
	Commands []Command
	// Timeout bounds one evaluation; 0 means the engine's default.
	Timeout time.Duration
	// Alters says that looking changes the cluster. It begins only when every check before it has its answer.
	Alters bool
	// Undisturbed says that what an altering check makes would be in its way, because it counts what there is: it is looked at once more before such a one begins,
	// and not when all have their answers.
	Undisturbed bool
	// Look evaluates the check once. It is called again until it passes or the time to settle is over, and once more when all checks of the proof have their
	// answers, unless it alters something; so calling it twice must be the same as calling it once. An error means that it could not be evaluated, which counts as failed;
	// before anything is broken it means that the drill is broken.
	Look func(ctx context.Context) (Finding, error)
}

// Finding is what a check saw.
type Finding struct {
	// Status is the answer.
	Status Status `json:"status"`
	// Detail is one line for a person. For a failed check it says what was expected and what was seen; for a
	// skipped one it gives the reason.
	Detail string `json:"detail"`
	// Remedy, for a failed check, is the likely cause and what to do about it.
	Remedy string `json:"remedy,omitempty"`
	// Differences are what is not as it must be, each expected beside seen.
	Differences []Difference `json:"differences,omitempty"`
	// Evidence holds the facts behind the answer, line by line.
	Evidence []string `json:"evidence,omitempty"`
	// Final says of a failed check that looking again can't change the answer: what it found has happened.
	Final bool `json:"-"`
	// Due says of a failed check until when no other answer was to be expected: it is looked at again until then, also where its time is over, but not for
	// longer than that once more.
	Due time.Time `json:"-"`
}

// Difference is one thing that is not as it must be.
type Difference struct {
	// Subject is what was looked at: an object, a container, a way to read.
	Subject string `json:"subject"`
	// Expected and Seen are what it must be and what it is, each a few words.
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
}

// String is the difference as one line.
func (d Difference) String() string {
	return d.Subject + ": expected " + d.Expected + ", seen " + d.Seen
}

// Passed is the finding of a check that is true.
func Passed(detail string, evidence ...string) Finding {
	return Finding{Status: StatusPassed, Detail: detail, Evidence: evidence}
}

// Failed is the finding of a check that is false.
func Failed(detail, remedy string, evidence ...string) Finding {
	return Finding{Status: StatusFailed, Detail: detail, Remedy: remedy, Evidence: evidence}
}

// Differs is the finding of a check that is false because of the differences, of which there is at least one. The detail is
// the summary, which says how many there are of what, and the first of them.
func Differs(summary, remedy string, differences []Difference, evidence ...string) Finding {
	f := Failed(summary+": "+differences[0].String(), remedy, evidence...)
	f.Differences = differences
	return f
}

// ForGood says of a finding that looking again can't change it.
func (f Finding) ForGood() Finding {
	f.Final = true
	return f
}

// Skipped is the finding of a check that doesn't apply, with the reason.
func Skipped(reason string) Finding {
	return Finding{Status: StatusSkipped, Detail: reason}
}

// Plan is one scenario with one procedure on one cluster, ready to be walked.
type Plan struct {
	Scenario  Entry
	Procedure Entry
	// Variant says in which way the procedure is carried out.
	Variant Variant
	Cluster ClusterInfo
	// Warnings are what a person should know before the run begins, although it changes no verdict.
	Warnings []string
	// Steps in order. Phases never go backwards.
	Steps []Step
	// Checks in the order in which they are evaluated.
	Checks []Check
	// Rollback undoes Recover. It is walked when the outage began and the recovery was not proven, whatever the reason.
	Rollback []Step
	// RollbackChecks say whether the old state is back after a rollback; they are of phase Rollback.
	RollbackChecks []Check
	// Clear, where set, removes what altering checks have made that an earlier process was looking at when it was killed: it is called before the checks of Prove of a run that is carried on.
	Clear func(ctx context.Context) error
	// Measure, where set, is asked for the numbers of the run after the last check, whatever the checks said.
	Measure func(ctx context.Context, m Marks) (Measurement, error)
	// Evidence, where set, collects what explains a failure into the directory, and returns the files it wrote.
	Evidence func(ctx context.Context, dir string) ([]string, error)
	// Close, where set, is called last and always: it ends what steps left running, and with tidy it also removes from
	// the cluster what the scenario put there.
	Close func(ctx context.Context, tidy bool) error
}

// CleanUpFailed begins the Warning that says that Plan.Close failed, so that what a run made may still be there.
const CleanUpFailed = "cleaning up after the run"

// Variant is one way to carry out a procedure: what may be left out of it, or added.
type Variant struct {
	// Own says that it is the procedure's own way: nobody asked for anything else. What comes of another way says nothing about the procedure.
	Own bool `json:"own"`
	// BumpRevision is by how much the restore raises etcd's revision; 0 means that it goes back to the snapshot's.
	BumpRevision uint64 `json:"bumpRevision"`
	// KeptRunning are the components that are left to live on across the restore and keep their memory, Renewed those that are made to begin
	// anew; see Measurement.EndedByThemselves. Each of
	// kube-apiserver, kube-controller-manager, kube-scheduler and kubelet is in one of the two; etcd always begins anew.
	KeptRunning []string `json:"keptRunning"`
	Renewed     []string `json:"renewed"`
	// DataDirMode is how etcd gets to run on the restored directory: manifest, where its manifest names another path, or swap, where directories are renamed and no manifest changes.
	// Either is the procedure's own way, since nothing is left out of it.
	DataDirMode string `json:"dataDirMode"`
	// SettleSeconds is how long the checks were given to become true, where that was not the usual time; else 0.
	SettleSeconds float64 `json:"settleSeconds"`
}

// Entry names and describes something a user can choose.
type Entry struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
}

// ClusterInfo says which cluster a run was on.
type ClusterInfo struct {
	Provider   string `json:"-"`
	Name       string `json:"name"`
	Nodes      int    `json:"nodes"`
	Kubernetes string `json:"kubernetes"`
	Etcd       string `json:"etcd"`
}

// Marks are the moments of a run from which its numbers are computed.
type Marks struct {
	// BreakBegan is when the first step of phase Break started; the zero time if none did.
	BreakBegan time.Time
	// OutageBegan is when the first step with Outage set started; the zero time if none did.
	OutageBegan time.Time
}

// Measurement holds the numbers of a run. A nil pointer means that it was never reached or not measured.
type Measurement struct {
	Outage   Outage
	Loss     Loss
	Snapshot *SnapshotInfo
	// Probe holds the answers behind Outage; nil when nobody asked.
	Probe *Probe
	// EndedByThemselves are those of Variant.KeptRunning that did not live on all the same: they ended and were started anew, on one control plane at least,
	// between the outage and the end of the checks. Nil when nobody looked.
	EndedByThemselves []string
}

// Outage is how long each kind of service was gone, in seconds from the first destructive recovery action until it was
// back for good (see probe.Series.Back); null where it never came back.
type Outage struct {
	// EtcdSeconds: until etcd said that it is healthy and answered a read that needs a quorum.
	EtcdSeconds *float64 `json:"etcdSeconds"`
	// ReadSeconds: until a GET and a quorum LIST through the API server both showed the restored objects.
	ReadSeconds *float64 `json:"readSeconds"`
	// WriteSeconds: until a write through the API server was acknowledged.
	WriteSeconds *float64 `json:"writeSeconds"`
	// WorkSeconds: until the node's container runtime ran every container of the workload.
	WorkSeconds *float64 `json:"workSeconds"`
	// ServiceSeconds: until the workload answered over its Service.
	ServiceSeconds *float64 `json:"serviceSeconds"`
	// FloorSeconds: the larger of etcd's and the API server's own start, each from its container's start to the first time it says that it is ready. What the API server waits for etcd is a part of
	// its start.
	FloorSeconds *float64 `json:"floorSeconds"`
	// NotAsked are the kinds that nobody asked for, because the snapshot doesn't hold what would have answered: some of work and service. Their seconds are null, and that says
	// nothing about the recovery.
	NotAsked []string `json:"notAsked"`
	// Interruptions are the times when a service that was back went unanswered again, none of them long enough to count as the outage going on.
	Interruptions []Interruption `json:"interruptions"`
}

// Interruption is a short time without an answer.
type Interruption struct {
	// Kind is etcd, get, list, write or service.
	Kind string `json:"kind"`
	// AfterSeconds is from the first destructive recovery action until it began.
	AfterSeconds float64 `json:"afterSeconds"`
	// Seconds until the next answer; null where none came before the end of the measurement.
	Seconds *float64 `json:"seconds"`
}

// Loss is what the restore gave up. The lists are null where that is not known, because etcd can't be read after the recovery.
type Loss struct {
	// Seconds from the snapshot to the last write before the break that was acknowledged and did not survive: the recovery
	// point that was reached. 0 when no such write is known.
	Seconds *float64 `json:"seconds"`
	// UntilOutageSeconds is the same up to the moment when the control plane was taken down. What was written between the break and that
	// moment is lost as well.
	UntilOutageSeconds *float64 `json:"untilOutageSeconds"`
	// Revisions that etcd had beyond the snapshot's when it ended. What an earlier restore has raised the revision by since the snapshot counts like what was written.
	Revisions *int64 `json:"revisions"`
	// Objects were made after the snapshot, and are gone.
	Objects []Object `json:"objects"`
	// Reverted were changed after the snapshot, and the change is gone.
	Reverted []Object `json:"reverted"`
	// Revived were deleted after the snapshot, and are back.
	Revived []Object `json:"revived"`
}

// Object names a Kubernetes object.
type Object struct {
	// APIVersion is GROUP/VERSION, or the version alone for the core group.
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Namespace is empty for what belongs to the whole cluster.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String names the object as kubectl takes it: Kind.group namespace/name.
func (o Object) String() string {
	s := o.Kind
	if group, _, found := strings.Cut(o.APIVersion, "/"); found {
		s += "." + group
	}
	if o.Namespace != "" {
		return s + " " + o.Namespace + "/" + o.Name
	}
	return s + " " + o.Name
}

// SnapshotInfo describes a snapshot file.
type SnapshotInfo struct {
	Path string `json:"path"`
	// SHA256 is of the whole file as it lies on disk, in hexadecimal: what sha256sum prints.
	SHA256 string `json:"sha256"`
	// Bytes is the length of the file.
	Bytes int64 `json:"bytes"`
	// Revision is the highest etcd revision in it.
	Revision int64 `json:"revision"`
	// Keys is the number of keys that are live at that revision.
	Keys int64 `json:"keys"`
	// EtcdVersion is the storage version of etcd recorded in the file, or the version of the server that it was taken from.
	EtcdVersion string `json:"etcdVersion"`
	// ClusterVersion is what etcd's members had agreed on as their version when it was taken, as the file says; empty where it doesn't.
	ClusterVersion string `json:"clusterVersion"`
	// TakenAt is when taking it began, as seen by the machine that took it. Of a snapshot that was given it is the modification time of that file, and nothing else tells its age.
	TakenAt time.Time `json:"takenAt"`
	// Source is the file that was given to be restored, of which Path is a copy; empty where the run took the snapshot itself.
	Source string `json:"source"`
	// NoChecksum says that the file has no SHA-256 of etcd's at its end, so that nothing but its own pages and records shows that it is whole.
	NoChecksum bool `json:"noChecksum"`
}
