package runner

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bulkhead/internal/cellctl"
)

// speakers is a cell whose function processes are Go functions: what a process
// says after it has been taken over, no real one would.
type speakers struct {
	t    *testing.T
	dir  string
	mu   sync.Mutex
	next int
	all  []io.Closer

	heard   chan cellctl.Request // what it is asked, but for serving
	control net.Conn             // the last that asked
}

func newSpeakers(t *testing.T, dir string, serve map[string]func(net.Conn)) *speakers {
	t.Helper()
	s := &speakers{t: t, dir: dir, heard: make(chan cellctl.Request, 100)}
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.all {
			c.Close()
		}
	})
	s.listen("control.sock", func(c net.Conn) {
		s.mu.Lock()
		s.control = c
		s.mu.Unlock()
		in, out := json.NewDecoder(c), json.NewEncoder(c)
		for {
			var r cellctl.Request
			if in.Decode(&r) != nil {
				return
			}
			a := cellctl.Reply{ID: r.ID}
			if r.Op == "serve" {
				a.Socket = s.listen("", serve[r.Function])
			} else {
				s.heard <- r
			}
			if r.Op == "inquest" {
				a.Exit = &cellctl.Exit{Signal: "SIGKILL", Reason: "gone"}
			}
			out.Encode(a)
		}
	})
	return s
}

// judge sends a verdict on the process that serves a function.
func (s *speakers) judge(r *Runner, function string, v cellctl.Verdict) {
	r.mu.Lock()
	socket := filepath.Base(r.processes[function].socket)
	r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	json.NewEncoder(s.control).Encode(cellctl.Event{Event: "verdict", Function: function, Socket: socket, Verdict: &v})
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

func TestVerdictThatNamesNobody(t *testing.T) {
	r := newNoiseRig(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	r.runner.config.Limits.Wall = 0
	storm := cellctl.Verdict{Kind: "storm", Limit: 10000, Measured: 10012}

	safe, unsafe := r.ask("evil", "GET", "safe"), r.ask("evil", "POST", "unsafe")
	r.awaitCalls("evil", 2)
	r.cell.judge(r.runner, "evil", storm)
	r.awaitCalls("evil", 1) // what may be is asked again, of another process
	select {
	case o := <-unsafe:
		t.Errorf("the one that may not be asked twice, and may yet be answered: %+v", o)
	default:
	}
	r.cell.judge(r.runner, "evil", cellctl.Verdict{Kind: "stall", Limit: 1000, Measured: 3100, Request: "safe", Where: "f.js:1:2", Killed: true, Native: true})
	if o := <-safe; o.status != 508 || o.json.Error != "block_limit" || o.json.Where != "f.js:1:2" || !strings.Contains(o.json.Message, "native call") {
		t.Errorf("the other, that was named later: %+v", o)
	}
}

func TestProcessThatNoWatchdogStopsIsEndedAfterTheWallClock(t *testing.T) {
	r := newNoiseRig(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	if o := <-r.ask("evil", "GET", "x"); o.status != 504 {
		t.Fatalf("got %+v", o)
	}
	for q := range r.cell.heard {
		if q.Op == "kill" {
			if q.Function != "evil" || !strings.Contains(q.Reason, "event loop") {
				t.Fatalf("got %+v", q)
			}
			return
		}
	}
}
