package frames

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// echo answers each request with its own body, chunk by chunk as it comes,
// within the window that the other side grants.
type echo struct {
	conn    *Conn
	credit  map[uint32]int
	waiting map[uint32][]byte
	ended   map[uint32]bool
	resets  chan Code
}

func (e *echo) Idle() { e.conn.Flush() }

func (e *echo) Frame(f Frame) error {
	switch f.Type {
	case TypeRequest:
		r, err := ParseRequest(f.Payload)
		if err != nil {
			return err
		}
		if string(r.Target) == "/refuse" {
			return e.conn.Queue(func(dst []byte) []byte { return AppendReset(dst, f.Stream, CodeRefused, "not now") })
		}
		if string(r.Target) == "/close" {
			return errors.New("asked to close")
		}
		e.credit[f.Stream] = Window
		e.ended[f.Stream] = f.End
		head := Response{Status: 200, Fields: NoFields, Headers: AppendHeaderCount(nil)}.AppendHead(nil)
		e.conn.QueueFrame(Frame{Type: TypeResponse, Stream: f.Stream, Payload: head})
		e.waiting[f.Stream] = append([]byte{}, r.Body...)
		return e.push(f.Stream, len(r.Body))
	case TypeData:
		e.waiting[f.Stream] = append(e.waiting[f.Stream], f.Payload...)
		e.ended[f.Stream] = f.End
		return e.push(f.Stream, len(f.Payload))
	case TypeWindow:
		e.credit[f.Stream] += ParseWindow(f.Payload)
		return e.push(f.Stream, 0)
	case TypeReset:
		code, _ := ParseReset(f.Payload)
		e.resets <- code
	}
	return nil
}

func (e *echo) push(id uint32, took int) error {
	if took > 0 && !e.ended[id] {
		e.conn.Queue(func(dst []byte) []byte { return AppendWindow(dst, id, took) })
	}
	for w := e.waiting[id]; ; w = e.waiting[id] {
		n := min(len(w), e.credit[id], MaxData)
		end := e.ended[id] && n == len(w)
		if n == 0 && !end {
			return nil
		}
		e.credit[id] -= n
		e.conn.QueueFrame(Frame{Type: TypeData, End: end, Stream: id, Payload: w[:n]})
		if e.waiting[id] = w[n:]; end {
			return nil
		}
	}
}

// connect makes a real unix connection and returns both its ends.
func connect(t testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// pair is a client and the echo that it talks to.
func pair(t testing.TB) (*Client, *echo) {
	t.Helper()
	c, s := connect(t)
	e := &echo{conn: NewConn(s, "runner"), credit: map[uint32]int{}, waiting: map[uint32][]byte{}, ended: map[uint32]bool{}, resets: make(chan Code, 64)}
	done := make(chan struct{})
	go func() { e.conn.Serve(e); close(done) }()
	client := NewClient(c, "proxy")
	t.Cleanup(func() { client.Close(); <-done })
	return client, e
}

func request(target string, body []byte) Request {
	return Request{Fields: NoFields, Method: []byte("POST"), Target: []byte(target), Headers: AppendHeaderCount(nil), Body: body}
}

func TestManyStreamsAtOnceGetTheirOwnAnswers(t *testing.T) {
	c, _ := pair(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			want := fmt.Sprintf("body %d", i)
			status, got, err := c.Do(t.Context(), request("/", []byte(want)), 100)
			if err != nil || status != 200 || string(got) != want {
				t.Errorf("got %d %q %v, want %q", status, got, err, want)
			}
		})
	}
	wg.Wait()
}

func TestBodyFarBeyondTheWindowArrivesWhole(t *testing.T) {
	c, _ := pair(t)
	want := make([]byte, 5<<20)
	rand.Read(want)
	s, err := c.Open(request("/", want[:1000]), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sent := make(chan error, 1)
	go func() { sent <- s.Write(t.Context(), want[1000:], true) }()
	var got []byte
	for {
		chunk, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if chunk == nil {
			break
		}
		got = append(got, chunk...)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, want %d, or they differ", len(got), len(want))
	}
}

func TestStreamThatIsGivenUpIsReset(t *testing.T) {
	c, e := pair(t)
	s, err := c.Open(request("/", nil), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Response(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if code := <-e.resets; code != CodeCancelled {
		t.Fatalf("reset with code %d", code)
	}
}

func TestRefusedStreamMaySafelyGoElsewhere(t *testing.T) {
	c, _ := pair(t)
	if _, _, err := c.Do(t.Context(), request("/refuse", nil), 1); !errors.Is(err, ErrRefused) {
		t.Fatalf("got %v", err)
	}
}

func TestConnectionThatEndsFailsItsStreamsAndRefusesNewOnes(t *testing.T) {
	c, _ := pair(t)
	if _, _, err := c.Do(t.Context(), request("/close", nil), 1); !errors.Is(err, ErrClosed) || errors.Is(err, ErrRefused) {
		t.Fatalf("in flight: got %v", err)
	}
	<-c.Done()
	if _, _, err := c.Do(t.Context(), request("/", nil), 1); !errors.Is(err, ErrRefused) {
		t.Fatalf("afterwards: got %v", err)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	c, _ := pair(t)
	s, err := c.Open(request("/", nil), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("client went away"))
	if _, err := s.Next(ctx); err == nil || err.Error() != "client went away" {
		t.Fatalf("got %v", err)
	}
}

// mute never reads: what is sent to it stays.
func TestPeerThatDoesNotReadNeverBlocksASender(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := NewConn(nc, "runner")
	defer c.Close()
	f := Frame{Type: TypeData, Stream: 1, Payload: make([]byte, MaxData)}
	for range 1000 {
		err = c.Send(func(dst []byte) []byte { return Append(dst, f) })
		if err != nil {
			break
		}
	}
	if !errors.Is(err, ErrBacklog) {
		t.Fatalf("got %v, want ErrBacklog", err)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	c, _ := pair(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := c.Do(b.Context(), request("/", []byte("hello")), 100); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
