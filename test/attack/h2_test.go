package attack

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// pairs are header fields as they go on the wire, sound or not.
type pairs [][2]string

func (p pairs) block() []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range p {
		e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return b.Bytes()
}

// h2Attack writes frames, of which stream 1 is to be answered.
type h2Attack struct {
	attack string
	write  func(f *http2.Framer) error
	want   string
}

// request is stream 1's, with these fields.
func request(p pairs) func(f *http2.Framer) error {
	return func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(), EndHeaders: true, EndStream: true})
	}
}

func (s *site) h2Attacks() []h2Attack {
	own := "Bearer " + token(header, good, hs(acmeSecret))
	sound := func(more ...[2]string) pairs {
		return append(pairs{{":method", "GET"}, {":scheme", "https"}, {":path", "/echo/x"}, {":authority", "acme.example.org"}, {"authorization", own}}, more...)
	}
	without := func(name string, more ...[2]string) pairs {
		var p pairs
		for _, f := range sound() {
			if f[0] != name {
				p = append(p, f)
			}
		}
		return append(append(pairs{}, more...), p...)
	}
	endless := func(write func() error) error {
		for {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return []h2Attack{
		{"a sound request, for comparison", request(sound()), "200"},
		{"rapid reset (CVE-2023-44487): 20,000 streams that are opened and reset", func(f *http2.Framer) error {
			block := sound().block()
			for id := uint32(3); id < 40_000; id += 2 {
				if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true}); err != nil {
					return err
				}
				if err := f.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
					return err
				}
			}
			return f.WritePing(false, last)
		}, "answered to its end, or closed: ENHANCE_YOUR_CALM"},
		{"CONTINUATION flood (CVE-2023-45288): headers that do not end", func(f *http2.Framer) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: sound().block()}); err != nil {
				return err
			}
			more := pairs{{"x", strings.Repeat("a", 8000)}}.block()
			return endless(func() error { return f.WriteContinuation(1, false, more) })
		}, "closed"},
		{"HPACK bomb: 4 KB, named 10,000 times in 10 KB", func(f *http2.Framer) error {
			block := append(sound([2]string{"x", strings.Repeat("a", 3900)}).block(), bytes.Repeat([]byte{0x80 | 62}, 10_000)...)
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true})
		}, "431"},
		{"SETTINGS flood: 100,000", func(f *http2.Framer) error {
			for range 100_000 {
				if err := f.WriteSettings(); err != nil {
					return err
				}
			}
			return f.WritePing(false, last)
		}, "answered to its end, or closed: ENHANCE_YOUR_CALM"},
		{"PING flood, the answers unread", func(f *http2.Framer) error { return endless(func() error { return f.WritePing(false, [8]byte{}) }) }, "closed"},
		{"a window that overflows", func(f *http2.Framer) error {
			return errors.Join(f.WriteWindowUpdate(0, 1<<31-1), f.WriteWindowUpdate(0, 1<<31-1))
		}, "closed"},
		{"a header's value with CR LF and a second request", request(sound([2]string{"x", "a\r\n\r\nGET /acme/echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"})), "stream reset: PROTOCOL_ERROR"},
		{"a header's name with CR LF", request(sound([2]string{"x: a\r\ny", "b"})), "stream reset: PROTOCOL_ERROR"},
		{"a header's name in capitals", request(sound([2]string{"X", "a"})), "stream reset: PROTOCOL_ERROR"},
		{"`transfer-encoding: chunked` (H2.TE)", request(sound([2]string{"transfer-encoding", "chunked"})), "400"},
		{"`connection: x`", request(sound([2]string{"connection", "x"})), "400"},
		{"`content-length: 50` and no body (H2.CL)", request(sound([2]string{"content-length", "50"})), "400"},
		{"two `:path`s", request(without(":path", [2]string{":path", "/echo/x"}, [2]string{":path", "/echo/smuggled"})), "stream reset: PROTOCOL_ERROR"},
		{"no `:path`", request(without(":path")), "stream reset: PROTOCOL_ERROR"},
		{"`:path` without a slash", request(without(":path", [2]string{":path", "echo/smuggled"})), "stream reset: PROTOCOL_ERROR"},
		{"`:path` with a space and a version", request(without(":path", [2]string{":path", "/echo HTTP/1.1\r\nX: y"})), "stream reset: PROTOCOL_ERROR"},
		{"`:path` in absolute form", request(without(":path", [2]string{":path", "https://globex.example.org/echo"})), "400"},
		{"`:path` with a `#`", request(without(":path", [2]string{":path", "/echo#x"})), "400"},
		{"`:method` with a space", request(without(":method", [2]string{":method", "GET /echo/smuggled"})), "501"},
		{"CONNECT", request(pairs{{":method", "CONNECT"}, {":authority", "globex.example.org:443"}, {"authorization", own}}), "400"},
		{"`:authority` of another tenant", request(without(":authority", [2]string{":authority", "globex.example.org"})), "403"},
		{"`:authority` with userinfo", request(without(":authority", [2]string{":authority", "acme@acme.example.org"})), "stream reset: PROTOCOL_ERROR"},
		{"`host` beside `:authority`, of another tenant: `:authority` counts", request(sound([2]string{"host", "globex.example.org"})), "200"},
		{"a pseudo-header behind the others", request(append(without(":path"), [2]string{":path", "/echo/x"})), "stream reset: PROTOCOL_ERROR"},
		{"a pseudo-header that there is not", request(without("", [2]string{":x", "a"})), "stream reset: PROTOCOL_ERROR"},
		{"DATA on a stream that was not opened", func(f *http2.Framer) error { return f.WriteData(1, true, []byte("x")) }, "closed"},
		{"a stream with an even number", func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2, BlockFragment: sound().block(), EndHeaders: true, EndStream: true})
		}, "closed"},
		{"a frame of 1 MiB", func(f *http2.Framer) error { return f.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<20)) }, "closed"},
		{"HTTP/1.1 where HTTP/2 was agreed on", nil, "closed"},
	}
}

