package frames

import (
	"context"
	"sync"
)

// maxCredit bounds what WINDOW frames may add up to, unused.
const maxCredit = 1 << 40

// Stream is one request and its answer on a [Client]. One goroutine may send
// the request's body while another reads the answer; neither side is for use
// by two at once. Close must be called once, when both are done.
type Stream struct {
	client *Client
	id     uint32
	at     uint64 // where its REQUEST begins in what the connection sends

	mu      sync.Mutex
	head    []byte // RESPONSE's payload, once it is here
	body    []byte // bytes of the answer not yet read
	taken   []byte // what Next has handed out; its buffer is used again
	granted int    // bytes read since the last WINDOW
	trails  []byte // TRAILERS' payload, if one came
	ended   bool   // the answer is whole
	err     error  // the stream failed
	credit  int    // bytes of the request's body that may be sent
	sent    bool   // the request's body is whole
	let     bool   // a WINDOW has come

	upgrades bool // the request asks for an upgrade

	answer chan struct{} // something came for the reader; capacity 1
	window chan struct{} // credit came for the sender; capacity 1
}

var streams = sync.Pool{New: func() any {
	return &Stream{answer: make(chan struct{}, 1), window: make(chan struct{}, 1)}
}}

func newStream(c *Client) *Stream {
	s := streams.Get().(*Stream)
	s.client, s.credit = c, Window
	return s
}

// release makes the stream fit for another request and gives it back, with its
// buffers but for very large ones: the pool drops what is not used.
func (s *Stream) release() {
	s.mu.Lock()
	keep := func(b []byte) []byte {
		if cap(b) > 2*Window {
			return nil
		}
		return b[:0]
	}
	s.head, s.body, s.taken = keep(s.head), keep(s.body), keep(s.taken)
	s.client, s.id, s.err, s.granted, s.ended, s.sent = nil, 0, nil, 0, false, false
	s.trails, s.upgrades, s.let = nil, false, false
	drain(s.answer)
	drain(s.window)
	s.mu.Unlock()
	streams.Put(s)
}

func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// frame takes in what arrived; s.mu is held. An error is the peer's breach of
// the rules, which has ended this stream and is its reader's to see.
func (s *Stream) frame(f Frame) error {
	err := s.take(f)
	if err != nil && s.err == nil {
		s.err, s.body = err, s.body[:0]
	}
	s.ended = s.ended || f.End && err == nil
	if f.Type == TypeWindow && err == nil {
		wake(s.window)
		return nil
	}
	wake(s.answer)
	if s.ended || s.err != nil {
		wake(s.window)
	}
	return err
}

func (s *Stream) take(f Frame) error {
	switch f.Type {
	case TypeResponse:
		if len(s.head) > 0 {
			return protocolError("second RESPONSE on stream %d", f.Stream)
		}
		r, err := ParseResponse(f.Payload)
		if err == nil && r.Status < 200 && (r.Status != 101 || !s.upgrades) {
			err = protocolError("status %d on stream %d", r.Status, f.Stream)
		}
		if err != nil {
			return err
		}
		s.head = append(s.head, f.Payload[:len(f.Payload)-len(r.Body)]...)
		s.body = append(s.body, r.Body...)
	case TypeData:
		if len(s.head) == 0 {
			return protocolError("DATA before RESPONSE on stream %d", f.Stream)
		}
		s.body = append(s.body, f.Payload...)
	case TypeTrailers:
		if len(s.head) == 0 {
			return protocolError("TRAILERS before RESPONSE on stream %d", f.Stream)
		}
		h, err := ParseTrailers(f.Payload)
		if err != nil {
			return err
		}
		s.trails = append([]byte{}, h...)
	case TypeWindow:
		s.let = true
		if s.credit += ParseWindow(f.Payload); s.credit > maxCredit {
			return protocolError("leave to send %d bytes on stream %d", s.credit, f.Stream)
		}
	case TypeReset:
		code, reason := ParseReset(f.Payload)
		s.err = &ResetError{Code: code, Reason: reason}
	}
	if len(s.body) > Window {
		return protocolError("more than the window was sent on stream %d", f.Stream)
	}
	return nil
}

func (s *Stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended && s.err == nil {
		s.err = err
	}
	wake(s.answer)
	wake(s.window)
}

// Response waits for the answer's head. It is valid until Close; its Body is
// empty, [Stream.Next] has all of it. The error is a [*ResetError], wraps
// [ErrClosed] when the connection ended or [ErrProtocol] when the peer broke the
// rules on this stream, or is the context's.
func (s *Stream) Response(ctx context.Context) (Response, error) {
	for {
		s.mu.Lock()
		head, err := s.head, s.err
		s.mu.Unlock()
		if len(head) > 0 {
			return ParseResponse(head)
		}
		if err != nil {
			return Response{}, err
		}
		select {
		case <-s.answer:
		case <-ctx.Done():
			return Response{}, context.Cause(ctx)
		}
	}
}

// Whole reports whether the answer has arrived to its end, and how many bytes
// of its body are still to be read.
func (s *Stream) Whole() (left int, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.body), s.ended
}

// Next waits for more of the answer's body and returns it, valid until the
// following call; nil without an error is the end. Reading grants the other
// side leave to send as much again.
func (s *Stream) Next(ctx context.Context) ([]byte, error) {
	for {
		s.mu.Lock()
		if len(s.body) > 0 {
			s.taken, s.body = s.body, s.taken[:0]
			grant := 0
			if s.granted += len(s.taken); s.granted >= Window/4 && !s.ended {
				grant, s.granted = s.granted, 0
			}
			s.mu.Unlock()
			if grant > 0 {
				s.client.conn.Send(func(dst []byte) []byte { return AppendWindow(dst, s.id, grant) })
			}
			return s.taken, nil
		}
		ended, err := s.ended, s.err
		s.mu.Unlock()
		if ended || err != nil {
			return nil, err
		}
		select {
		case <-s.answer:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Reset gives the stream up and tells the other side why.
func (s *Stream) Reset(code Code, reason string) {
	s.client.forget(s.id)
	s.fail(&ResetError{Code: code, Reason: reason})
	s.client.conn.Send(func(dst []byte) []byte { return AppendReset(dst, s.id, code, reason) })
}

// Cancel gives the stream up, as one whose client has gone, unless its answer
// is whole or it has failed. Whoever waits in its methods is woken.
func (s *Stream) Cancel() {
	s.mu.Lock()
	over := s.ended || s.err != nil
	s.mu.Unlock()
	if !over {
		s.Reset(CodeCancelled, "the client has gone")
	}
}

// Close ends the use of the stream. What has not been sent or received is
// given up.
func (s *Stream) Close() {
	s.Cancel()
	s.mu.Lock()
	unsent := !s.sent && s.err == nil
	s.mu.Unlock()
	if unsent {
		s.Reset(CodeNone, "")
	}
	s.client.forget(s.id)
	s.release()
}
