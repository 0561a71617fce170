package frames

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test with time of its own, in which it must not meet streams of
// another bubble: their channels belong to that.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	streams = sync.Pool{New: streams.New}
	synctest.Test(t, f)
	streams = sync.Pool{New: streams.New}
}

// speaker is the other side of a client, by hand.
func speaker(t *testing.T) (*Client, net.Conn) {
	a, b := net.Pipe()
	c := NewClient(a, "proxy")
	t.Cleanup(func() { b.Close(); c.Close() })
	return c, b
}

func TestPeerThatFallsSilentIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, far := speaker(t)
		go io.Copy(io.Discard, far)
		begun := time.Now()
		far.Write(AppendHello(nil, "proxy"))
		if err := c.Greeted(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := c.Open(Request{Method: []byte("GET"), Target: []byte("/")}, true)
		if err != nil {
			t.Fatal(err)
		}
		c.StayAlive(time.Second, 3*time.Second)
		time.Sleep(2500 * time.Millisecond)
		far.Write(Append(nil, Frame{Type: TypePong, Payload: make([]byte, 8)}))
		_, err = s.Response(t.Context())
		if !errors.Is(err, ErrSilent) || !errors.Is(err, ErrClosed) || errors.Is(err, ErrRefused) {
			t.Errorf("its request ends with %v", err)
		}
		if silent := time.Since(begun); silent != 6*time.Second {
			t.Errorf("it was given up after %v, want 6 s: 3 after the tick that heard it", silent)
		}
		s.Close()
	})
}

func TestPeerThatAnswersIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, far := speaker(t)
		far2 := NewConn(far, "proxy")
		done := make(chan error, 1)
		go func() { done <- far2.Serve(ignore{}) }()
		far2.Flush()
		c.StayAlive(time.Second, 3*time.Second)
		time.Sleep(time.Hour)
		if !c.Usable() {
			t.Error(c.Err())
		}
		c.Close()
		<-done
	})
}

type ignore struct{}

func (ignore) Frame(Frame) error { return nil }
func (ignore) Idle()             {}

// What waits behind a write that never ends has not left.
func TestRequestThatNeverLeftIsRefusedUnseen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, far := speaker(t)
		open := func() *Stream {
			s, err := c.Open(Request{Method: []byte("GET"), Target: []byte("/")}, true)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return s
		}
		first, second := open(), open() // nobody reads: the first is being written
		far.Close()
		_, err := first.Response(t.Context())
		if !errors.Is(err, ErrClosed) || errors.Is(err, ErrRefused) {
			t.Errorf("the first ends with %v: it may have been seen", err)
		}
		if _, err = second.Response(t.Context()); !errors.Is(err, ErrRefused) {
			t.Errorf("the second ends with %v", err)
		}
		first.Close()
		second.Close()
	})
}

func TestLeavingClientFinishesItsStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, far := speaker(t)
		go io.Copy(io.Discard, far)
		s, err := c.Open(Request{Method: []byte("GET"), Target: []byte("/")}, true)
		if err != nil {
			t.Fatal(err)
		}
		c.Leave()
		if _, err := c.Open(Request{Method: []byte("GET"), Target: []byte("/")}, true); !errors.Is(err, ErrRefused) {
			t.Errorf("another request: %v", err)
		}
		head := Response{Status: 200, Fields: NoFields}.AppendHead(nil)
		far.Write(Append(AppendHello(nil, "proxy"), Frame{Type: TypeResponse, End: true, Stream: 1, Payload: head}))
		if r, err := s.Response(t.Context()); err != nil || r.Status != 200 {
			t.Errorf("got %v %v", r, err)
		}
		<-c.Done()
		s.Close()
	})
}

func TestEndOfAStreamIsQueuedAlthoughTooMuchWaits(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := NewConn(near, "proxy")
	defer c.Close()
	c.Backlog = 100
	for c.QueueFrame(Frame{Type: TypeData, Stream: 1, Payload: make([]byte, 60)}) == nil {
	}
	if err := c.QueueReset(1, CodeGone, "too much"); err != nil {
		t.Errorf("the end of the stream is not: %v", err)
	}
	if err := c.QueueFrame(Frame{Type: TypeData, Stream: 1}); !errors.Is(err, ErrBacklog) {
		t.Errorf("more of it: %v", err)
	}
}

// whoRefuses ends every stream that is opened.
type whoRefuses struct{ conn *Conn }

func (w whoRefuses) Idle() { w.conn.Flush() }

func (w whoRefuses) Frame(f Frame) error {
	if f.Type == TypeRequest {
		w.conn.QueueReset(f.Stream, CodeRefused, "nobody of that name is here")
	}
	return nil
}

func TestPeerThatAsksAndNeverReadsLosesItsConnection(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := NewConn(near, "proxy")
	served := make(chan error, 1)
	go func() { served <- c.Serve(whoRefuses{c}) }()
	ask := AppendHello(nil, "proxy")
	for id := range uint32(1000) {
		ask = Append(ask, Frame{Type: TypeRequest, End: true, Stream: id + 1, Payload: Request{Method: []byte("GET")}.AppendHead(nil)})
	}
	asked := 0
	for _, err := far.Write(ask); err == nil; _, err = far.Write(ask[len(AppendHello(nil, "proxy")):]) {
		if asked += 1000; asked > 1_000_000 {
			t.Fatal("a million answers wait, and it may still ask")
		}
	}
	if err := <-served; !errors.Is(err, ErrBacklog) {
		t.Errorf("the connection ended with %v, want %v", err, ErrBacklog)
	}
}
