package proxy

import (
	"bytes"

	"bulkhead/internal/frames"
)

// trail adds the answer's trailers behind its body, which has just been
// written in chunks. Where there are none, trailers are left out.
func (x *exchange) trail() {
	h := &x.ctx.Response.Header
	if x.length >= 0 || !x.ctx.Request.Header.IsHTTP11() {
		return
	}
	seen := map[string]bool{}
	for name, value := range x.stream.Trailers().All() {
		if !frames.MayTrail(name) {
			continue
		}
		if !seen[string(name)] {
			seen[string(name)] = true
			h.DelBytes(name) // it has been sent; announced, it would be again
			if h.AddTrailerBytes(name) != nil {
				continue
			}
		}
		h.AddBytesKV(name, value)
	}
}

// trailers returns those that came behind the request's body, nil when none
// did. The body has been read to its end.
func (u *upload) trailers() frames.Headers {
	if u.length >= 0 {
		return nil
	}
	h := &u.ctx.Request.Header
	out := frames.AppendHeaderCount(nil)
	for line := range bytes.SplitSeq(h.TrailerHeader(), []byte("\r\n")) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		name = bytes.ToLower(name)
		if frames.MayTrail(name) && len(out)+len(line) < maxHeader {
			out = frames.AppendHeaderLine(out, 0, name, bytes.TrimSpace(value))
		}
	}
	if len(out) == len(frames.AppendHeaderCount(nil)) {
		return nil
	}
	return out
}
