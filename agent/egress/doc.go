// Package egress lets cells out: to where their tenants' policies allow it,
// and nowhere else.
//
// Cells' links end in a router, a network namespace of its own that holds
// nothing but its rules and the resolver's sockets; one more link leads from
// there to the host. So code that gets as far as its link's other end has
// reached nothing, and whoever flushes the host's rules has flushed none of
// these. Three layers stand in a packet's way, none of which needs the others
// to refuse it:
//
//   - rules in the router let it pass and mark it, or refuse it;
//   - routes in the router lead on only what is marked;
//   - rules on the host drop what is for the host, or for what no code may
//     ever reach.
//
// What is in this package:
//
//	policy.go    Policy: what a tenant's egress means                  (pure)
//	prefixes.go  networks as nft wants them                            (pure)
//	limits.go    what one instance may do to the network
//	rules.go     the router's rules, as text                           (pure)
//	hostrules.go the host's                                            (pure)
//	addresses.go which addresses are whose                             (pure)
//	router.go    the namespace, its links and routes
//	attach.go    a cell's link
//	nft.go       rules into the kernel, and its generations
//	network.go   Network: cells that come, are let out, and go
//	say.go       what instances may reach, put in force
//	over.go      who hits a limit is told so
//	docker.go    rules of an engine that stand in the way
//	keep.go      what others change is put back
//	given.go     which addresses the resolver has given out
//	resolver.go  names, for cells
//	answer.go    what of an answer an instance may see                 (pure)
//	upstream.go  whom the resolver asks
package egress
