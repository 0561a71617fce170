// Package proxy is the host proxy: it takes any tenant's request on any host,
// parses its HTTP once, and passes it as frames (docs/frames.md) to a ready
// instance of the tenant.
//
// A request goes through these files, in this order:
//
//	server.go    the listening side: limits and timeouts against slow clients
//	uri.go       a target's path and authority                     (pure)
//	route.go     which tenant and function a target names          (pure)
//	table.go     which instances are ready; holds while one starts
//	target.go    one instance: its connection, requests in flight
//	request.go   HTTP to frames; what stops at the edge
//	expect.go    bodies that clients hold back until they are asked for
//	upload.go    a large body, beside the answer
//	response.go  frames to HTTP, streamed
//	trailers.go  what follows a body, both ways
//	upgrade.go   a 101: raw bytes, both ways; tunnels.go ends them
//	presence.go  notices clients that have gone
//	access.go    one log record per request, filled in on the way
//
// watch.go keeps the table as etcd says, and keeps it when etcd is gone. The
// proxy faces the world, so it runs unprivileged and holds no tenant's secret:
// tokens are the runner's to check.
package proxy
