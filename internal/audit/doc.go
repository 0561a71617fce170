// Package audit keeps the cluster's audit log: who did what to which tenant,
// function, host or rollout, each record chained to the one before by its hash.
//
// Whoever writes to etcd says in the same transaction who he is: a [Claim], at a
// key that only his own user of etcd may write. The leading scheduler follows
// what others decide and writes a [Record] of each change, with the claim of its
// transaction if there was one. Nobody has to take part for his change to be
// recorded: what was written past bulkhead is there too, by nobody who said so.
//
// A record is one line of JSON. It holds the SHA-256 of the line before it, so
// that a log can be verified by itself ([Verify]), by sha256sum if need be, and
// whoever knows the hash of a line knows all lines before it to be as they were.
// Records hold names, hashes and the paths of what changed in a value, never a
// value: specs and functions hold secrets.
//
// In etcd the newest records are kept, in pages of what was recorded at once;
// the end of the log is logged with each page, as an anchor elsewhere.
package audit
