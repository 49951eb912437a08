// Package engine walks a plan: it keeps the order, owns every deadline, decides the verdict, and tells observers what
// happens. It knows nothing of clusters, terminals or reports.
package engine
