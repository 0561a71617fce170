package frames

import (
	"bytes"
	"errors"
	"testing"
)

// breacher answers each request with the frames that its target names, and
// "/" as it should.
type breacher struct {
	conn   *Conn
	resets chan Frame
}

func (b *breacher) Idle() { b.conn.Flush() }

func (b *breacher) Frame(f Frame) error {
	if f.Type == TypeReset {
		b.resets <- Frame{Type: f.Type, Stream: f.Stream, Payload: bytes.Clone(f.Payload)}
	}
	if f.Type != TypeRequest {
		return nil
	}
	r, err := ParseRequest(f.Payload)
	if err != nil {
		return err
	}
	head := Response{Status: 200}.AppendHead(nil)
	answer := Frame{Type: TypeResponse, Stream: f.Stream, Payload: head}
	switch string(r.Target) {
	case "/":
		answer.End = true
		return b.conn.QueueFrame(answer)
	case "/overrun":
		b.conn.QueueFrame(answer)
		for range Window/MaxData + 1 {
			b.conn.QueueFrame(Frame{Type: TypeData, Stream: f.Stream, Payload: make([]byte, MaxData)})
		}
	case "/data-first":
		b.conn.QueueFrame(Frame{Type: TypeData, Stream: f.Stream, Payload: []byte("early")})
	case "/twice":
		b.conn.QueueFrame(answer)
		b.conn.QueueFrame(answer)
	case "/bad-head":
		b.conn.QueueFrame(Frame{Type: TypeResponse, End: true, Stream: f.Stream, Payload: []byte{200, 0, 9}})
	}
	return nil
}

func TestBreachOnOneStreamEndsThatStreamOnly(t *testing.T) {
	ours, theirs := connect(t)
	b := &breacher{conn: NewConn(theirs, "runner"), resets: make(chan Frame, 8)}
	done := make(chan struct{})
	go func() { b.conn.Serve(b); close(done) }()
	c := NewClient(ours, "proxy")
	t.Cleanup(func() { c.Close(); <-done })

	bystander, err := c.Open(request("/never", nil), true)
	if err != nil {
		t.Fatal(err)
	}
	defer bystander.Close()
	for _, target := range []string{"/overrun", "/data-first", "/twice", "/bad-head"} {
		s, err := c.Open(request(target, nil), true)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		id := s.id
		reset := <-b.resets
		if code, reason := ParseReset(reset.Payload); reset.Stream != id || code != CodeProtocol || reason == "" {
			t.Errorf("%s: stream %d got a reset of stream %d with code %d %q", target, id, reset.Stream, code, reason)
		}
		for err == nil {
			var chunk []byte
			if chunk, err = s.Next(t.Context()); chunk == nil && err == nil {
				t.Fatalf("%s: the answer ended well", target)
			}
		}
		if !errors.Is(err, ErrProtocol) || errors.Is(err, ErrClosed) {
			t.Errorf("%s: the reader got %v", target, err)
		}
		s.Close()
		if status, _, err := c.Do(t.Context(), request("/", nil), 1); status != 200 || err != nil {
			t.Errorf("%s: the next request got %d %v", target, status, err)
		}
	}
	if _, whole := bystander.Whole(); whole || !c.Usable() {
		t.Error("the stream beside them ended, or the connection did")
	}
}
