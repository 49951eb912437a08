package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
)

// Jobs are what a worker must be able to do for this package; see etcd.WorkerMain.
func Jobs() []etcd.Job {
	return []etcd.Job{{Name: jobVerify, Run: verifyHere}, {Name: jobInspect, Run: inspectHere}, {Name: jobFind, Run: findHere}}
}

const jobVerify = "verify-values"

// Verified is what Verify found out about a sound file.
type Verified struct {
	Snapshot plan.SnapshotInfo
	Facts    etcd.Facts
	// Values is how many values were looked at, those of the whole history.
	Values int64
	// KubeSystemUID is the UID of Namespace kube-system, by which clusters are told apart; empty where there is none, or it is encrypted.
	KubeSystemUID string
}

// kubeSystem is the key of Namespace kube-system.
const kubeSystem = registry + "namespaces/kube-system"

// fileRequest names a file for a job.
type fileRequest struct {
	Path string `json:"path"`
	Raw  bool   `json:"raw,omitempty"`
}

func newFileRequest(path string, raw bool) (fileRequest, error) {
	abs, err := filepath.Abs(path) // the child may run in another folder
	return fileRequest{Path: abs, Raw: raw}, err
}

// Verify is etcd.Verify or, with raw, etcd.VerifyDatabase, and more: every value that there ever was, of which the file has the history, must be one that Kubernetes can read; see Decoder. A child process reads
// the file. The error wraps a sentinel of package etcd where the file is to blame.
func Verify(ctx context.Context, w etcd.Worker, path string, raw bool) (Verified, error) {
	return verify(ctx, w, path, verifyRequest{fileRequest: fileRequest{Raw: raw}}, nil)
}

// VerifyAndPrint is Verify, and calls each with the fingerprints of every key that is live at the last revision, from this goroutine. They count only if there is no error in the end.
func VerifyAndPrint(ctx context.Context, w etcd.Worker, path string, raw bool, by *etcd.Fingerprints, each func(key, content etcd.Fingerprint)) (Verified, error) {
	return verify(ctx, w, path, verifyRequest{fileRequest: fileRequest{Raw: raw}, Prints: by}, func(record []byte) error {
		etcd.ReadFingerprints(record, each)
		return nil
	})
}

// verifyRequest is what a child is asked for.
type verifyRequest struct {
	fileRequest
	// Prints says that fingerprints are to be sent.
	Prints *etcd.Fingerprints `json:"prints,omitempty"`
}

func verify(ctx context.Context, w etcd.Worker, path string, in verifyRequest, each func(record []byte) error) (out Verified, err error) {
	if in.fileRequest, err = newFileRequest(path, in.Raw); err == nil {
		err = w.Do(ctx, jobVerify, in, &out, each)
	}
	if err != nil {
		return Verified{}, fmt.Errorf("verify snapshot %s: %w", path, err)
	}
	out.Snapshot.Path = path
	return out, nil
}

// verifyHere does in the child what Verify asked for.
func verifyHere(ctx context.Context, request json.RawMessage, send func([]byte) error) (any, error) {
	var in verifyRequest
	if err := json.Unmarshal(request, &in); err != nil {
		return nil, err
	}
	debug.SetGCPercent(childGC)
	debug.SetMemoryLimit(childMemory)
	if in.Prints == nil {
		return examine(ctx, in.Path, in.Raw, nil)
	}
	// Who wants fingerprints restores the file meanwhile, and waits longer for that.
	runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	var batch []byte
	out, err := examine(ctx, in.Path, in.Raw, func(kv etcd.KeyValue) error {
		if batch = in.Prints.Append(batch, kv); len(batch) < batchBytes {
			return nil
		}
		err := send(batch)
		batch = batch[:0]
		return err
	})
	if err == nil && len(batch) > 0 {
		err = send(batch)
	}
	return out, err
}

// batchBytes is how many bytes of fingerprints are sent at once.
const batchBytes = 8 << 10

const (
	// childGC is by how many percent the memory of a child may grow before its garbage is collected. What values are read into is garbage at once, and usually little else is held: to collect it at each 4 MB would take a good part of the time.
	childGC = 400
	// childMemory is from how many bytes on it is collected whatever that takes, so that a child stays below the 256 MiB that are promised, with what isn't Go's.
	childMemory = 192 << 20
)

// VerifyHere is Verify without a child: the reading process itself does it. That is safe, for the file is not mapped, but that a value which was made for it may take much memory.
func VerifyHere(ctx context.Context, path string, raw bool) (out Verified, err error) {
	return examine(ctx, path, raw, nil)
}

func examine(ctx context.Context, path string, raw bool, live func(etcd.KeyValue) error) (out Verified, err error) {
	var values atomic.Int64
	var uid atomic.Value
	decoders := sync.Pool{New: func() any { return &Decoder{} }}
	out.Snapshot, out.Facts, err = etcd.Examine(ctx, path, etcd.ExamineOptions{Raw: raw, Live: live, Value: func(key, value []byte) error {
		values.Add(1)
		if string(key) == kubeSystem {
			k := (&surveyor{}).sketch(etcd.KeyValue{Key: key, Value: value})
			uid.Store(string(k.head.uid))
		}
		d := decoders.Get().(*Decoder)
		defer decoders.Put(d)
		return d.Decodable(string(key), value)
	}})
	out.Values = values.Load()
	out.KubeSystemUID, _ = uid.Load().(string)
	return out, err
}
