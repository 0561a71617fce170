package proxy

import (
	"context"

	"github.com/valyala/fasthttp"

	"bulkhead/internal/frames"
)

// expect offers a request to its instance while the client still holds its body
// back (RFC 9110, section 10.1.1): what is refused is answered without the
// body. 100: the runner lets it in, and handle goes on with it.
func (p *Proxy) expect(ctx *fasthttp.RequestCtx) int {
	x := p.exchange(ctx)
	x.held = true
	if !x.begin() {
		return ctx.Response.StatusCode()
	}
	x.watch = p.presence.add(ctx.Conn(), x.stream, x.rec.start)
	wait, cancel := context.WithTimeout(p.ctx, admitTime)
	defer cancel()
	if x.stream.Admitted(wait) {
		x.held = false
		expecting(ctx).expecting.Store(x)
		return fasthttp.StatusContinue
	}
	x.end(x.respond())
	return ctx.Response.StatusCode()
}

// expecting returns the connection, which knows the exchange that was let in.
func expecting(ctx *fasthttp.RequestCtx) *stallConn { return ctx.Conn().(*stallConn) }

// admitted goes on with a request that was let in, now that its body comes.
func (x *exchange) admitted() {
	x.startUpload()
	x.end(x.respond())
}

// forsake ends an exchange that was let in, and whose client has gone instead
// of sending its body. Its connection is closed, and no context of ours.
func (x *exchange) forsake() {
	x.rec.status, x.rec.cause = statusGone, "client_gone"
	x.streams = true
	x.stream.Reset(frames.CodeCancelled, "the client has gone")
	x.close()
}
