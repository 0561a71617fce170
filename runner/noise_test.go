package runner

import (
	"encoding/json"
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
	"bulkhead/internal/cellctl"
	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
)

// speakers is a cell whose function processes are Go functions: what a process
// says after it has been taken over, no real one would.
type speakers struct {
	t    *testing.T
	dir  string
	mu   sync.Mutex
	next int
	all  []io.Closer
}

func newSpeakers(t *testing.T, dir string, serve map[string]func(net.Conn)) {
	t.Helper()
	s := &speakers{t: t, dir: dir}
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.all {
			c.Close()
		}
	})
	s.listen("control.sock", func(c net.Conn) {
		in, out := json.NewDecoder(c), json.NewEncoder(c)
		for {
			var r cellctl.Request
			if in.Decode(&r) != nil {
				return
			}
			a := cellctl.Reply{ID: r.ID}
			if r.Op == "serve" {
				a.Socket = s.listen("", serve[r.Function])
			}
			if r.Op == "inquest" {
				a.Exit = &cellctl.Exit{Signal: "SIGKILL", Reason: "gone"}
			}
			out.Encode(a)
		}
	})
}

func (s *speakers) listen(name string, serve func(net.Conn)) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next++; name == "" {
		name = fmt.Sprintf("f.%d.sock", s.next)
	}
	ln, err := net.Listen("unix", filepath.Join(s.dir, name))
	if err != nil {
		s.t.Error(err)
		return ""
	}
	s.all = append(s.all, ln)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.all = append(s.all, c)
			s.mu.Unlock()
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	return name
}

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

func newNoiseRig(t *testing.T, evil func(net.Conn)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "noise")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, socket: filepath.Join(dir, "run.sock"), config: cluster.RunnerConfig{
		Tenant: "acme", Instance: "acme.0", Limits: cluster.Limits{Wall: cluster.Duration(100 * time.Millisecond)},
		Keys: []cluster.Key{{KID: "k1", Alg: "HS256", Secret: secret}},
	}}
	r.token = r.sign(m{})
	if err := os.Mkdir(filepath.Join(dir, "functions"), 0o700); err != nil {
		t.Fatal(err)
	}
	newSpeakers(t, dir, map[string]func(net.Conn){
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
func good(r *rig) []byte {
	req := r.request("evil", r.token, "POST", "x")
	payload := append(req.AppendHead(nil), req.Body...)
	return frames.Append(nil, frames.Frame{Type: frames.TypeRequest, Stream: 1, Payload: payload})
}
