package etcd

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"google.golang.org/protobuf/proto"
)

// However few keys may be remembered at once, each live key is told once, with its last record, and no other.
func TestHistoryInTurns(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	var records []record // from the first to the last
	live := map[string]int64{}
	for rev := int64(1); rev <= 5000; rev++ {
		key := fmt.Sprint(random.IntN(1000))
		r := record{rev: mvcc.Revision{Main: rev}, KeyValue: KeyValue{Key: []byte(key), ModRevision: rev}}
		switch _, there := live[key]; {
		case there && random.IntN(3) == 0:
			r.tombstone = true
			delete(live, key)
		default:
			live[key] = rev
		}
		records = append(records, r)
	}
	records = append(records, record{rev: mvcc.Revision{Main: 6000}}) // left by a revision bump
	for _, limit := range []int{1, 2, 10, 333, 1000, 100_000} {
		told := map[string]int64{}
		h := newHistory(func(r record) error {
			if _, twice := told[string(r.Key)]; twice {
				t.Fatalf("limit %d: key %s is told twice", limit, r.Key)
			}
			told[string(r.Key)] = r.rev.Main
			return nil
		})
		h.limit = limit
		turns := 0
		for h.next() {
			turns++
			for _, r := range slices.Backward(records) {
				if err := h.enter(r); err != nil {
					t.Fatal(err)
				}
				if len(h.seen) > limit+1 {
					t.Fatalf("limit %d: %d are remembered", limit, len(h.seen))
				}
			}
		}
		if len(told) != len(live) || h.liveKeys != int64(len(live)) {
			t.Errorf("limit %d: %d keys are told and %d counted, want %d", limit, len(told), h.liveKeys, len(live))
		}
		for key, rev := range live {
			if told[key] != rev {
				t.Errorf("limit %d: key %s is told as of revision %d, want %d", limit, key, told[key], rev)
			}
		}
		if h.records != int64(len(records)) || h.last.Main != 6000 || (turns > 1) != (limit < 1000) {
			t.Errorf("limit %d: %d records, the last of revision %d, in %d turns", limit, h.records, h.last.Main, turns)
		}
	}
}

func TestHistoryMustFall(t *testing.T) {
	for _, next := range []mvcc.Revision{{Main: 8, Sub: 1}, {Main: 8, Sub: 2}, {Main: 9}} {
		h := newHistory(nil)
		h.next()
		if err := h.enter(record{rev: mvcc.Revision{Main: 8, Sub: 1}}); err != nil {
			t.Fatal(err)
		}
		if err := h.enter(record{rev: next}); !errors.Is(err, errRecord) {
			t.Errorf("%v before 8/1: %v", next, err)
		}
	}
}

// FuzzRecord: a record that is read without copying it is what etcd's own code reads, and what that refuses is refused.
func FuzzRecord(f *testing.F) {
	key := mvcc.RevToBytes(mvcc.Revision{Main: 7, Sub: 1}, mvcc.NewRevBytes())
	for _, kv := range []*mvccpb.KeyValue{
		{}, {Key: []byte("k")},
		{Key: []byte("/registry/pods/default/a"), Value: []byte("k8s\x00…"), CreateRevision: 3, ModRevision: 7, Version: 2, Lease: 1 << 62},
	} {
		b, err := proto.Marshal(kv)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key, b)
		f.Add(append(bytes.Clone(key), 't'), b)
	}
	f.Fuzz(func(t *testing.T, k, v []byte) {
		r, err := readRecord(k, v)
		var want mvccpb.KeyValue
		wantErr := proto.Unmarshal(v, &want)
		if err != nil {
			if !errors.Is(err, errRecord) {
				t.Fatalf("%v is no record's error", err)
			}
			if strings.Contains(err.Error(), "can't be read") && wantErr == nil { // other rules are ours alone
				t.Fatalf("%v; etcd reads %v", err, &want)
			}
			return
		}
		if wantErr != nil {
			t.Fatalf("etcd refuses it: %v", wantErr)
		}
		got, is := r.KeyValue, keyValue(&want)
		if !bytes.Equal(got.Key, is.Key) || !bytes.Equal(got.Value, is.Value) {
			t.Fatalf("key %q, value %q; etcd reads %q, %q", got.Key, got.Value, is.Key, is.Value)
		}
		got.Key, got.Value, is.Key, is.Value = nil, nil, nil, nil
		if fmt.Sprint(got) != fmt.Sprint(is) {
			t.Fatalf("%+v; etcd reads %+v", got, is)
		}
		if rev := mvcc.BytesToRev(k); rev != r.rev || mvcc.IsTombstone(k) != r.tombstone {
			t.Fatalf("%v, tombstone %t; etcd reads %v", r.rev, r.tombstone, rev)
		}
	})
}
