package etcd

import (
	"errors"
	"slices"
	"strings"
	"syscall"
)

// What can be wrong with a snapshot file. Verify and Restore wrap exactly one of these when the file is to blame.
var (
	// ErrEmpty: the file has no content.
	ErrEmpty = errors.New("snapshot is empty")
	// ErrNotSnapshot: the file is something else than a snapshot of etcd.
	ErrNotSnapshot = errors.New("not an etcd snapshot")
	// ErrCompressed: the file is compressed, or an archive. What is in it may be a snapshot.
	ErrCompressed = errors.New("snapshot is compressed")
	// ErrTruncated: the file ends before its own header says that it should.
	ErrTruncated = errors.New("snapshot is truncated")
	// ErrNoTrailer: the database is whole, but the SHA-256 that etcd appends to every snapshot it sends isn't there. A
	// database file copied out of a data directory looks like that.
	ErrNoTrailer = errors.New("snapshot has no SHA-256 trailer")
	// ErrTrailerMismatch: the content is not what etcd sent.
	ErrTrailerMismatch = errors.New("snapshot differs from its SHA-256 trailer")
	// ErrDamaged: the content is what etcd sent, or pretends to be, but its pages or revisions make no sense, or reading them
	// made the child process panic or fault.
	ErrDamaged = errors.New("snapshot is damaged")
	// ErrChanged: somebody wrote to the file while it was read, so that nothing can be said of it.
	ErrChanged = errors.New("snapshot was changed while it was read")
)

// What else can go wrong.
var (
	// ErrNewer: the snapshot was taken from a newer etcd than the one that would have to read it.
	ErrNewer = errors.New("snapshot is of a newer etcd")
	// ErrTargetExists: there is something already where the result should go. Nothing was touched.
	ErrTargetExists = errors.New("target exists already")
	// ErrFolderOpen: the folder for a snapshot can be entered by other users. Nothing was touched.
	ErrFolderOpen = errors.New("folder is open to other users")
	// ErrAlarm: the member answers, but an alarm is raised in its cluster.
	ErrAlarm = errors.New("etcd has raised an alarm")
	// ErrWorker: the child process could not be started, or died, or gave no sensible answer, and no snapshot is known to
	// be the reason.
	ErrWorker = errors.New("etcd worker failed")
)

// LacksMeans says whether an error is for want of something that this machine should have: room, files, memory, a disk that can be read. etcd tells of it in words alone.
func LacksMeans(err error) bool {
	return slices.ContainsFunc(lacks(), func(want syscall.Errno) bool {
		return errors.Is(err, want) || strings.Contains(err.Error(), want.Error())
	})
}

// lacks are the errors of an operating system that say so.
func lacks() []syscall.Errno {
	return []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO, syscall.EROFS}
}
