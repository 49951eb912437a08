// Package etcd asks etcd members about themselves, takes snapshots, examines them, and restores them into data
// directories. It is the only package of drill that uses etcd's client and etcdutl.
//
// # Two processes
//
// A snapshot is a bbolt database, and bbolt trusts what it maps into memory: a damaged page makes it panic, in a goroutine
// of its own at times, and a page beyond the end of the file raises SIGBUS; neither can be recovered from. Whatever
// opens a snapshot with bbolt or etcdutl therefore runs in a child process, a Worker, which reaches WorkerMain in the same binary.
// Restore and SnapshotKeys turn the child's death into an ordinary error. Verify has a child as well, so that it can be bounded;
// what it does there, Examine, is safe in any process: package boltfile maps nothing and trusts no number in the file.
//
// # Errors
//
// What can be wrong with a snapshot is told by the sentinel errors of this package, to be tested for with errors.Is. Each is
// wrapped with what was seen and with what a person can do about it.
package etcd