// tryH2 makes an attack on a connection of its own.
func (s *site) tryH2(t *testing.T, a h2Attack) string {
	t.Helper()
	raw, err := net.Dial("tcp", s.https)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(patience))
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: "acme.example.org", NextProtos: []string{"h2"}})
	if a.write == nil {
		io.WriteString(c, s.neighbour())
		return ending(t, http2.NewFramer(io.Discard, c))
	}
	f := http2.NewFramer(c, c)
	f.AllowIllegalWrites = true
	io.WriteString(c, http2.ClientPreface)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(a.attack, "unread") {
		err := a.write(f)
		if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
			t.Fatal("the flood goes on")
		}
		return "closed"
	}
	go a.write(f) // which fails once the proxy has heard enough
	return ending(t, f)
}

// last is the PING behind a flood that has an end.
var last = [8]byte{'l', 'a', 's', 't'}

// standing is how a flood may end: which of the two it is, is a matter of how
// fast the machine is.
const standing = "answered to its end, or closed: ENHANCE_YOUR_CALM"

// ending reads frames until stream 1 or the connection ends.
func ending(t *testing.T, f *http2.Framer) string {
	t.Helper()
	status := ""
	d := hpack.NewDecoder(4096, func(h hpack.HeaderField) {
		if h.Name == ":status" {
			status = h.Value
		}
	})
	for {
		frame, err := f.ReadFrame()
		if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
			t.Fatal("neither stream nor connection ends")
		}
		if err != nil {
			return "closed"
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			d.Write(frame.HeaderBlockFragment())
			if frame.StreamID == 1 && frame.StreamEnded() {
				return status
			}
		case *http2.DataFrame:
			if frame.StreamID == 1 && frame.StreamEnded() { // one of a flood may be answered before it is reset
				return status
			}
		case *http2.RSTStreamFrame:
			return fmt.Sprintf("stream reset: %v", frame.ErrCode)
		case *http2.PingFrame:
			if frame.IsAck() && frame.Data == last {
				return standing
			}
		case *http2.GoAwayFrame:
			if frame.ErrCode == http2.ErrCodeEnhanceYourCalm {
				return standing
			}
			return "closed" // with a reason that may be lost with the connection
		}
	}
}

func TestEveryAttackOnHTTP2(t *testing.T) {
	s := newSite(t)
	var rows []row
	for _, a := range s.h2Attacks() {
		t.Run(a.attack, func(t *testing.T) {
			got := s.tryH2(t, a)
			if got != a.want {
				t.Errorf("%s: got %q, want %q", a.attack, got, a.want)
			}
			s.unharmed(t)
			s.smuggled.check(t)
			rows = append(rows, row{a.attack, got})
		})
	}
	compare(t, "h2", rows)
}
