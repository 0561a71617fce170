// Package cluster holds the words and rules of Bulkhead: tenants and their
// specs, functions, hosts, placements, instances, the etcd keys they live
// under and what makes each of them valid.
//
// It is pure: no I/O, no clock, no goroutines. Everything else imports it and
// it imports nothing of ours, so a reader who starts here knows the
// vocabulary of the rest.
//
// A value travels like this: an operator writes a [Spec] under [TenantKey];
// the scheduler decodes and validates it ([DecodeSpec]), keeps the last good
// one under [AppliedKey], writes a [Placement] and the instance's rendered
// units under the prefix of one [Host]; that host's agent makes it run and
// reports an [Instance]; every proxy turns instances into routes.
package cluster
