package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"bulkhead/internal/frames"
)

// Bounds of an upgraded connection: nothing else ends one that nobody ends.
const (
	tunnelIdle  = 15 * time.Minute // without a byte either way
	halfIdle    = 30 * time.Second // likewise, once the client has ended its way
	tunnelEnd   = time.Second      // for the client to close, once the function has
	tunnelDrain = 10 * time.Second // after the proxy was told to shut down
)

// wish is what a client says of an upgrade (RFC 9110, section 7.8).
type wish struct {
	asked    bool   // Connection lists it
	protocol []byte // Upgrade
}

// holds reports whether the client asks for another protocol in a way that is
// passed on: over HTTP/1.1 and without a body. h2c (RFC 9113 has done away
// with it) would be a second way to send requests, which nobody reads.
func (w wish) holds(ctx *fasthttp.RequestCtx, coding bool) bool {
	h := &ctx.Request.Header
	return w.asked && len(w.protocol) > 0 && h.IsHTTP11() && !coding && h.ContentLength() <= 0 && !ctx.Request.MayContinue() &&
		!bytes.Contains(bytes.ToLower(w.protocol), []byte("h2c"))
}

// switchProtocols passes a 101 on; the connection is raw bytes from then on.
func (x *exchange) switchProtocols(r frames.Response) {
	resp := &x.ctx.Response
	fill(resp, r)
	resp.Header.SetBytesV("Upgrade", r.Headers.Get("upgrade"))
	resp.Header.Set("Connection", "Upgrade")
	resp.Header.Set("X-Request-Id", x.rec.request)
	x.rec.status, x.streams = 101, true
	if x.watch != nil {
		x.p.presence.remove(x.watch) // the tunnel reads, so it sees for itself
		x.watch = nil
	}
	head := bytes.Clone(resp.Header.Header())
	t := &tunnel{x: x, conn: expecting(x.ctx), stream: x.stream}
	if bytes.EqualFold(r.Headers.Get("upgrade"), []byte("websocket")) {
		t.ws = &wsFrames{}
	}
	tunnels := &x.p.tunnels
	tunnels.add(t)
	x.ctx.HijackSetNoResponse(true)
	x.ctx.Hijack(func(c net.Conn) {
		t.run(c, head)
		tunnels.remove(t)
	})
}

// tunnel is an upgraded connection: raw bytes between client and stream.
type tunnel struct {
	x      *exchange
	conn   *stallConn
	stream *frames.Stream

	mu    sync.Mutex
	idle  *time.Timer   // nil before it runs
	quiet time.Duration // how long nothing may move
	over  bool          // neither connection nor stream is the tunnel's any more
	left  bool          // the proxy is leaving

	ws *wsFrames // what the client is sent; nil: it is no WebSocket
}

// run copies both ways until the function ends its own, and ends the exchange.
func (t *tunnel) run(c net.Conn, head []byte) {
	t.conn.armed = time.Time{} // fasthttp has lifted the deadline
	t.mu.Lock()
	t.quiet, t.idle = tunnelIdle, time.AfterFunc(tunnelIdle, t.cut)
	t.mu.Unlock()
	gone := make(chan bool, 1)
	go func() { gone <- t.fromClient(c) }()
	_, err := c.Write(head)
	if err == nil {
		err = t.toClient(c)
	}
	switch {
	case err == nil:
		t.closeWrite()
	case isReset(err):
		t.bye(c, err)
		t.closeWrite()
	default:
		t.cut()
	}
	left := <-gone
	t.mu.Lock()
	t.over = true
	t.idle.Stop()
	t.mu.Unlock()
	switch {
	case left || err != nil && !isReset(err):
		t.x.rec.cause = "client_gone"
	case err != nil:
		t.x.rec.cause = "answer_broken_off"
	}
	t.x.close()
}

// fromClient passes on what the client sends, and its end. It reports whether
// the client broke off.
func (t *tunnel) fromClient(c net.Conn) (gone bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		t.moved()
		t.x.rec.in += int64(n)
		if n > 0 && t.stream.Write(context.Background(), buf[:n], false) != nil {
			return false
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded): // closeWrite has set one
			return false
		case errors.Is(err, io.EOF):
			t.half()
			t.stream.Write(context.Background(), nil, true)
			return false
		default:
			_, over := t.stream.Whole()
			t.stream.Cancel()
			return !over && !errors.Is(err, net.ErrClosed)
		}
	}
}

// toClient passes on what the function sends. Nil: it has ended its way.
func (t *tunnel) toClient(c net.Conn) error {
	for {
		chunk, err := t.stream.Next(context.Background())
		if err != nil || chunk == nil {
			return err
		}
		if _, err := c.Write(chunk); err != nil {
			return err
		}
		if t.ws != nil {
			t.ws.pass(chunk)
		}
		t.moved()
		t.x.rec.out += int64(len(chunk))
	}
}

// bye tells the client of a WebSocket why nothing more comes.
func (t *tunnel) bye(c net.Conn, err error) {
	if t.ws == nil {
		return
	}
	t.mu.Lock()
	leaving := t.left
	t.mu.Unlock()
	code := uint16(wsFailed)
	var reset *frames.ResetError
	if leaving || errors.As(err, &reset) && reset.Code == frames.CodeGone {
		code = wsGoingAway
	}
	if bye := t.ws.close(code); bye != nil {
		c.Write(bye)
	}
}

func isReset(err error) bool {
	var reset *frames.ResetError
	return errors.As(err, &reset) || errors.Is(err, frames.ErrClosed) || errors.Is(err, frames.ErrProtocol)
}

// moved puts off the end of an idle connection.
func (t *tunnel) moved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle.Reset(t.quiet)
}

// half notes that the client has ended its way.
func (t *tunnel) half() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quiet = halfIdle
	t.idle.Reset(t.quiet)
}

// closeWrite tells the client that nothing more comes. What it sends now is
// read, for a moment, and dropped: closed at once, the connection would take
// along what the client has not read yet.
func (t *tunnel) closeWrite() {
	t.conn.SetReadDeadline(time.Now().Add(tunnelEnd))
	if c, ok := t.conn.NetConn().(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
}

// leave ends the tunnel in good order: toClient notices, and says why.
func (t *tunnel) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.left = true
		t.stream.Cancel()
	}
}

// cut ends both ways.
func (t *tunnel) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.stream.Cancel()
		t.conn.Close()
	}
}
