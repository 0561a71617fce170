package proxy

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"bulkhead/internal/frames"
)

// inlineBody is the largest body that waits to go along with its head.
const inlineBody = 32 << 10

// head is the buffer that a request's head is made in.
type head struct {
	fields, headers, body []byte
	upgrade               bool // the client asks for another protocol
}

var heads = sync.Pool{New: func() any { return &head{} }}

// maxHead bounds a request's head as it leaves, in bytes: the runner needs room
// for what it adds, below [frames.MaxHead].
const maxHead = 40 << 10

// encode makes a REQUEST of what the client sent: its own headers without
// those that end here, and the platform's fields.
func (h *head) encode(ctx *fasthttp.RequestCtx, rec *record, route Route, path, authority []byte) (frames.Request, *refusal) {
	if refusal := checkMethod(ctx.Method()); refusal != nil {
		return frames.Request{}, refusal
	}
	scheme := "http"
	if c, ok := ctx.Conn().(*stallConn); ok && c.secure {
		scheme = "https"
	}
	h.setFields(rec, route, scheme, authority)
	if refusal := h.copyHeaders(ctx, rec, scheme, authority); refusal != nil {
		return frames.Request{}, refusal
	}
	req := frames.Request{Fields: h.fields, Method: ctx.Method(), Target: path, Headers: h.headers}
	if req.HeadSize() > maxHead {
		return frames.Request{}, tooBig
	}
	return req, nil
}

// setFields makes the platform's own words.
func (h *head) setFields(rec *record, route Route, scheme string, authority []byte) {
	f := append(h.fields[:0], frames.NoFields...)
	f = frames.AppendField(f, 0, frames.FieldRequestID, []byte(rec.request))
	f = frames.AppendField(f, 0, frames.FieldTenant, []byte(route.Tenant))
	f = frames.AppendField(f, 0, frames.FieldFunction, []byte(route.Function))
	f = frames.AppendField(f, 0, frames.FieldClient, []byte(rec.client))
	f = frames.AppendField(f, 0, frames.FieldScheme, []byte(scheme))
	f = frames.AppendField(f, 0, frames.FieldAuthority, authority)
	h.fields = frames.AppendField(f, 0, frames.FieldBase, []byte(route.Base))
}

// appendForwarded adds what the platform says of the client in headers.
func appendForwarded(out []byte, rec *record, scheme string) []byte {
	client, _, _ := net.SplitHostPort(rec.client)
	out = frames.AppendHeaderLine(out, 0, []byte("x-forwarded-for"), []byte(client))
	return frames.AppendHeaderLine(out, 0, []byte("x-forwarded-proto"), []byte(scheme))
}

var tooBig = refuse(431, "headers_too_large", "the request's line and headers have more than %d bytes", maxHeader)

// RFC 9112, section 6.1: who sends both may be smuggling a second request.
var twoLengths = refuse(400, "bad_request", "the request has both content-length and transfer-encoding")

func (h *head) copyHeaders(ctx *fasthttp.RequestCtx, rec *record, scheme string, authority []byte) *refusal {
	var listed [][]byte // what Connection headers name, of several too
	length, coding := false, false
	var upgrade wish
	if refusal := checkLines(ctx.Request.Header.RawHeaders()); refusal != nil {
		return refusal
	}
	out := frames.AppendHeaderCount(h.headers[:0])
	for name, value := range ctx.Request.Header.AllInOrder() {
		if !isToken(name) {
			return badName
		}
		if len(name) > 255 || len(out)+len(name)+len(value) > maxHeader {
			return tooBig
		}
		at := len(out)
		out = frames.AppendHeaderLine(out, 0, name, value)
		lower := out[at+1 : at+1+len(name)]
		lowerCase(lower)
		switch string(lower) {
		case "content-length":
			length = true
		case "transfer-encoding":
			if coding = true; !bytes.EqualFold(value, []byte("chunked")) {
				return badCoding
			}
		case "connection":
			listed = appendOptions(listed, value, &upgrade)
		case "upgrade":
			upgrade.protocol = value
		case "host": // in absolute form the target has the say
			out = frames.AppendHeaderLine(dropLine(out, at), 0, lower, authority)
		}
		if stopsHere(lower) {
			out = dropLine(out, at)
		}
	}
	if length && coding {
		return twoLengths
	}
	if len(listed) > 0 {
		out = withoutListed(out, listed)
	}
	out = appendForwarded(out, rec, scheme)
	h.upgrade = upgrade.holds(ctx, coding)
	switch {
	case h.upgrade:
		out = frames.AppendHeaderLine(out, 0, []byte("upgrade"), upgrade.protocol)
		out = frames.AppendHeaderLine(out, 0, []byte("connection"), []byte("upgrade"))
	case ctx.Request.MayContinue():
		out = frames.AppendHeaderLine(out, 0, []byte("expect"), []byte("100-continue"))
	}
	h.headers = out
	return nil
}

// appendOptions adds the headers that a Connection header names. The three
// options that clients do send name none, or one that is dealt with apart.
func appendOptions(listed [][]byte, value []byte, upgrade *wish) [][]byte {
	for option := range bytes.SplitSeq(value, []byte(",")) {
		option = bytes.TrimSpace(option)
		if bytes.EqualFold(option, []byte("upgrade")) {
			upgrade.asked = true
			continue
		}
		if len(option) > 0 && !bytes.EqualFold(option, []byte("keep-alive")) && !bytes.EqualFold(option, []byte("close")) {
			listed = append(listed, option)
		}
	}
	return listed
}

// withoutListed is a header list without those that Connection headers named,
// before or after them.
func withoutListed(headers []byte, listed [][]byte) []byte {
	out := frames.AppendHeaderCount(make([]byte, 0, len(headers)))
	for name, value := range frames.Headers(headers).All() {
		named := slices.ContainsFunc(listed, func(option []byte) bool { return bytes.EqualFold(option, name) })
		if !named {
			out = frames.AppendHeaderLine(out, 0, name, value)
		}
	}
	return out
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
func stopsHere(name []byte) bool {
	switch string(name) {
	case "connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate",
		"te", "trailer", "transfer-encoding", "upgrade", "expect", "forwarded":
		return true
	}
	return bytes.HasPrefix(name, []byte("x-bulkhead-")) || bytes.HasPrefix(name, []byte("x-forwarded-"))
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
