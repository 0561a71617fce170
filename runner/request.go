package runner

import (
	"bytes"
	"encoding/binary"
	"net/url"
	"strings"
	"time"

	"bulkhead/internal/frames"
)

// bearer returns the request's token, and where it stood: in the header, or
// with inQuery in the target's key parameter.
func bearer(req frames.Request) (token []byte, inQuery bool) {
	if auth := req.Headers.Get("authorization"); len(auth) > 7 && strings.EqualFold(string(auth[:7]), "bearer ") {
		return bytes.Trim(auth[7:], " \t"), false
	}
	_, query, ok := bytes.Cut(req.Target, []byte("?"))
	if !ok || !bytes.Contains(query, []byte("key=")) {
		return nil, false
	}
	values, err := url.ParseQuery(string(query))
	if err != nil || values.Get("key") == "" {
		return nil, false
	}
	return []byte(values.Get("key")), true
}

// encode returns the request as the process gets it: the token is gone, and
// what the token says is there as fields.
func (c *call) encode(req frames.Request, end bool) ([]byte, *Refusal) {
	fields := append(make([]byte, 0, len(req.Fields)+len(c.grant.Claims)+64), frames.NoFields...)
	for id, value := range req.Fields.All() {
		if id < frames.FieldDeadline {
			fields = frames.AppendField(fields, 0, id, value)
		}
	}
	if wall := time.Duration(c.limits.Wall); wall > 0 {
		fields = appendMillis(fields, frames.FieldDeadline, c.started.Add(wall).UnixMilli())
		fields = appendMillis(fields, frames.FieldWall, wall.Milliseconds())
	}
	fields = frames.AppendField(fields, 0, frames.FieldClaims, c.grant.Claims)
	if c.grant.Params != nil {
		fields = frames.AppendField(fields, 0, frames.FieldParams, c.grant.Params)
	}
	if c.grant.Secrets != nil {
		fields = frames.AppendField(fields, 0, frames.FieldSecrets, c.grant.Secrets)
	}
	token, inQuery := bearer(req)
	headers := frames.AppendHeaderCount(make([]byte, 0, len(req.Headers)))
	for name, value := range req.Headers.All() {
		if string(name) != "expect" && (inQuery || string(name) != "authorization") {
			headers = frames.AppendHeaderLine(headers, 0, name, value)
		}
	}
	req.Target = withoutKey(req.Target, token)
	req.Fields, req.Headers = fields, headers
	if size := len(fields) + len(headers) + len(req.Target) + len(req.Method) + 3; size > frames.MaxHead || size+len(req.Body) > frames.MaxPayload {
		return nil, refuse(431, "headers_too_large", "headers, target and the token's claims have %d bytes together, at most %d can be handed over", size, frames.MaxHead)
	}
	out := frames.AppendHeader(make([]byte, 0, frames.HeaderSize+len(fields)+len(headers)+len(req.Target)+len(req.Body)+16), frames.TypeRequest, end, 0, 0)
	out = append(req.AppendHead(out), req.Body...)
	binary.LittleEndian.PutUint32(out, uint32(len(out)-frames.HeaderSize))
	return out, nil
}

func appendMillis(dst []byte, id frames.FieldID, ms int64) []byte {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(ms))
	return frames.AppendField(dst, 0, id, b[:])
}

// withoutKey removes the token from the target's query, however its name is
// written, and leaves the rest as it was.
func withoutKey(target, token []byte) []byte {
	path, query, has := bytes.Cut(target, []byte("?"))
	if !has || !bytes.Contains(query, []byte("key=")) && !bytes.ContainsRune(query, '%') {
		return target
	}
	out, kept := append([]byte{}, path...), false
	for part := range bytes.SplitSeq(query, []byte("&")) {
		name, value, _ := strings.Cut(string(part), "=")
		if unescaped(name) == "key" && unescaped(value) == string(token) {
			continue
		}
		if kept {
			out = append(out, '&')
		} else {
			out = append(out, '?')
		}
		out, kept = append(out, part...), true
	}
	return out
}

func unescaped(s string) string {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return plain
}
