package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
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
	return isHead || status == 204 || status == 304
}

// answer makes the stream's answer the response. Small answers that are whole
// are copied; others stream while they are written, and keep the exchange open
// until then.
func (x *exchange) answer(r frames.Response) {
	resp := &x.ctx.Response
	length := fill(resp, r)
	x.rec.status = r.Status
	x.rec.cause = cause(r.Fields.Get(frames.FieldCause))
	if left, whole := x.stream.Whole(); whole && x.stream.Trailers() == nil {
		body, _ := x.stream.Next(context.Background())
		x.rec.out = int64(left)
		if bodiless(r.Status, x.ctx.IsHead()) {
			if x.ctx.IsHead() && length >= 0 {
				resp.Header.SetContentLength(length)
			}
			x.close()
			return
		}
		if length >= 0 && length != left {
			x.broken(refuse(502, "bad_answer", "the function said content-length %d and sent %d bytes", length, left))
			return
		}
		resp.SetBody(body)
		x.close()
		return
	}
	if bodiless(r.Status, x.ctx.IsHead()) {
		if x.ctx.IsHead() && length >= 0 {
			resp.Header.SetContentLength(length)
		}
		x.close()
		return
	}
	x.length, x.streams = length, true
	resp.Header.Set("X-Request-Id", x.rec.request)
	if length < 0 && !x.ctx.Request.Header.IsHTTP11() {
		x.streamUntilClose()
		return
	}
	resp.SetBodyStream(x, length)
	resp.ImmediateHeaderFlush = true
}

// streamUntilClose sends an answer of unknown length to a client of HTTP/1.0,
// which knows no chunks (RFC 9112, section 7): the connection's end is the
// answer's.
func (x *exchange) streamUntilClose() {
	x.ctx.SetConnectionClose()
	head := bytes.Clone(x.ctx.Response.Header.Header())
	x.ctx.HijackSetNoResponse(true)
	x.ctx.Hijack(func(c net.Conn) {
		_, err := c.Write(head)
		if err == nil {
			_, err = io.Copy(c, struct{ io.Reader }{x})
		}
		x.CloseWithError(err)
	})
}

// maxCause bounds the cause that an answer may put into the access log, in
// bytes.
const maxCause = 64

// cause makes an answer's cause fit for the log: the tenant's process may have
// written it.
func cause(b []byte) string {
	b = b[:min(len(b), maxCause)]
	return strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' {
			return r
		}
		return '_'
	}, string(b))
}

// Read streams the answer's body as the client takes it.
func (x *exchange) Read(p []byte) (int, error) {
	if err := x.next(); err != nil {
		return 0, err
	}
	n := copy(p, x.rest)
	x.rest = x.rest[n:]
	x.rec.out += int64(n)
	return n, nil
}

// next waits until some of the answer's body is in rest; io.EOF: there is no
// more.
func (x *exchange) next() error {
	for len(x.rest) == 0 {
		chunk, err := x.stream.Next(context.Background())
		if err != nil {
			x.failed = err
			return err
		}
		if chunk == nil {
			if x.length >= 0 && x.rec.out < int64(x.length) {
				x.failed = io.ErrUnexpectedEOF
				return x.failed
			}
			x.trail()
			return io.EOF
		}
		x.rest = chunk
	}
	return nil
}

// errTooLong is an answer that is longer than it said.
var errTooLong = errors.New("the answer is longer than its content-length")

// WriteTo writes the answer's body in the pieces in which it comes. A body of a
// known length goes straight to the connection, where its head is already
// (ImmediateHeaderFlush): fasthttp flushes after each chunk, but keeps what
// has a length back until 4 KiB are together.
func (x *exchange) WriteTo(w io.Writer) (written int64, err error) {
	if x.length >= 0 {
		w = x.ctx.Conn()
	}
	for {
		if err := x.next(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return written, err
		}
		if x.length >= 0 && x.rec.out+int64(len(x.rest)) > int64(x.length) {
			x.failed = errTooLong
			return written, errTooLong
		}
		n, err := w.Write(x.rest)
		x.rest = x.rest[n:]
		x.rec.out += int64(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

// SupportsBodyWriteTo tells fasthttp that WriteTo does as Read would.
func (x *exchange) SupportsBodyWriteTo() bool { return true }

var _ fasthttp.BodyWriterTo = (*exchange)(nil)

// Close does nothing: fasthttp calls CloseWithError after it.
func (x *exchange) Close() error { return nil }

// CloseWithError is called when the body has been written, or with the reason
// why it can't be.
func (x *exchange) CloseWithError(err error) error {
	if x.p == nil {
		return nil
	}
	gone, fault := x.settle()
	switch {
	case gone || err != nil && x.failed == nil || fault != nil && hungUp(x.ctx.Conn()):
		x.rec.cause = "client_gone"
	case fault != nil:
		x.rec.cause = fault.cause
	case x.failed != nil:
		x.rec.brokenOff(refusalFor(x.failed, false))
	}
	x.close()
	return nil
}

// statusGone is nginx's. It is only in the log: nobody is there to read it.
const statusGone = 499

// refusalFor explains a stream that failed before its answer began.
func refusalFor(err error, gone bool) *refusal {
	var reset *frames.ResetError
	switch {
	case gone:
		return refuse(statusGone, "client_gone", "the client closed the connection before the answer began")
	case errors.As(err, &reset) && reset.Code == frames.CodeGone, errors.Is(err, frames.ErrClosed):
		r := refuse(503, "instance_gone", "the instance ended while the request was in flight; it may have been processed")
		r.retryAfter = time.Second
		return r
	case errors.As(err, &reset):
		return refuse(502, "instance_reset", "the instance gave the request up: %s", reset.Reason)
	}
	return refuse(502, "bad_answer", "the instance's answer cannot be read: %v", err)
}
