package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Options say what is rehearsed, and how.
type Options struct {
	// Path is the snapshot or, with Raw, a database without a trailer. It is only read.
	Path string
	Raw  bool
	// ScratchDir is where the scratch folder is made; "" is the folder for temporary files.
	ScratchDir string
	// Worker reaches WorkerMain, with inventory.Jobs.
	Worker etcd.Worker
	// Expect are held against what the server answers; nil for none.
	Expect *Expectations
	// APIServer, if set, says that a real kube-apiserver is started as well. The worker must have apiserver.Jobs then.
	APIServer *APIServerOptions
	// TakenAt is when the snapshot was taken, where that is known otherwise than by the file's time.
	TakenAt time.Time
	// Observe, if set, is told when a part begins; what it returns is called when the part has ended. It may be called from several goroutines.
	Observe func(part string) (done func(error))
	// Restored, if set, is called with the data directory between the restore and the start of the server, for tests that spoil it.
	Restored func(dataDir string) error
	// Asked, if set, is called with the server once etcd's part is done, before kube-apiserver is started; for tests as well.
	Asked func(ctx context.Context, server *etcd.Server) error
}

// The member that is restored. Its peer URL is nowhere listened on.
const (
	memberName = "rehearsal"
	peerURL    = "https://127.0.0.1:2380"
	// tryKey is the key that is written, watched and deleted. It lies outside of what Kubernetes uses.
	tryKey = "drill-rehearsal"
	// spare is how much room there must be beside the database: the write-ahead log, which etcd makes in pieces of 64 MB of which the next is made ahead, and what little else is written.
	spare = 192 << 20
)

// rehearsal is one that goes on.
type rehearsal struct {
	Options
	mu     sync.Mutex
	result Result
	index  *index
	// alarms are those in the file.
	alarms []string
}

// Run rehearses. It always returns a Result; whatever went wrong is told by its verdict and reason. Nothing stays behind.
func Run(ctx context.Context, o Options) Result {
	r := &rehearsal{Options: o, index: newIndex()}
	r.result = Result{
		SchemaVersion: 1, StartedAt: time.Now().Round(0), Snapshot: plan.SnapshotInfo{Path: o.Path}, Parts: []Part{}, Differences: []Difference{}, Expectations: []Check{},
		Etcd: Etcd{Version: etcd.OwnVersion()},
	}
	checks := []string{CheckSound, CheckServes, CheckRaised, CheckEqual}
	if o.APIServer != nil {
		checks = append(checks, CheckAPIServer, CheckListed, CheckDecrypted)
	}
	for _, name := range checks {
		r.result.Checks = append(r.result.Checks, Check{Name: name, Status: plan.StatusSkipped, Detail: "the rehearsal didn't come to it"})
	}
	err := r.run(ctx)
	r.result.Seconds = time.Since(r.result.StartedAt).Seconds()
	r.conclude(ctx, err)
	return r.result
}

// conclude makes the verdict.
func (r *rehearsal) conclude(ctx context.Context, err error) {
	condition, known := etcd.ConditionOf(err)
	var bad *unfit
	switch {
	case ctx.Err() != nil:
		r.result.Verdict, r.result.Reason = plan.VerdictInterrupted, "it was interrupted"
	case err == nil:
		r.result.Verdict = plan.VerdictPassed
	case errors.Is(err, etcd.ErrChanged):
		r.result.Verdict, r.result.Reason, r.result.Condition = plan.VerdictFailed, err.Error(), string(etcd.ConditionChanged)
	case errors.As(err, &bad):
		r.result.Verdict, r.result.Reason = plan.VerdictFailed, err.Error()
	case known && !etcd.LacksMeans(err):
		r.result.Verdict, r.result.Reason, r.result.Condition = plan.VerdictFailed, err.Error(), string(condition)
	default:
		r.result.Verdict, r.result.Reason = plan.VerdictBroken, err.Error()
	}
}

// unfit is an error that the backup is to blame for, though the file is sound.
type unfit struct{ err error }

func (u *unfit) Error() string { return u.err.Error() }
func (u *unfit) Unwrap() error { return u.err }

// check notes what became of a check.
func (r *rehearsal) check(name string, status plan.Status, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.result.Checks {
		if r.result.Checks[i].Name == name {
			r.result.Checks[i].Status, r.result.Checks[i].Detail = status, detail
		}
	}
}

