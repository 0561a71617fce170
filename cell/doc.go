// Package cell is PID 1 of a tenant's container: it starts Node processes,
// gives each one function version to serve, and buries them.
//
// A booted Node process without code is a Spare; the cell keeps one. When the
// runner asks it to serve a function (docs/cell.md), the cell makes a listening
// socket, hands it with the function's record to the spare over Node's IPC
// channel, and boots the next spare. Requests then go from the runner straight
// to that socket, as frames; the cell stays off their path. It reads what the
// processes print and keeps it for the one who reads the log, reaps every orphan
// of the container, and when a process dies works out why: that is the inquest.
//
// It also watches the processes from outside V8: one whose code does not come
// back to the event loop is broken into over Node's inspector, the guilty
// request and line are named, its turn is ended, and everybody else's request
// goes on. Package watch has the rules, package inspect the break-in.
//
// The code it starts is hostile and, without CAP_SETUID, runs under the cell's
// own user. So the cell makes itself undumpable, ignores every signal that code
// could use, and takes control connections only from outside the container.
//
//	cell.go      Cell: the processes by function, from start to stop
//	serve.go     a function version gets its process
//	spare.go     the next spare; evict.go: who goes when there is no room
//	leave.go     out of service, and gone in time; kill.go: an end at once
//	process.go   one Node process: starting it, its channel, its state
//	message.go   what a process's channel carries, none of it trusted
//	heard.go     what processes print and say, and their ends
//	watch.go     looks at the processes; verdict.go: what follows from a breach
//	breakin.go   into a process whose code does not come back; sight.go: whose it is
//	escapes.go   code that comes back just before that, again and again
//	ping.go      asking the event loop, so that only it can answer
//	mark.go      whose turn it is, read from a process's memory
//	obituary.go  the last words of a process
//	control.go   the control socket: requests, replies, events
//	reap.go      wait4 for everyone, told apart by pid
//	inquest.go   why a process ended
//	logs.go      lines in, JSON lines out, bounded
//	logger.go    the log, kept for its one reader; rates.go: how much of it
//	limits.go    what the cgroup allows, and what follows from it
//	harden.go    what PID 1 does to itself
package cell
