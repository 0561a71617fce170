// Package runner is the jailed process that stands before one tenant's
// container: it checks each request's token, applies the tenant's limits, and
// passes what it lets through to the function's process.
//
// It speaks frames (docs/frames.md) on both sides. The proxy connects to it;
// it asks the cell (docs/cell.md) for a process that serves a function, and
// connects to that. A request is a [call]: a stream on the proxy's connection
// joined to a stream on a process's. The runner keeps no bodies: frames are
// passed on with another stream id, and the two ends' windows bound what is
// under way.
//
//	gate.go       may this token do this?          (pure)
//	claims.go     what a token says
//	refusal.go    the platform's answers when not
//	functions.go  the tenant's functions, as the agent delivers them
//	cell.go       the cell's control socket
//	inbound.go    frames from the proxy, and the agent's reloads
//	admit.go      token, function, limits
//	counts.go     requests a second and in flight: tenant, function, token
//	quota.go      requests in a window of the calendar             (pure)
//	book.go       which outlive us in a file of the agent's
//	line.go       who waits until fewer are in flight              (pure)
//	load.go       how many are in flight, for the agent
//	request.go    the request as the function gets it
//	call.go       one request from gate to answer
//	relay.go      its frames, both ways
//	process.go    function processes and their frames
//	verdict.go    what the cell's watchdog has stopped, and whose it was
//	death.go      processes that could not start, or have ended
//	again.go      requests that may be asked twice
//	crash.go      functions whose processes die again and again
//	suspect.go    for a watchdog that fails
//	oneoff.go     code that comes with the request
//
// One mutex guards all state: the work under it is moving bytes between
// buffers, and nothing under it waits. A runner knows one tenant's keys, has
// no network, no files but its functions, and imports neither etcd nor Docker.
package runner
