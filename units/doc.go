// Package units renders the systemd units that make up an instance on a host,
// and those of the host itself, from the templates in templates/.
//
// An instance is four units. Two slices nest below bulkhead.slice, the
// tenant's and the instance's, whose limits hold for the runner and the
// container together. A socket listens where the host's proxy connects; the
// service that it starts is the runner in its jail: a root directory of its
// own, a user of its own, no network, no capabilities, few system calls.
//
// Rendering is pure, so that a scheduler can render for any host and compare
// texts to see what changed.
package units
