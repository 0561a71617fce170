package frames

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// ErrRefused is returned for a stream of which nothing was processed: the
// same request may be sent elsewhere.
var ErrRefused = errors.New("frames: stream refused")

// A ResetError is a stream that the other side ended before its answer did.
type ResetError struct {
	Code   Code
	Reason string
}

func (e *ResetError) Error() string {
	return fmt.Sprintf("stream reset (code %d): %s", e.Code, e.Reason)
}

// Is reports whether target is [ErrRefused] and the code says so.
func (e *ResetError) Is(target error) bool { return target == ErrRefused && e.Code == CodeRefused }

// Client is the requester's end of a connection: it opens streams and waits
// for their answers.
type Client struct {
	conn *Conn

	mu       sync.Mutex
	streams  map[uint32]*Stream
	passages map[uint32]*Passage
	next     uint32
	gone     error // set once no stream can be opened any more
	away     bool  // the peer said GOAWAY, or we are leaving
	done     chan struct{}

	greeted chan struct{} // closed when the peer's HELLO has come
	flush   []*Conn       // what passages have queued on; the reader's own
}

// NewClient starts a client on c, which it owns from now on.
func NewClient(c net.Conn, role string) *Client { return NewClientWith(c, role, 0) }

// NewClientWith is NewClient with a [Conn.Backlog] of its own.
func NewClientWith(c net.Conn, role string, backlog int) *Client {
	cl := &Client{
		conn: NewConn(c, role), streams: map[uint32]*Stream{}, passages: map[uint32]*Passage{},
		done: make(chan struct{}), greeted: make(chan struct{}),
	}
	cl.conn.Gather, cl.conn.Backlog = true, backlog
	go cl.serve()
	return cl
}

func (c *Client) serve() {
	err := c.conn.Serve(clientHandler{c})
	if err == nil {
		err = errors.New("peer closed the connection")
	}
	c.mu.Lock()
	c.gone = fmt.Errorf("%w: %w", ErrClosed, c.conn.reason(err))
	for _, s := range c.streams {
		err := c.gone
		if c.conn.unsent(s.at) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		s.fail(err) // under c.mu: a stream that is forgotten may serve another request already
	}
	passages := c.passages
	c.streams, c.passages = nil, nil
	c.mu.Unlock()
	for _, p := range passages {
		p.lost(c.conn.unsent(p.at))
	}
	clientHandler{c}.Idle()
	close(c.done)
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Usable reports whether streams can still be opened.
func (c *Client) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone == nil
}

// Close ends the connection and every stream on it, and waits for that.
func (c *Client) Close() {
	c.conn.Close()
	<-c.done
}

// Open sends a request and returns its stream. The body given goes along and
// must fit the frame beside the head; end says that there is no more of it.
// The error wraps [ErrProtocol] when the request fits no frame, so that no
// connection could take it, and otherwise [ErrRefused]: nothing was sent.
func (c *Client) Open(r Request, end bool) (*Stream, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	s := newStream(c)
	s.credit -= len(r.Body)
	s.sent = end
	s.upgrades = !end && r.Headers != nil && r.Headers.Get("upgrade") != nil
	c.mu.Lock()
	id, err := c.nextID()
	if err != nil {
		c.mu.Unlock()
		s.release()
		return nil, err
	}
	s.id = id
	c.streams[s.id] = s
	c.mu.Unlock()
	err = c.conn.Send(func(dst []byte) []byte {
		s.at = c.conn.queued
		start := len(dst)
		dst = AppendHeader(dst, TypeRequest, end, s.id, 0)
		dst = append(r.AppendHead(dst), r.Body...)
		return patchLength(dst, start)
	})
	if err != nil {
		c.forget(s.id)
		s.release()
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return s, nil
}

// nextID is the next stream's; c.mu is held.
func (c *Client) nextID() (uint32, error) {
	if c.gone != nil {
		return 0, fmt.Errorf("%w: %w", ErrRefused, c.gone)
	}
	c.next++
	for c.next == 0 || c.streams[c.next] != nil || c.passages[c.next] != nil {
		c.next++
	}
	return c.next, nil
}

func (c *Client) forget(id uint32) {
	c.mu.Lock()
	delete(c.streams, id)
	c.leaveIfDone()
	c.mu.Unlock()
}

// leaveIfDone closes the connection to a peer that is going away, once no
// stream is open: the peer waits for that. c.mu is held.
func (c *Client) leaveIfDone() {
	if c.away && len(c.streams)+len(c.passages) == 0 {
		c.conn.Close()
	}
}

// Leave opens no more streams, and closes the connection once the last has
// ended. It does not wait for that.
func (c *Client) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone == nil {
		c.gone = ErrClosed
	}
	c.away = true
	c.leaveIfDone()
}

type clientHandler struct{ c *Client }

// Idle sends what passages have queued.
func (h clientHandler) Idle() {
	for i, conn := range h.c.flush {
		conn.Flush()
		h.c.flush[i] = nil
	}
	h.c.flush = h.c.flush[:0]
}

func (h clientHandler) Frame(f Frame) error {
	c := h.c
	switch f.Type {
	case TypeHello:
		select {
		case <-c.greeted:
		default:
			close(c.greeted)
		}
		return nil
	case TypeGoAway:
		c.mu.Lock()
		c.gone, c.away = fmt.Errorf("peer is going away: %s", f.Payload), true
		c.leaveIfDone()
		c.mu.Unlock()
		return nil
	case TypeResponse, TypeData, TypeTrailers, TypeWindow, TypeReset:
	default:
		return nil
	}
	c.mu.Lock()
	s := c.streams[f.Stream]
	if s == nil && len(c.passages) > 0 {
		if p := c.passages[f.Stream]; p != nil {
			c.mu.Unlock()
			c.pass(p, f)
			return nil
		}
	}
	if s != nil {
		// Taken before c.mu is given back: the stream can't be released and
		// used again for another request in between.
		s.mu.Lock()
		if f.Type == TypeReset || f.End {
			delete(c.streams, f.Stream)
			c.leaveIfDone()
		}
	}
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	err := s.frame(f)
	s.mu.Unlock()
	if err != nil {
		// The frame as such was sound, so the others' streams go on.
		c.forget(f.Stream)
		c.conn.Send(func(dst []byte) []byte { return AppendReset(dst, f.Stream, CodeProtocol, err.Error()) })
	}
	return nil
}

// Do sends a request whose body is whole and returns the whole answer, at
// most limit bytes of body: for small exchanges between Bulkhead's own parts.
func (c *Client) Do(ctx context.Context, r Request, limit int) (status int, body []byte, err error) {
	s, err := c.Open(r, true)
	if err != nil {
		return 0, nil, err
	}
	defer s.Close()
	head, err := s.Response(ctx)
	if err != nil {
		return 0, nil, err
	}
	status = head.Status
	for {
		chunk, err := s.Next(ctx)
		if err != nil || chunk == nil {
			return status, body, err
		}
		if body = append(body, chunk...); len(body) > limit {
			return status, nil, fmt.Errorf("answer of more than %d bytes", limit)
		}
	}
}
