package proxy

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"bulkhead/cluster"
	"bulkhead/internal/frames/framestest"
)

// hostile listens as a runner that says what it likes.
func hostile(t *testing.T, say func() []byte) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				c.Read(b)
				c.Write(say())
			}()
		}
	}()
	return socket
}

func TestNoiseOfARunnerHarmsNobodyElse(t *testing.T) {
	noise := framestest.NewNoise(t, "../internal/frames/testdata", 3)
	var mu sync.Mutex
	evil := hostile(t, func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return noise.Frames("runner")
	})
	p := start(t, func(x *framestest.Exchange) { x.Answer(200, nil, "ok", true) })
	victim := p.table.tenants["acme"].choices[here][0].id.endpoint
	set(p.table, ready(victim), cluster.Instance{Tenant: "evil", Instance: "evil.0", Host: "h1", Phase: cluster.Ready, Endpoint: evil})
	requests := []string{
		"GET /evil/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"POST /evil/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-T: 1\r\n\r\n",
		"GET /evil/x HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n",
		"POST /evil/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody",
	}
	for round := range 200 {
		c := dial(t, p, requests[round%len(requests)])
		c.CloseWrite()
		// Any sound answer will do, or none.
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
			io.Copy(io.Discard, resp.Body)
		}
		c.Close()
		if resp, body := answer(t, dial(t, p, "GET /acme/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")); resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("round %d: the victim gets %d %q", round, resp.StatusCode, body)
		}
	}
}

func TestNoiseOfAClientHarmsNobodyElse(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		x.Window(0)
		if x.Request.Headers.Get("upgrade") == nil { // such a request's body has no end
			io.Copy(io.Discard, x.Body)
		}
		x.Answer(200, nil, "ok", true)
	})
	sound := []string{
		"GET /acme/x HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /acme/x?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
		"POST /acme/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n4\r\nbody\r\n0\r\nX-T: 1\r\n\r\n",
		"POST /acme/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody",
		"GET /acme/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	}
	random := rand.New(rand.NewPCG(4, 4))
	for round := range 150 {
		raw := []byte(fmt.Sprint(sound[random.IntN(len(sound))], sound[random.IntN(len(sound))]))
		for range random.IntN(4) {
			raw[random.IntN(len(raw))] = byte(random.Uint32())
		}
		c := dial(t, p, string(raw[:len(raw)-random.IntN(8)]))
		c.CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
		if resp, body := answer(t, dial(t, p, "GET /acme/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")); resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("round %d: after %q the next gets %d %q", round, raw, resp.StatusCode, body)
		}
	}
}
