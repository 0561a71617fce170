package cell

import (
	"strings"
	"testing"
)

// A version that is stopped while it loads answers those who wait for it, and
// goes then; whoever asks for it after the stop gets a process of its own.
func TestStopWhileLoading(t *testing.T) {
	c := startTestCell(t)
	req := Request{Op: "serve", Function: "late", Version: "v1", File: "f.mjs", Code: `console.log('loading'); await new Promise((go) => setTimeout(go, 300)); export default (ctx, cb) => cb(null, 'ok');`}
	first := make(chan Reply, 1)
	go func() { first <- c.ask(t, req) }()
	c.waitLog(t, func(m map[string]any) bool { return m["message"] == "loading" })
	if r := c.ask(t, Request{Op: "stop", Function: "late", Version: "v1"}); r.Error != nil {
		t.Fatal(r.Error)
	}
	again := c.mustServe(t, req)
	r := <-first
	if r.Error != nil || r.PID == again.PID {
		t.Fatalf("the first serve gave %+v, the one after the stop %+v", r, again)
	}
	if e := c.nextEvent(t); e.Socket != r.Socket || e.Exit.Reason != "stopped" {
		t.Errorf("the event is %+v", e)
	}
	if got := c.get(t, again.Socket, "/"); !strings.HasSuffix(got, `"ok"`) {
		t.Errorf("the second process answered %q", got)
	}
}

// Requests of one connection are taken up in their order: a stop right behind
// its serve is not lost, and who waited is answered.
func TestStopRightBehindServe(t *testing.T) {
	c := startTestCell(t)
	first := make(chan Reply, 1)
	c.reply[1], c.reply[2] = first, make(chan Reply, 1)
	c.nextID = 2
	lines := `{"id":1,"op":"serve","function":"f","version":"v","file":"f.js","code":"module.exports = (cb) => cb(null, 'ok')"}` + "\n" + `{"id":2,"op":"stop","function":"f","version":"v"}` + "\n"
	if _, err := c.conn.Write([]byte(lines)); err != nil {
		t.Fatal(err)
	}
	r := <-first
	if got := c.get(t, r.Socket, "/"); !strings.HasSuffix(got, `"ok"`) {
		t.Errorf("a request that waited for the stopped version got %q", got)
	}
	if e := c.nextEvent(t); e.Socket != r.Socket || e.Exit.Reason != "stopped" {
		t.Errorf("the event is %+v", e)
	}
}
