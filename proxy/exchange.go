package proxy

import (
	"bytes"
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

	head  *head          // what req is made in
	req   frames.Request // kept until its answer begins: it may be offered again
	whole bool           // all of its body is in req
	held  bool           // none of its body is taken before the runner has answered or let it in

	streams bool   // the exchange is the response's body stream
	rest    []byte // of the answer's body, still to be written
	length  int    // content-length that the answer promised; -1: none
	failed  error  // the answer broke off
}

// serve handles one request. When it returns the response is complete, or its
// body streams from the exchange, which then is done when the body is.
func (x *exchange) serve() {
	if x.begin() {
		x.end(x.respond())
	}
}

// begin sends the request to an instance. False: it has been answered already.
func (x *exchange) begin() bool {
	ctx := x.ctx
	path, authority, refusal := splitTarget(ctx.Request.Header.RequestURI(), ctx.Request.Header.Host())
	if len(path) != len(x.rec.target) {
		x.rec.target = string(path) // a password may stand before the host
	}
	// As it stands: with its dots resolved, a function's path may read so too.
	if refusal == nil && string(path) == healthPath {
		ctx.SetBodyString("ok\n")
		x.finish(nil)
		return false
	}
	var route Route
	if refusal == nil {
		route, refusal = ParseRoute(path, authority, x.p.opts.Domain)
	}
	if refusal == nil {
		x.rec.tenant, x.rec.function = route.Tenant, route.Function
		refusal = x.open(route, path, authority)
	}
	x.end(refusal)
	return refusal == nil
}

// end ends the exchange if there is a refusal.
func (x *exchange) end(refusal *refusal) {
	if refusal != nil {
		x.finish(refusal)
	}
}

// open sends the request to an instance.
func (x *exchange) open(route Route, path, authority []byte) *refusal {
	x.head = heads.Get().(*head)
	req, refusal := x.head.encode(x.ctx, &x.rec, route, path, authority)
	if refusal != nil {
		return refusal
	}
	x.req = req
	if x.held = x.held || x.head.upgrade; x.held {
		return x.offer()
	}
	body, whole, err := x.head.readInline(x.ctx)
	if err != nil {
		return refuse(408, "body_cut_short", "the request's body did not arrive: %v", err)
	}
	x.req.Body, x.whole = body, whole
	x.rec.in = int64(len(body))
	return x.offer()
}

// dropHead gives back what the request was made in.
func (x *exchange) dropHead() {
	if x.head != nil {
		heads.Put(x.head)
		x.head, x.req = nil, frames.Request{}
	}
}

// offer finds an instance that takes the request.
func (x *exchange) offer() *refusal {
	var last error
	for x.rec.tries < maxTries {
		x.rec.tries++
		target, refusal := x.p.table.pick(x.p.ctx, x.rec.tenant, x.p.opts.Hold, x.target)
		if refusal != nil {
			return refusal
		}
		x.target, x.rec.instance = target, target.instance
		stream, err := target.open(x.p.ctx, x.req, x.whole)
		if err == nil {
			x.stream = stream
			if !x.whole && !x.held {
				x.startUpload()
			}
			return nil
		}
		target.leave()
		if errors.Is(err, frames.ErrProtocol) {
			return tooBig
		}
		last = err
	}
	return unreachable(x.rec.tenant, last)
}

func (x *exchange) startUpload() {
	x.upload = upload{ctx: x.ctx, body: x.ctx.RequestBodyStream(), length: x.ctx.Request.Header.ContentLength(), stream: x.stream}
	if x.upload.body == nil { // the client expected to be asked for nothing
		body := x.ctx.Request.Body()
		x.upload.body, x.upload.length = bytes.NewReader(body), len(body)
	}
	x.upload.start()
}

func unreachable(tenant string, err error) *refusal {
	r := refuse(503, "instance_unreachable", "no instance of tenant %q takes requests: %v", tenant, err)
	r.retryAfter = time.Second
	return r
}

// respond waits for the answer's head and makes it the response.
func (x *exchange) respond() *refusal {
	for {
		if x.watch == nil {
			x.watch = x.p.presence.add(x.ctx.Conn(), x.stream, x.rec.start)
		}
		r, err := x.stream.Response(context.Background())
		if err == nil {
			x.dropHead()
			if r.Status == 101 {
				x.switchProtocols(r)
				return nil
			}
			x.answer(r)
			return nil
		}
		gone, fault := x.settle()
		switch {
		case gone:
			return refusalFor(err, gone)
		case fault != nil:
			return fault
		case !errors.Is(err, frames.ErrRefused):
			return refusalFor(err, gone)
		case !x.whole && !x.held || x.rec.tries >= maxTries:
			return unreachable(x.rec.tenant, err)
		}
		if refusal := x.offer(); refusal != nil {
			return refusal
		}
	}
}

// broken replaces an answer that breaks its own word.
func (x *exchange) broken(r *refusal) {
	r.write(&x.ctx.Response, x.rec.request)
	x.rec.status, x.rec.cause = r.status, r.cause
	x.close()
}

// finish ends the exchange with a refusal, or none.
func (x *exchange) finish(r *refusal) {
	switch {
	case r == nil:
		x.rec.status = x.ctx.Response.StatusCode()
	case r.status == statusGone:
		x.rec.status, x.rec.cause = r.status, r.cause
		x.ctx.Conn().Close() // nobody is there to be answered
	default:
		r.write(&x.ctx.Response, x.rec.request)
		x.rec.status, x.rec.cause = r.status, r.cause
		if r.status == 400 {
			x.cutOff() // who knows where the next request begins
		}
	}
	x.close()
}

// cutOff closes the client's connection after the answer, although the client
// may still be sending.
func (x *exchange) cutOff() {
	x.ctx.SetConnectionClose()
	if c, ok := x.ctx.Conn().(*stallConn); ok {
		c.unread.Store(true)
	}
}

// settle ends the use of the stream. It reports whether the client was found
// gone, and what was wrong with the body that it sent.
func (x *exchange) settle() (gone bool, fault *refusal) {
	if x.stream == nil {
		return false, nil
	}
	if x.watch != nil {
		gone = x.p.presence.remove(x.watch)
		x.watch = nil
	}
	if x.upload.done != nil {
		x.stream.Cancel() // the upload may wait for a window that never comes
		err := x.upload.finish()
		if err != nil {
			x.cutOff()
		}
		fault = x.upload.refusal(err)
	}
	x.rec.in += x.upload.sent
	x.stream.Close()
	x.stream = nil
	x.target.leave()
	return gone, fault
}

// close gives back what the exchange holds and logs it, once.
func (x *exchange) close() {
	x.settle()
	x.dropHead()
	if !x.streams {
		x.ctx.Response.Header.Set("X-Request-Id", x.rec.request)
	}
	x.p.done(x)
}
