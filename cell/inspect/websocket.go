package inspect

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessage is how much of a message is kept, in bytes; the rest is read and
// thrown away. The first frames of a deep stack are what matters of it.
const maxMessage = 256 << 10

// maxDiscard is how much of one message may be thrown away.
const maxDiscard = 64 << 20

// Opcodes (RFC 6455, section 5.2).
const (
	opContinue = 0
	opText     = 1
	opClose    = 8
	opPing     = 9
	opPong     = 10
)

// socket is the client's end of a WebSocket, as much of it as Node's inspector
// needs: text out in one frame each, text in, nothing else.
type socket struct {
	c  net.Conn
	br *bufio.Reader
}

// dial opens ws://addr/path. The deadline holds for all that follows.
func dial(addr, path string, deadline time.Time) (*socket, error) {
	d := net.Dialer{Deadline: deadline}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &socket{c: c, br: bufio.NewReaderSize(prompt{c.(*net.TCPConn)}, 16<<10)}
	if err := s.handshake(addr, path, deadline); err != nil {
		c.Close()
		return nil, fmt.Errorf("cannot open a WebSocket: %w", err)
	}
	return s, nil
}

// prompt reads from a connection and acknowledges at once: the inspector writes
// an answer in two parts, and holds the second back until then (Nagle), which
// would cost 40 ms each time.
type prompt struct{ c *net.TCPConn }

func (p prompt) Read(b []byte) (int, error) {
	n, err := p.c.Read(b)
	if raw, e := p.c.SyscallConn(); e == nil {
		raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
	return n, err
}

func (s *socket) handshake(addr, path string, deadline time.Time) error {
	if err := s.c.SetDeadline(deadline); err != nil {
		return err
	}
	var key [16]byte
	rand.Read(key[:]) // never fails
	ask := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
		path, addr, base64.StdEncoding.EncodeToString(key[:]))
	if _, err := io.WriteString(s.c, ask); err != nil {
		return err
	}
	// Whether it proves to have read the key does not matter: nothing that it
	// says is believed anyway.
	for i := range 32 {
		line, err := s.br.ReadSlice('\n')
		if err != nil {
			return err
		}
		if i == 0 && !strings.HasPrefix(string(line), "HTTP/1.1 101 ") {
			return errors.New("the process refuses")
		}
		if len(strings.TrimSpace(string(line))) == 0 {
			return nil
		}
	}
	return errors.New("the process's answer is too long")
}

// send writes texts back to back, in one go.
func (s *socket) send(texts ...[]byte) error {
	var out []byte
	for _, t := range texts {
		out = appendFrame(out, opText, t)
	}
	_, err := s.c.Write(out)
	return err
}

// appendFrame appends a masked frame; the mask may be zero here, for there is
// no proxy on the way that it could protect.
func appendFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	return append(append(dst, 0, 0, 0, 0), payload...)
}

// next returns the next text message, or its first maxMessage bytes.
func (s *socket) next() ([]byte, error) {
	var text []byte
	for {
		op, fin, n, err := s.head()
		if err != nil {
			return nil, err
		}
		switch op {
		case opClose:
			return nil, io.EOF
		case opContinue, opText:
			if text, err = s.gather(text, n); err != nil || fin {
				return text, err
			}
		default: // a ping needs no answer within our lifetime
			if _, err := s.br.Discard(int(min(n, 125))); err != nil {
				return nil, err
			}
		}
	}
}

// gather appends n bytes to text as far as they fit and drops the rest.
func (s *socket) gather(text []byte, n int64) ([]byte, error) {
	if n > maxDiscard {
		return nil, errors.New("a message is too long")
	}
	keep := min(n, int64(maxMessage-len(text)))
	at := len(text)
	text = append(text, make([]byte, keep)...)
	if _, err := io.ReadFull(s.br, text[at:]); err != nil {
		return nil, err
	}
	_, err := s.br.Discard(int(n - keep))
	return text, err
}

func (s *socket) head() (op byte, fin bool, n int64, err error) {
	var b [8]byte
	if _, err = io.ReadFull(s.br, b[:2]); err != nil {
		return 0, false, 0, err
	}
	op, fin, n = b[0]&0x0f, b[0]&0x80 != 0, int64(b[1]&0x7f)
	if b[1]&0x80 != 0 {
		return 0, false, 0, errors.New("a server's frame is masked")
	}
	switch n {
	case 126:
		_, err = io.ReadFull(s.br, b[:2])
		n = int64(binary.BigEndian.Uint16(b[:2]))
	case 127:
		_, err = io.ReadFull(s.br, b[:8])
		n = int64(binary.BigEndian.Uint64(b[:8]) & (1<<63 - 1))
	}
	return op, fin, n, err
}

func (s *socket) close() { s.c.Close() }
