package frames

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestNoLengthInAHeadWraps(t *testing.T) {
	long := bytes.Repeat([]byte("v"), 1<<16)
	fields := AppendField(append([]byte{}, NoFields...), 0, FieldAuthority, long)
	for range 300 {
		fields = AppendField(fields, 0, FieldScheme, []byte("http"))
	}
	headers := AppendHeaderCount(nil)
	headers = AppendHeaderLine(headers, 0, bytes.Repeat([]byte("n"), 256), []byte("dropped"))
	headers = AppendHeaderLine(headers, 0, []byte("dropped"), long)
	headers = AppendHeaderLine(headers, 0, []byte("kept"), []byte("1"))
	r := Request{Fields: fields, Method: bytes.Repeat([]byte("M"), 300), Target: bytes.Repeat([]byte("/"), 1<<16+5), Headers: headers}
	s := scanner{rest: r.AppendHead(nil)}
	if got := s.fields(); !bytes.Equal(got, fields) || len(got.Get(FieldAuthority)) != 1<<16-1 {
		t.Errorf("fields differ, or the long one has %d bytes", len(got.Get(FieldAuthority)))
	}
	if method := s.bytes(int(s.uint8())); len(method) != 255 {
		t.Errorf("method of %d bytes", len(method))
	}
	if target := s.bytes(int(s.uint16())); len(target) != 1<<16-1 {
		t.Errorf("target of %d bytes", len(target))
	}
	names := ""
	for name := range s.headers().All() {
		names += string(name) + " "
	}
	if names != "kept " || s.short || len(s.rest) != 0 {
		t.Errorf("headers %q, short %v, %d bytes left over", names, s.short, len(s.rest))
	}
}

func TestHeaderCountStopsWhereItWouldWrap(t *testing.T) {
	headers := AppendHeaderCount(nil)
	for range 1<<16 + 10 {
		headers = AppendHeaderLine(headers, 0, []byte("a"), nil)
	}
	n := 0
	for range Headers(headers).All() {
		n++
	}
	if n != 1<<16-1 || headers[0] != 0xff || headers[1] != 0xff {
		t.Fatalf("%d headers, counted as % x", n, headers[:2])
	}
}

func TestRequestThatFitsNoFrameIsNotSent(t *testing.T) {
	c, _ := pair(t)
	for name, r := range map[string]Request{
		"no method":    {Target: []byte("/")},
		"long method":  {Method: []byte(strings.Repeat("M", 256)), Target: []byte("/")},
		"long target":  {Method: []byte("GET"), Target: make([]byte, 1<<16)},
		"large head":   {Method: []byte("GET"), Fields: AppendField([]byte{0}, 0, FieldAuthority, make([]byte, 40<<10)), Target: make([]byte, 40<<10)},
		"large inline": {Method: []byte("GET"), Target: []byte("/"), Body: make([]byte, MaxPayload)},
	} {
		if _, err := c.Open(r, true); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if status, _, err := c.Do(t.Context(), request("/", nil), 1); status != 200 || err != nil {
		t.Fatalf("the connection afterwards: %d %v", status, err)
	}
}
