// Package load puts a constant load on a cluster's proxies: open loop, so that
// what is slow or broken delays nothing that comes after it, each request timed
// from when it was due. Refused and broken connections count. It does what a
// load balancer does and no more: it asks each proxy twice a second whether it
// takes requests (/-/readyz), and never asks a second time for a request.
//
//	load.go    requests at a constant rate
//	echoes.go  WebSockets that send and expect echoes
package load
