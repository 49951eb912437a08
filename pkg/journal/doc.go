// Package journal keeps on disk what a run is about to do and what it has done, so that somebody else can carry the run on, or undo it, when the process that began it is no more.
//
// A journal is a file of JSON, one line an entry, that only grows. An entry is on the disk before what it tells of is begun. Who reads a journal after a crash finds at
// most one line that was cut short, the last, which tells of nothing that was begun.
package journal