// part does a part, and notes how long it took.
func (r *rehearsal) part(name string, do func() error) error {
	done := func(error) {}
	if r.Observe != nil {
		done = r.Observe(name)
	}
	began := time.Now()
	err := do()
	r.mu.Lock()
	r.result.Parts = append(r.result.Parts, Part{Name: name, Seconds: time.Since(began).Seconds()})
	r.mu.Unlock()
	done(err)
	return err
}

func (r *rehearsal) run(ctx context.Context) (err error) {
	in := r.ScratchDir
	if in == "" {
		in = os.TempDir()
	}
	in, err = filepath.Abs(in) // others are told of it that run elsewhere
	if err != nil {
		return err
	}
	st, err := os.Stat(r.Path)
	if err != nil {
		return err
	}
	defer func() { // the file is opened several times, and what one of them sees is held against what another saw
		if now, statErr := os.Stat(r.Path); err != nil && (statErr != nil || !os.SameFile(st, now) || now.Size() != st.Size() || !now.ModTime().Equal(st.ModTime())) {
			err = fmt.Errorf("%w: %s isn't the file any more that it was when the rehearsal began; wait until whoever writes it has finished, and rehearse a file that keeps its name (%w)", etcd.ErrChanged, r.Path, err)
		}
	}()
	// What is no snapshot at all is told before anything is made of it.
	f, err := etcd.OpenFile(ctx, r.Path, r.Raw)
	if err != nil {
		if _, says := etcd.ConditionOf(err); says {
			r.check(CheckSound, plan.StatusFailed, err.Error())
		}
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := removeAbandoned(in); err != nil { // which may be in the way of what is to be made
		return err
	}
	if err := enoughRoom(in, st.Size()+spare); err != nil {
		return err
	}
	s, err := newScratch(ctx, r.Worker, in)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	going, verifying := r.startVerifying(ctx)
	defer func() { // nothing of it may still go on when the scratch folder is removed
		verifying.end()
		_ = verifying.wait() // what it says is told where it matters
	}()
	dataDir := filepath.Join(s.dir, "etcd")
	server, err := r.bringUp(going, dataDir, st.Size())
	if server != nil {
		defer server.Stop()
	}
	// Of a file that isn't sound, nothing else says anything.
	if unsound := verifying.wait(); unsound != nil {
		return unsound
	}
	if err != nil {
		return err
	}
	if err := r.ask(ctx, server); err != nil {
		return err
	}
	if r.Asked != nil {
		if err := r.Asked(ctx, server); err != nil {
			return err
		}
	}
	if r.APIServer != nil {
		if err := r.askAPIServer(ctx, s.dir, server); err != nil {
			return err
		}
	}
	return r.unmet()
}

// bringUp restores the file and starts etcd on it.
func (r *rehearsal) bringUp(ctx context.Context, dataDir string, size int64) (server *etcd.Server, err error) {
	if err := r.restore(ctx, dataDir); err != nil {
		if _, says := etcd.ConditionOf(err); says && !etcd.LacksMeans(err) {
			return nil, &unfit{fmt.Errorf("the file is sound as far as drill can tell, and yet: %w", err)}
		}
		return nil, err
	}
	if r.Restored != nil {
		if err := r.Restored(dataDir); err != nil {
			return nil, err
		}
	}
	err = r.part(PartStart, func() (err error) {
		o := etcd.ServeOptions{DataDir: dataDir, Name: memberName, PeerURL: peerURL, Quota: 2*size + 1<<30}
		if r.ownRead() {
			o.Prints, o.Split = r.index.prints, r.middle(ctx)
		}
		server, err = etcd.Serve(ctx, r.Worker, o)
		return err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, err // it may be this machine that is too slow
	}
	if err != nil {
		return nil, r.unserved(ctx, err)
	}
	return server, nil
}

// unserved notes that etcd doesn't serve. The backup is to blame for that, unless this process was told to end, or could not start a child.
func (r *rehearsal) unserved(ctx context.Context, err error) error {
	if len(r.alarms) > 0 {
		err = fmt.Errorf("the alarm %s of etcd is part of the backup, and in force after a restore until `etcdctl alarm disarm`: %w", strings.Join(r.alarms, " and "), err)
	}
	err = r.blame(ctx, err)
	if bad := (*unfit)(nil); errors.As(err, &bad) {
		r.check(CheckServes, plan.StatusFailed, err.Error())
	}
	return err
}

// verification goes on beside the restore and the start of the server. What is restored from a file that turns out to be damaged is thrown away, whatever became of it.
type verification struct {
	end  context.CancelFunc
	done chan struct{}
	err  error
}

// wait returns what came of it.
func (v *verification) wait() error {
	<-v.done
	return v.err
}

// startVerifying begins to verify the file, and to make the index of its keys, in a child. Once it has failed, the context that it returns ends.
func (r *rehearsal) startVerifying(ctx context.Context) (context.Context, *verification) {
	v := &verification{done: make(chan struct{})}
	reading, end := context.WithCancel(ctx)
	going, stop := context.WithCancel(ctx)
	go func() {
		defer close(v.done)
		if v.err = r.part(PartVerify, func() error { return r.verify(reading) }); v.err != nil {
			stop()
		}
	}()
	v.end = func() { end(); stop() }
	return going, v
}

// restore restores the file into a data directory.
func (r *rehearsal) restore(ctx context.Context, dataDir string) error {
	return r.part(PartRestore, func() error {
		return etcd.Restore(ctx, r.Worker, etcd.RestoreOptions{
			Snapshot: r.Path, Raw: r.Raw, VerifiedElsewhere: true, DataDir: dataDir, Name: memberName, PeerURLs: []string{peerURL}, Token: filepath.Base(filepath.Dir(dataDir)),
			BumpRevision: etcd.DefaultBump, MarkCompacted: true,
		})
	})
}

// live reads the keys of the file.
func (r *rehearsal) live(ctx context.Context, each func(etcd.KeyValue) error) (int64, error) {
	f, err := etcd.OpenFile(ctx, r.Path, r.Raw)
	if err != nil {
		return 0, err
	}
	revision, err := f.Live(ctx, each)
	return revision, errors.Join(err, f.Close())
}

// enoughKeys is of how many keys the middle is taken for that of all.
const enoughKeys = 2000

// middle is a key that about as many of the file's come before as after; "" if it has none. Whatever it is, all are read: only how long that takes depends on it.
func (r *rehearsal) middle(ctx context.Context) string {
	var some []string
	_, _ = r.live(ctx, func(kv etcd.KeyValue) error { // what is wrong with the file is told elsewhere
		if some = append(some, string(kv.Key)); len(some) == enoughKeys {
			return errEnough
		}
		return nil
	})
	if len(some) == 0 {
		return ""
	}
	slices.Sort(some)
	return some[len(some)/2]
}

// errEnough ends a reading.
var errEnough = errors.New("enough was read")

func (r *rehearsal) verify(ctx context.Context) error {
	v, err := inventory.VerifyAndPrint(ctx, r.Worker, r.Path, r.Raw, r.index.prints, r.index.enter)
	if err == nil {
		err = etcd.CanReadHere(v.Snapshot)
	}
	if _, says := etcd.ConditionOf(err); err != nil {
		if says {
			r.check(CheckSound, plan.StatusFailed, err.Error())
		}
		return err
	}
	if !r.TakenAt.IsZero() {
		v.Snapshot.TakenAt = r.TakenAt
	}
	r.mu.Lock()
	r.alarms = v.Facts.Alarms
	r.result.Snapshot, r.result.Condition = v.Snapshot, string(etcd.ConditionSound)
	r.mu.Unlock()
	r.check(CheckSound, plan.StatusPassed, fmt.Sprintf("%d pages, %d records and %d values make sense%s", v.Facts.Pages, v.Facts.Records, v.Values, trailer(r.Raw)))
	return nil
}

func trailer(raw bool) string {
	if raw {
		return "; there is no checksum"
	}
	return ", and the checksum is right"
}

// ask asks the server everything.
func (r *rehearsal) ask(ctx context.Context, server *etcd.Server) error {
	st, err := etcd.StatusOf(ctx, server.Endpoint)
	if err != nil {
		return r.unserved(ctx, err)
	}
	r.result.Etcd = Etcd{
		Version: st.Version, ClusterID: strconv.FormatUint(st.ClusterID, 16), MemberID: strconv.FormatUint(st.MemberID, 16), Revision: st.Revision, DatabaseBytes: st.DBSize,
	}
	heard := newAudience(r.Expect, r.result.StartedAt)
	if err := r.part(PartRead, func() error { return r.readBack(ctx, server, heard) }); err != nil {
		return err
	}
	if err := r.part(PartTry, func() error { return r.tryOut(ctx, server.Endpoint) }); err != nil {
		return err
	}
	r.result.Expectations = heard.say(r.result.Snapshot, !r.TakenAt.IsZero())
	return nil
}

// unmet is an error if something that was expected isn't so.
func (r *rehearsal) unmet() error {
	var unmet []string
	for _, c := range r.result.Expectations {
		if c.Status != plan.StatusPassed {
			unmet = append(unmet, c.Name+": "+c.Detail)
		}
	}
	if len(unmet) > 0 {
		return &unfit{fmt.Errorf("%d of %d expectations are not met, the first being %s", len(unmet), len(r.result.Expectations), unmet[0])}
	}
	return nil
}

// blame says that the backup is to blame for an error, unless it is that this process was told to end, or could not start a child.
func (r *rehearsal) blame(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, etcd.ErrWorker) || etcd.LacksMeans(err) {
		return err
	}
	return &unfit{err}
}

// ended says whether a server has.
func ended(s *etcd.Server) bool {
	select {
	case <-s.Ended():
		return true
	default:
		return false
	}
}

// readBack has each key read, and compares it with the file's.
func (r *rehearsal) readBack(ctx context.Context, server *etcd.Server, heard *audience) error {
	same := false
	if r.ownRead() {
		contents, err := server.Contents(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && ended(server):
			return r.unserved(ctx, err)
		}
		if same = err == nil && r.index.equals(contents.Prints); same {
			r.index.compared = int64(len(contents.Prints))
		}
	}
	if !same {
		if err := r.readOver(ctx, server, heard); err != nil {
			return err
		}
	}
	revision, ep := server.Revision, server.Endpoint
	r.result.KeysCompared, r.result.Differences = r.index.compared, r.index.sorted()
	if r.index.many > 0 {
		first := r.result.Differences[0]
		detail := fmt.Sprintf("%d keys differ from the file, among them %s (%s)", r.index.many, first.Key, first.How)
		r.check(CheckEqual, plan.StatusFailed, detail)
		return &unfit{errors.New(detail)}
	}
	r.check(CheckEqual, plan.StatusPassed, fmt.Sprintf("%d keys are as in the file, with their values, revisions and leases", r.index.compared))

	wanted := r.result.Snapshot.Revision + int64(etcd.DefaultBump)
	if revision < wanted {
		detail := fmt.Sprintf("the revision is %d, and should be %d at least", revision, wanted)
		r.check(CheckRaised, plan.StatusFailed, detail)
		return &unfit{errors.New(detail)}
	}
	if old := r.result.Snapshot.Revision; old > 0 {
		if err := etcd.CompactedAt(ctx, ep, old); err != nil {
			if ctx.Err() != nil {
				return err
			}
			r.check(CheckRaised, plan.StatusFailed, err.Error())
			return r.blame(ctx, err)
		}
	}
	r.check(CheckRaised, plan.StatusPassed, fmt.Sprintf("the revision is %d, and who holds one from before is told that it is compacted", revision))
	return nil
}

// ownRead says whether the server reads its keys itself. It tells of fingerprints alone, and what is expected takes names and values; to read them over the network takes some times as long.
func (r *rehearsal) ownRead() bool { return r.Expect == nil }

// readOver reads every key over the network, as of the revision that the server started with: what ends with a lease may be gone by now, in a server that is as it should be.
func (r *rehearsal) readOver(ctx context.Context, server *etcd.Server, heard *audience) error {
	_, err := etcd.LiveKeysAtOnce(ctx, server.Endpoint, server.Revision, func(kv etcd.KeyValue) error {
		r.index.check(kv)
		heard.hear(kv)
		return nil
	})
	if err != nil {
		return r.unserved(ctx, err)
	}
	if len(r.index.content) == 0 {
		return nil
	}
	// What is missing has its name in the file alone.
	_, err = r.live(ctx, func(kv etcd.KeyValue) error {
		if r.index.lacks(kv) {
			r.index.differs(kv.Key, Missing)
		}
		return nil
	})
	return err
}

// tryOut has the server do what etcd is for.
func (r *rehearsal) tryOut(ctx context.Context, ep etcd.Endpoint) error {
	if err := etcd.TryOut(ctx, ep, tryKey); err != nil {
		return r.unserved(ctx, err)
	}
	r.check(CheckServes, plan.StatusPassed, fmt.Sprintf("etcd %s starts on it, reads, writes, and tells watches", r.result.Etcd.Version))
	return nil
}
