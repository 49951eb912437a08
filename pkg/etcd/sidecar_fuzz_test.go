package etcd

import (
	"testing"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
)

// FuzzSidecar: whatever stands beside a snapshot is told to be no sidecar, or says all that is needed of one file, and of that alone.
func FuzzSidecar(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":1,"file":"a.db","sha256":"0123456789012345678901234567890123456789012345678901234567890123","bytes":32800,"revision":7,"takenAt":"2026-01-02T03:04:05Z","takenBy":"drill"}`))
	f.Add([]byte(`{"schemaVersion":2}`))
	f.Add([]byte(`{} {}`))
	f.Add([]byte("not JSON"))
	f.Add([]byte(`{"schemaVersion": 1,`))
	f.Add([]byte(""))
	f.Add([]byte(`{"Versions": [`))
	f.Fuzz(func(t *testing.T, content []byte) {
		s, err := parseSidecar("a.db.json", content)
		if err != nil {
			if s != (Sidecar{}) {
				t.Fatalf("%+v with %v", s, err)
			}
			return
		}
		info := plan.SnapshotInfo{SHA256: s.SHA256, Bytes: s.Bytes, Revision: s.Revision}
		if err := s.Matches(info); err != nil || s.TakenAt.Equal(time.Time{}) {
			t.Fatalf("%+v: %v", s, err)
		}
		info.Bytes++
		if s.Matches(info) == nil {
			t.Fatal("it matches a longer file")
		}
	})
}
