// Package etcd is what Bulkhead needs of etcd beyond its client: watches that
// survive compaction, leader changes and restores ([Watch]); fenced writes in
// batches ([Commit]); keys that live as long as their writer ([Presence]); a
// client made from flags ([Open]) and a server for a single machine
// ([Embed]).
//
// It knows nothing of what the keys mean.
package etcd
