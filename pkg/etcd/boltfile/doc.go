// Package boltfile reads bbolt database files, as etcd's snapshots are, and trusts nothing that stands in them.
//
// bbolt itself maps a file into memory and follows what it finds there: a damaged page makes it panic, in a goroutine of its own at times, a page beyond the
// end of the file raises SIGBUS, and all that is read counts as memory of the process. This package reads page by page, looks at each before it is used, and holds a
// few pages and one bit for each page of the file, however large that is. What is wrong is told as a Damage, with the place.
//
// It looks for all that bbolt's own consistency check looks for (tx_check.go in go.etcd.io/bbolt), and beyond that at the header of each page, at where its elements lie, and that
// both headers of the file are right. The format is that of version 2, which has been the only one (internal/common in go.etcd.io/bbolt). It is written in the byte order of
// the machine; this package reads little-endian ones, as every platform for which etcd is released is.
package boltfile
