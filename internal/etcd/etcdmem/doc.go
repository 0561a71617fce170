// Package etcdmem is an etcd in memory that obeys etcd's rules: revisions,
// transactions with their limits, leases, watches with their history,
// compaction. It is what simulations run on (test/sim), inside a
// testing/synctest bubble, where an etcd with its disk and its network can't
// be.
//
// It stands behind etcd's own client (clientv3), in place of the gRPC
// connection: reads, writes and grants go through the client's own code. Its
// watches don't, for they wait on a channel that no bubble owns; a watch here
// does what the client's does, and goes on where it was after a break. So does
// what keeps leases alive (lessor.go). One suite of tests runs on this store and
// on the real server.
//
// A [Store] is the cluster; each simulated process has a [Conn] of its own,
// which can be slow, cut, or lose answers. Not modelled: authentication,
// members of their own, alarms, ranges in comparisons.
package etcdmem
