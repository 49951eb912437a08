// Package report holds the one model of what a drill found out, and renders it: JSON and YAML (the same
// document), JUnit XML for continuous integration, and metrics for Prometheus.
//
// A Builder makes the model of the event stream of a run. Field names of the document are a promise: fields are added
// within a schema version, never renamed or removed.
package report
