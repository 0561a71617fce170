// Package fleet tries a cluster of three hosts from end to end: real systemd
// and Docker Engines, etcd of three members over mutual TLS, all of it
// provisioned by Ignition from rendered Butane. What must go on goes on under a
// constant load while something is broken: open loop, every connection error
// counts.
//
// The tests need root, Docker, etcdctl, and the binaries in bin/ and the image
// that scripts/test builds first.
package fleet
