package proxy

import (
	"container/list"
	"context"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"bulkhead/internal/frames"
)

// maxTries is how many instances, or connections to one, a request is offered
// to. It goes on to the next only when the last has not processed any of it.
const maxTries = 3

// exchange is one request and its answer, from HTTP to a runner and back.
type exchange struct {
	p      *Proxy
	ctx    *fasthttp.RequestCtx
	rec    record
	target *target
	stream *frames.Stream
	watch  *list.Element
	upload upload

	streams bool   // the exchange is the response's body stream
	rest    []byte // of the answer's body, still to be written
	length  int    // content-length that the answer promised; -1: none
	failed  error  // the answer broke off
}

// serve handles one request. When it returns the response is complete, or its
// body streams from the exchange, which then is done when the body is.
func (x *exchange) serve() {
	ctx := x.ctx
	if string(ctx.Path()) == healthPath {
		ctx.SetBodyString("ok\n")
		x.finish(nil)
		return
	}
	route, refusal := ParseRoute(ctx.Request.Header.RequestURI(), ctx.Request.Header.Host(), x.p.opts.Domain)
	if refusal == nil {
		x.rec.tenant, x.rec.function = route.Tenant, route.Function
		refusal = x.open(route)
	}
	if refusal == nil {
		refusal = x.respond()
	}
	if refusal != nil {
		x.finish(refusal)
	}
}

// open sends the request to an instance.
func (x *exchange) open(route Route) *refusal {
	h := heads.Get().(*head)
	defer heads.Put(h)
	req, refusal := h.encode(x.ctx, &x.rec, route)
	if refusal != nil {
		return refusal
	}
	body, whole, err := h.readInline(x.ctx)
	if err != nil {
		return refuse(408, "body_cut_short", "the request's body did not arrive: %v", err)
	}
	req.Body = body
	x.rec.in = int64(len(body))
	return x.offer(req, whole)
}

// offer finds an instance that takes the request.
func (x *exchange) offer(req frames.Request, whole bool) *refusal {
	var last error
	for x.rec.tries = 1; x.rec.tries <= maxTries; x.rec.tries++ {
		target, refusal := x.p.table.pick(x.p.ctx, x.rec.tenant, x.p.opts.Hold, x.target)
		if refusal != nil {
			return refusal
		}
		x.target, x.rec.instance = target, target.instance
		stream, err := target.open(x.p.ctx, req, whole)
		if err == nil {
			x.stream = stream
			if !whole {
				x.upload = upload{ctx: x.ctx, body: x.ctx.RequestBodyStream(), stream: stream}
				x.upload.start()
			}
			return nil
		}
		target.leave()
		last = err
	}
	r := refuse(503, "instance_unreachable", "no instance of tenant %q takes requests: %v", x.rec.tenant, last)
	r.retryAfter = time.Second
	return r
}

// respond waits for the answer's head and makes it the response.
func (x *exchange) respond() *refusal {
	x.watch = x.p.presence.add(x.ctx.Conn(), x.stream, x.rec.start)
	r, err := x.stream.Response(context.Background())
	if err == nil {
		x.answer(r)
		return nil
	}
	gone := x.unwatch()
	if gone {
		x.ctx.SetConnectionClose()
	}
	return refusalFor(err, gone)
}

// broken replaces an answer that breaks its own word.
func (x *exchange) broken(r *refusal) {
	r.write(&x.ctx.Response, x.rec.request)
	x.rec.status, x.rec.cause = r.status, r.cause
	x.close(errors.New(r.message))
}

func (x *exchange) unwatch() (gone bool) {
	if x.watch == nil {
		return false
	}
	gone = x.p.presence.remove(x.watch)
	x.watch = nil
	return gone
}

// finish ends the exchange with a refusal, or none.
func (x *exchange) finish(r *refusal) {
	if r != nil {
		r.write(&x.ctx.Response, x.rec.request)
		x.rec.status, x.rec.cause = r.status, r.cause
		if r.status == 400 {
			x.ctx.SetConnectionClose() // who knows where the next request begins
		}
	} else {
		x.rec.status = x.ctx.Response.StatusCode()
	}
	x.close(nil)
}

// close gives back what the exchange holds and logs it, once.
func (x *exchange) close(err error) {
	if x.stream != nil {
		x.unwatch()
		if x.upload.finish() != nil {
			x.ctx.SetConnectionClose()
		}
		x.rec.in += x.upload.sent
		x.stream.Close()
		x.stream = nil
		x.target.leave()
	}
	x.ctx.Response.Header.Set("X-Request-Id", x.rec.request)
	x.p.done(x)
}
