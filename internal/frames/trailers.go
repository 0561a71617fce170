package frames

import "bytes"

// ParseTrailers reads the payload of a TRAILERS, which the result aliases.
func ParseTrailers(p []byte) (Headers, error) {
	s := scanner{rest: p}
	h := s.headers()
	rest, err := s.end(p)
	switch {
	case err != nil:
		return nil, err
	case len(rest) > 0:
		return nil, protocolError("TRAILERS with %d bytes after the last", len(rest))
	}
	return h, h.check()
}

// AppendTrailers appends a TRAILERS frame, which ends a direction of a stream.
func AppendTrailers(dst []byte, stream uint32, h Headers) []byte {
	if h == nil {
		h = noHeaders
	}
	return Append(dst, Frame{Type: TypeTrailers, End: true, Stream: stream, Payload: h})
}

// MayTrail reports whether a header, by its lower-case name, may stand in
// trailers: it does not frame, route or authenticate the message, nor say how
// to read it (RFC 9110, section 6.5.1).
func MayTrail(name []byte) bool {
	switch string(name) {
	case "content-length", "transfer-encoding", "host", "trailer", "authorization", "set-cookie",
		"content-type", "content-encoding", "content-range",
		"connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "te", "upgrade",
		"expect", "forwarded", "x-request-id":
		return false
	}
	return !bytes.HasPrefix(name, []byte("x-bulkhead-")) && !bytes.HasPrefix(name, []byte("x-forwarded-"))
}

// Trailers returns those that came after the answer's body, once [Stream.Next]
// has told its end; nil: none came.
func (s *Stream) Trailers() Headers {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trails
}
