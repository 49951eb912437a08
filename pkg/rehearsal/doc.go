// Package rehearsal restores a backup next to nothing else: no cluster and no container engine are needed. It verifies a snapshot, restores it into a scratch folder, starts a real etcd server on it, reads back every key, and
// compares it with the file; and it holds what the server answers against what somebody expects of a backup.
//
// What a rehearsal shows is that etcd serves the backup whole. Whether a control plane comes back on it, and how, is shown by a drill.
//
// # Nothing stays behind
//
// All that is written is in one scratch folder, of mode 0700. It is removed at the end, also when the rehearsal is interrupted; where drill itself is killed, by a child process that waits for that; and where that
// is killed, too, by the next rehearsal in the same place, which knows such folders by a lock that nobody holds.
package rehearsal
