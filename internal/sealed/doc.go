// Package sealed keeps tenants' secrets unreadable wherever they rest: in
// etcd, its snapshots and backups, and on hosts' disks.
//
// Whoever writes a secret seals it with a [Lock], which is public: the
// operator's machine, a scheduler that finds a plain one. Only who has the
// [Ring], hosts' agents and the operator, can open it. That is hybrid
// encryption (HPKE, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM) by Google's
// Tink; each sealed value has a key of its own, itself sealed to the lock.
//
// A sealed value is bound to its [Place]: moved to another tenant, key or
// function it doesn't open. It begins with the ID of the key that opens it, so
// that anybody can tell which keys are still needed.
//
// A ring is a file: plain JSON of Tink's, mode 0600, or wrapped by a key
// management service behind a local socket (kms.go), which is asked whenever
// the file is read.
package sealed
