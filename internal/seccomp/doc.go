// Package seccomp says which system calls the processes of a cell's container
// may make: those of the cell, of Node with its threads and children, and of
// what native code needs for memory, files, sockets and threads. All else is
// refused, with an error that the code sees, and nobody is killed for it.
//
//	calls.go    the calls, by group, each with its reason
//	guarded.go  those that are allowed with some arguments only
//	profile.go  Docker's form of it
//
// docs/security.md ("The container") says how the list was measured and how to measure it again.
package seccomp
