package frames

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrSilent ends a connection whose peer has said nothing for too long,
// although it was asked to.
var ErrSilent = errors.New("frames: the peer is silent")

// Greeted waits for the peer's HELLO. Until then nobody knows that the other
// side takes the connection at all: in TLS 1.3 a client's handshake is over
// before the server has looked at its certificate (RFC 8446, section 2).
func (c *Client) Greeted(ctx context.Context) error {
	select {
	case <-c.greeted:
		return nil
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return fmt.Errorf("no HELLO came: %w", context.Cause(ctx))
	}
}

// Err says why the connection takes no more streams; nil while it does.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// StayAlive asks a peer that says nothing whether it is still there, each time
// a tick has passed, and ends the connection with [ErrSilent] once it has said
// nothing for limit. TCP itself waits for many minutes when packets vanish, and
// for ever when the other program hangs. It returns at once.
func (c *Client) StayAlive(tick, limit time.Duration) {
	go func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for silent := time.Duration(0); ; {
			select {
			case <-c.done:
				return
			case <-ticker.C:
			}
			if c.conn.heard.Swap(false) {
				silent = 0
				continue
			}
			if silent += tick; silent >= limit {
				c.conn.end(fmt.Errorf("%w for %v", ErrSilent, limit))
				return
			}
			c.conn.Send(func(dst []byte) []byte { return Append(dst, Frame{Type: TypePing, Payload: make([]byte, 8)}) })
		}
	}()
}

// reason is why the connection ended, where it was ended for one that reading
// does not see.
func (c *Conn) reason(read error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.err, ErrSilent) {
		return c.err
	}
	return read
}
