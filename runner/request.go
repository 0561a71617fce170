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
		return bytes.TrimSpace(auth[7:]), false
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
func (c *call) encode(req frames.Request, end bool) []byte {
	fields := append(make([]byte, 0, len(req.Fields)+len(c.grant.Claims)+64), frames.NoFields...)
	for id, value := range req.Fields.All() {
		if id < frames.FieldDeadline {
			fields = frames.AppendField(fields, 0, id, value)
		}
	}
	if wall := time.Duration(c.r.config.Limits.Wall); wall > 0 {
		var ms [8]byte
		binary.LittleEndian.PutUint64(ms[:], uint64(c.started.Add(wall).UnixMilli()))
		fields = frames.AppendField(fields, 0, frames.FieldDeadline, ms[:])
	}
	fields = frames.AppendField(fields, 0, frames.FieldClaims, c.grant.Claims)
	if c.grant.Params != nil {
		fields = frames.AppendField(fields, 0, frames.FieldParams, c.grant.Params)
	}
	_, inQuery := bearer(req)
	headers := frames.AppendHeaderCount(make([]byte, 0, len(req.Headers)))
	for name, value := range req.Headers.All() {
		if inQuery || string(name) != "authorization" {
			headers = frames.AppendHeaderLine(headers, 0, name, value)
		}
	}
	if inQuery {
		req.Target = withoutKey(req.Target)
	}
	req.Fields, req.Headers = fields, headers
	out := frames.AppendHeader(make([]byte, 0, frames.HeaderSize+len(fields)+len(headers)+len(req.Target)+len(req.Body)+16), frames.TypeRequest, end, 0, 0)
	out = append(req.AppendHead(out), req.Body...)
	binary.LittleEndian.PutUint32(out, uint32(len(out)-frames.HeaderSize))
	return out
}

// withoutKey removes the key parameter and leaves the others as they were.
func withoutKey(target []byte) []byte {
	path, query, _ := strings.Cut(string(target), "?")
	kept := []string{}
	for part := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(part, "="); name != "key" {
			kept = append(kept, part)
		}
	}
	if len(kept) > 0 {
		path += "?" + strings.Join(kept, "&")
	}
	return []byte(path)
}
