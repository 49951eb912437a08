// Package inventory says what etcd holds for Kubernetes, and what two or three such inventories differ in.
//
// An inventory is read from etcd itself, either from a running one or from a snapshot file, on every key that there is: built-in objects, custom
// resources, and what are no objects at all. The API server is not asked. It may answer from a cache, it doesn't show everything that it
// stores, and it is what a recovery is meant to bring back.
//
// # What counts as a difference
//
// Kubernetes goes on writing while nobody asks for anything: heartbeats, status, events. The table Rewrites names each such thing with the reason why it proves
// nothing. Everything else counts, to the last label, the UID and generation of each object included. What is left out is not lost from
// sight: Compare says how many objects each entry of the table concerned.
//
// # What is kept
//
// Databases may hold a gigabyte, so an Inventory keeps digests and no content. Which fields of an object differ is found out by Explain, which
// reads both sources once more. It never shows the data of a Secret.
package inventory
