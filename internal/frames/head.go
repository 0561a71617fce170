package frames

import (
	"encoding/binary"
	"iter"
)

// The longest that a head's lengths can say, in bytes. What encodes a head
// never writes a length that wraps: see each on what it does instead.
const (
	maxFields = 1<<8 - 1  // fields of a head
	maxName   = 1<<8 - 1  // of a method or a header's name
	maxValue  = 1<<16 - 1 // of a target, a field or a header's value; also headers of a head
)

// FieldID names one of the platform's own words in a head.
type FieldID uint8

// Fields of a REQUEST. Runner-set ones are dropped when a proxy sends them.
const (
	FieldRequestID FieldID = iota + 1
	FieldTenant
	FieldFunction  // empty: one-off code
	FieldClient    // ip:port
	FieldScheme    // http or https
	FieldAuthority // the Host header
	FieldBase      // the part of the target's path that named the function
	FieldDeadline  // set by the runner: milliseconds since 1970, 8 bytes
	FieldClaims    // set by the runner: JSON
	FieldParams    // set by the runner: JSON
	FieldWall      // set by the runner: milliseconds, 8 bytes: what the deadline came from
	FieldSecrets   // set by the runner: JSON
)

// FieldCause is the one field of a RESPONSE: the platform's error code when
// the platform, not the tenant's code, made the answer.
const FieldCause FieldID = 1

// Fields is an encoded field list: a count, then id, length and bytes of each.
// Build one by starting from [NoFields].
type Fields []byte

// NoFields is the empty list, to append to.
var NoFields = []byte{0}

var noHeaders = []byte{0, 0}

// AppendField adds a field to the list that begins at dst[start]. Of a value
// longer than 65,535 bytes only so many go in; the 256th field is left out.
func AppendField(dst []byte, start int, id FieldID, value []byte) []byte {
	if dst[start] == maxFields {
		return dst
	}
	value = value[:min(len(value), maxValue)]
	dst[start]++
	dst = append(dst, byte(id))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(value)))
	return append(dst, value...)
}

// Get returns a field's value, nil when it is absent.
func (f Fields) Get(id FieldID) []byte {
	for got, value := range f.All() {
		if got == id {
			return value
		}
	}
	return nil
}

