package proxy

import (
	"bytes"
	"container/list"
	"context"

	"github.com/valyala/fasthttp"

	"bulkhead/internal/frames"
)

// exchange is one request and its answer, from HTTP to a runner and back.
type exchange struct {
	delivery
	ctx    *fasthttp.RequestCtx
	watch  *list.Element
	upload upload
	head   *head // what req is made in

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
	if refusal == nil {
		if status, body, ours := x.p.ownPath(path, authority); ours {
			ctx.SetStatusCode(status)
			ctx.SetBodyString(body)
			x.finish(nil)
			return false
		}
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
		return x.send()
	}
	body, whole, err := x.head.readInline(x.ctx)
	if err != nil {
		return refuse(408, "body_cut_short", "the request's body did not arrive: %v", err)
	}
	x.req.Body, x.whole = body, whole
	x.rec.in = int64(len(body))
	return x.send()
}

// send offers the request, and begins to send the rest of its body.
func (x *exchange) send() *refusal {
	refusal := x.offer(x.p.ctx)
	if refusal == nil && !x.whole && !x.held {
		x.startUpload()
	}
	return refusal
}

// dropHead gives back what the request was made in.
func (x *exchange) dropHead() {
	if x.head != nil {
		heads.Put(x.head)
		x.head, x.req = nil, frames.Request{}
	}
}

func (x *exchange) startUpload() {
	x.upload = upload{ctx: x.ctx, body: x.ctx.RequestBodyStream(), length: x.ctx.Request.Header.ContentLength(), stream: x.stream}
	if x.upload.body == nil { // the client expected to be asked for nothing
		body := x.ctx.Request.Body()
		x.upload.body, x.upload.length = bytes.NewReader(body), len(body)
	}
	x.upload.start()
}

// respond waits for the answer's head and makes it the response.
func (x *exchange) respond() *refusal {
	for {
		if x.watch == nil {
			x.watch = x.p.presence.add(x.ctx.Conn(), x.stream, x.rec.start)
		}
		r, err := x.begins(context.Background())
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
		}
		if refusal := x.again(err); refusal != nil {
			return refusal
		}
		if refusal := x.send(); refusal != nil {
			return refusal
		}
	}
}

// broken replaces an answer that breaks its own word.
func (x *exchange) broken(r *refusal) {
	r.write(&x.ctx.Response, x.rec.request)
	x.rec.refused(r)
	x.close()
}

// finish ends the exchange with a refusal, or none.
func (x *exchange) finish(r *refusal) {
	switch {
	case r == nil:
		x.rec.status = x.ctx.Response.StatusCode()
	case r.status == statusGone:
		x.rec.refused(r)
		x.ctx.Conn().Close() // nobody is there to be answered
	default:
		r.write(&x.ctx.Response, x.rec.request)
		x.rec.refused(r)
		if r.status == 400 || x.unread() {
			x.cutOff() // who knows where the next request begins; who wants to read that far
		}
	}
	x.close()
}

// unread reports whether the client sends a body of which nothing was taken.
func (x *exchange) unread() bool {
	return !x.whole && !x.held && x.upload.body == nil && x.ctx.RequestBodyStream() != nil && x.ctx.Request.Header.ContentLength() != 0
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
	x.part()
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
