// Package fleet runs a cluster of test hosts on this machine: containers with
// a real systemd and a real Docker Engine, on a network of their own, each
// provisioned on its first boot by the real Ignition from what "bulkhead
// butane render" makes of a cluster.yaml. Tests use it through package host,
// people through scripts/cluster.
//
//	container.go  one host as a container: boot, run commands, remove
//	fleet.go      what a cluster is, and where its state is
//	up.go         from nothing to a cluster that is ready; idempotent
//	artifacts.go  what hosts fetch, and who serves it to them
//	harm.go       stop, pause and cut off hosts
package fleet
