package frames

import "encoding/binary"

// scanner reads a head; once something is missing everything after is empty.
type scanner struct {
	rest  []byte
	short bool
}

func (s *scanner) bytes(n int) []byte {
	if len(s.rest) < n {
		s.short, s.rest = true, nil
		return nil
	}
	b := s.rest[:n:n]
	s.rest = s.rest[n:]
	return b
}

func (s *scanner) uint8() uint8 {
	if b := s.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (s *scanner) uint16() uint16 {
	if b := s.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (s *scanner) fields() Fields {
	start := s.rest
	for n := s.uint8(); n > 0; n-- {
		s.uint8()
		s.bytes(int(s.uint16()))
	}
	return start[:len(start)-len(s.rest)]
}

func (s *scanner) headers() Headers {
	start := s.rest
	for n := s.uint16(); n > 0 && !s.short; n-- {
		s.bytes(int(s.uint8()))
		s.bytes(int(s.uint16()))
	}
	return start[:len(start)-len(s.rest)]
}

func (s *scanner) end(p []byte) ([]byte, error) {
	if s.short {
		return nil, protocolError("head is cut short")
	}
	if head := len(p) - len(s.rest); head > MaxHead {
		return nil, protocolError("head of %d bytes, at most %d", head, MaxHead)
	}
	return s.rest, nil
}

// nameBytes are the characters of a token, capitals left out.
var nameBytes = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" {
		t[c] = true
	}
	return t
}()
