package proxy

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"bulkhead/internal/frames"
)

// greeted is a connection to a host's proxy, as another's makes them, which has
// been taken: its HELLO is here.
func (f *fleet) greeted(from, to string) net.Conn {
	f.t.Helper()
	c, err := f.hosts[from].proxy.peerTLS.dial(f.t.Context(), to, f.hosts[to].address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	hello := frames.AppendHello(nil, "proxy")
	if _, err := io.ReadFull(c, make([]byte, len(hello))); err != nil {
		f.t.Fatal(err)
	}
	return c
}

func TestHostHasSoManyConnectionsAndNoMore(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	f.place("h2", "acme.0", says("ok"))
	get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil))
	oldest := f.greeted("h3", "h2")
	for range peerConns {
		f.greeted("h3", "h2")
	}
	if n, err := oldest.Read(make([]byte, 1)); err == nil {
		t.Errorf("the oldest of %d connections gives %d bytes, want it closed", peerConns+1, n)
	}
	if resp, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil)); resp.StatusCode != 200 || body != "ok" {
		t.Errorf("another host gets %d %q", resp.StatusCode, body)
	}
}

// crowded is a listener that has no room for its first connections.
type crowded struct {
	net.Listener
	mu   sync.Mutex
	errs []error
}

func (c *crowded) Accept() (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.errs) > 0 {
		err := c.errs[0]
		c.errs = c.errs[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: err}
	}
	return c.Listener.Accept()
}

func TestWantOfFileDescriptorsEndsNoListener(t *testing.T) {
	f := newFleet(t, "h1")
	f.start("h2", Options{Peers: f.ca.peer("h2")}, &crowded{Listener: listen(t, "127.0.0.1:0"), errs: []error{syscall.EMFILE, syscall.ECONNABORTED}})
	f.place("h2", "acme.0", says("ok"))
	if resp, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil)); resp.StatusCode != 200 || body != "ok" {
		t.Fatalf("got %d %q", resp.StatusCode, body)
	}
}
