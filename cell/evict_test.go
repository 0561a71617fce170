package cell

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/internal/frames"
)

// One that takes long to leave does not keep an idle one in its place: a third
// function is served as soon as that one has gone.
func TestEvictionBesideALongLeaver(t *testing.T) {
	c := startTestCell(t, "BULKHEAD_CELL_MEMORY=134217728")
	long := c.mustServe(t, Request{Function: "long", Version: "v", File: "f.js", Code: `module.exports = (ctx, cb) => { console.log('in'); }`})
	idle := c.mustServe(t, Request{Function: "idle", Version: "v", File: "f.js", Code: hello})
	go c.tryGet(long.Socket, "/")
	c.waitLog(t, func(m map[string]any) bool { return m["message"] == "in" })
	c.ask(t, Request{Op: "stop", Function: "long", Version: "v"})
	c.mustServe(t, Request{Function: "third", Version: "v", File: "f.js", Code: hello})
	if e := c.nextEvent(t); e.Socket != idle.Socket {
		t.Errorf("who went was %+v", e)
	}
}

// What lacks is named: room, when processes that leave have it all; a spare,
// when there is room.
func TestNoRoomAndNoSpare(t *testing.T) {
	for _, tc := range []struct {
		name   string
		states []state
		want   string
	}{
		{"the only place is held by one that leaves", []state{leaving, spare}, "no_room"},
		{"the same without a spare", []state{leaving}, "no_room"},
		{"there is room, and no spare comes", []state{booting}, "no_spare"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &Cell{cfg: Config{Limits: Limits{Processes: 2}}, procs: map[*process]bool{}, changed: make(chan struct{})}
				for _, s := range tc.states {
					c.procs[&process{state: s, left: time.Now()}] = true
				}
				ctx, cancel := context.WithTimeout(t.Context(), loadTimeout)
				defer cancel()
				_, err := c.takeSpare(ctx, Request{Function: "f", Version: "v"})
				var e *Error
				if !errors.As(err, &e) || e.Code != tc.want || e.Status != 503 {
					t.Errorf("got %v, want %s", err, tc.want)
				}
			})
		})
	}
}

// Two functions whose WebSockets are idle make room for a third: that goes in
// whose stream nothing has moved for longest, and its stream is closed.
func TestEvictionOfIdleWebSockets(t *testing.T) {
	c := startTestCell(t, "BULKHEAD_CELL_MEMORY=134217728")
	const code = `module.exports = (ctx, req, res) => { req.socket.write('HTTP/1.1 101 X\r\nupgrade: echo\r\n\r\n'); req.socket.on('data', () => {}); }`
	streams := map[string]*frames.Stream{}
	var sockets []string
	for _, name := range []string{"old", "new"} {
		r := c.mustServe(t, Request{Function: name, Version: "v", File: "f.js", Code: code})
		req := asked(name, "/")
		req.Headers = frames.AppendHeaderLine(frames.AppendHeaderCount(nil), 0, []byte("upgrade"), []byte("echo"))
		s, err := c.connect(t, r.Socket).Open(req, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Response(t.Context()); err != nil {
			t.Fatal(err)
		}
		streams[name], sockets = s, append(sockets, r.Socket)
	}
	third := c.mustServe(t, Request{Function: "third", Version: "v", File: "f.js", Code: hello})
	if e := c.nextEvent(t); e.Socket != sockets[0] || e.Exit.Code != 0 || e.Exit.Signal != "" {
		t.Errorf("who went was %+v", e)
	}
	if rest, err := streams["old"].Next(t.Context()); err != nil || rest != nil {
		t.Errorf("its stream ended with %q, %v", rest, err)
	}
	if got := c.get(t, third.Socket, "/?name=third"); !strings.HasSuffix(got, `{"hello":"third"}`) {
		t.Errorf("the third answered %q", got)
	}
}
