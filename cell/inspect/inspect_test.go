package inspect

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Of what a process prints, only Node's own lines about its inspector are kept
// from the log, and only a whole address on the loopback is an address.
func TestParseLine(t *testing.T) {
	const id = "0f2c936f-b1cd-4ac9-aab3-f63b0f33d55e"
	for _, tc := range []struct {
		name, line string
		host       string
		about      bool
	}{
		{"an address", "Debugger listening on ws://127.0.0.1:43211/" + id, "127.0.0.1:43211", true},
		{"its explanation", "For help, see: https://nodejs.org/learn/getting-started/debugging", "", true},
		{"a visitor", "Debugger attached.", "", true},
		{"the end", "Debugger ending on ws://127.0.0.1:43211/" + id, "", true},
		{"the tenant's own words about it", "Debugger attached. Or not?", "", false},
		{"an address elsewhere", "Debugger listening on ws://10.0.0.1:43211/" + id, "", false},
		{"an address and more", "Debugger listening on ws://127.0.0.1:43211/" + id + "?x", "", false},
		{"a path that is none", "Debugger listening on ws://127.0.0.1:43211/../../etc", "", false},
	} {
		a, about := ParseLine([]byte(tc.line))
		if a.Host != tc.host || about != tc.about {
			t.Errorf("%s: got %+v, %v", tc.name, a, about)
		}
	}
}

// Whatever comes of a process's texts is short and printable.
func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"f.js": "f.js", "a\nb\x1b[2Jc\u202e": "ab[2Jc", "": "", "\xff\xfe": "", strings.Repeat("é", 100): strings.Repeat("é", 5),
	} {
		if got := Clean(in, 10); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// fake is an inspector as a hostile process could make one: each connection is
// given to serve after the handshake.
func fake(t *testing.T, answer string, serve func(w io.Writer, r *bufio.Reader)) Address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		for line, err := br.ReadString('\n'); err == nil && line != "\r\n"; line, err = br.ReadString('\n') {
		}
		io.WriteString(c, answer)
		serve(c, br)
	}()
	return Address{Host: l.Addr().String(), Path: "/x"}
}

const welcome = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"

// text is a server's frame.
func text(s string) string {
	b := appendFrame(nil, opText, []byte(s))
	head := len(b) - len(s) - 4 // without the mask
	b[1] &^= 0x80
	return string(b[:head]) + s
}

// A process that answers nonsense, too much or nothing at all holds up nobody
// beyond the deadline, and makes nothing of it but an error.
func TestHostileInspector(t *testing.T) {
	hang := func(w io.Writer, r *bufio.Reader) { io.Copy(io.Discard, r) }
	say := func(s string) func(io.Writer, *bufio.Reader) {
		return func(w io.Writer, r *bufio.Reader) { io.WriteString(w, s); io.Copy(io.Discard, r) }
	}
	forever := func(s string) func(io.Writer, *bufio.Reader) {
		return func(w io.Writer, r *bufio.Reader) {
			for {
				if _, err := io.WriteString(w, s); err != nil {
					return
				}
			}
		}
	}
	for _, tc := range []struct {
		name, answer string
		serve        func(io.Writer, *bufio.Reader)
	}{
		{"it says nothing", "", hang},
		{"it refuses", "HTTP/1.1 404 Not Found\r\n\r\n", hang},
		{"its headers never end", "HTTP/1.1 101 \r\n", forever("X: y\r\n")},
		{"a header never ends", "HTTP/1.1 101 \r\n", forever("x")},
		{"it hangs up", welcome, func(io.Writer, *bufio.Reader) {}},
		{"it never pauses", welcome, hang},
		{"it talks without end of something else", welcome, forever(text(`{"method":"Debugger.scriptParsed","params":{"scriptId":"1","url":"/function/f.js"}}`))},
		{"a message of a petabyte", welcome, say("\x81\x7f\x00\x04\x00\x00\x00\x00\x00\x00")},
		{"a negative length", welcome, say("\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff")},
		{"a masked frame", welcome, say("\x81\x80\x00\x00\x00\x00")},
		{"fragments without end", welcome, forever("\x01\x01x")},
		{"pings without end", welcome, forever("\x89\x00")},
		{"it closes politely", welcome, say("\x88\x00")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			s, err := Attach(fake(t, tc.answer, tc.serve), "eye", start.Add(300*time.Millisecond))
			if err == nil {
				_, err = s.Look()
				s.Close()
			}
			if err == nil {
				t.Error("something was seen")
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// A stack so deep that its message is cut off still tells where the code is.
func TestDeepStack(t *testing.T) {
	frame := func(i int, script string) string {
		return fmt.Sprintf(`{"callFrameId":"%d","functionName":"f%d","location":{"scriptId":%q,"lineNumber":%d,"columnNumber":6},"scopeChain":[%s{}]}`, i, i, script, i, strings.Repeat(`{"type":"local"},`, 50))
	}
	var frames []string
	for i := range 5000 {
		frames = append(frames, frame(i, []string{"9", "7"}[min(i, 1)]))
	}
	events := text(`{"method":"Debugger.scriptParsed","params":{"scriptId":"7","url":"file:///function/deep.mjs"}}`) +
		text(`{"method":"Debugger.paused","params":{"callFrames":[`+strings.Join(frames, ",")+`],"reason":"other"}}`)
	a := fake(t, welcome, func(w io.Writer, r *bufio.Reader) {
		io.WriteString(w, events)
		io.WriteString(w, text(`{"id":3,"result":{"result":{"type":"string","value":"req-1"}}}`))
		io.Copy(io.Discard, r)
	})
	s, err := Attach(a, "eye", time.Now().Add(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := s.Look()
	if want := (Sight{Request: "req-1", Where: "deep.mjs:2:7", In: "f1"}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// Whatever is in a message, reading it neither panics nor takes more than is
// there.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"method":"Debugger.paused","params":{"callFrames":[{"callFrameId":"1","location":{"lineNumber":3}}]}}`))
	f.Add([]byte(`{"method":"Debugger.paused","params":{"callFrames":[{"callFrameId":"1"`))
	f.Add([]byte(`{"id":3,"result":{"result":{"value":"x"}}}`))
	f.Add([]byte("\x81\x7e\x00\x02{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Session{files: map[string]string{"1": "f.js"}}
		m := parseMessage(b)
		s.parsed(m.Params)
		frames := parseFrames(m.Params)
		if sight := s.place(frames); len(frames) > maxFrames || len(sight.In) > maxName || len(m.text()) > maxName {
			t.Errorf("%d frames, %+v", len(frames), sight)
		}
		ws := &socket{br: bufio.NewReader(strings.NewReader(string(b)))}
		for {
			if text, err := ws.next(); err != nil || len(text) > maxMessage {
				return
			} else if json.Valid(text) && len(text) > len(b) {
				t.Error("more came out than went in")
			}
		}
	})
}
