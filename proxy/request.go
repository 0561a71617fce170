package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"bulkhead/internal/frames"
)

// inlineBody is the largest body that waits to go along with its head.
const inlineBody = 32 << 10

// head is the buffer that a request's head is made in.
type head struct{ fields, headers, body []byte }

var heads = sync.Pool{New: func() any { return &head{} }}

// encode makes a REQUEST of what the client sent: its own headers without
// those that end here, and the platform's fields.
func (h *head) encode(ctx *fasthttp.RequestCtx, rec *record, route Route) (frames.Request, *refusal) {
	scheme := "http"
	if ctx.IsTLS() {
		scheme = "https"
	}
	f := append(h.fields[:0], frames.NoFields...)
	f = frames.AppendField(f, 0, frames.FieldRequestID, []byte(rec.request))
	f = frames.AppendField(f, 0, frames.FieldTenant, []byte(route.Tenant))
	f = frames.AppendField(f, 0, frames.FieldFunction, []byte(route.Function))
	f = frames.AppendField(f, 0, frames.FieldClient, []byte(rec.client))
	f = frames.AppendField(f, 0, frames.FieldScheme, []byte(scheme))
	f = frames.AppendField(f, 0, frames.FieldAuthority, ctx.Request.Header.Host())
	h.fields = frames.AppendField(f, 0, frames.FieldBase, []byte(route.Base))
	if refusal := h.copyHeaders(ctx, rec, scheme); refusal != nil {
		return frames.Request{}, refusal
	}
	return frames.Request{Fields: h.fields, Method: ctx.Method(), Target: ctx.Request.Header.RequestURI(), Headers: h.headers}, nil
}

var tooBig = refuse(431, "headers_too_large", "the request's line and headers have more than %d bytes", maxHeader)

// RFC 9112, section 6.1: who sends both may be smuggling a second request.
var twoLengths = refuse(400, "bad_request", "the request has both content-length and transfer-encoding")

func (h *head) copyHeaders(ctx *fasthttp.RequestCtx, rec *record, scheme string) *refusal {
	listed := ctx.Request.Header.Peek("Connection")
	length, coding := false, false
	out := frames.AppendHeaderCount(h.headers[:0])
	for name, value := range ctx.Request.Header.AllInOrder() {
		if len(name) > 255 || len(out)+len(name)+len(value) > maxHeader {
			return tooBig
		}
		at := len(out)
		out = frames.AppendHeaderLine(out, 0, name, value)
		lower := out[at+1 : at+1+len(name)]
		lowerCase(lower)
		length = length || string(lower) == "content-length"
		coding = coding || string(lower) == "transfer-encoding"
		if stopsHere(lower, listed) {
			out = dropLine(out, at)
		}
	}
	if length && coding {
		return twoLengths
	}
	client, _, _ := net.SplitHostPort(rec.client)
	out = frames.AppendHeaderLine(out, 0, []byte("x-forwarded-for"), []byte(client))
	h.headers = frames.AppendHeaderLine(out, 0, []byte("x-forwarded-proto"), []byte(scheme))
	return nil
}

// dropLine takes back the last header line, which begins at out[at].
func dropLine(out []byte, at int) []byte {
	if out[0] == 0 {
		out[1]--
	}
	out[0]--
	return out[:at]
}

func lowerCase(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// stopsHere reports whether a request's header is for this hop (RFC 9110,
// section 7.6.1), or only the platform may set it.
func stopsHere(name, listed []byte) bool {
	switch string(name) {
	case "connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate",
		"te", "trailer", "transfer-encoding", "upgrade", "expect", "forwarded":
		return true
	}
	if bytes.HasPrefix(name, []byte("x-bulkhead-")) || bytes.HasPrefix(name, []byte("x-forwarded-")) {
		return true
	}
	if len(listed) == 0 {
		return false
	}
	for option := range bytes.SplitSeq(listed, []byte(",")) {
		if bytes.EqualFold(bytes.TrimSpace(option), name) {
			return true
		}
	}
	return false
}

// upload sends a request's body beside its answer: both ways stream.
type upload struct {
	ctx    *fasthttp.RequestCtx
	body   io.Reader
	stream *frames.Stream
	sent   int64
	stop   atomic.Bool
	done   chan error // nil when there is nothing to wait for
}

// readInline reads the body if it is known to be small, so that it leaves with
// the head in one frame. Otherwise the body is left for an upload.
func (h *head) readInline(ctx *fasthttp.RequestCtx) (body []byte, whole bool, err error) {
	stream := ctx.RequestBodyStream()
	length := ctx.Request.Header.ContentLength()
	switch {
	case stream == nil:
		return ctx.Request.Body(), true, nil
	case length < 0 || length > inlineBody:
		return nil, false, nil
	}
	if cap(h.body) < length {
		h.body = make([]byte, length)
	}
	h.body = h.body[:length]
	ctx.SetReadDeadline(time.Now().Add(bodyStall))
	if _, err := io.ReadFull(stream, h.body); err != nil {
		return nil, false, err
	}
	return h.body, true, nil
}

var errCutOff = errors.New("the answer was whole before the request's body")

func (u *upload) start() {
	u.done = make(chan error, 1)
	go func() { u.done <- u.run() }()
}

// run copies the body until its end, the answer's, or a client that stalls.
func (u *upload) run() error {
	buf := make([]byte, 32<<10)
	for {
		u.ctx.SetReadDeadline(time.Now().Add(bodyStall))
		if u.stop.Load() {
			return errCutOff
		}
		n, err := u.body.Read(buf)
		u.sent += int64(n)
		end := errors.Is(err, io.EOF)
		if n > 0 || end {
			if err := u.stream.Write(context.Background(), buf[:n], end); err != nil {
				return nil // the answer tells why
			}
		}
		if end {
			return nil
		}
		if err != nil {
			u.stream.Reset(frames.CodeCancelled, "the request's body was cut short")
			return err
		}
	}
}

// finish waits for the upload to end. An answer that is whole before the body
// was cuts the body off, and with it the client's connection.
func (u *upload) finish() error {
	if u.done == nil {
		return nil
	}
	select {
	case err := <-u.done:
		u.done = nil
		return err
	default:
	}
	u.stop.Store(true) // before the deadline, which run may be moving on
	u.ctx.SetReadDeadline(time.Now())
	err := <-u.done
	u.done = nil
	return err
}
