package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// EchoSource is a function that is a WebSocket server (RFC 6455) which sends
// every message back.
const EchoSource = `const { createHash } = require('node:crypto');
module.exports = (ctx, req, res) => {
  const key = req.headers['sec-websocket-key'];
  if (!key) { res.statusCode = 426; res.end(); return; }
  const s = req.socket, accept = createHash('sha1').update(key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  s.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ' + accept + '\r\n\r\n');
  let have = Buffer.alloc(0);
  s.on('error', () => {});
  s.on('data', (more) => {
    have = Buffer.concat([have, more]);
    while (have.length >= 6 && have.length >= 6 + (have[1] & 127)) { // clients' messages here are short, and masked
      const size = have[1] & 127, mask = have.subarray(2, 6), data = Buffer.from(have.subarray(6, 6 + size));
      for (let i = 0; i < size; i++) data[i] ^= mask[i & 3];
      s.write(Buffer.concat([Buffer.from([have[0], size]), data]));
      if ((have[0] & 15) === 8) { s.end(); return; }
      have = have.subarray(6 + size);
    }
  });
};`

// EchoResult is what became of WebSockets.
type EchoResult struct {
	Echoes int
	Told   int      // connections that were closed with 1001: the other end goes away
	Broken []string // or in any other way, or not made
}

func (r EchoResult) String() string {
	return fmt.Sprintf("%d echoes, %d connections closed with 1001, %d broken", r.Echoes, r.Told, len(r.Broken))
}

// Echoes are WebSockets that go on until Stop. One that is closed is opened
// again.
type Echoes struct {
	cancel context.CancelFunc
	work   sync.WaitGroup
	turns  *turns
	mu     sync.Mutex
	result EchoResult
}

// StartEchoes opens n WebSockets, on each of which a message is sent every so
// often. It ends with Stop, which must be called, or ctx.
func StartEchoes(ctx context.Context, proxies []string, c Call, n int, every time.Duration) *Echoes {
	ctx, cancel := context.WithCancel(ctx)
	e := &Echoes{cancel: cancel, turns: newTurns(ctx, proxies)}
	for i := range n {
		e.work.Go(func() {
			for turn := i; ctx.Err() == nil; turn++ {
				e.one(ctx, e.turns.next(turn), c, every)
			}
		})
	}
	return e
}

// one is the life of one connection.
func (e *Echoes) one(ctx context.Context, proxy string, c Call, every time.Duration) {
	header := http.Header{"Authorization": {"Bearer " + c.Token}}
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(proxy, "http")+c.Path, header)
	if err != nil {
		e.broke(ctx, proxy, fmt.Errorf("cannot open: %w (%+v)", err, resp))
		return
	}
	defer conn.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		word := fmt.Sprint(n)
		_ = conn.WriteMessage(websocket.TextMessage, []byte(word)) // reading says why not
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		_, got, err := conn.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed) && closed.Code == websocket.CloseGoingAway:
			e.mu.Lock()
			e.result.Told++
			e.mu.Unlock()
			return
		case err == nil && string(got) != word:
			err = fmt.Errorf("%q came back as %q", word, got)
		}
		if err != nil {
			e.broke(ctx, proxy, err)
			return
		}
		e.mu.Lock()
		e.result.Echoes++
		e.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (e *Echoes) broke(ctx context.Context, proxy string, err error) {
	if ctx.Err() != nil {
		return
	}
	e.mu.Lock()
	e.result.Broken = append(e.result.Broken, fmt.Sprintf("%s %s: %v", time.Now().Format("15:04:05.000"), proxy, err))
	e.mu.Unlock()
	select { // not faster than a client would
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
}

// Stop ends the connections.
func (e *Echoes) Stop() EchoResult {
	e.cancel()
	e.work.Wait()
	e.turns.work.Wait()
	return e.result
}
