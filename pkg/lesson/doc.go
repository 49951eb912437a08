// Package lesson renders a plan as Markdown for somebody who is learning: every step in order with its why, the commands to
// type, and what to expect; then what drill checks. It touches no cluster.
package lesson
