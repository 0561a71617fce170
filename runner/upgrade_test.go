package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"bulkhead/cluster"
	"bulkhead/internal/etcd/etcdmem"
	"bulkhead/internal/frames"
	"bulkhead/proxy"
)

// through puts a host proxy before the rig and returns its address.
func (r *rig) through() string {
	addr, _ := r.throughProxy()
	return addr
}

// throughProxy returns what ends the proxy in so much time, too; the test's end
// does.
func (r *rig) throughProxy() (addr string, leave func(time.Duration) error) {
	r.t.Helper()
	log := slog.New(slog.DiscardHandler)
	table := proxy.NewTable("h1", log)
	r.route(table, log)
	p, err := proxy.New(table, proxy.Options{Host: "h1", Hold: time.Second, Access: io.Discard, Log: log})
	if err != nil {
		r.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Serve(ln) }()
	var once sync.Once
	leave = func(within time.Duration) (err error) {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), within)
			defer cancel()
			err = errors.Join(p.Shutdown(ctx), <-done)
		})
		return err
	}
	r.t.Cleanup(func() {
		if err := leave(time.Second); err != nil {
			r.t.Error(err)
		}
	})
	return ln.Addr().String(), leave
}

// route has a table say that the rig is acme's, as scheduler and agent would.
func (r *rig) route(table *proxy.Table, log *slog.Logger) {
	r.t.Helper()
	_, cli := etcdmem.New().Connect(r.t.Context(), etcdmem.Faults{})
	put := func(key string, value any) {
		data, err := json.Marshal(value)
		if err == nil {
			_, err = cli.Put(r.t.Context(), key, string(data))
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	put(cluster.RouteKey("h1", "acme.0"), cluster.Route{Tenant: "acme", Instance: "acme.0", Host: "h1"})
	put(cluster.InstanceKey("h1", "acme.0"), cluster.Instance{Tenant: "acme", Instance: "acme.0", Host: "h1", Phase: cluster.Ready, Endpoint: r.socket})
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		table.Follow(r.t.Context(), cli, filepath.Join(r.t.TempDir(), "routes.json"), log)
	}()
	r.t.Cleanup(func() { <-followed })
}

// wsEcho is a WebSocket server (RFC 6455) that sends each message back. A text
// message is an order: to close, or to end the process.
const wsEcho = `
const { createHash } = require('node:crypto');
module.exports = (ctx, req, res) => {
  const key = req.headers['sec-websocket-key'];
  if (key === undefined) { res.statusCode = 426; res.end('ask for websocket'); return; }
  const accept = createHash('sha1').update(key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  const s = req.socket;
  s.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ' + accept + '\r\n\r\n');
  const send = (op, data) => {
    const head = data.length < 126 ? Buffer.from([0x80 | op, data.length]) : Buffer.alloc(10);
    if (data.length >= 126) { head[0] = 0x80 | op; head[1] = 127; head.writeBigUInt64BE(BigInt(data.length), 2); }
    s.write(head); s.write(data);
  };
  let buf = Buffer.alloc(0);
  s.on('data', (chunk) => {
    buf = Buffer.concat([buf, chunk]);
    for (;;) {
      if (buf.length < 2) return;
      let n = buf[1] & 127, at = 2;
      if (n === 126) { if (buf.length < 4) return; n = buf.readUInt16BE(2); at = 4; }
      if (n === 127) { if (buf.length < 10) return; n = Number(buf.readBigUInt64BE(2)); at = 10; }
      if (buf.length < at + 4 + n) return;
      const mask = buf.subarray(at, at + 4), data = Buffer.from(buf.subarray(at + 4, at + 4 + n)), op = buf[0] & 15;
      for (let i = 0; i < n; i++) data[i] ^= mask[i & 3];
      buf = buf.subarray(at + 4 + n);
      if (op === 8) { send(8, data); s.end(); return; }
      if (op === 1 && data.toString() === 'flood') { const m = Buffer.alloc(1 << 20, 7); for (let i = 0; i < 8; i++) send(2, m); continue; }
      send(op, data);
    }
  });
  s.on('error', () => {});
};
`

func (r *rig) websocket(addr string) *websocket.Conn {
	r.t.Helper()
	dialer := websocket.Dialer{WriteBufferSize: 2 << 20} // a message a frame
	c, resp, err := dialer.DialContext(r.t.Context(), "ws://"+addr+"/acme/ws?key="+r.token, nil)
	if err != nil {
		r.t.Fatalf("%v %+v", err, resp)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func TestWebSocketFromARealClientToAFunction(t *testing.T) {
	r := newRig(t, cluster.Limits{Wall: cluster.Duration(time.Second), Body: 1000, Concurrency: 2})
	r.deploy("ws", wsEcho)
	addr := r.through()
	c := r.websocket(addr)
	other := r.websocket(addr)
	echo := func(c *websocket.Conn, kind int, data []byte) {
		t.Helper()
		if err := c.WriteMessage(kind, data); err != nil {
			t.Fatal(err)
		}
		got, back, err := c.ReadMessage()
		if err != nil || got != kind || !bytes.Equal(back, data) {
			t.Fatalf("%d bytes came back as %d, of kind %d: %v", len(data), len(back), got, err)
		}
	}
	echo(c, websocket.TextMessage, []byte("hello"))
	echo(c, websocket.BinaryMessage, bytes.Repeat([]byte("0123456789abcdef"), 1<<16)) // 1 MiB, over limits.body

	// A reader that does not read holds up its own function's writes, not the
	// other connection; and the wall clock has nothing to say by now.
	if err := other.WriteMessage(websocket.TextMessage, []byte("flood")); err != nil {
		t.Fatal(err)
	}
	wall := time.Now().Add(1500 * time.Millisecond)
	for time.Now().Before(wall) {
		echo(c, websocket.TextMessage, []byte("still here"))
	}
	for range 8 {
		if _, m, err := other.ReadMessage(); err != nil || len(m) != 1<<20 {
			t.Fatalf("the slow reader gets %d bytes, %v", len(m), err)
		}
	}
	if o := <-r.ask("ws", "GET", "third"); o.status != 429 {
		t.Fatalf("upgraded requests are in flight still: %+v", o)
	}

	if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "")); err != nil {
		t.Fatal(err)
	}
	var closed *websocket.CloseError
	if _, _, err := c.ReadMessage(); !errors.As(err, &closed) || closed.Code != 1000 {
		t.Fatalf("closed with %v", err)
	}
	r.awaitCalls("ws", 1)
	other.NetConn().Close() // without a word
	r.awaitCalls("ws", 0)
}

func TestUpgradedRequestsEndWhenTheRunnerDrains(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("ws", wsEcho)
	c := r.websocket(r.through())
	r.runner.endUpgraded() // as Drain has it after a while
	var closed *websocket.CloseError
	if _, _, err := c.ReadMessage(); !errors.As(err, &closed) || closed.Code != websocket.CloseGoingAway {
		t.Fatalf("the connection ends with %v, want it to say that the other end goes away", err)
	}
	r.awaitCalls("ws", 0)
}

func TestWebSocketsAreToldThatTheProxyLeaves(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("ws", wsEcho)
	addr, leave := r.throughProxy()
	c := r.websocket(addr)
	// It has hardly any time left: maybe too little to see that the HTTP server has
	// handed the connection over, which it then says. The client is told all the same.
	if err := leave(10 * time.Millisecond); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	var closed *websocket.CloseError
	if _, _, err := c.ReadMessage(); !errors.As(err, &closed) || closed.Code != websocket.CloseGoingAway {
		t.Fatalf("the connection ends with %v, want it to say that the other end goes away", err)
	}
	r.awaitCalls("ws", 0)
}

func TestUpgradeThatIsNotTakenIsAnAnswer(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", `module.exports = (ctx, cb) => cb(null, 'no');`)
	_, resp, err := websocket.DefaultDialer.Dial("ws://"+r.through()+"/acme/f?key="+r.token, nil)
	if err == nil || resp == nil || resp.StatusCode != 200 {
		t.Fatalf("got %v %v", resp, err)
	}
}

func TestFunctionMayNotUpgradeWhatDidNotAsk(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", raw+`module.exports = (ctx, req, res) => write(frame(3, 0, 1, Buffer.from([101, 0, 0, 0, 0])));`)
	s, err := r.Open(r.request("f", r.token, "GET", ""), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	head, err := s.Response(t.Context())
	if err == nil && head.Status == 101 || errors.Is(err, frames.ErrProtocol) {
		t.Fatalf("got %d %v", head.Status, err)
	}
}
