// Package etcdmem is an etcd in memory that obeys etcd's rules: revisions,
// transactions with their limits, leases, watches with their history,
// compaction. It is what simulations run on (test/sim), inside a
// testing/synctest bubble, where an etcd with its disk and its network can't
// be.
//
// It stands behind etcd's own client (clientv3), in place of the gRPC
// connection, so the client's behaviour, such as how it resumes a watch, is
// the real one. One suite of tests runs on it and on the real server.
//
// A [Store] is the cluster; each simulated process has a [Conn] of its own,
// which can be slow, cut, or lose answers. Not modelled: authentication,
// members of their own, alarms, ranges in comparisons.
package etcdmem
