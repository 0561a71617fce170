package frames

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes in bytes; docs/frames.md fixes them for version 1.
const (
	HeaderSize = 12
	MaxPayload = 128 << 10 // of any frame
	MaxHead    = 64 << 10  // of a REQUEST's or RESPONSE's head
	MaxData    = 64 << 10  // of one DATA frame
	Window     = 256 << 10 // body bytes that may be sent before a WINDOW grants more
)

// Version is the wire format's version, named in HELLO.
const Version = 1

// Type tells frames apart.
type Type uint8

// Types of frames.
const (
	TypeHello Type = iota + 1
	TypeRequest
	TypeResponse
	TypeData
	TypeWindow
	TypeReset
	TypeGoAway
	TypePing
	TypePong
	TypeTrailers
)

var typeNames = [...]string{"frame 0", "HELLO", "REQUEST", "RESPONSE", "DATA", "WINDOW", "RESET", "GOAWAY", "PING", "PONG", "TRAILERS"}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("frame %d", uint8(t))
}

// FlagEnd marks the last frame of one direction of a stream.
const FlagEnd = 1

// Code is why a stream was reset.
type Code uint8

// Codes of RESET.
const (
	CodeNone      Code = iota // nothing wrong: the rest is not wanted
	CodeCancelled             // whoever asked has gone
	CodeTimeout               // out of time
	CodeTooLarge              // body or head too large
	CodeRefused               // not processed at all: safe to send elsewhere
	CodeInternal              // the platform failed
	CodeProtocol              // the peer broke the rules
	CodeGone                  // who processed it has gone: it may have been processed
)

// ErrProtocol wraps every error about bytes that break docs/frames.md.
var ErrProtocol = errors.New("frames: protocol error")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// A Frame is one frame as it arrived. Payload is valid only until the
// [Handler] that got it returns.
type Frame struct {
	Type    Type
	End     bool
	Stream  uint32
	Payload []byte
}

// AppendHeader appends the header of a frame whose payload has n bytes.
func AppendHeader(dst []byte, t Type, end bool, stream uint32, n int) []byte {
	var flags byte
	if end {
		flags = FlagEnd
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	dst = append(dst, byte(t), flags, 0, 0)
	return binary.LittleEndian.AppendUint32(dst, stream)
}

// Append appends a whole frame.
func Append(dst []byte, f Frame) []byte {
	dst = AppendHeader(dst, f.Type, f.End, f.Stream, len(f.Payload))
	return append(dst, f.Payload...)
}

// Parse reads the first frame in b and returns how many bytes it took; 0 when
// b holds less than a whole frame. The payload aliases b.
func Parse(b []byte) (f Frame, n int, err error) {
	if len(b) < HeaderSize {
		return Frame{}, 0, nil
	}
	size := binary.LittleEndian.Uint32(b)
	f = Frame{Type: Type(b[4]), End: b[5]&FlagEnd != 0, Stream: binary.LittleEndian.Uint32(b[8:])}
	if err := checkHeader(f, b[5], size, b[6], b[7]); err != nil {
		return Frame{}, 0, err
	}
	n = HeaderSize + int(size)
	if len(b) < n {
		return Frame{}, 0, nil
	}
	f.Payload = b[HeaderSize:n:n]
	return f, n, nil
}

func checkHeader(f Frame, flags byte, size uint32, reserved1, reserved2 byte) error {
	limit := uint32(MaxPayload)
	switch f.Type {
	case TypeRequest, TypeResponse:
	case TypeData:
		limit = MaxData
	case TypeTrailers:
		limit = MaxHead
		if flags&FlagEnd == 0 {
			return protocolError("TRAILERS without END")
		}
	case TypeHello, TypeWindow, TypeReset, TypeGoAway, TypePing, TypePong:
		if flags != 0 {
			return protocolError("%v has flags %#x", f.Type, flags)
		}
	default:
		return protocolError("unknown type %d", uint8(f.Type))
	}
	switch {
	case size > limit:
		return protocolError("%v of %d bytes, at most %d", f.Type, size, limit)
	case flags&^FlagEnd != 0 || reserved1|reserved2 != 0:
		return protocolError("%v with reserved bits set", f.Type)
	case (f.Stream == 0) != f.Type.onConnection() && f.Type != TypeReset:
		return protocolError("%v on stream %d", f.Type, f.Stream)
	case f.Type == TypeWindow && size != 4, (f.Type == TypePing || f.Type == TypePong) && size != 8, f.Type == TypeReset && size < 1:
		return protocolError("%v of %d bytes", f.Type, size)
	}
	return nil
}

func (t Type) onConnection() bool {
	return t == TypeHello || t == TypeGoAway || t == TypePing || t == TypePong
}

// AppendHello appends a HELLO for role: proxy, agent, runner or function.
func AppendHello(dst []byte, role string) []byte {
	dst = AppendHeader(dst, TypeHello, false, 0, 4+len(role))
	dst = append(dst, 'B', 'H', 'F', Version)
	return append(dst, role...)
}

// ParseHello returns the role in a HELLO's payload.
func ParseHello(p []byte) (role string, err error) {
	if len(p) < 4 || string(p[:3]) != "BHF" {
		return "", protocolError("HELLO does not start with BHF")
	}
	if p[3] != Version {
		return "", protocolError("version %d, want %d", p[3], Version)
	}
	switch role = string(p[4:]); role {
	case "proxy", "agent", "runner", "function":
		return role, nil
	}
	return "", protocolError("role %q: want proxy, agent, runner or function", role)
}

// AppendReset appends a RESET of a stream, or of the connection (stream 0).
func AppendReset(dst []byte, stream uint32, code Code, reason string) []byte {
	dst = AppendHeader(dst, TypeReset, false, stream, 1+len(reason))
	return append(append(dst, byte(code)), reason...)
}

// ParseReset splits a RESET's payload.
func ParseReset(p []byte) (Code, string) { return Code(p[0]), string(p[1:]) }

// AppendWindow appends a WINDOW that grants n bytes.
func AppendWindow(dst []byte, stream uint32, n int) []byte {
	dst = AppendHeader(dst, TypeWindow, false, stream, 4)
	return binary.LittleEndian.AppendUint32(dst, uint32(n))
}

// ParseWindow returns the bytes that a WINDOW's payload grants.
func ParseWindow(p []byte) int { return int(binary.LittleEndian.Uint32(p)) }
