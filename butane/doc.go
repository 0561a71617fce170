// Package butane makes of cluster.yaml what a machine is provisioned from: a
// Butane configuration for each host by its roles, and from that, with the
// Butane library, Ignition. Package butane/pki has the certificates that go
// into it.
//
//	host.go     what a host gets: files and units, pure
//	render.go   the Butane text
//	ignition.go the Ignition text; any warning is an error
//	artifacts.go digests of what hosts fetch over HTTP
//
// The templates in templates/ are the files and units as they stand on a host.
// On the host everything of ours is below /opt/bulkhead and /etc/bulkhead; who
// provisions by other means can put the same files there.
package butane