// All yields the fields in order.
func (f Fields) All() iter.Seq2[FieldID, []byte] {
	return func(yield func(FieldID, []byte) bool) {
		for b := f[1:]; len(b) > 0; {
			n := 3 + int(binary.LittleEndian.Uint16(b[1:]))
			if !yield(FieldID(b[0]), b[3:n:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// Headers is an encoded header list: a count, then each name and value with
// their lengths. Names are lower-case.
type Headers []byte

// AppendHeaderCount starts a header list; [AppendHeaderLine] adds to it.
func AppendHeaderCount(dst []byte) []byte { return append(dst, 0, 0) }

// AppendHeaderLine adds a header to the list that begins at dst[start]. Name
// must be lower-case. A header that cannot be represented is left out: with a
// name of more than 255 bytes, a value of more than 65,535, or the 65,536th.
func AppendHeaderLine(dst []byte, start int, name, value []byte) []byte {
	n := binary.LittleEndian.Uint16(dst[start:])
	if n == maxValue || len(name) > maxName || len(value) > maxValue {
		return dst
	}
	binary.LittleEndian.PutUint16(dst[start:], n+1)
	dst = append(dst, byte(len(name)))
	dst = append(dst, name...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(value)))
	return append(dst, value...)
}

// Get returns the first value of a header by its lower-case name, nil when it
// is absent.
func (h Headers) Get(name string) []byte {
	for n, v := range h.All() {
		if string(n) == name {
			return v
		}
	}
	return nil
}

// All yields names and values in order; nil is the empty list.
func (h Headers) All() iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		if len(h) == 0 {
			return
		}
		for b := h[2:]; len(b) > 0; {
			n := 1 + int(b[0])
			v := n + 2 + int(binary.LittleEndian.Uint16(b[n:]))
			if !yield(b[1:n:n], b[n+2:v:v]) {
				return
			}
			b = b[v:]
		}
	}
}

// A Request is a view of a REQUEST's payload.
type Request struct {
	Fields  Fields
	Method  []byte
	Target  []byte
	Headers Headers
	Body    []byte // the body's first bytes
}

// ParseRequest reads a REQUEST's payload, which the result aliases.
func ParseRequest(p []byte) (r Request, err error) {
	s := scanner{rest: p}
	r.Fields = s.fields()
	r.Method = s.bytes(int(s.uint8()))
	r.Target = s.bytes(int(s.uint16()))
	r.Headers = s.headers()
	r.Body, err = s.end(p)
	if err == nil && len(r.Method) == 0 {
		err = protocolError("request without a method")
	}
	return r, err
}

// AppendHead appends the request's head, without the body. Fields and Headers
// that are nil are empty. Only the first 255 bytes of a method and 65,535 of a
// target go in: [Request.Check] tells beforehand.
func (r Request) AppendHead(dst []byte) []byte {
	method, target := r.Method[:min(len(r.Method), maxName)], r.Target[:min(len(r.Target), maxValue)]
	dst = appendOr(dst, r.Fields, NoFields)
	dst = append(dst, byte(len(method)))
	dst = append(dst, method...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(target)))
	dst = append(dst, target...)
	return appendOr(dst, r.Headers, noHeaders)
}

// HeadSize is how many bytes the request's head has, encoded.
func (r Request) HeadSize() int {
	return max(len(r.Fields), len(NoFields)) + 1 + len(r.Method) + 2 + len(r.Target) + max(len(r.Headers), len(noHeaders))
}

// Check returns an error that wraps [ErrProtocol] when a peer would not take
// the request as one REQUEST.
func (r Request) Check() error {
	head := r.HeadSize()
	switch {
	case len(r.Method) == 0 || len(r.Method) > maxName:
		return protocolError("method of %d bytes, want 1 to %d", len(r.Method), maxName)
	case len(r.Target) > maxValue:
		return protocolError("target of %d bytes, at most %d", len(r.Target), maxValue)
	case head > MaxHead:
		return protocolError("head of %d bytes, at most %d", head, MaxHead)
	case head+len(r.Body) > MaxPayload:
		return protocolError("head and body of %d bytes, at most %d", head+len(r.Body), MaxPayload)
	}
	return nil
}

// A Response is a view of a RESPONSE's payload.
type Response struct {
	Status  int
	Fields  Fields
	Headers Headers
	Body    []byte // the body's first bytes
}

// ParseResponse reads a RESPONSE's payload, which the result aliases.
func ParseResponse(p []byte) (r Response, err error) {
	s := scanner{rest: p}
	r.Status = int(s.uint16())
	r.Fields = s.fields()
	r.Headers = s.headers()
	r.Body, err = s.end(p)
	if err == nil && (r.Status < 100 || r.Status > 999) {
		err = protocolError("status %d", r.Status)
	}
	if err == nil {
		err = r.Headers.check()
	}
	return r, err
}

// check refuses what could split an answer in two once it is written as
// HTTP/1.1 (RFC 9110, sections 5.1 and 5.5): tenants' code writes these bytes.
func (h Headers) check() error {
	for name, value := range h.All() {
		if len(name) == 0 {
			return protocolError("header without a name")
		}
		for _, c := range name {
			if !nameBytes[c] {
				return protocolError("header name %q", name)
			}
		}
		for _, c := range value {
			if c < ' ' && c != '\t' || c == 0x7f {
				return protocolError("value of header %s has the byte %#x", name, c)
			}
		}
	}
	return nil
}

// AppendHead appends the response's head, without the body. Fields and Headers
// that are nil are empty.
func (r Response) AppendHead(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(r.Status))
	dst = appendOr(dst, r.Fields, NoFields)
	return appendOr(dst, r.Headers, noHeaders)
}

// appendOr appends an encoded list, which when it is nil means none.
func appendOr(dst, list, none []byte) []byte {
	if list == nil {
		list = none
	}
	return append(dst, list...)
}
