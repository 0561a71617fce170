package frames

import (
	"context"
	"encoding/binary"
)

// Admitted waits until the other side lets the request in, which it says with a
// WINDOW, or ctx ends. False: it has answered, or given the stream up, instead.
func (s *Stream) Admitted(ctx context.Context) bool {
	for {
		s.mu.Lock()
		let, over := s.let, s.err != nil || len(s.head) > 0
		s.mu.Unlock()
		if let || over {
			return !over
		}
		select {
		case <-s.window:
		case <-s.answer:
		case <-ctx.Done():
			return true
		}
	}
}

// Write sends some of the request's body, as the window allows, and with end
// its last bytes. It returns nil, without having sent all, once the answer is
// whole: nobody wants the rest.
func (s *Stream) Write(ctx context.Context, p []byte, end bool) error {
	for {
		s.mu.Lock()
		if s.ended || s.err != nil {
			defer s.mu.Unlock()
			return s.err
		}
		n := min(len(p), s.credit, MaxData)
		s.credit -= n
		last := end && n == len(p)
		s.sent = last
		s.mu.Unlock()
		if n > 0 || last {
			f := Frame{Type: TypeData, End: last, Stream: s.id, Payload: p[:n]}
			if err := s.client.conn.Send(func(dst []byte) []byte { return Append(dst, f) }); err != nil {
				return err
			}
			if p = p[n:]; len(p) == 0 {
				return nil
			}
			continue
		}
		if len(p) == 0 {
			return nil
		}
		select {
		case <-s.window:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// WriteTrailers ends the request's body with trailers. It sends nothing once
// the answer is whole.
func (s *Stream) WriteTrailers(h Headers) error {
	s.mu.Lock()
	if s.ended || s.err != nil {
		defer s.mu.Unlock()
		return s.err
	}
	s.sent = true
	s.mu.Unlock()
	return s.client.conn.Send(func(dst []byte) []byte { return AppendTrailers(dst, s.id, h) })
}

// patchLength writes the payload's length into the header at dst[start].
func patchLength(dst []byte, start int) []byte {
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-HeaderSize))
	return dst
}
