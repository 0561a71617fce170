// Package proxy is the host proxy: it takes any tenant's request on any host,
// parses its HTTP once, and passes it as frames (docs/frames.md) to a ready
// instance of the tenant.
//
// A request goes through these files, in this order:
//
//	server.go    the listening side: limits and timeouts against slow clients
//	listen.go    over TLS; certificate.go and acme.go have the certificates
//	uri.go       a target's path and authority                     (pure)
//	route.go     which tenant and function a target names          (pure)
//	request.go   HTTP to frames; what stops at the edge
//	delivery.go  offers it until somebody takes it
//	shares.go    nobody takes all of a host's connections or requests
//	table.go     who may take it; holds while an instance starts
//	choose.go    which one is best
//	circuit.go   who is left alone, having failed               (pure)
//	target.go    an instance here, or another host: requests in flight
//	peer.go      the connection to another host's proxy; peertls.go secures it
//	expect.go    bodies that clients hold back until they are asked for
//	upload.go    a large body, beside the answer
//	response.go  frames to HTTP, streamed
//	trailers.go  what follows a body, both ways
//	upgrade.go   a 101: raw bytes, both ways; tunnels.go ends them
//	websocket.go where in a WebSocket's frames a Close may be put
//	presence.go  notices clients that have gone
//	access.go    one log record per request, filled in on the way
//	failures.go  counts those that the platform failed
//
// Over HTTP/2 a request goes through h2.go, h2request.go, h2upload.go and
// h2answer.go instead of exchange.go and those from upload.go on.
//
// What another host's proxy sends comes in by inbound.go, and relay.go passes
// it on to an instance here, frame by frame.
//
// Over the same port a host gets an image from another: images.go.
//
// watch.go keeps the table as etcd says (known.go, rank.go), and keeps it when
// etcd is gone. The proxy faces the world, so it runs unprivileged and holds no tenant's secret:
// tokens are the runner's to check.
package proxy
