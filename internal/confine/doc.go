// Package confine has a process give up for good what it does not need any
// more. It is a wall of its own beside the unit's: what is forgotten there, or
// not honoured by whoever runs it, is closed here, and the other way round.
//
//	runner.go    the steps of a runner, in their order
//	cell.go      what a cell gives up, for itself and the tenant's code
//	calls.go     the system calls that are left
//	landlock.go  the files that are left
package confine
