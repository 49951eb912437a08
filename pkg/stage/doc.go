// Package stage is where a scenario plays: a cluster at hand with everything that was found out about it, the folders of the
// run, and the steps that scenarios are composed of. Steps leave on the stage what later steps and the checks need.
package stage
