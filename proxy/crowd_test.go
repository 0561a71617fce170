package proxy

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"bulkhead/cluster"
	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
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

// Tenants whose answers are faster than the network between two hosts fill what
// may wait on their connection: another's small answer still gets through.
func TestFastAnswersLeaveRoomForSmallOnes(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	const streams = peerBacklog/frames.Window + 150
	full := make(chan struct{}, streams)
	for n := range 16 { // of which none has more to send than may wait on its own connection
		f.place("h2", cluster.InstanceName("bulk", n), func(x *framestest.Exchange) {
			x.Answer(200, nil, "", false)
			x.Write(make([]byte, frames.Window))
			full <- struct{}{}
		})
	}
	answered := make(chan struct{})
	f.place("h2", "acme.0", func(x *framestest.Exchange) {
		x.Answer(200, nil, "small", true)
		close(answered)
	})
	c, err := f.hosts["h1"].proxy.peerTLS.dial(t.Context(), "h2", f.hosts["h2"].address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func(id uint32, tenant string) []byte {
		fields := frames.AppendField(append([]byte{}, frames.NoFields...), 0, frames.FieldTenant, []byte(tenant))
		head := frames.Request{Fields: fields, Method: []byte("GET"), Target: []byte("/" + tenant + "/x")}.AppendHead(nil)
		return frames.Append(nil, frames.Frame{Type: frames.TypeRequest, End: true, Stream: id, Payload: head})
	}
	out := frames.AppendHello(nil, "proxy")
	for id := range uint32(streams) {
		out = append(out, ask(id+1, "bulk")...)
	}
	c.Write(out)
	for range streams {
		<-full
	}
	f.hosts["h2"].proxy.inbounds.each(func(in *inbound) {
		for in.conn.Queue(func(dst []byte) []byte { return dst }) == nil { // until more waits than may
			runtime.Gosched()
		}
	})
	c.Write(ask(streams+1, "acme"))
	<-answered
	in := frames.NewConn(c, "proxy")
	got := make(chan frames.Frame, 1)
	broken := 0
	go in.Serve(frameFunc(func(f frames.Frame) error {
		if f.Type == frames.TypeReset {
			broken++
		}
		if f.Stream == streams+1 {
			got <- frames.Frame{Type: f.Type, Payload: bytes.Clone(f.Payload)}
			return io.EOF
		}
		return nil
	}))
	if f := <-got; f.Type != frames.TypeResponse {
		t.Errorf("the small answer is a %v: %q", f.Type, f.Payload)
	}
	if broken == 0 {
		t.Error("all of the large ones fit: this shows nothing")
	}
}

type frameFunc func(frames.Frame) error

func (f frameFunc) Frame(frame frames.Frame) error { return f(frame) }

func (f frameFunc) Idle() {}
