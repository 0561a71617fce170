// Package fleetlock is where a machine's own updates ask for their turn: the
// FleetLock protocol, as Zincati of Fedora CoreOS speaks it, and Flatcar's
// update-engine over D-Bus. Each host answers its own machine, on loopback, and
// nobody else: asking is a key in etcd ([cluster.Ask]), being granted is an
// order ([cluster.Order]), and all that comes in between, other hosts' turns
// and the drain, is the scheduler's.
//
//	id.go      by which name a machine asks
//	turn.go    asking for a turn, and giving it back
//	server.go  the protocol
package fleetlock
