package proxy

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"bulkhead/internal/frames"
)

// fill turns an answer's head into the response's, without what is for one hop
// only. It returns the body's length, -1 when the head does not say.
func fill(resp *fasthttp.Response, r frames.Response) (length int) {
	resp.SetStatusCode(r.Status)
	length = -1
	for name, value := range r.Headers.All() {
		switch string(name) {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "trailer", "x-request-id":
		case "content-length":
			if n, err := strconv.Atoi(string(value)); err == nil && n >= 0 {
				length = n
			}
		case "content-type":
			resp.Header.SetContentTypeBytes(value)
		default:
			resp.Header.AddBytesKV(name, value)
		}
	}
	return length
}

// bodiless reports whether an answer has no body whatever it says (RFC 9110,
// section 6.4.1).
func bodiless(status int, isHead bool) bool {
	return isHead || status == 204 || status == 304 || status < 200
}

// answer makes the stream's answer the response. Small answers that are whole
// are copied; others stream while they are written, and keep the exchange open
// until then.
func (x *exchange) answer(r frames.Response) {
	resp := &x.ctx.Response
	length := fill(resp, r)
	x.rec.status = r.Status
	x.rec.cause = string(r.Fields.Get(frames.FieldCause))
	if left, whole := x.stream.Whole(); whole {
		body, _ := x.stream.Next(context.Background())
		x.rec.out = int64(left)
		if bodiless(r.Status, x.ctx.IsHead()) {
			if x.ctx.IsHead() && length >= 0 {
				resp.Header.SetContentLength(length)
			}
			x.close(nil)
			return
		}
		if length >= 0 && length != left {
			x.broken(refuse(502, "bad_answer", "the function said content-length %d and sent %d bytes", length, left))
			return
		}
		resp.SetBody(body)
		x.close(nil)
		return
	}
	if bodiless(r.Status, x.ctx.IsHead()) {
		if x.ctx.IsHead() && length >= 0 {
			resp.Header.SetContentLength(length)
		}
		x.close(nil)
		return
	}
	x.length, x.streams = length, true
	x.ctx.Response.SetBodyStream(x, length)
	x.ctx.Response.ImmediateHeaderFlush = true
}

// Read streams the answer's body as the client takes it.
func (x *exchange) Read(p []byte) (int, error) {
	for len(x.rest) == 0 {
		chunk, err := x.stream.Next(context.Background())
		if err != nil {
			x.failed = err
			return 0, err
		}
		if chunk == nil {
			if x.length >= 0 && x.rec.out < int64(x.length) {
				x.failed = io.ErrUnexpectedEOF
				return 0, x.failed
			}
			return 0, io.EOF
		}
		x.rest = chunk
	}
	n := copy(p, x.rest)
	x.rest = x.rest[n:]
	x.rec.out += int64(n)
	return n, nil
}

// Close is called when the body has been written, or can't be.
func (x *exchange) Close() error {
	if x.p == nil {
		return nil
	}
	if x.failed != nil {
		x.rec.cause = "answer_broken_off"
	}
	x.close(x.failed)
	return nil
}

// refusalFor explains a stream that failed before its answer began.
func refusalFor(err error, gone bool) *refusal {
	var reset *frames.ResetError
	switch {
	case gone:
		// 499 is nginx's: nobody is there to read it, but the log has it.
		return refuse(499, "client_gone", "the client closed the connection before the answer began")
	case errors.As(err, &reset):
		return refuse(502, "instance_reset", "the instance gave the request up: %s", reset.Reason)
	case errors.Is(err, frames.ErrClosed):
		r := refuse(503, "instance_gone", "the instance ended while the request was in flight; it may have been processed")
		r.retryAfter = time.Second
		return r
	}
	return refuse(502, "bad_answer", "the instance's answer cannot be read: %v", err)
}
