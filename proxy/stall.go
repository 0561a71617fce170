package proxy

import (
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// stallListener's connections fail when a client stops reading its answer. A
// limit on the whole answer would cut off long streams.
type stallListener struct{ net.Listener }

// Accept waits for the next connection.
func (l stallListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	_, secure := c.(*tls.Conn)
	return &stallConn{Conn: c, secure: secure}, nil
}

type stallConn struct {
	net.Conn
	secure bool      // over TLS
	armed  time.Time // when the write deadline was last moved on
	ended  bool      // the client has closed its side; the reader's own

	expecting atomic.Pointer[exchange] // let in, and waiting for its body
	unread    atomic.Bool              // the client is still sending what nobody wants
}

// Close ends the connection, and a request on it whose body has not come.
func (c *stallConn) Close() error {
	if x := c.expecting.Swap(nil); x != nil {
		x.forsake()
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.unread.Load() {
		go c.linger(half.CloseWrite)
		return nil
	}
	return c.Conn.Close()
}

// What a client may go on sending after its answer, and for how long.
const (
	lingerTime  = 2 * time.Second
	lingerBytes = 64 << 20
)

// linger closes the connection once the client has seen the end of its answer:
// to close it with bytes unread would reset it, and the answer's last bytes
// would be lost on their way (RFC 9112, section 9.6).
func (c *stallConn) linger(closeWrite func() error) {
	defer c.Conn.Close()
	if closeWrite() != nil || c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	io.CopyN(io.Discard, c.Conn, lingerBytes)
}

// NetConn returns the connection beneath.
func (c *stallConn) NetConn() net.Conn { return c.Conn }

// Read notes the end of what the client sends: fasthttp does not tell a chunked
// body's end from it.
func (c *stallConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.ended = c.ended || err == io.EOF
	return n, err
}

// Write fails when the client has taken nothing for writeStall.
func (c *stallConn) Write(p []byte) (int, error) {
	// A deadline is moved on at most once a second: it costs as much as a
	// small write does.
	if now := time.Now(); now.Sub(c.armed) > time.Second {
		c.armed = now
		if err := c.Conn.SetWriteDeadline(now.Add(writeStall)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}
