package proxy

import (
	"bytes"
	"net/http"
	"strconv"

	"bulkhead/internal/frames"
)

// RFC 9113, section 8.1.1. Of a body that does not come net/http says nothing.
var wrongLength = refuse(400, "bad_request", "content-length is not the length of the body")

// encode2 makes a REQUEST of what came over HTTP/2.
func (h *head) encode2(r *http.Request, rec *record, route Route, path, authority []byte) (frames.Request, *refusal) {
	h.upgrade = false
	if refusal := checkMethod([]byte(r.Method)); refusal != nil {
		return frames.Request{}, refusal
	}
	h.setFields(rec, route, "https", authority)
	out := frames.AppendHeaderCount(h.headers[:0])
	out = frames.AppendHeaderLine(out, 0, []byte("host"), authority)
	if r.ContentLength > 0 {
		out = frames.AppendHeaderLine(out, 0, []byte("content-length"), strconv.AppendInt(nil, r.ContentLength, 10))
	}
	for name, values := range r.Header {
		lower := bytes.ToLower([]byte(name))
		if string(lower) == "content-length" && values[0] != strconv.FormatInt(r.ContentLength, 10) {
			return frames.Request{}, wrongLength
		}
		if stopsHere(lower) || string(lower) == "content-length" || string(lower) == "host" {
			continue
		}
		for _, value := range values {
			if len(name) > 255 || len(out)+len(name)+len(value) > maxHeader {
				return frames.Request{}, tooBig
			}
			out = frames.AppendHeaderLine(out, 0, lower, []byte(value))
		}
	}
	h.headers = appendForwarded(out, rec, "https")
	req := frames.Request{Fields: h.fields, Method: []byte(r.Method), Target: path, Headers: h.headers}
	if req.HeadSize() > maxHead {
		return frames.Request{}, tooBig
	}
	return req, nil
}
