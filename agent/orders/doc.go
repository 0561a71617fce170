// Package orders carries out what a host is told to do in a rollout
// ([cluster.Order]): leave, have another image, become another release, run an
// action of its own configuration.
//
// Each order is carried out once, by its ID, whatever happens in between: how
// far it has come is on disk before anything is done, so an agent that was
// killed, or a host that was rebooted, goes on from there. What became of it is
// told in etcd ([cluster.Report]) until etcd has taken it.
//
//	orders.go  one loop: the order in force, and who is at it
//	state.go   how far an order has come, on disk; what follows from it  (pure)
//	carry.go   the parts of an order, one after the other
//	door.go    by which the proxy knows that it is leaving
//	tell.go    what became of it, to etcd
package orders
