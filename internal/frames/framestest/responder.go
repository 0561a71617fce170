// Package framestest is a responder that speaks frames, for tests of those who
// send requests: each request runs a plain Go function that reads the body and
// writes the answer.
package framestest

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"bulkhead/internal/frames"
)

// Exchange is one request at the responder's end.
type Exchange struct {
	Request frames.Request // without body
	Body    io.Reader      // reading grants the requester leave to send more
	conn    *frames.Conn
	id      uint32

	mu     sync.Mutex
	cond   *sync.Cond
	credit int
	reset  error
	body   []byte // came, and is not read yet
	whole  bool   // no more of it will come

	trailers frames.Headers
}

// ErrReset is what writing returns once the requester has given up.
var ErrReset = errors.New("the requester reset the stream")

// Answer sends the answer's head with some of its body.
func (x *Exchange) Answer(status int, headers map[string]string, body string, end bool) {
	h := frames.AppendHeaderCount(nil)
	for name, value := range headers {
		h = frames.AppendHeaderLine(h, 0, []byte(name), []byte(value))
	}
	head := frames.Response{Status: status, Fields: frames.NoFields, Headers: h}.AppendHead(nil)
	x.send(frames.Frame{Type: frames.TypeResponse, End: end, Stream: x.id, Payload: append(head, body...)})
}

// Write sends more of the answer's body, as the window allows.
func (x *Exchange) Write(p []byte) (n int, err error) {
	for n < len(p) {
		x.mu.Lock()
		for x.credit == 0 && x.reset == nil {
			x.cond.Wait()
		}
		k := min(len(p)-n, x.credit, frames.MaxData)
		x.credit -= k
		err := x.reset
		x.mu.Unlock()
		if err != nil {
			return n, err
		}
		x.send(frames.Frame{Type: frames.TypeData, Stream: x.id, Payload: p[n : n+k]})
		n += k
	}
	return n, nil
}

// End ends the answer.
func (x *Exchange) End() { x.send(frames.Frame{Type: frames.TypeData, End: true, Stream: x.id}) }

// Trail ends the answer with trailers.
func (x *Exchange) Trail(h frames.Headers) {
	x.conn.Send(func(dst []byte) []byte { return frames.AppendTrailers(dst, x.id, h) })
}

// Trailers are those that came behind the request's body, which has been read.
func (x *Exchange) Trailers() frames.Headers {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.trailers
}

// Window grants the requester leave to send n bytes more.
func (x *Exchange) Window(n int) {
	x.conn.Send(func(dst []byte) []byte { return frames.AppendWindow(dst, x.id, n) })
}

// Reset gives the stream up.
func (x *Exchange) Reset(code frames.Code, reason string) {
	x.conn.Send(func(dst []byte) []byte { return frames.AppendReset(dst, x.id, code, reason) })
}

// Wait returns once the requester has given up.
func (x *Exchange) Wait() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.reset == nil {
		x.cond.Wait()
	}
	return x.reset
}

// HangUp closes the connection that the request came over.
func (x *Exchange) HangUp() { x.conn.Close() }

// GoAway refuses further requests on the connection.
func (x *Exchange) GoAway() { x.send(frames.Frame{Type: frames.TypeGoAway, Payload: []byte("test")}) }

func (x *Exchange) send(f frames.Frame) {
	x.conn.Send(func(dst []byte) []byte { return frames.Append(dst, f) })
}

// Listen answers requests on a unix socket, whose path it returns, until the
// test ends.
func Listen(t testing.TB, serve func(*Exchange)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "run.sock")
	ListenAt(t, socket, serve)
	return socket
}

// ListenAt is Listen on a socket of the caller's choice.
func ListenAt(t testing.TB, socket string, serve func(*Exchange)) {
	t.Helper()
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				r := &responder{conn: frames.NewConn(c, "runner"), open: map[uint32]*Exchange{}, serve: serve}
				r.conn.Serve(r)
				r.end(io.ErrUnexpectedEOF)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

type responder struct {
	conn  *frames.Conn
	serve func(*Exchange)
	mu    sync.Mutex
	open  map[uint32]*Exchange
	work  sync.WaitGroup
}

func (r *responder) Idle() { r.conn.Flush() }

func (r *responder) Frame(f frames.Frame) error {
	if f.Type == frames.TypeRequest {
		return r.begin(f)
	}
	r.mu.Lock()
	x := r.open[f.Stream]
	r.mu.Unlock()
	if x == nil {
		return nil
	}
	switch f.Type {
	case frames.TypeData:
		x.mu.Lock()
		x.body = append(x.body, f.Payload...)
		x.whole = f.End
		x.mu.Unlock()
		x.cond.Broadcast()
	case frames.TypeTrailers:
		x.mu.Lock()
		x.trailers, x.whole = append([]byte{}, f.Payload...), true
		x.mu.Unlock()
		x.cond.Broadcast()
	case frames.TypeWindow:
		x.mu.Lock()
		x.credit += frames.ParseWindow(f.Payload)
		x.mu.Unlock()
		x.cond.Broadcast()
	case frames.TypeReset:
		x.fail(ErrReset)
	}
	return nil
}

func (x *Exchange) fail(err error) {
	x.mu.Lock()
	x.reset = err
	x.mu.Unlock()
	x.cond.Broadcast()
}

func (r *responder) begin(f frames.Frame) error {
	f.Payload = append([]byte{}, f.Payload...)
	req, err := frames.ParseRequest(f.Payload)
	if err != nil {
		return err
	}
	x := &Exchange{Request: req, conn: r.conn, id: f.Stream, credit: frames.Window, body: req.Body, whole: f.End}
	x.cond, x.Body = sync.NewCond(&x.mu), bodyReader{x}
	r.mu.Lock()
	r.open[f.Stream] = x
	r.mu.Unlock()
	r.work.Go(func() { r.serve(x) })
	return nil
}

type bodyReader struct{ x *Exchange }

func (b bodyReader) Read(p []byte) (int, error) {
	x := b.x
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.body) == 0 && !x.whole && x.reset == nil {
		x.cond.Wait()
	}
	switch {
	case x.reset != nil:
		return 0, x.reset
	case len(x.body) == 0:
		return 0, io.EOF
	}
	n := copy(p, x.body)
	if x.body = x.body[n:]; !x.whole {
		x.conn.Send(func(dst []byte) []byte { return frames.AppendWindow(dst, x.id, n) })
	}
	return n, nil
}

func (r *responder) end(err error) {
	r.mu.Lock()
	for _, x := range r.open {
		x.fail(err)
	}
	r.mu.Unlock()
	r.work.Wait()
}
