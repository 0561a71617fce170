package frames

import "fmt"

// Passage is a stream on a [Client] that is not read here but passed on to
// another connection, frame by frame: bodies are not kept, and the windows of
// the two ends bound what is under way.
type Passage struct {
	client *Client
	id     uint32
	at     uint64 // where its REQUEST begins in what the connection sends
	to     *Conn
	take   func(Frame)
}

// Pass sends a REQUEST frame on, under an id of this connection. What answers
// it is handed to take, one frame at a time; what take queues on to is sent
// once no more frames are there to be read. The last frame has END, or is a
// RESET: of code [CodeRefused] or [CodeGone] if the connection has ended, the
// request having left or not. The error wraps [ErrRefused]: nothing was sent,
// and take is not called.
//
// The REQUEST's bytes are not looked at. Take may be called before Pass has
// returned.
func (c *Client) Pass(f Frame, to *Conn, take func(Frame)) (*Passage, error) {
	p := &Passage{client: c, to: to, take: take}
	c.mu.Lock()
	id, err := c.nextID()
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	p.id = id
	c.passages[id] = p
	c.mu.Unlock()
	f.Stream = id
	err = c.conn.Queue(func(dst []byte) []byte {
		p.at = c.conn.queued
		return Append(dst, f)
	})
	if err != nil && c.drop(p) { // else take has been told already
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return p, nil
}

// Queue queues one more frame of the request; [Passage.Flush] sends it.
func (p *Passage) Queue(f Frame) error {
	f.Stream = p.id
	return p.client.conn.QueueFrame(f)
}

// Flush sends what is queued on the passage's connection.
func (p *Passage) Flush() { p.client.conn.Flush() }

// Reset gives the stream up: take is not called any more, but for a call under
// way.
func (p *Passage) Reset(code Code, reason string) {
	if p.client.drop(p) {
		p.client.conn.Send(func(dst []byte) []byte { return AppendReset(dst, p.id, code, reason) })
	}
}

// drop forgets a passage, and reports whether it was still there.
func (c *Client) drop(p *Passage) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.passages[p.id] != p {
		return false
	}
	delete(c.passages, p.id)
	c.leaveIfDone()
	return true
}

// pass hands a frame on.
func (c *Client) pass(p *Passage, f Frame) {
	if f.Type == TypeReset || f.End {
		if !c.drop(p) {
			return
		}
	}
	p.take(f)
	if n := len(c.flush); n == 0 || c.flush[n-1] != p.to {
		c.flush = append(c.flush, p.to)
	}
}

// lost tells that the connection has ended.
func (p *Passage) lost(unsent bool) {
	code, reason := CodeGone, "the instance ended while the request was in flight"
	if unsent {
		code, reason = CodeRefused, "the connection to the instance ended"
	}
	p.take(Frame{Type: TypeReset, Payload: append([]byte{byte(code)}, reason...)})
	p.to.Flush()
}
