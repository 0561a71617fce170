package frames

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// ErrBacklog is returned by a send to a peer that has stopped reading: more
// than [MaxBacklog] bytes wait for it.
var ErrBacklog = errors.New("frames: the peer does not read")

// ErrClosed is returned by a send on a connection that is closed.
var ErrClosed = errors.New("frames: connection closed")

// MaxBacklog is how many bytes may wait to be written on a connection, where
// it has no Backlog of its own.
const MaxBacklog = 8 << 20

// Bytes that may wait beyond that.
const (
	smallRoom = 16 << 20          // of streams of which little waits
	resetRoom = smallRoom + 2<<20 // of ends of streams: those of some ten thousand
)

// Bytes that wait are in buffers of some chunkSize, which all connections share:
// one buffer for all would grow with the backlog, by copying, and be thrown
// away afterwards.
const (
	chunkSize = 128 << 10
	chunkRoom = chunkSize + HeaderSize + MaxPayload // with the frame that fills it
)

var chunks = sync.Pool{New: func() any { b := make([]byte, 0, chunkRoom); return &b }}

// A Handler gets the frames of a connection, one at a time.
type Handler interface {
	// Frame handles one frame. An error ends the connection; the peer is told
	// it as a protocol error.
	Frame(Frame) error
	// Idle is called when no more whole frame has arrived, before waiting for
	// the next: the moment to flush what handling the last ones has queued.
	Idle()
}

// Conn is a connection that carries frames. Its sends are safe for use by
// several goroutines and never wait for the peer.
type Conn struct {
	// Gather lets goroutines that are ready to run queue their frames before
	// the first of them writes: where many send one frame each, a write takes
	// all of theirs. Set it before the first send.
	Gather bool
	// Backlog is how many bytes may wait to be written; 0: [MaxBacklog]. Set it
	// before the first send.
	Backlog int

	conn net.Conn
	raw  syscall.RawConn

	mu      sync.Mutex
	full    [][]byte // queued, chunks that have no more room
	out     []byte   // queued behind them
	waiting int      // bytes in full
	queued  uint64   // bytes that were ever queued
	begun   uint64   // of these, bytes that a write has begun with
	spare   []byte   // the other small buffer, while none is being written
	writing bool     // a goroutine is writing, and will come back for out
	err     error

	greeted bool        // the peer's HELLO has come; Serve's own
	heard   atomic.Bool // something was read; whoever looks sets it back
}

// NewConn wraps a stream connection and queues HELLO with the role given.
func NewConn(c net.Conn, role string) *Conn {
	conn := &Conn{conn: c, out: AppendHello(nil, role)}
	conn.queued = uint64(len(conn.out))
	if s, ok := c.(syscall.Conn); ok {
		conn.raw, _ = s.SyscallConn()
	}
	return conn
}

// Queue appends to what will be sent, without sending it: append must append
// whole frames to what it is given and return it.
func (c *Conn) Queue(append func(dst []byte) []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over(0) {
		return ErrBacklog
	}
	return c.queue(append)
}

// QueueSmall queues a frame of a stream of which little waits. That too much of
// others does is not held against it: there is some room of its own.
func (c *Conn) QueueSmall(f Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over(smallRoom) {
		return ErrBacklog
	}
	return c.queue(func(dst []byte) []byte { return Append(dst, f) })
}

// over reports whether more waits than may, and room beside; c.mu is held.
func (c *Conn) over(room int) bool {
	return c.err == nil && c.waiting+len(c.out) > cmp.Or(c.Backlog, MaxBacklog)+room
}

// QueueReset queues the end of a stream, although too much waits: whoever has
// sent nothing more because of that must be able to say so. A peer that asks
// for more of them than resetRoom holds, and reads none, loses the connection:
// it asks for free, and they would fill our memory.
func (c *Conn) QueueReset(stream uint32, code Code, reason string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over(resetRoom) {
		c.fail(ErrBacklog)
	}
	return c.queue(func(dst []byte) []byte { return AppendReset(dst, stream, code, reason) })
}

func (c *Conn) queue(add func(dst []byte) []byte) error {
	if c.err != nil {
		return c.err
	}
	had := len(c.out)
	c.out = add(c.out)
	c.queued += uint64(len(c.out) - had)
	if len(c.out) >= chunkSize {
		c.full = append(c.full, c.out)
		c.waiting += len(c.out)
		c.out = *chunks.Get().(*[]byte)
	}
	return nil
}

// next takes the next buffer to write; c.mu is held.
func (c *Conn) next() []byte {
	if len(c.full) > 0 {
		buf := c.full[0]
		c.full[0] = nil
		c.full = c.full[1:]
		c.waiting -= len(buf)
		c.begun += uint64(len(buf))
		return buf
	}
	buf := c.out
	c.begun += uint64(len(buf))
	c.out, c.spare = c.spare[:0], nil
	return buf
}

// QueueFrame queues one frame.
func (c *Conn) QueueFrame(f Frame) error {
	return c.Queue(func(dst []byte) []byte { return Append(dst, f) })
}

