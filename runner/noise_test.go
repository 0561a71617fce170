package runner

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
)

// polite answers every request with 200.
type polite struct{ *frames.Conn }

func (p polite) Idle() { p.Flush() }

func (p polite) Frame(f frames.Frame) error {
	if f.Type != frames.TypeRequest {
		return nil
	}
	head := frames.Response{Status: 200}.AppendHead(nil)
	return p.QueueFrame(frames.Frame{Type: frames.TypeResponse, End: true, Stream: f.Stream, Payload: head})
}

// noiseRig is a rig before speakers: victim is polite, evil what it likes.
type noiseRig struct {
	*rig
	cell *speakers
}

func newNoiseRig(t *testing.T, evil func(net.Conn)) noiseRig {
	t.Helper()
	dir, err := os.MkdirTemp("", "noise")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := noiseRig{rig: &rig{t: t, dir: dir, socket: filepath.Join(dir, "run.sock"), config: cluster.RunnerConfig{
		Tenant: "acme", Instance: "acme.0", Limits: cluster.Limits{Wall: cluster.Duration(100 * time.Millisecond)},
		Keys: []cluster.Key{{KID: "k1", Alg: "HS256", Secret: secret}},
	}}}
	r.token = r.sign(m{})
	if err := os.Mkdir(filepath.Join(dir, "functions"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.cell = newSpeakers(t, dir, map[string]func(net.Conn){
		"victim": func(c net.Conn) { conn := frames.NewConn(c, "function"); conn.Serve(polite{conn}) },
		"evil":   evil,
	})
	r.runner, err = New(r.config, Options{Functions: filepath.Join(dir, "functions"), Cell: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	go r.runner.Serve(ln)
	t.Cleanup(func() { ln.Close(); r.runner.Close() })
	r.Client = r.dial("proxy")
	r.deploy("victim", "x")
	r.deploy("evil", "x")
	return r
}

func TestNoiseOfAProcessHarmsNobodyElse(t *testing.T) {
	var mu sync.Mutex
	noise := framestest.NewNoise(t, "../internal/frames/testdata", 1)
	r := newNoiseRig(t, func(c net.Conn) {
		b := make([]byte, 4096)
		c.Read(b)
		mu.Lock()
		said := noise.Frames("function")
		mu.Unlock()
		c.Write(said)
		c.Read(b)
	})
	for round := range 60 {
		var pending []<-chan outcome
		for i := range 3 {
			pending = append(pending, r.ask("evil", []string{"GET", "POST"}[i%2], fmt.Sprint(i)))
		}
		if o := <-r.ask("victim", "GET", "quick"); o.status != 200 {
			t.Fatalf("round %d: the victim gets %+v", round, o)
		}
		for _, o := range pending {
			if o := <-o; o.err == nil && (o.status < 200 || o.status > 999) {
				t.Fatalf("round %d: got %+v", round, o)
			}
		}
		r.runner.mu.Lock()
		if r.runner.calls != 0 || r.runner.held != 0 || len(r.runner.crashes) > 1 {
			t.Fatalf("round %d: %d calls and %d bytes are left", round, r.runner.calls, r.runner.held)
		}
		delete(r.runner.crashes, "evil")
		r.runner.mu.Unlock()
	}
}

func TestNoiseOfAProxyHarmsNobodyElse(t *testing.T) {
	noise := framestest.NewNoise(t, "../internal/frames/testdata", 2)
	r := newNoiseRig(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	for round := range 60 {
		c, err := net.Dial("unix", r.socket)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(append(append(frames.AppendHello(nil, "proxy"), good(r)...), noise.Frames("proxy")...))
		if o := <-r.ask("victim", "GET", "quick"); o.status != 200 {
			t.Fatalf("round %d: the victim gets %+v", round, o)
		}
		c.Close()
	}
	for { // the last connections' requests go with them
		r.runner.mu.Lock()
		calls := r.runner.calls
		r.runner.mu.Unlock()
		if calls == 0 {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("%d calls are left", calls)
		}
	}
}

// good is a request that is let in, so that noise may follow it on its stream.
func good(r noiseRig) []byte {
	req := r.request("evil", r.token, "POST", "x")
	payload := append(req.AppendHead(nil), req.Body...)
	return frames.Append(nil, frames.Frame{Type: frames.TypeRequest, Stream: 1, Payload: payload})
}
