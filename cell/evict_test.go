package cell

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
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
