package etcd

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Fingerprint is a hash of 128 bits, by which things are told apart without keeping them.
type Fingerprint [2]uint64

// Fingerprints makes fingerprints by seeds, which are made anew for each comparison so that nobody can prepare two things that share one. It must not be used by two goroutines at once.
type Fingerprints struct {
	Seeds   [2]uint64 `json:"seeds"`
	digest  xxhash.Digest
	scratch []byte
}

// NewFingerprints has seeds of its own.
func NewFingerprints() *Fingerprints {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return &Fingerprints{Seeds: [2]uint64{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])}}
}

func (f *Fingerprints) of(b []byte) (out Fingerprint) {
	for i, seed := range f.Seeds {
		f.digest.ResetWithSeed(seed)
		_, _ = f.digest.Write(b) // a hash never fails
		out[i] = f.digest.Sum64()
	}
	return out
}

// Key is the fingerprint of a key's name.
func (f *Fingerprints) Key(kv KeyValue) Fingerprint { return f.of(kv.Key) }

// Content is the fingerprint of all that etcd holds about a key: value, revisions, version and lease.
func (f *Fingerprints) Content(kv KeyValue) Fingerprint {
	value := f.of(kv.Value)
	f.scratch = f.scratch[:0]
	for _, n := range []uint64{value[0], value[1], uint64(kv.CreateRevision), uint64(kv.ModRevision), uint64(kv.Version), uint64(kv.Lease)} {
		f.scratch = binary.LittleEndian.AppendUint64(f.scratch, n)
	}
	return f.of(f.scratch)
}

// fingerprintBytes is how many bytes those of a key and its content take.
const fingerprintBytes = 32

// Append appends the fingerprints of a key and its content to b, for ReadFingerprints.
func (f *Fingerprints) Append(b []byte, kv KeyValue) []byte {
	for _, p := range []Fingerprint{f.Key(kv), f.Content(kv)} {
		b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, p[0]), p[1])
	}
	return b
}

// ReadFingerprints calls each with all that Append has appended to b.
func ReadFingerprints(b []byte, each func(key, content Fingerprint)) {
	for ; len(b) >= fingerprintBytes; b = b[fingerprintBytes:] {
		var p [4]uint64
		for i := range p {
			p[i] = binary.LittleEndian.Uint64(b[8*i:])
		}
		each(Fingerprint{p[0], p[1]}, Fingerprint{p[2], p[3]})
	}
}