// Send queues and flushes.
func (c *Conn) Send(append func(dst []byte) []byte) error {
	if err := c.Queue(append); err != nil {
		return err
	}
	c.Flush()
	return nil
}

// Flush sends what is queued. It never blocks: when the peer's buffer is full
// a goroutine of its own goes on. When another write is under way, that one
// takes along what is queued.
func (c *Conn) Flush() {
	c.mu.Lock()
	if c.writing || len(c.full)+len(c.out) == 0 || c.err != nil {
		c.mu.Unlock()
		return
	}
	c.writing = true
	if c.Gather {
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	for len(c.full)+len(c.out) > 0 && c.err == nil {
		buf := c.next()
		c.mu.Unlock()
		n, err := c.tryWrite(buf)
		c.mu.Lock()
		if n < len(buf) && err == nil {
			go c.finish(buf, n)
			c.mu.Unlock()
			return
		}
		c.written(buf, err)
	}
	c.writing = false
	c.mu.Unlock()
}

// finish writes the rest of buf and whatever was queued meanwhile.
func (c *Conn) finish(buf []byte, done int) {
	_, err := c.conn.Write(buf[done:])
	c.mu.Lock()
	c.written(buf, err)
	c.writing = false
	c.mu.Unlock()
	c.Flush()
}

// written gives the buffer back and notes an error; c.mu is held.
func (c *Conn) written(buf []byte, err error) {
	switch {
	case cap(buf) >= chunkRoom:
		if buf = buf[:0]; cap(buf) < 2*chunkRoom {
			chunks.Put(&buf)
		}
	case cap(buf) <= MaxPayload:
		c.spare = buf
	}
	if err != nil {
		c.fail(fmt.Errorf("cannot write frames: %w", err))
	}
}

// fail ends the connection; c.mu is held. The first error stays.
func (c *Conn) fail(err error) {
	if c.err == nil {
		c.err = err
		c.out, c.full, c.waiting = nil, nil, 0
		c.conn.Close()
	}
}

// tryWrite makes one attempt that does not block.
func (c *Conn) tryWrite(buf []byte) (n int, err error) {
	if c.raw == nil {
		return 0, nil
	}
	done := c.raw.Write(func(fd uintptr) bool {
		n, err = syscall.Write(int(fd), buf)
		return true
	})
	switch {
	case done != nil:
		return 0, done
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return 0, nil
	}
	return max(n, 0), err
}

// Serve reads frames and hands them to h until the connection ends. It
// returns nil when the peer closed it between two frames.
func (c *Conn) Serve(h Handler) error {
	err := c.read(h)
	if errors.Is(err, ErrProtocol) {
		c.Send(func(dst []byte) []byte { return AppendReset(dst, 0, CodeProtocol, err.Error()) })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(ErrClosed)
	if errors.Is(c.err, ErrBacklog) {
		return c.err // what reading met is that we hung up
	}
	return err
}

func (c *Conn) read(h Handler) error {
	buf := make([]byte, 0, 16<<10)
	for {
		used := 0
		for {
			f, n, err := Parse(buf[used:])
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			if err := c.handle(h, f); err != nil {
				return err
			}
			used += n
		}
		h.Idle()
		buf = makeRoom(buf, used)
		n, err := c.conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n > 0 {
			c.heard.Store(true)
			continue
		}
		if err == io.EOF {
			if len(buf) == 0 {
				return nil
			}
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("cannot read frames: %w", err)
		}
	}
}

// makeRoom moves what is left of buf to its front and grows it when the frame
// that has begun does not fit.
func makeRoom(buf []byte, used int) []byte {
	rest := buf[used:]
	need := len(rest) + 4<<10
	if len(rest) >= 4 {
		size := binary.LittleEndian.Uint32(rest)
		need = max(need, HeaderSize+int(min(size, MaxPayload)))
	}
	if need <= cap(buf) {
		return buf[:copy(buf[:cap(buf)], rest)]
	}
	return append(make([]byte, 0, need+16<<10), rest...)
}

func (c *Conn) handle(h Handler, f Frame) error {
	if !c.greeted && f.Type != TypeHello && (f.Type != TypeReset || f.Stream != 0) {
		return protocolError("%v before HELLO", f.Type)
	}
	switch f.Type {
	case TypeHello:
		if _, err := ParseHello(f.Payload); err != nil {
			return err
		}
		c.greeted = true
	case TypePing:
		return c.Send(func(dst []byte) []byte { return Append(dst, Frame{Type: TypePong, Payload: f.Payload}) })
	case TypeReset:
		if f.Stream == 0 {
			_, reason := ParseReset(f.Payload)
			return fmt.Errorf("peer ended the connection: %s", reason)
		}
	}
	return h.Frame(f)
}

// Close ends the connection. Serve returns.
func (c *Conn) Close() error {
	c.end(ErrClosed)
	return nil
}

// end ends the connection for a reason.
func (c *Conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(err)
}

// unsent reports whether nothing of what was queued from position at on has
// left: no write that includes it has begun, and none will, the connection
// having ended.
func (c *Conn) unsent(at uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil && at >= c.begun
}
