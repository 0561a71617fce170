// Package breach is what somebody does who has taken a process of ours over:
// attacks, each made of system calls, each of which knows by its effect whether
// it got through. It is only ever built into a runner with a hole (build tag
// "breach") and into the program that takes the place of a tenant's code;
// package breakin holds ordinary builds to that.
//
//	breach.go     orders, attempts, and who makes them
//	files.go      other people's files, and files of his own
//	processes.go  other people's processes, programs of his own
//	sockets.go    other people's sockets, and kinds of his own
//	privilege.go  more rights than he has, other views of the system
//	kernel.go     parts of the kernel that nobody here needs
//	loot.go       what there is to take: listeners and memory of somebody else's
package breach
